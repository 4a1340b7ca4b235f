"""Tables of docs/sweeps.md, from results/sweep.json and results/search.json."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common import read_result
from benchmarks.learning.search import repeats_won
from benchmarks.pages.performance import number, table
from benchmarks.pages.tables import iqm_cell, source
from purejaxdqn.sweep.definition import describe_values


def sweep_table() -> str:
    """What was measured of sweeps."""
    result = read_result("sweep")
    if result is None:
        return ""
    parts = result["parts"]
    lines = ["| | |", "|---|---|"]
    if "lanes" in parts:
        found = parts["lanes"]
        compiled = f"{found['compilations']} compilation{'s' * (found['compilations'] > 1)}"
        what = f"{found['lanes']:,} lanes of CartPole-v1, {found['env_steps_per_lane']:,} steps each"
        lines.append(f"| {what} | {found['wall_seconds'] / 60:.1f} minutes, {compiled} |")
        speed = found["steps_per_second_of_the_whole_command"]
        lines.append(f"| steps/s of all lanes together, compilation and evaluations included | {speed:,.0f} |")
        if "whole_command_over_purejaxrl" in found:
            theirs = found["purejaxrl_steps_per_second"]
            lines.append(f"| 32 seeds of PureJaxRL's `dqn.py`, vmapped, compilation left out | {theirs:,.0f} |")
            lines.append(f"| purejaxdqn is faster by | {found['whole_command_over_purejaxrl']:.2f} × |")
        lines.append(f"| memory at the end over that after a tenth | {found['memory_end_over_first_tenth']:.3f} |")
        lines.append(f"| the sweep's folder | {found['folder_bytes'] / 2**20:.1f} MB |")
    if "equality" in parts:
        found = parts["equality"]
        lines.append(f"| lanes at random, trained by themselves, same numbers | {found['equal']} of {found['of']} |")
    if "processes" in parts:
        same = parts["processes"]["same_as_one"]
        lines.append(f"| {' and '.join(same)} processes, same numbers as one | {sum(same.values())} of {len(same)} |")
    if "kills" in parts:
        found = parts["kills"]
        what = "one of two processes killed, then resumed by 1, 3 or 4: every lane once, same numbers"
        lines.append(f"| {what} | {found['passed']} of {found['of']} |")
    return "\n".join([*lines, "", source_of(result, [part for part in parts if part != "halving"])])


def source_of(result: dict[str, Any], parts: list[str]) -> str:
    """Where figures of some parts come from; the file has each part's own commit."""
    return source(result, "sweep", "../", f"python -m benchmarks.sweep --part {' '.join(parts)}")


def halving_table() -> str:
    """What halving found beside the whole grid."""
    result = read_result("sweep")
    if result is None or "halving" not in result["parts"]:
        return ""
    lines = ["| task | the grid's best | IQM (95 %) | halving's choice | IQM in the grid | steps |", "|---" * 6 + "|"]
    for env, found in result["parts"]["halving"].items():
        if env == "commit":
            continue
        best, chosen = found["grid_best"], found["chosen"]
        lines.append(
            f"| {env} | {describe_values(best['values'])} | {iqm_cell(best)} | "
            f"{describe_values(chosen['values'])} | {chosen['iqm']:.1f} | {found['share_of_the_grid']:.0%} |"
        )
    return "\n".join([*lines, "", source_of(result, ["halving"])])


def search_table(part: str, name: str) -> str:
    """Populations or TPE's proposals beside random search at equal steps: `benchmarks.search --part PART`."""
    result = read_result("search")
    if result is None or part not in result["parts"]:
        return ""
    rows = []
    for env, found in result["parts"][part].items():
        share, (low, high) = repeats_won(found["scores"])
        medians = [number(float(np.median(scores))) for scores in found["scores"].values()]
        won = f"{share:.0%} ({low:.0%} to {high:.0%})"
        low, high = found["interval_95"]
        pairs = f"{found['probability_of_improvement']:.2f} ({low:.2f} to {high:.2f})"
        steps, repeats = found["env_steps"][part][0] // found["seeds_per_draw"], len(found["scores"][part])
        lanes = str(found.get("trials") or found["members"])
        if part == "pbt":
            lanes += f", {1 / found['every']:.0f} generations by {found['selection']}"
        rows.append([f"`{env}`", lanes, f"{steps:,}", str(repeats), *medians, won, pairs])
    heads = ["task", "lanes", "steps", "repeats", name, "random search", "repeats won (95 %)", "P of all pairs (95 %)"]
    more = " --selection NAME --every SHARE" if part == "pbt" else ""
    return table(heads, rows, source(result, "search", "../", f"python -m benchmarks.search --part {part}{more}"))


TABLES: dict[str, Callable[[], str]] = {
    "sweep": sweep_table,
    "sweep-halving": halving_table,
    "search-pbt": partial(search_table, "pbt", "PBT"),
    "search-tpe": partial(search_table, "tpe", "TPE"),
}
