"""The report: what is on the page, that it needs nothing else, and one sentence for what cannot be shown."""

import json
import re
import shutil
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
from command_lines import refused
from report_reader import charts, keys, lines, own, section, tables
from sweeps import VARIED, write_sweep

from purejaxdqn import train
from purejaxdqn.doctor.findings import CHECKS, Finding
from purejaxdqn.report import command
from purejaxdqn.report.write_page import write_report
from purejaxdqn.statistics.intervals import bootstrap_interval, iqm

pytest.importorskip("plotly")


def report_of(*folders, out=None):
    """The page of some folders."""
    out = out or folders[0] / "report.html"
    write_report(folders, out)
    return out.read_text(encoding="utf-8")


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "plain")


@pytest.fixture(scope="module")
def page(sweep):
    return report_of(sweep)


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """A sweep of three fields with halving, of which eleven and more settings are hidden at first."""
    varied = {"learning_rate": (1e-4, 1e-3, 1e-2), "loss": ("huber", "squared"), "n_step": (1, 3, 5)}
    return write_sweep(tmp_path_factory.mktemp("sweeps") / "halved", varied, halving=True)


def doctor_report():
    """What the doctor would have left: two examinations, an alarm, and a note that follows from it."""
    severities = {"target": "alarm", "td-errors": "note", "rewards": "not looked at"}
    findings = [
        Finding(check.name, severities.get(check.name, "ok"), "7 of 8", check.meaning, check.remedy, "docs", (0, 1))
        for check in CHECKS
    ]
    told = [finding.as_json() for finding in findings]
    next(one for one in told if one["name"] == "td-errors")["follows_from"] = "target"
    moments = [{"env_steps": steps, "alarms": ["target"], "vitals": {}} for steps in (1_000, 2_000)]
    return {"format": 1, "findings": told, "moments": moments}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two tiny runs of one recipe, of two seeds; the first with episodes and what the doctor leaves."""
    root = tmp_path_factory.mktemp("runs")
    flags = ["--env", "CartPole-v1", "--seeds", "2", "--total-steps", "3000", "--hidden", "16", "--quiet"]
    flags += ["--eval-episodes", "4", "--eval-every", "1000", "--log-every", "500"]
    first, second = root / "first", root / "second"
    assert train.main([*flags, "--out", str(first), "--log-episodes", "200"]) == 0
    (first / "doctor.json").write_text(json.dumps(doctor_report()))
    assert train.main([*flags, "--out", str(second), "--learning-rate", "0.01"]) == 0
    return first, second


def test_every_setting_stands_in_the_table_as_the_summary_ranks_it(sweep, page):
    head, *rows = tables(page)[0]
    ranking = read(sweep, "summary.json")["ranking"]
    assert len(rows) == len(ranking) == 8
    assert head[:4] == ["rank", "learning_rate", "gamma", "IQM"]
    for row, told in zip(rows, ranking, strict=True):
        cells = dict(zip(head, row, strict=True))
        intervals = [row[place] for place, name in enumerate(head) if name == "95 % interval"]
        assert row[0] == str(told["rank"])
        assert [row[1], row[2]] == [f"{told['values'][name]:g}" for name in VARIED]
        assert cells["IQM"] == f"{told['iqm']:.1f}" and cells["median"] == f"{told['median']:.1f}"
        names = ("iqm_interval_95", "solved_interval_95", "area_interval_95", "probability_of_improvement_interval_95")
        for text, name, digits in zip(intervals, names, (1, 2, 1, 2), strict=True):
            assert text == " to ".join(f"{bound:.{digits}f}" for bound in told[name])
        assert cells["solved"] == f"{told['solved_share']:.2f}" and cells["P(better)"] == "0.62"
    assert [row[0] for row in rows] == [str(rank) for rank in range(1, 9)]


def test_curves_are_the_interquartile_means_of_the_file(sweep, page):
    drawn = lines(charts(page)[0])
    curves = dict(np.load(sweep / "curves.npz"))
    for place, told in enumerate(read(sweep, "summary.json")["ranking"]):
        mine = (curves["setting"] == told["setting"]) & ~np.isnan(curves["eval_return"])
        table = np.stack([curves["eval_return"][mine & (curves["seed"] == seed)] for seed in range(4)])
        steps = curves["env_steps"][mine & (curves["seed"] == 0)]
        trace = list(drawn.values())[place]
        assert trace["name"].startswith(f"#{told['rank']} ") and trace["meta"]["group"] == place
        np.testing.assert_array_equal(trace["x"], steps)
        np.testing.assert_allclose(trace["y"], iqm(table), rtol=1e-5)
        low, high = bootstrap_interval(table)
        np.testing.assert_allclose(lines(charts(page)[0], "band")[place]["y"], [*high, *low[::-1]], rtol=1e-5)


def test_scores_are_those_that_the_sweep_was_ranked_by(sweep, tmp_path):
    """And a lane that diverged has the lowest of the sweep, while side by side scores are of the last parameters."""
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    summary, lanes = read(folder, "summary.json"), dict(np.load(folder / "lanes.npz"))
    first = summary["ranking"][0]["setting"]
    lost = np.flatnonzero(lanes["setting"] == first)[1]
    lanes["diverged"][lost] = True
    lanes["last_mean_return"][lost] = lanes["best_mean_return"][lost] = np.nan
    lanes["best_mean_return"] += 1_000
    np.savez(folder / "lanes.npz", **lanes)
    summary["ranking"][0]["diverged"] = 1
    (folder / "summary.json").write_text(json.dumps(summary | {"ranked_by": "best"}))
    html = report_of(folder)
    (chart,) = charts(section(html, "profile"))
    best = lanes["best_mean_return"][lanes["setting"] == first]
    scores = np.where(np.isnan(best), np.nanmin(lanes["best_mean_return"]), best)
    np.testing.assert_allclose(next(iter(lines(chart).values()))["x"][1:-1], np.sort(scores), rtol=1e-6)
    assert chart["layout"]["xaxis"]["title"]["text"] == "return of the best parameters"
    assert tables(html)[0][0][-1] == "diverged" and tables(html)[0][1][-1] == "1" and "1 diverged" in html
    side_by_side = charts(section(report_of(folder, sweep, out=tmp_path / "x.html"), "profile"))[0]
    assert max(trace["x"][-2] for trace in side_by_side["data"]) <= 500.0


def test_single_seeds_are_there_and_off(page):
    drawn = lines(charts(page)[0], "seeds")
    assert len(drawn) == 8 and not any(trace["visible"] for trace in drawn.values())
    assert set(next(iter(drawn.values()))["customdata"]) == {0, 1, 2, 3}


def test_the_best_eight_are_on_and_all_are_in_the_legend(halved):
    html = report_of(halved)
    switched = keys(section(html, "curves"))
    assert len(switched) == 18 and [on for _, on in switched] == [True] * 8 + [False] * 10
    visible = [trace["visible"] for trace in lines(charts(html)[0]).values()]
    assert visible == [True] * 8 + [False] * 10


def test_each_field_and_each_pair_has_a_chart(halved):
    html = report_of(halved)
    assert len(charts(section(html, "fields"))) == 3
    two = section(html, "pairs")
    assert re.findall(r"<option>(.*?)</option>", two) == [
        "learning_rate × loss",
        "learning_rate × n_step",
        "loss × n_step",
    ]
    axes = [chart["layout"]["xaxis"] for chart in charts(section(html, "fields"))]
    assert axes[0]["type"] == "log" and axes[1]["ticktext"] == ["huber", "squared"]
    lanes = dict(np.load(halved / "lanes.npz"))
    settings = {entry["setting"]: entry["values"] for entry in read(halved, "sweep.json")["settings"]}
    rates = np.array([settings[setting]["learning_rate"] for setting in lanes["setting"]])
    for rate, mean in zip(*[charts(section(html, "fields"))[0]["data"][1][axis] for axis in "xy"], strict=True):
        np.testing.assert_allclose(mean, iqm(lanes["last_mean_return"][rates == rate]), rtol=1e-6)


def test_halving_tells_how_many_lanes_were_left(halved, page):
    html = section(report_of(halved), "halving")
    (chart,) = charts(html)
    np.testing.assert_array_equal(chart["data"][0]["y"], [72, 36, 36])
    np.testing.assert_array_equal(chart["data"][0]["x"], [0, 20_000, 40_000])
    assert "dropped 36 of 72 lanes" in html and "75%" in html
    assert section(page, "halving") is None
    ranks = tables(report_of(halved))[0][1:]
    assert [row[4] for row in ranks[-9:]] == ["–"] * 9, "what was dropped has no score"


def test_populations_have_their_copies_and_the_best_descent(tmp_path, page):
    """Two populations of two: in the better one member 1 copies member 0 after 100 steps, and ends best."""
    folder = write_sweep(tmp_path / "grown", {"learning_rate": (1e-3, 2e-3)}, seeds=2)
    history = {
        "lane": np.array([0, 1, 2, 3] * 2),
        "setting": np.array([0, 0, 1, 1] * 2),
        "seed": np.array([0, 1] * 4),
        "env_steps": np.repeat([40, 100], 4),
        "parent": np.array([0, 1, 2, 3, 0, 1, 0, 3]),
        "score": np.array([np.nan] * 4 + [9.0, 5.0, 3.0, 5.0]),
        "learning_rate": np.array([1e-3, 1e-3, 2e-3, 2e-3, 1e-3, 1e-3, 1.25e-3, 2e-3]),
    }
    np.savez(folder / "population.npz", **history)
    best = {"lane": 2, "seed": 0, "setting": 1, "score": 480.0, "values": {"learning_rate": 1.25e-3}}
    other = {"lane": 1, "seed": 1, "setting": 0, "score": 300.0, "values": {"learning_rate": 1e-3}}
    told = [best | {"descends_from": 0, "copies": 1, "founders_left": 1}]
    told += [other | {"descends_from": 1, "copies": 0, "founders_left": 2}]
    (folder / "summary.json").write_text(json.dumps(read(folder, "summary.json") | {"population": told}))
    html = report_of(folder)
    found = section(html, "populations")
    head, *rows = tables(found)[0]
    assert head == ["seed", "learning_rate", "score", "began as", "copies", "founders left"]
    assert rows == [["0", "0.00125", "480.0", "0", "1", "1"], ["1", "0.001", "300.0", "1", "0", "2"]]
    copies, rates = charts(found)
    assert copies["data"][0]["x"][:2].tolist() == [100, 100] and copies["data"][0]["y"][:2].tolist() == [0, 1]
    assert [copies["data"][1][axis].tolist() for axis in "xy"] == [[40, 100], [0, 1]], "it was member 0 at first"
    np.testing.assert_allclose(rates["data"][1]["y"], [1e-3, 1.25e-3])
    np.testing.assert_allclose(rates["data"][0]["y"], [1e-3, 2e-3, 1e-3, 1.25e-3])
    assert section(html, "fields") is None and section(page, "populations") is None


def test_configuration_is_told_once_and_differences_apart(sweep, page):
    differences, shared = tables(section(page, "configuration"))
    assert differences[0] == ["name", "learning_rate", "gamma"] and len(differences) == 9
    table = dict(shared[1:])
    assert table["total_steps"] == "40,000" and table["max_grad_norm"] == "inf" and table["hidden"] == "120, 84"
    assert "gamma" not in table
    for fact in ("CartPole-v1", "cartpole", "32: 8 settings, 4 seeds", "Some CPU", "jax 0.10.2", "2026-11-21"):
        assert fact in own(page)


def test_a_page_needs_nothing_else(page, sweep, runs, tmp_path):
    for html in (page, report_of(*runs, out=tmp_path / "two.html"), report_of(runs[0])):
        assert not re.findall(r"(?i)<link|<iframe|@import|<script[^>]+src", html)
        assert not re.findall(r"(?i)url\(\s*['\"]?(?:http|//)", html)
        addresses = re.findall(r"""(?i)\b(?:src|href|srcset|poster)\s*=\s*["']?([^"'\s>]+)""", own(html))
        assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
        assert "default-src 'none'" in html


EVIL = "<script>alert('x')</script>\"&<b>"


def test_texts_from_files_are_escaped(tmp_path, runs):
    """A setting's value, a command and a folder's name with markup show as they are, in tables and in charts."""
    folder = write_sweep(tmp_path / "sweep", {"loss": (EVIL, "squared"), "gamma": (0.9, 0.99)})
    for name in ("sweep.json", "summary.json"):
        data = read(folder, name) | {"command": EVIL}
        (folder / name).write_text(json.dumps(data))
    html = report_of(folder)
    other = tmp_path / "a<script>b<"
    shutil.copytree(runs[0], other)
    for page in (html, report_of(other), report_of(folder, other, out=tmp_path / "both.html")):
        assert "<script>alert" not in page and "<script>b" not in page
        assert len(re.findall(r"<script\b", own(page))) == 0
    assert EVIL in [row[1] for row in tables(html)[0]]
    names = list(lines(charts(html)[0]))
    assert any(EVIL in name for name in names)
    assert not any(trace["name"].count("<") for trace in charts(html)[0]["data"] if "name" in trace)


def test_a_run_has_its_seeds_its_scores_its_doctor_and_its_differences(runs):
    html = report_of(runs[0])
    (curve, episodes) = charts(html)
    assert set(lines(curve)) == {"evaluation", "training"}
    seeds = lines(curve, "seeds")["evaluation"]
    assert seeds["visible"] and set(seeds["customdata"]) == {0, 1}
    summary = read(runs[0], "summary.json")
    head, *rows = tables(section(html, "scores"))[0]
    assert head[:4] == ["seed", "last", "±", "best"] and [row[0] for row in rows] == ["0", "1"]
    for row, entry in zip(rows, summary["evaluation"], strict=True):
        assert float(row[1]) == pytest.approx(entry["last_mean_return"], abs=0.06)
        assert float(row[3]) == pytest.approx(entry["best_mean_return"], abs=0.06)
    assert "episodes of training" in episodes["layout"]["xaxis"]["title"]["text"]
    differs = {row[0]: row[1:] for row in tables(section(html, "configuration"))[0][1:]}
    assert differs == {"total_steps": ["3000", "200,000"], "hidden": ["16", "120, 84"], "log_episodes": ["200", "0"]}
    findings = read(runs[0], "doctor.json")["findings"]
    shown = tables(section(html, "doctor"))[0][1:]
    assert sorted(row[0] for row in shown) == sorted(finding["name"] for finding in findings)
    assert [row[1] for row in shown][:2] == ["alarm", "note"], "the worst come first"
    told = unescape(own(section(html, "doctor")))
    assert "target (2)" in told and "(probably follows from target)" in told
    assert sum(finding["remedy"] in told for finding in findings) == 2, "what is well needs no remedy"
    assert 'src="data:image/gif;base64,R0lGOD' in section(html, "policy")


def test_a_run_without_a_summary_shows_its_newest_evaluations(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs[1], folder)
    for name in ("summary.json", "policy.gif"):
        (folder / name).unlink()
    html = report_of(folder)
    assert "has not come to its end" in section(html, "scores")
    assert section(html, "doctor") is None and section(html, "policy") is None and section(html, "episodes") is None


def test_several_folders_share_their_charts(runs, sweep, tmp_path):
    html = report_of(*runs, out=tmp_path / "runs.html")
    assert set(lines(charts(html)[0])) == {"first", "second"}
    head, *rows = tables(section(html, "configuration"))[0]
    assert set(head) == {"name", "learning_rate", "log_episodes"}
    assert {row[0]: row[head.index("learning_rate")] for row in rows} == {"first": "0.001", "second": "0.01"}
    means = {row[0]: row[2] for row in tables(section(html, "scores"))[0][1:]}
    for folder in runs:
        last = [entry["last_mean_return"] for entry in read(folder, "summary.json")["evaluation"]]
        assert float(means[folder.name]) == pytest.approx(iqm(last), abs=0.06)
    both = report_of(runs[0], sweep, out=tmp_path / "both.html")
    assert len(tables(section(both, "scores"))[0]) == 1 + 1 + 8
    assert keys(section(both, "curves"))[0][0].startswith("plain: #1 learning_rate")


def test_returns_of_different_environments_are_not_put_on_one_scale_in_silence(runs, tmp_path):
    other = write_sweep(tmp_path / "other", env="Acrobot-v1")
    warning = "not on one scale"
    assert warning in report_of(runs[0], other, out=tmp_path / "x.html")
    assert warning not in report_of(*runs, out=tmp_path / "y.html")


def test_folders_of_one_name_are_told_apart(sweep, tmp_path):
    other = tmp_path / "elsewhere" / sweep.name
    shutil.copytree(sweep, other)
    names = [name for name, _ in keys(section(report_of(sweep, other, out=tmp_path / "x.html"), "curves"))]
    assert len(set(names)) == 16


@pytest.mark.parametrize("flags", [["--out"], []])
def test_the_command_writes_where_it_is_told(sweep, tmp_path, capsys, flags):
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (folder / "report.html").unlink(missing_ok=True)
    out = tmp_path / "page.html" if flags else folder / "report.html"
    assert command.main([str(folder), *flags, *([str(out)] if flags else [])]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob(".*"))


def test_a_failure_leaves_the_old_page(sweep, tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_report([sweep], out)
    assert out.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["page.html"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-2000])


def drop_column(path):
    columns = dict(np.load(path))
    del columns["seed"]
    np.savez(path, **columns)


def shorten_column(path):
    columns = dict(np.load(path))
    np.savez(path, **(columns | {"seed": columns["seed"][:-1]}))


def foreign_seed(path):
    columns = dict(np.load(path))
    np.savez(path, **(columns | {"seed": columns["seed"] + 7}))


def pickled(path):
    np.savez(path, setting=np.array([{}], dtype=object))


def not_json(path):
    path.write_text('{"format": 1,')


def other_format(path):
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))


def no_settings(path):
    path.write_text(path.read_text().replace('"settings"', '"unset"'))


def unknown_setting(path):
    path.write_text(path.read_text().replace('"setting": 0', '"setting": 77'))


DAMAGES = [
    ("curves.npz", "unlink", "holds no curves.npz"),
    ("lanes.npz", "unlink", "holds no lanes.npz"),
    ("summary.json", "unlink", "holds no summary.json: the sweep has not come to its end"),
    ("sweep.json", "unlink", "neither a sweep.json nor a config.json"),
    ("curves.npz", truncate, "its curves.npz cannot be read"),
    ("lanes.npz", drop_column, "its lanes.npz is damaged (it has no column seed)"),
    ("lanes.npz", shorten_column, "its lanes.npz is damaged (its columns are not of one length)"),
    ("curves.npz", foreign_seed, "curves.npz has a seed of setting"),
    ("lanes.npz", pickled, "its lanes.npz cannot be read"),
    ("sweep.json", not_json, "its sweep.json is damaged"),
    ("sweep.json", other_format, "its format is 99, and this version reads 1"),
    ("sweep.json", no_settings, "it has no settings"),
    ("summary.json", unknown_setting, "setting 0 is not in both"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGES)
def test_a_damaged_sweep_is_one_sentence(sweep, tmp_path, capsys, name, damage, sentence):
    folder = tmp_path / "sweep"
    shutil.copytree(sweep, folder)
    (folder / name).unlink() if damage == "unlink" else damage(folder / name)
    said = refused(capsys, command.main, [str(folder), "--out", str(tmp_path / "page.html")])
    assert sentence in said and str(folder) in said
    assert not (tmp_path / "page.html").exists()


RUN_DAMAGES = [
    ("config.json", not_json, "its config.json is damaged"),
    ("metrics.csv", "unlink", "holds no metrics.csv"),
    ("metrics.csv", lambda path: path.write_text("seed,env_steps\n"), "its metrics.csv is damaged"),
    ("summary.json", lambda path: path.write_text("{}"), "summary.json or doctor.json is damaged"),
    ("episodes.csv", lambda path: path.write_text("seed\n1\n"), "its episodes.csv is damaged"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), RUN_DAMAGES)
def test_a_damaged_run_is_one_sentence(runs, tmp_path, capsys, name, damage, sentence):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    (folder / name).unlink() if damage == "unlink" else damage(folder / name)
    assert sentence in refused(capsys, command.main, [str(folder)])


def test_wrong_command_lines_are_one_sentence(sweep, tmp_path, capsys):
    assert "--folders" in refused(capsys, command.main, [])
    assert "no such folder" in refused(capsys, command.main, [str(tmp_path / "nowhere")])
    assert "folder does not exist" in refused(capsys, command.main, [str(sweep), "--out", str(tmp_path / "no" / "x")])
    assert "it is a folder" in refused(capsys, command.main, [str(sweep), "--out", str(tmp_path)])


def test_without_plotly_it_is_one_sentence(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    said = refused(capsys, command.main, [str(sweep), "--out", str(tmp_path / "page.html")])
    assert "plotly" in said and "not installed" in said


def test_plotly_is_not_imported_before_a_page_is_made():
    code = "import sys, purejaxdqn.report.command; assert 'plotly' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_lane_with_one_evaluation_has_a_page(tmp_path):
    """No varied field, no interval, no curve: nothing divides by zero, and the one point is drawn."""
    html = report_of(write_sweep(tmp_path / "one", {}, seeds=1, points=2))
    (trace,) = lines(charts(html)[0]).values()
    assert trace["mode"] == "markers" and len(trace["x"]) == 1
    assert section(html, "fields") is None and section(html, "pairs") is None


def test_a_random_search_is_put_into_bins(tmp_path):
    rng = np.random.default_rng(0)
    settings = [{"learning_rate": float(10 ** rng.uniform(-5, -2)), "gamma": 0.9 + i / 1000} for i in range(40)]
    html = report_of(write_sweep(tmp_path / "random", settings=settings, seeds=2, points=6))
    chart = charts(section(html, "fields"))[0]
    assert len(chart["data"][1]["x"]) == 8 and chart["layout"]["xaxis"]["type"] == "log"
    assert charts(section(html, "pairs"))[0]["data"][0]["type"] == "scatter"
