"""What depends on the hardware and the operating system: devices, random bits, shards, files, start-up.

Imports nothing of this package. Read `devices.py` first: what must be set before JAX starts a backend.
"""
