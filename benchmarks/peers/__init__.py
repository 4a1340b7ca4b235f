"""Beside other libraries: steps per second, seconds to a solved task and returns, each peer at its own settings.

Read `contests.py` first: who is measured against whom. The files named for a peer are run by that peer's environment.
"""
