"""Benchmarks report what their texts say.

Minutes, weights, commit (nothing is trained here).
"""

import json
import shutil
from pathlib import Path

import pytest

from house_sources import REPOSITORY


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))


def a_training(folder: Path, minutes: float | None, *, complete: bool = True) -> Path:
    """Files of a training that say how long it was."""
    (folder / "training").mkdir(parents=True)
    (folder / "training" / "plan.json").write_text(json.dumps({"hardware": {"minutes": minutes}}))
    if complete:
        (folder / "model.json").write_text("{}")
        (folder / "run.json").write_text(json.dumps({"options": {"minutes": minutes}}))
    return folder


def test_a_model_that_was_kept_is_of_the_minutes_that_are_reported(tmp_path):
    from _common import trained_already

    assert trained_already(a_training(tmp_path / "kept", 2.0), 2)
    assert not trained_already(a_training(tmp_path / "begun", 2.0, complete=False), 2)
    assert not trained_already(tmp_path / "none", 2)
    for folder in ("kept", "begun"):
        with pytest.raises(SystemExit, match="was trained for 2 minutes, not 3"):
            trained_already(tmp_path / folder, 3)
    with pytest.raises(SystemExit, match="an unknown number of minutes"):
        trained_already(a_training(tmp_path / "silent", None), 3)
    shutil.rmtree(tmp_path / "kept" / "training")  # only the model was kept
    with pytest.raises(SystemExit, match="was trained for 2 minutes"):
        trained_already(tmp_path / "kept", 3)


def a_set(home: Path):
    """A set of the inference benchmark with all that was made of its weights."""
    from _inference_sets import BenchSet, settle

    checkpoint = home / "nnunet" / "fold_0" / "checkpoint_final.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"first")
    found = BenchSet("liver", home, "0", {1: "liver"}, trained=True, note="")
    settle(found)
    for name in ("predictions/nnunet", "nnunet_resampled"):
        (home / name).mkdir(parents=True)
    (home / "imported.made").write_text("")
    return found


def test_other_weights_forget_all_that_was_made_and_measured_of_the_first(tmp_path):
    from _inference_sets import settle

    found = a_set(tmp_path)
    runs = tmp_path / "runs.json"
    runs.write_text("{}")
    before = settle(found)
    assert runs.is_file()
    assert (tmp_path / "predictions" / "nnunet").is_dir()
    (found.nnunet / "fold_0" / "checkpoint_final.pth").write_bytes(b"second")
    assert settle(found) != before
    assert not [
        name
        for name in ("runs.json", "predictions", "nnunet_resampled", "imported.made")
        if (tmp_path / name).exists()
    ]


def test_runs_of_another_commit_are_kept_but_not_counted(tmp_path, monkeypatch, capsys):
    import argparse

    from _inference_sets import settle

    import inference

    found = a_set(tmp_path)
    weights = settle(found)
    commits = ("one", "one", "two", "one+changes")
    of = [
        {"way": "nnunet", "round": n, "commit": commit, "weights": weights}
        for n, commit in enumerate(commits)
    ]
    (tmp_path / "runs.json").write_text(
        json.dumps({"runs": [*of, of[0] | {"weights": "others"}], "refused": {}})
    )
    monkeypatch.setattr(inference, "provenance", lambda: {"commit": "one"})
    monkeypatch.setattr(
        inference,
        "one_run",
        lambda *_: {"way": "nnunet", "seconds": 1.0, "memory_gib": 1.0, "code": 0},
    )
    monkeypatch.setattr(inference, "show", lambda _, state: state)
    asked = argparse.Namespace(
        ways=["nnunet"],
        append=True,
        runs=1,
        slow_runs=None,
        prepare=False,
        remake=False,
        liver_steps=None,
        peer_python=Path(),
    )
    counted = inference.bench(found, asked)
    assert [run["round"] for run in counted["runs"]] == [0, 1, 4]
    assert (
        "3 of 6 runs are not of one and these weights, and not counted" in capsys.readouterr().out
    )
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) == 6
