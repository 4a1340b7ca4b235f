"""The three pages: of a sweep, of a run, and of several folders side by side."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from purejaxdqn.config import SettingError, one_line
from purejaxdqn.report import numbers
from purejaxdqn.report.contents import Folder, Run, Score, Setting, Sweep
from purejaxdqn.report.curves import episodes_chart, halving_chart, learning_curves, profile_chart, run_curves
from purejaxdqn.report.fields import lane_table, pair_charts, sensitivity
from purejaxdqn.report.html import (
    Column,
    Content,
    Section,
    animation,
    chart_block,
    choice_block,
    content,
    esc,
    folded,
    grid,
    json_text,
    pairs,
    paragraph,
    table,
    word,
)
from purejaxdqn.report.populations import populations_of
from purejaxdqn.report.tables import (
    differences_table,
    evaluation_table,
    ranked_table,
    run_configuration,
    scores_table,
    sweep_configuration,
)
from purejaxdqn.runs.folder import EPISODES


def sweep_page(sweep: Sweep) -> Content:
    """A sweep in full."""
    lanes = lane_table(sweep)
    scored = not np.isnan(lanes.scores).all()
    # What a member of a population began with says little of how it ended.
    scored = scored and sweep.populations is None
    settings = "Settings, ranked" if sweep.populations is None else "Members, by what they began with"
    fields = [chart_block(sensitivity(name, lanes)) for name in sweep.varied] if scored else []
    two = choice_block(pair_charts(sweep, lanes)) if scored and len(sweep.varied) > 1 else ""
    title = f"{sweep.env}: sweep of {len(sweep.settings):,} setting{'s' * (len(sweep.settings) > 1)}"
    return content(
        title,
        pairs(sweep.facts),
        [
            Section("populations", "Populations", populations_of(sweep.populations)),
            Section("settings", settings, ranked_table(sweep)),
            Section("curves", "Learning curves", chart_block(learning_curves(sweep.settings, sweep.solved_at))),
            Section("fields", "Sensitivity to each field", grid(fields) if fields else ""),
            Section("pairs", "Two fields at a time", two),
            Section("profile", "Performance profile", profile_of(sweep.settings, sweep.score, sweep.bar)),
            Section("halving", "Halving", halving_of(sweep)),
            Section("policy", "The best policy", animation(sweep.path)),
            Section("configuration", "Configuration", sweep_configuration(sweep)),
        ],
    )


def run_page(run: Run) -> Content:
    """A run in full."""
    setting = run.settings[0]
    measured = not (np.isnan(setting.evaluation).all() and np.isnan(setting.training).all())
    curves = chart_block(run_curves(run)) if measured else paragraph("No episode has ended and no evaluation ran yet.")
    return content(
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


def compare_page(folders: Sequence[Folder]) -> Content:
    """Several runs and sweeps side by side, with every setting of a sweep."""
    named = name_settings(folders)
    ranked = sorted(named, key=lambda entry: -np.nan_to_num(numbers.score(entry[1].scores).iqm, nan=-np.inf))
    settings = [setting for _, setting in ranked]
    bars = {folder.solved_at for folder in folders}
    solved_at = bars.pop() if len(bars) == 1 else None
    envs = sorted({folder.env for folder in folders})
    warning = "" if len(envs) == 1 else paragraph("Different environments: these returns are not on one scale.")
    heads = "".join(folded(str(folder.path), pairs(folder.facts)) for folder in folders)
    return content(
        f"{', '.join(envs)}: {len(folders)} folders compared",
        warning + heads,
        [
            Section("scores", "Final scores", scores_table(settings, solved_at)),
            Section("curves", "Learning curves", chart_block(learning_curves(settings, solved_at))),
            Section("profile", "Performance profile", profile_of(settings, "last", solved_at)),
            Section("configuration", "What differs in the configuration", differences_table(settings)),
        ],
    )


def findings_list(run: Run) -> str:
    """The doctor's newest findings: problems in full, and all of them in a table."""
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


def profile_of(settings: Sequence[Setting], score: Score, bar: float | None) -> str:
    """The performance profile, if there is any score."""
    if all(np.isnan(setting.scores).all() for setting in settings):
        return ""
    return chart_block(profile_chart(settings, score, bar))


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


def name_settings(folders: Sequence[Folder]) -> list[tuple[Folder, Setting]]:
    """Settings with names that tell them apart: by the folder's name, or its path where several have one name."""
    names = Counter(folder.path.resolve().name for folder in folders)
    found = []
    for folder in folders:
        name = folder.path.resolve().name
        label = name if names[name] == 1 else str(folder.path)
        for setting in folder.settings:
            found.append(
                (folder, setting._replace(name=f"{label}: {setting.name}" if isinstance(folder, Sweep) else label))
            )
    return found
