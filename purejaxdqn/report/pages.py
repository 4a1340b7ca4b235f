"""The three pages: of a sweep, of a run, and of several folders side by side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.folder import EPISODES
from purejaxdqn.plots import step_label
from purejaxdqn.report.contents import Folder, Run, Setting, Sweep, differing, value_text
from purejaxdqn.report.curves import episodes_chart, halving_chart, learning_curves, performance_profile, run_curves
from purejaxdqn.report.fields import lane_table, pair_charts, sensitivity
from purejaxdqn.report.numbers import is_number, score
from purejaxdqn.report.parts import (
    Cell,
    Column,
    Section,
    animation,
    chart_block,
    choice_block,
    decimals,
    esc,
    folded,
    grid,
    interval,
    json_text,
    number,
    page,
    pairs,
    paragraph,
    table,
    word,
)


def sweep_page(sweep: Sweep) -> str:
    """A sweep in full."""
    lanes = lane_table(sweep)
    scored = not np.isnan(lanes.scores).all()
    fields = [chart_block(sensitivity(name, lanes)) for name in sweep.varied] if scored else []
    two = choice_block(pair_charts(sweep, lanes)) if scored and len(sweep.varied) > 1 else ""
    title = f"{sweep.env}: sweep of {len(sweep.settings):,} setting{'s' * (len(sweep.settings) > 1)}"
    return page(
        title,
        pairs(sweep.facts),
        [
            Section("settings", "Settings, ranked", ranked_table(sweep)),
            Section("curves", "Learning curves", chart_block(learning_curves(sweep.settings, sweep.solved_at))),
            Section("fields", "Sensitivity to each field", grid(fields) if fields else ""),
            Section("pairs", "Two fields at a time", two),
            Section("profile", "Performance profile", profile_of(sweep.settings, sweep.solved_at)),
            Section("halving", "Halving", halving_of(sweep)),
            Section("policy", "The best policy", animation(sweep.path)),
            Section("configuration", "Configuration", sweep_configuration(sweep)),
        ],
    )


def run_page(run: Run) -> str:
    """A run in full."""
    setting = run.settings[0]
    measured = not (np.isnan(setting.evaluation).all() and np.isnan(setting.training).all())
    curves = chart_block(run_curves(run)) if measured else paragraph("No episode has ended and no evaluation ran yet.")
    return page(
        f"{run.env}: {setting.name}",
        pairs(run.facts),
        [
            Section("curves", "Learning curve", curves),
            Section("scores", "Evaluation", evaluation_table(run)),
            Section("episodes", "Episodes of training", episodes_of(run)),
            Section("policy", "The policy", animation(run.path)),
            Section("doctor", "The doctor's findings", findings_list(run)),
            Section("configuration", "Configuration", run_configuration(run)),
        ],
    )


def compare_page(folders: Sequence[Folder]) -> str:
    """Several runs and sweeps side by side, of sweeps every setting."""
    named = name_settings(folders)
    ranked = sorted(named, key=lambda entry: -np.nan_to_num(score(entry[1].final).iqm, nan=-np.inf))
    settings = [setting for _, setting in ranked]
    bars = {folder.solved_at for folder in folders}
    solved_at = bars.pop() if len(bars) == 1 else None
    envs = sorted({folder.env for folder in folders})
    warning = "" if len(envs) == 1 else paragraph("Different environments: these returns are not on one scale.")
    heads = "".join(folded(str(folder.path), pairs(folder.facts)) for folder in folders)
    return page(
        f"{', '.join(envs)}: {len(folders)} folders compared",
        warning + heads,
        [
            Section("scores", "Final scores", scores_table(settings, solved_at)),
            Section("curves", "Learning curves", chart_block(learning_curves(settings, solved_at))),
            Section("profile", "Performance profile", profile_of(settings, solved_at)),
            Section("configuration", "What differs in the configuration", differences_table(settings)),
        ],
    )


def ranked_table(sweep: Sweep) -> str:
    """A row for each setting with what the summary says of it."""
    hints = {
        "IQM": "interquartile mean of the final return over seeds",
        "area": "interquartile mean over seeds of the mean of a run's evaluations",
        "P(better)": "probability that a seed of this setting scores higher than one of the setting ranked next",
    }
    columns = [
        Column("rank"),
        *[Column(name, all(is_number(v.get(name)) for v in sweep.values)) for name in sweep.varied],
        Column("IQM", hint=hints["IQM"]),
        Column("95 % interval"),
        Column("mean"),
        Column("median"),
        Column("solved"),
        Column("95 % interval"),
        Column("area", hint=hints["area"]),
        Column("95 % interval"),
        Column("P(better)", hint=hints["P(better)"]),
        Column("seeds"),
    ]
    scores = decimals([row["iqm"] for row in sweep.ranking])
    areas = decimals([row.get("area_iqm") for row in sweep.ranking])
    rows = [
        [
            number(row["rank"], 0),
            *[field_cell(values.get(name)) for name in sweep.varied],
            number(row["iqm"], scores),
            interval(row["iqm_interval_95"], scores),
            number(row.get("mean"), scores),
            number(row.get("median"), scores),
            number(row.get("solved_share"), 2),
            interval(row.get("solved_interval_95"), 2),
            number(row.get("area_iqm"), areas),
            interval(row.get("area_interval_95"), areas),
            number(row.get("probability_of_improvement"), 2),
            number(row.get("seeds", len(setting.seeds)), 0),
        ]
        for row, values, setting in zip(sweep.ranking, sweep.values, sweep.settings, strict=True)
    ]
    hint = (
        "Final return: greedy episodes of the last parameters. IQM: interquartile mean over seeds. P(better): probability "
        "that a seed of the setting scores higher than one of the setting ranked next. A click on a heading sorts."
    )
    return table(columns, rows) + f'<p class="hint">{esc(hint)}</p>'


def field_cell(value: Any) -> Cell:
    """A setting's value in a table."""
    return word(value_text(value), float(value) if is_number(value) else None)


def scores_table(settings: Sequence[Setting], solved_at: float | None) -> str:
    """Final scores of what is compared, best first."""
    found = [score(setting.final) for setting in settings]
    digits = decimals([one.iqm for one in found])
    columns = [Column("name", False), Column("seeds"), Column("IQM"), Column("95 % interval"), Column("mean")]
    columns += [Column("median"), *([Column(f"seeds at {solved_at:g}")] if solved_at is not None else [])]
    rows = [
        [
            word(setting.name),
            number(one.count, 0),
            number(one.iqm, digits),
            interval((one.low, one.high), digits),
            number(one.mean, digits),
            number(one.median, digits),
            *([number(int((setting.final >= solved_at).sum()), 0)] if solved_at is not None else []),
        ]
        for setting, one in zip(settings, found, strict=True)
    ]
    hint = (
        "Final return of the last parameters, over the seeds that came to their end. Intervals: 95 % bootstrap of the "
        "interquartile mean over seeds. A click on a heading sorts."
    )
    return table(columns, rows) + f'<p class="hint">{esc(hint)}</p>'


def evaluation_table(run: Run) -> str:
    """A row for each seed, and what they come to."""
    one = score(run.settings[0].final)
    digits = decimals([*run.settings[0].final])
    total = f"IQM of the last parameters over {one.count} seeds: {number(one.iqm, digits).text}"
    if one.count > 1:
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
    hint = "Mean return over fresh episodes of the last and of the best parameters; ± is the standard error of that mean."
    return paragraph(f"{total}.") + table(columns, rows) + f'<p class="hint">{esc(hint)}</p>'


def step_cell(steps: Any) -> Cell:
    """A number of steps."""
    return number(None) if steps is None else word(step_label(steps), float(steps))


def findings_list(run: Run) -> str:
    """The doctor's newest findings: those that are no good in full, all in a table."""
    if not run.findings:
        return ""
    bad = [finding for finding in run.findings if finding["severity"] in ("alarm", "note")]
    items = []
    for finding in bad:
        follows = f" (probably follows from {finding['follows_from']})" if finding.get("follows_from") else ""
        items.append(
            f'<li><span class="{esc(finding["severity"])}">{esc(finding["severity"])}</span> '
            f"<strong>{esc(finding['name'])}</strong>: {esc(finding['value'])}{esc(follows)}"
            f"<p>{esc(finding['meaning'])} {esc(finding['remedy'])} See {esc(finding['where'])}.</p></li>"
        )
    rows = [[word(finding[name]) for name in ("name", "severity", "value")] for finding in run.findings]
    heads = [Column("check", False), Column("verdict", False), Column("what was found", False)]
    past = Counter(name for moment in run.moments for name in moment["alarms"])
    alarms = ", ".join(f"{name} ({count})" for name, count in past.items())
    seen = f"{len(run.moments)} examinations; alarms in them: {alarms or 'none'}."
    listed = f'<ul class="findings">{"".join(items)}</ul>' if items else paragraph("No alarm and no note.")
    return paragraph(seen) + listed + folded(f"all {len(run.findings)} checks", table(heads, rows))


def profile_of(settings: Sequence[Setting], solved_at: float | None) -> str:
    """The performance profile, where there is any score."""
    if all(np.isnan(setting.final).all() for setting in settings):
        return ""
    return chart_block(performance_profile(settings, solved_at))


def halving_of(sweep: Sweep) -> str:
    """Halving's picture and its numbers; empty for a sweep without it."""
    if sweep.halving is None:
        return ""
    return chart_block(halving_chart(sweep.lanes)) + folded("rungs", json_text(sweep.halving))


def episodes_of(run: Run) -> str:
    """The curve over episodes; empty where they were not logged."""
    path = run.path / EPISODES
    if not path.is_file():
        return ""
    try:
        return chart_block(episodes_chart(path, run.solved_at))
    except (OSError, ValueError, KeyError) as error:
        raise SettingError("folders", str(run.path), f"its {EPISODES} is damaged ({one_line(error)})") from error


def fields_table(fields: Mapping[str, Any]) -> str:
    """Fields and their values."""
    rows = [[word(name), word(value_text(value))] for name, value in sorted(fields.items())]
    return table([Column("field", False), Column("value", False)], rows)


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


def text_or_dash(fields: Mapping[str, Any], name: str) -> str:
    """A field's value, or a dash where there is no such field."""
    return value_text(fields[name]) if name in fields else "–"


def differences_table(settings: Sequence[Setting]) -> str:
    """A row for each setting, with the fields that differ alone."""
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


def name_settings(folders: Sequence[Folder]) -> list[tuple[Folder, Setting]]:
    """Settings with names that tell them apart: by the folder's name, or its path where several have one name."""
    names = Counter(folder.path.resolve().name for folder in folders)
    found = []
    for folder in folders:
        name = folder.path.resolve().name
        label = name if names[name] == 1 else str(folder.path)
        for setting in folder.settings:
            found.append((folder, setting._replace(name=f"{label}: {setting.name}" if isinstance(folder, Sweep) else label)))
    return found
