"""Replay buffers: a circular buffer of any pytree, and uniform and prioritized sampling of n-step transitions from it.

May import `config`, `types`, `machine`, `learning` and `envs`. Read `ring.py` first, then `interface.py` (what a
learner needs of a replay).
"""
