"""The tables of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from purejaxdqn.pictures.plots import step_label
from purejaxdqn.report.contents import SCORE_NAMES, Run, Setting, Sweep, differing, short_text, value_text
from purejaxdqn.report.html import (
    Cell,
    Column,
    decimals,
    folded,
    hint,
    interval,
    json_text,
    number,
    paragraph,
    table,
    word,
)
from purejaxdqn.report.numbers import is_number, score


def ranked_table(sweep: Sweep) -> str:
    """A row for each setting with what the summary says of it."""
    diverged = any(row.get("diverged") for row in sweep.ranking)
    columns = [
        Column("rank"),
        *[Column(name, all(is_number(v.get(name)) for v in sweep.values)) for name in sweep.varied],
        Column("IQM"),
        Column("95 % interval"),
        Column("mean"),
        Column("median"),
        Column("solved"),
        Column("95 % interval"),
        Column("area"),
        Column("95 % interval"),
        Column("P(better)"),
        Column("95 % interval"),
        Column("seeds"),
        *([Column("diverged")] if diverged else []),
    ]
    scores = decimals([row.get("iqm") for row in sweep.ranking])
    areas = decimals([row.get("area_iqm") for row in sweep.ranking])
    rows = [
        [
            number(row["rank"], 0),
            *[field_cell(values.get(name)) for name in sweep.varied],
            number(row.get("iqm"), scores),
            interval(row.get("iqm_interval_95"), scores),
            number(row.get("mean"), scores),
            number(row.get("median"), scores),
            number(row.get("solved_share"), 2),
            interval(row.get("solved_interval_95"), 2),
            number(row.get("area_iqm"), areas),
            interval(row.get("area_interval_95"), areas),
            number(row.get("probability_of_improvement"), 2),
            interval(row.get("probability_of_improvement_interval_95"), 2),
            number(row.get("seeds", len(setting.seeds)), 0),
            *([number(row.get("diverged"), 0)] if diverged else []),
        ]
        for row, values, setting in zip(sweep.ranking, sweep.values, sweep.settings, strict=True)
    ]
    text = (
        f"A score is the {SCORE_NAMES[sweep.score]}; a lane that diverged has the lowest of the sweep. IQM: "
        "interquartile mean over seeds. Solved: share of seeds. Area: mean of a seed's evaluations. P(better): "
        "probability that a seed of the setting scores higher than one of the setting ranked next, plus half that of a "
        "tie. A click on a heading sorts."
    )
    return table(columns, rows) + hint(text)


def field_cell(value: Any) -> Cell:
    """A setting's value in a table."""
    return word(short_text(value), float(value) if is_number(value) else None)


def scores_table(settings: Sequence[Setting], solved_at: float | None) -> str:
    """Final scores of what is compared, best first."""
    found = [score(setting.scores) for setting in settings]
    digits = decimals([one.iqm for one in found])
    columns = [Column("name", False), Column("seeds"), Column("IQM"), Column("95 % interval"), Column("mean")]
    columns += [Column("median"), *([Column(f"seeds at {solved_at:g}")] if solved_at is not None else [])]
    rows = [
        [
            word(setting.name),
            number(one.seeds, 0),
            number(one.iqm, digits),
            interval((one.low, one.high), digits),
            number(one.mean, digits),
            number(one.median, digits),
            *([number(int((setting.scores >= solved_at).sum()), 0)] if solved_at is not None else []),
        ]
        for setting, one in zip(settings, found, strict=True)
    ]
    text = (
        "Final return of the last parameters, over the seeds that came to their end. Intervals: 95 % bootstrap of the "
        "interquartile mean over seeds. A click on a heading sorts."
    )
    return table(columns, rows) + hint(text)


def evaluation_table(run: Run) -> str:
    """A row for each seed, and their aggregate."""
    one = score(run.settings[0].scores)
    digits = decimals([*run.settings[0].scores])
    total = f"IQM of the last parameters over {one.seeds} seeds: {number(one.iqm, digits).text}"
    if one.seeds > 1:
        total += f" (95 % bootstrap interval {interval((one.low, one.high), digits).text})"
    if run.summary is None:
        text = "The run has not come to its end. Its newest evaluations: "
        return paragraph(f"{text}{total}.")
    columns = [Column("seed"), Column("last"), Column("±"), Column("best"), Column("±"), Column("best at step")]
    columns += [Column("episodes"), Column("steps"), Column("training episodes"), Column("ended by", False)]
    rows = [
        [
            number(entry["seed"], 0),
            number(entry["last_mean_return"], digits),
            number(entry.get("last_stderr"), digits),
            number(entry.get("best_mean_return"), digits),
            number(entry.get("best_stderr"), digits),
            step_cell(entry.get("best_env_steps")),
            number(entry.get("episodes"), 0),
            step_cell(entry.get("env_steps")),
            number(entry.get("training_episodes"), 0),
            word(str(entry.get("ended_by") or "–")),
        ]
        for entry in run.summary["evaluation"]
    ]
    text = (
        "Mean return over fresh episodes of the last and of the best parameters; ± is the standard error of that mean."
    )
    return paragraph(f"{total}.") + table(columns, rows) + hint(text)


def step_cell(steps: Any) -> Cell:
    """A number of steps."""
    return number(None) if steps is None else word(step_label(steps), float(steps))


def sweep_configuration(sweep: Sweep) -> str:
    """What the settings share, and what differs."""
    tables = [setting.fields for setting in sweep.settings]
    names = differing(tables)
    shared = {name: value for name, value in tables[0].items() if name not in names}
    asked = folded("what was asked", json_text(sweep.definition)) if sweep.definition else ""
    differences = folded(f"fields that differ ({len(names)})", differences_table(sweep.settings)) if names else ""
    return differences + folded(f"values that all settings share ({len(shared)})", fields_table(shared)) + asked


def run_configuration(run: Run) -> str:
    """What a run changed of its recipe, and all that it ran with."""
    fields = run.settings[0].fields
    everything = folded(f"all fields ({len(fields)})", fields_table(fields))
    if run.recipe_fields is None:
        return paragraph(f"This version has no recipe {run.recipe}.") + everything
    recipe = run.recipe_fields
    names = [name for name in differing([fields, recipe]) if name != "algo"]
    if not names:
        return paragraph(f"Every field is as the recipe {run.recipe} has it.") + everything
    columns = [Column("field", False), Column("this run", False), Column(f"recipe {run.recipe}", False)]
    cells = [[word(name), *[word(text_or_dash(side, name)) for side in (fields, recipe)]] for name in names]
    return table(columns, cells) + everything


def differences_table(settings: Sequence[Setting]) -> str:
    """A row for each setting, with only the fields that differ."""
    names = differing(setting.fields for setting in settings)
    if not names:
        return paragraph("No field differs.")
    numeric = [all(is_number(setting.fields.get(name)) for setting in settings) for name in names]
    columns = [Column("name", False), *[Column(name, is_one) for name, is_one in zip(names, numeric, strict=True)]]
    rows = [
        [
            word(setting.name),
            *[field_cell(setting.fields[name]) if name in setting.fields else number(None) for name in names],
        ]
        for setting in settings
    ]
    return table(columns, rows)


def fields_table(fields: Mapping[str, Any]) -> str:
    """Fields and their values."""
    rows = [[word(name), word(value_text(value))] for name, value in sorted(fields.items())]
    return table([Column("field", False), Column("value", False)], rows)


def text_or_dash(fields: Mapping[str, Any], name: str) -> str:
    """A field's value, or a dash if there is no such field."""
    return value_text(fields[name]) if name in fields else "–"
