"""What it survives: kills, signals, full disks, damaged folders, odd numbers and command lines, every environment.

Read `kill_resume.py` first, then `edges.py`. Each module runs as `python -m benchmarks.NAME`.
"""
