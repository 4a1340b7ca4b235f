"""Training loops: on the device, on the host, over many lanes (seed × hypers), in shards; and evaluation.

May import everything up to `build`, and no room that reads or writes a run folder. Read `device.py` first: the whole
loop is in it.
"""
