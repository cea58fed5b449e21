"""A tiny data set of bright, asymmetric boxes, quick to learn."""

from pathlib import Path

import numpy as np

from hilum.dataset import Dataset, open_dataset
from hilum.files import atomic_write_text
from hilum.io import write_labels, write_volume
from hilum.plan import Hardware, Overrides, Plan, make_fingerprint, make_plan
from hilum.training import TrainedNetwork, loop
from hilum.training.steps import SegmentationStep
from hilum.volume import Geometry, Volume

SHAPE = (12, 20, 16)


def write_boxes(folder: Path, *, cases: int = 10, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(cases):
        geometry = Geometry.from_spacing(SHAPE, (2.0, 1.0, 1.5), origin=(-10.0, 5.0, 40.0))
        labels = np.zeros((1, *SHAPE), dtype=np.uint8)
        z, y, x = (int(v) for v in rng.integers((1, 2, 2), (4, 6, 5)))
        labels[0, z : z + 6, y : y + 8, x : x + 5] = 1
        labels[0, z : z + 3, y : y + 8, x + 5 : x + 8] = 2
        image = rng.normal(0, 12, labels.shape) + 100.0 * labels
        write_volume(
            Volume(image.astype(np.float32), geometry),
            folder / "imagesTr" / f"box_{number:02d}_0000.nii.gz",
        )
        write_labels(Volume(labels, geometry), folder / "labelsTr" / f"box_{number:02d}.nii.gz")
    atomic_write_text(
        folder / "dataset.json",
        '{"channel_names": {"0": "MR"}, "labels": {"background": 0, "large": 1, "small": 2},'
        f' "file_ending": ".nii.gz", "numTraining": {cases}}}',
    )
    rows = "\n".join(f"box_{n:02d},P{n // 2}" for n in range(cases))
    atomic_write_text(folder / "patients.csv", f"case,patient\n{rows}\n")
    return folder


def fit(job, **calls) -> TrainedNetwork:
    """Train a segmentation by the loop that users run."""
    return loop.fit(job, SegmentationStep(job), **calls)


def small_plan(dataset: Dataset) -> Plan:
    """A plan with the smallest network, in float32, so that it is quick and the same everywhere."""
    fingerprint = make_fingerprint(dataset)
    return make_plan(
        fingerprint,
        Hardware(memory_gb=2),
        overrides=Overrides(patch=SHAPE, batch=2, width=8, steps=40),
    )


def opened(folder: Path) -> tuple[Dataset, Plan]:
    dataset = open_dataset(write_boxes(folder))
    return dataset, small_plan(dataset)
