"""Channels are matched by name where both sides have names, and go by number where one has none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hilum.dataset import (
    Case,
    arrange_channels,
    arrange_dataset,
    match_channels,
    open_dataset,
    read_case,
)
from hilum.errors import DataError
from hilum.io import write_volume
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = Geometry.from_spacing((3, 4, 5), (3.0, 2.0, 1.0))


def image(*values: float) -> Volume:
    return Volume(
        np.stack([np.full(GEOMETRY.shape, value, np.float32) for value in values]), GEOMETRY
    )


@pytest.mark.parametrize(
    ("wanted", "found", "order"),
    [
        (("CT", "PET"), ("PET", "CT"), (1, 0)),
        (("CT", "PET"), ("pet", "ct"), (1, 0)),
        (("T1 Gd", "T2-FLAIR"), ("t2_flair", "t1gd"), (1, 0)),
        (("a", "b", "c"), ("c", "a", "b"), (1, 2, 0)),
        (("red", "green", "blue"), ("B", "G", "R"), (2, 1, 0)),
        (("rgb_to_0_1_0", "rgb_to_0_1_1", "rgb_to_0_1_2"), ("red", "green", "blue"), (0, 1, 2)),
        (("CT",), ("image",), (0,)),
        (("image",), ("MR",), (0,)),
        (("CT", "PET"), ("1", "0"), (1, 0)),
        (("CT", "PET"), ("channel 1", "channel 2"), (0, 1)),
        (("1", "0"), ("PET", "CT"), (1, 0)),
        (("noNorm_0", "noNorm_1"), ("noNorm_1", "noNorm_0"), (1, 0)),
    ],
)
def test_names_are_matched_and_numbers_are_counted(wanted, found, order):
    assert match_channels(wanted, found, where="x") == order


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        (
            ("CT", "PET"),
            ("a", "b"),
            r"\(a, b\), the model 2 channels \(CT, PET\) \(unknown: a, b; missing: CT, PET\)",
        ),
        (("CT",), ("MR",), r"unknown: MR; missing: CT"),
        (("CT", "PET"), ("CT",), r"missing: PET"),
        (("CT",), ("CT", "PET"), r"unknown: PET"),
        (("CT", "PET"), ("CT", "channel 1"), r"unknown: channel 1; missing: PET"),
        (("red", "green", "blue"), ("CT", "PET", "MR"), r"unknown: CT, PET, MR"),
        (("zscore",), ("noNorm",), r"missing: zscore"),
        (("T1_1", "T11"), ("T11", "T1_1"), r"cannot be told apart"),
    ],
)
def test_other_names_are_refused_with_both_sides(wanted, found, said):
    with pytest.raises(DataError, match=said):
        match_channels(wanted, found, where="the data set")


@pytest.mark.parametrize(
    ("wanted", "found"), [(("CT", "PET"), ("image",)), (("CT", "PET"), ("channel 0", "channel 2"))]
)
def test_numbers_with_a_gap_are_refused(wanted, found):
    with pytest.raises(DataError, match=r"one image for each of CT, PET"):
        match_channels(wanted, found, where="x")


def test_files_are_arranged(tmp_path):
    write_volume(image(1), tmp_path / "ct.nii.gz")
    write_volume(image(2), tmp_path / "pet.nii.gz")
    case = Case("a", None, {"pet": tmp_path / "pet.nii.gz", "ct": tmp_path / "ct.nii.gz"})
    arranged = arrange_channels(case, ("CT", "PET"))
    assert list(arranged.images) == ["CT", "PET"]
    assert read_case(arranged).array[:, 0, 0, 0].tolist() == [1, 2]
    assert arrange_channels(arranged, ("CT", "PET")) is arranged


def test_channels_of_one_file_are_arranged(tmp_path):
    write_volume(image(1, 2, 3), tmp_path / "all.nii.gz")
    case = Case("a", None, dict.fromkeys(("FLAIR", "T1w", "T2w"), tmp_path / "all.nii.gz"))
    arranged = arrange_channels(case, ("t2w", "flair", "t1w"))
    assert read_case(arranged).array[:, 0, 0, 0].tolist() == [3, 1, 2]
    assert read_case(arrange_channels(arranged, ("FLAIR", "T1w", "T2w"))).array[
        :, 0, 0, 0
    ].tolist() == [1, 2, 3]


def test_files_of_several_channels_are_arranged(tmp_path):
    write_volume(image(1, 2), tmp_path / "two.nii.gz")
    write_volume(image(3), tmp_path / "one.nii.gz")
    case = Case(
        "a",
        None,
        {"x": tmp_path / "two.nii.gz", "z": tmp_path / "one.nii.gz", "y": tmp_path / "two.nii.gz"},
    )
    assert read_case(case).array[:, 0, 0, 0].tolist() == [1, 3, 2]
    assert read_case(arrange_channels(case, ("z", "y", "x"))).array[:, 0, 0, 0].tolist() == [
        3,
        2,
        1,
    ]


def _decathlon(root: Path, names: dict[str, str]) -> Path:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    write_volume(image(1, 2), root / "imagesTr" / "a.nii.gz")
    write_volume(
        Volume(np.ones((1, *GEOMETRY.shape), np.uint8), GEOMETRY), root / "labelsTr" / "a.nii.gz"
    )
    facts = {"modality": names, "labels": {"0": "background", "1": "liver"}, "numTraining": 1}
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


def test_a_data_set_is_arranged(tmp_path):
    dataset = open_dataset(_decathlon(tmp_path, {"0": "PET", "1": "CT"}))
    arranged = arrange_dataset(dataset, ("CT", "PET"))
    assert arranged.channels == ("CT", "PET")
    assert read_case(arranged.cases[0]).array[:, 0, 0, 0].tolist() == [2, 1]
    with pytest.raises(
        DataError,
        match=r"\(PET, CT\), the plan 2 channels \(CT, MR\) \(unknown: PET; missing: MR\)",
    ):
        arrange_dataset(dataset, ("CT", "MR"), holder="the plan")
