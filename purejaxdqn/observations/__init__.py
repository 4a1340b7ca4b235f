"""Observations as trees of leaves: what each leaf is, how a tree of a user's becomes one, and running moments.

May import `config` and what that may. Read `leaves.py` first, then `moments.py` (how observations are normalised).
"""
