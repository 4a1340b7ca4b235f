"""The mathematics of value learning, one example at a time: targets, losses, heads, backups, exploration, optimisers.

May import `config`, `types`, `machine` and `observations`; knows neither networks nor replays nor environments. Read
`losses.py` first, then `heads.py` (what a network's outputs mean) and `backups.py` (what a target bootstraps with).
"""
