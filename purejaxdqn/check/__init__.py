"""`python -m purejaxdqn.check --env ID`: plays an environment and says what is wrong with it, before it is trained on.

May import `envs`, `cli` and what they may. Read `checks.py` first: one short function for each check.
"""
