"""`python -m purejaxdqn.sweep`: seeds × settings in one compilation, by any number of processes, ranked at the end.

The top of the house: may import every other room. Read `definition.py` first (what a sweep is), then `layout.py` (how
its lanes are cut up) and `driver.py`.
"""
