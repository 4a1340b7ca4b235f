"""Replay buffers: a circular buffer of any pytree, uniform and prioritized sampling of transitions or windows of it.

May import `config`, `types`, `machine`, `learning`, `networks` and `envs`. Read `ring.py` first, then `interface.py`
(what a learner needs of a replay).
"""
