"""Portable policies: a greedy network as a file that NumPy, ONNX or StableHLO plays, without this library.

May import `config`, `types`, `machine` and `observations`. Read `export.py` first (a policy becomes a file), then
`tape.py` (what JAX traced, as steps of few operators) and `purejaxdqn_numpy.py`, which plays it, imports NumPy alone
and is copied beside an `.npz`.
"""
