"""`python -m purejaxdqn.report`: one HTML page about a run, a sweep or several of them, viewable offline.

May import `runs` and what it stands on. Read `contents.py` first: everything that a report shows, as plain values.
"""
