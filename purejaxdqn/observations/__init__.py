"""Observations as trees of leaves: what each leaf is, and how a tree of a user's becomes one of dicts and tuples.

May import `config` and what that may. There is one file, `leaves.py`.
"""
