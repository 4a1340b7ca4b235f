"""How long the report of a sweep of 1,000 lanes takes to open in a browser.

python -m benchmarks.report_browser

A random search of 250 settings over 4 seeds that nobody ran, with 100 logged points a lane, is written and shown.
Chromium, without a window and without a GPU, opens the page from the disk; the time is the page's own, from the request
to the last chart drawn. The first opening, which also starts the browser's caches, is told apart and not counted.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_result
from benchmarks.pages.browser import browser, missing
from purejaxdqn.report.write_page import write_report
from purejaxdqn.runs.sweep_folder import REPORT
from tests.sweeps import write_thousand_lanes


def main() -> None:
    """Reads the command line, measures and writes results/report_browser.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="openings after the first (default: 5)")
    args = parser.parse_args()
    lacking = missing()
    if lacking:
        parser.error(lacking)
    with tempfile.TemporaryDirectory() as scratch, browser() as session:
        folder = write_thousand_lanes(Path(scratch) / "sweep")
        begin = time.perf_counter()
        write_report([folder], folder / REPORT)
        writing = time.perf_counter() - begin
        session.emulate("light", 1280, 900)
        opened = [session.open(folder / REPORT) for _ in range(args.repetitions + 1)]
        version = session.call("POST", "/goog/cdp/execute", {"cmd": "Browser.getVersion", "params": {}})["product"]
        size = (folder / REPORT).stat().st_size
    data = {
        "lanes": 1_000,
        "points_per_lane": 100,
        "browser": version,
        "file_bytes": size,
        "seconds_to_write": round(writing, 3),
        "seconds_to_open": round(statistics.median(one.seconds for one in opened[1:]), 3),
        "all_seconds_to_open": [round(one.seconds, 3) for one in opened[1:]],
        "first_seconds_to_open": round(opened[0].seconds, 3),
        "pictures_drawn": opened[-1].plots,
        "console_errors": [error for one in opened for error in one.errors],
    }
    write_result("report_browser", "opening the report of 1,000 lanes in headless Chromium", data)
    print(f"{data['seconds_to_open']} s to open, {size / 1e6:.1f} MB, {len(data['console_errors'])} console errors")


if __name__ == "__main__":
    main()
