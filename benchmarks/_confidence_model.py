"""A hippocampus model that learnt from some patients, and the other patients."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from _common import DATA, OUT, hilum, trained_already

from hilum.dataset import open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from hilum.dataset import Case

FOLDER = OUT / "confidence"
LEARNT = 120
"""Patients for training and validation; a fifth of them are held out and calibrate the model."""


def parts() -> tuple[list[Case], list[Case]]:
    """Return the cases that the model may learn from, and those that nothing of it ever saw."""
    cases = list(open_dataset(DATA / "hippocampus").cases)
    ordered = cases[::2] + cases[1::2]
    return ordered[:LEARNT], ordered[LEARNT:]


def trained(minutes: float) -> Path:
    """Train the model where it is not there, and tune it; the folder of the tuned one.

    Tuning has no time limit: all validation cases calibrate the model, however busy the machine.
    """
    data, model, tuned = FOLDER / "data", FOLDER / "model", FOLDER / "tuned"
    if not trained_already(model, minutes):
        hilum("train", learning_data(data), "-o", model, "--minutes", minutes)
    if not (tuned / "model.json").is_file():
        hilum("tune", model, data, "-o", tuned)
    return tuned


def learning_data(data: Path) -> Path:
    """Copy the cases that the model may learn from to a data set of their own."""
    shutil.rmtree(data, ignore_errors=True)
    listed = []
    for case in parts()[0]:
        for part in ("imagesTr", "labelsTr"):
            (data / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(DATA / "hippocampus" / part / f"{case.id}.nii.gz", data / part)
        listed.append(
            {
                "image": f"./imagesTr/{case.id}.nii.gz",
                "label": f"./labelsTr/{case.id}.nii.gz",
            }
        )
    facts = json.loads((DATA / "hippocampus" / "dataset.json").read_text(encoding="utf-8"))
    facts |= {"training": listed, "numTraining": len(listed), "test": [], "numTest": 0}
    (data / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    return data
