"""Memory stays within its limit, whatever the image and the number of labels.

And an exported model needs no torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hilum.engines.memory import parse_memory
from hilum.io import read_labels, read_volume, write_volume
from hilum.plan import save_plan
from hilum.plan.plan import Normalisation
from hilum.plan.segmentation import PostprocessingStep
from hilum.volume import Geometry, LabelTable, Volume
from inference_toys import make_plan, spec

RUN = Path(__file__).with_name("bounded_run.py")


def run(folder, *, shape, labels, patch, spacing, memory, probabilities=False, cases=1, steps=()):
    """Predict cases whose label rises along Z in a process of its own.

    What it said of itself, and the labels expected.
    """
    table = LabelTable.from_names({n: f"structure {n}" for n in range(1, labels)})
    plan = make_plan(
        labels=table, patch=patch, spacing=spacing, network=spec(1, labels), crop="none"
    )
    changes = {"normalisation": (UNIT,), "postprocessing": steps}
    plan = plan.model_copy(
        update={
            name: getattr(plan, name).model_copy(update={"value": new})
            for name, new in changes.items()
        }
    )
    save_plan(plan, folder / "plan.json")
    rows = (np.arange(shape[0]) * labels // shape[0]).astype(np.int16)
    array = np.broadcast_to(rows[:, None, None], shape).copy()
    array[:, : shape[1] // 4] = 0
    (folder / "in").mkdir()
    for n in range(cases):
        write_volume(
            Volume(array[None], Geometry.from_spacing(shape, (1.0, 0.8, 0.8))),
            folder / f"in/case_{n}.nrrd",
        )
    arguments = [
        folder / "plan.json",
        folder / "in",
        folder / "out",
        memory,
        "yes" if probabilities else "no",
    ]
    done = subprocess.run(
        [sys.executable, RUN, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), array


UNIT = Normalisation(kind="unit", upper=1.0)


def everything(labels):
    """A step whose region is all labels: its box is nearly the whole grid."""
    return PostprocessingStep(
        kind="largest_component", region="everything", labels=tuple(range(1, labels))
    )


@pytest.mark.parametrize(
    ("memory", "depth", "files", "cases"),
    [("400MB", 32, 1, 1), ("400MB", 32, 2, 2), ("700MB", 96, 1, 1), ("800MB", 96, 0, 1)],
)
def test_without_torch_within_the_memory(tmp_path, memory, depth, files, cases):
    """40 outputs on 96 x 128 x 128: all logits take 250 MB, all probabilities as much again."""
    said, expected = run(
        tmp_path,
        shape=(96, 128, 128),
        labels=40,
        patch=(depth, 48, 48),
        spacing=(1.0, 0.8, 0.8),
        memory=memory,
        probabilities=True,
        cases=cases,
        steps=(everything(40),),
    )
    assert [case["error"] for case in said["cases"]] == [""] * cases
    assert said["files"] == files
    assert said["peak"] <= parse_memory(memory)
    assert said["highest"] <= parse_memory(memory)
    for case in range(cases):
        assert np.array_equal(read_labels(tmp_path / f"out/case_{case}.nii.gz").array[0], expected)
        probabilities = read_volume(tmp_path / f"out/case_{case}_probabilities.nii.gz")
        assert np.array_equal(probabilities.array.argmax(axis=0), expected)
    written = {
        f"case_{case}{kind}.nii.gz" for case in range(cases) for kind in ("", "_probabilities")
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *written,
        "labels.json",
        "run.json",
        ".hilum.json",
    }


def test_too_little_for_the_images_is_said_with_the_figures(tmp_path):
    said, _ = run(
        tmp_path,
        shape=(96, 128, 128),
        labels=3,
        patch=(32, 48, 48),
        spacing=(1.0, 0.8, 0.8),
        memory="50MB",
    )
    assert said["cases"][0]["status"] == "failed"
    assert "hilum and the model alone hold" in said["cases"][0]["error"]
    assert "more than the 0.05 GiB that are allowed" in said["cases"][0]["error"]
    assert "of which the images take 0.03" in said["cases"][0]["error"]
    assert said["calls"] == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_118_labels_on_512_512_800_in_4_gb(tmp_path):
    """All logits take 99 GB on the source's grid, 19 GB on the network's, 4.5 GB a patch's rows."""
    said, expected = run(
        tmp_path,
        shape=(800, 512, 512),
        labels=118,
        patch=(128, 128, 128),
        spacing=(1.5, 1.5, 1.5),
        memory="4GB",
        steps=(
            PostprocessingStep(kind="largest_component", region="half", labels=tuple(range(1, 60))),
        ),
    )
    assert said["cases"][0]["error"] == ""
    assert said["peak"] <= 4e9
    assert said["highest"] <= 4e9
    assert said["calls"] >= 100
    labels = read_labels(tmp_path / "out/case_0.nii.gz").array[0]
    inside = (
        slice(4, -4),
        slice(140, -4),
        slice(4, -4),
    )  # beyond the edge of what is 0, which resampling blurs
    assert (np.abs(labels[inside].astype(int) - expected[inside]) <= 1).all()
    assert (
        labels[inside] == expected[inside]
    ).mean() > 0.8  # rows between two labels are as near to the one as to the other
