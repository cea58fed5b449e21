"""No verb loses a file or changes an input, whatever lies in the folder.

Random trees with random faults.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hilum
from hilum import api
from hilum.errors import HilumError
from hilum.inference import Predictor, RunReport, predict_many
from inference_toys import make_model
from random_trees import LAYOUTS, all_files, build, faults, snapshot

LEDGER = ".hilum.json"
PLACES = ("out", "tree", "tree/out")
"""Places of results: beside the tree, into it, and into a folder in it."""


def accounted(report: RunReport) -> int:
    """Number of files in the inventory of a run."""
    groups = (*report.files.left_out, *report.files.unreadable)
    return report.files.taken + sum(group.count for group in groups)


def entries(root: Path) -> int:
    """Files below a folder as an inventory counts them: a hidden folder is one."""
    found = set()
    for name in all_files(root):
        parts = Path(name).parts
        hidden = next((n for n, part in enumerate(parts[:-1]) if part.startswith(".")), None)
        found.add(name if hidden is None else "/".join(parts[: hidden + 1]))
    return len(found)


def recorded(root: Path, name: str) -> bool:
    """Say that a file is one that hilum recorded as its own, or keeps for itself."""
    file = root / name
    if file.name.startswith(".hilum"):
        return True
    for folder in file.parents:  # a folder may be recorded with all that is in it
        ledger = folder / LEDGER
        if ledger.is_file():
            names = json.loads(ledger.read_text())["files"]
            if (
                file.relative_to(folder).parts[0] in names
                or file.relative_to(folder).as_posix() in names
            ):
                return True
        if folder == root:
            return False
    return False


def no_input_is_changed(root: Path, before: dict, verb: str) -> None:
    after = snapshot(root)
    lost = [name for name in before if name not in after]
    changed = [name for name in before if name in after and after[name] != before[name]]
    assert not lost, f"{verb} removed {lost}"
    assert not changed, f"{verb} changed {changed}"
    foreign = [name for name in after if name not in before and not recorded(root, name)]
    assert not foreign, f"{verb} wrote {foreign} without a record"


def predict(tree: Path, out: Path) -> None:
    files = entries(tree)
    report = predict_many(Predictor(make_model(precision="float32")), [tree], out)
    assert accounted(report) == files
    again = predict_many(Predictor(make_model(precision="float32")), [tree], out)
    assert [case.case for case in again.cases] == [
        case.case for case in report.cases
    ]  # nothing of its own is an input


def check(tree: Path, out: Path) -> None:
    files = entries(tree)
    inventory = hilum.open_dataset(tree).files
    assert inventory.taken + len(inventory.others) == files
    api.check(tree)
    api.check(tree, fix=out)


def plan(tree: Path, out: Path) -> None:
    api.plan(tree, out=out / "plan.json", device="cpu")


def evaluate(tree: Path, out: Path) -> None:
    api.evaluate(tree, tree, out, allow_missing=True)


def train(tree: Path, out: Path) -> None:
    api.train(tree, out, steps=1, device="cpu")


VERBS = {"predict": predict, "check": check, "plan": plan, "evaluate": evaluate}


def try_verbs(layout: int, changes: tuple, place: str, verbs: dict) -> None:
    """Run each verb on a tree of its own; an error of hilum is a result, any other is a fault."""
    for verb, run in verbs.items():
        with TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            build(tree, layout, changes)
            before = snapshot(tree)
            with suppress(HilumError):
                run(tree, Path(folder) / place)
            no_input_is_changed(tree, before, verb)


ANY_TREE = {
    "layout": st.integers(0, len(LAYOUTS) - 1),
    "changes": faults(),
    "place": st.sampled_from(PLACES),
}
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@pytest.fixture(autouse=True)
def _silent(caplog):
    caplog.set_level(logging.CRITICAL, logger="hilum")


@pytest.mark.parametrize("layout", range(len(LAYOUTS)))
@pytest.mark.parametrize("place", PLACES)
def test_sound_trees_are_accounted_for(layout, place):
    try_verbs(layout, (), place, VERBS)


def run_random_trees(count: int, verbs: dict) -> None:
    """Try the verbs on so many random trees, the same ones at every call."""

    @settings(deadline=None, max_examples=count, derandomize=True, suppress_health_check=QUIET)
    @given(**ANY_TREE)
    def each(layout, changes, place):
        try_verbs(layout, changes, place, verbs)

    each()


def test_random_trees_lose_no_file():
    run_random_trees(40, VERBS)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_many_random_trees_lose_no_file(request):
    run_random_trees(request.config.getoption("--trees"), VERBS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_on_random_trees_changes_no_input():
    run_random_trees(20, {"train": train})


def test_every_layout_of_the_trees_is_known():
    assert {"nnunet", "table", "paired-folders", "class-folders"} <= set(hilum.dataset.LAYOUTS)
