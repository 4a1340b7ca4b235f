"""`python -m purejaxdqn.zoo`: trained runs in a folder or at a URL, listed, fetched, checked, and built.

May import every other room, as it trains what it builds. Read `shelf.py` first (a manifest, and an archive of each);
`command.py` has the flags.
"""
