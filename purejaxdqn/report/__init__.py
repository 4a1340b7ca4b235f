"""`python -m purejaxdqn.report`: a page of a run, of a sweep or of several, which needs no network to be looked at.

May import `runs` and what it stands on. Read `contents.py` first: everything that a report shows, as plain values.
"""
