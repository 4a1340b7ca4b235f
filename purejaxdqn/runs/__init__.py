"""Runs and their folders: training chunk by chunk, tables, checkpoints, early stopping, and loading trained policies.

May import every room below the commands. Read `training.py` first (chunks of `iterate`), then `runner.py` (what a run
writes) and `checkpoint.py`.
"""
