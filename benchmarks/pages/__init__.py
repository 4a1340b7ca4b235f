"""From results to pages: the tables and pictures of the README and of docs/, and looks at reports in a browser.

Read `report.py` first, which is `python -m benchmarks.report`.
"""
