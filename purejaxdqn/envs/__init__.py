"""Environments behind two interfaces: those that step on the device (gymnax, other suites in JAX), and on the host
(EnvPool, Gymnasium).

May import `config`, `types`, `machine` and `pictures`. Read `interface.py` first; `names.py` says whose a name is, and
`own.py` how an environment of a user's own is told by its shape.
"""
