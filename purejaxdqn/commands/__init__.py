"""The command `purejaxdqn`: its subcommands, completion, and `list` and `show`, which have no room of their own.

The top layer: may import every other room, and does so only when a subcommand is run. Read `dispatch.py` first.
"""
