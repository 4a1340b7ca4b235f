"""Robustness: memory over time, runs killed and resumed, every environment, and the product as a user installs it.

Read `kill_resume.py` first. Each module runs as `python -m benchmarks.NAME`.
"""
