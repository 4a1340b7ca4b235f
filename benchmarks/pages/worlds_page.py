"""The table of docs/own-environment.md on what was learnt of environments that step on the host."""

from benchmarks.common import RESULTS, read_result
from benchmarks.pages.performance import number, table
from benchmarks.pages.tables import source


def worlds_table() -> str:
    """Seeds at the bar, one run for each, by environment: `benchmarks.host_worlds`."""
    rows, sources = [], []
    for name in sorted(path.stem for path in RESULTS.glob("world-*.json")):
        result = read_result(name)
        assert result is not None
        last, runs = result["last"], list(result["runs"].values())
        low, high = last["iqm_interval_95"]
        rows.append(
            [
                f"`{result['env']}`",
                f"{runs[0]['config']['total_steps']:,}",
                f"{last['seeds_at_bar']} of {len(runs)} at {result['bar']:g}",
                f"{number(last['iqm'])} ({number(low)} to {number(high)})",
                number(last["min"]),
            ]
        )
        sources.append(f"{source(result, name, '../')}<br>")
    heads = ["environment", "steps", "seeds at the bar", "IQM of their returns (95 %)", "lowest"]
    return table(heads, rows, *sources) if rows else ""


TABLES = {"worlds": worlds_table}
