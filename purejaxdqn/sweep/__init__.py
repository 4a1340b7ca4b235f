"""`python -m purejaxdqn.sweep`: seeds × settings in one compilation, by any number of processes, ranked at the end.

The top layer: may import every other room. Read `definition.py` first (what a sweep is), then `layout.py` (how its
lanes are divided) and `driver.py`.
"""
