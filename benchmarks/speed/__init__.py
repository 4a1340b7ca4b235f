"""How fast is it: the whole loop and its parts, beside what the machine can do, and what was tried to make it faster.

Read `parts.py` first; `quick.py` is the guard behind `make bench-quick`. `python -m benchmarks.speed` is the contest
with the peers, in `peers/contest_speed.py`.
"""
