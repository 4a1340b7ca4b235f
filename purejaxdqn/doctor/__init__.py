"""`python -m purejaxdqn.doctor`: examines a run that does not learn, by checks of the usual traps.

May import `runs` and what it stands on. Read `checks.py` first: what is judged, and by which numbers.
"""
