"""The benchmarks' own bookkeeping; what they measure is theirs to run."""

import json
import sys

import pytest

from benchmarks import common, family


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Calls the family's command line with a measurement that takes no time, and returns what the file then holds."""

    def measure(env, algo, seeds, first_seed, extra):
        return {"algo": algo, "flags": extra, "last": {"iqm": 1.0, "scores": [1.0]}, "train_wall_seconds": 1.0}

    monkeypatch.setattr(family, "measure", measure)
    monkeypatch.setattr(family, "RESULTS", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path)

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["family", "--env", "DeepSea-bsuite", *flags])
        family.main()
        return json.loads((tmp_path / "family-DeepSea-bsuite.json").read_text())["algorithms"]

    return call


def test_an_ablation_stands_beside_its_algorithm(measured):
    """Under its own label, after the algorithms, which keep their order; none of them is overwritten or lost."""
    measured("--algos", "rainbow", "--label", "rainbow without noise", "--no-noisy")
    found = measured("--algos", "rainbow", "dqn")
    assert list(found) == ["dqn", "rainbow", "rainbow without noise"]
    assert [entry["algo"] for entry in found.values()] == ["dqn", "rainbow", "rainbow"]
    assert [entry["flags"] for entry in found.values()] == [[], [], ["--no-noisy"]]


def test_one_label_cannot_name_two_results(measured, capsys):
    with pytest.raises(SystemExit) as stopped:
        measured("--label", "without noise", "--algos", "dqn", "rainbow")
    assert stopped.value.code == 2
    assert "--label without noise" in capsys.readouterr().err
