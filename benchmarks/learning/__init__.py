"""Does it learn: defaults, algorithms, tutorials, traps and games from pixels, each over many seeds.

Read `defaults.py` first, which is `python -m benchmarks.learning`.
"""
