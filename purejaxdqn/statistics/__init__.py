"""Statistics over seeds and tasks: interquartile means, bootstrap intervals, comparisons, human-normalised scores.

NumPy alone; imports nothing of this package. Read `intervals.py` first.
"""
