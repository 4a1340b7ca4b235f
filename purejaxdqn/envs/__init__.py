"""Environments behind two interfaces: those that step on the device (gymnax), and on the host (EnvPool).

May import `config`, `types`, `machine` and `pictures`. Read `interface.py` first.
"""
