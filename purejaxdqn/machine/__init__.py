"""What the hardware and the operating system ask for: devices, random bits, shards, files, start-up.

Imports nothing of this package. Read `devices.py` first: what must be settled before JAX starts a backend.
"""
