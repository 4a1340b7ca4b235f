"""`python -m purejaxdqn.export RUN OUT`: a trained run's policy as a file that plays without this library.

May import every room below the commands. All that it does is in `portable`; `command.py` has the flags.
"""
