"""Labels and classes are matched by name where both sides have names, else by id."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import nnunet

from hilum.dataset import (
    Case,
    ClassTable,
    Dataset,
    match_classes,
    match_dataset,
    match_labels,
    open_dataset,
    read_annotation,
    relabel,
)
from hilum.dataset.layouts.naming import label_table
from hilum.errors import LabelError, UsageError
from hilum.volume import Geometry, Label, LabelTable, Region, Volume


def table(**ids: int) -> LabelTable:
    return LabelTable.from_names({i: name for name, i in ids.items()})


def match(wanted, found):
    return match_labels(wanted, found, where="there", holder="the model")


@pytest.mark.parametrize(
    ("wanted", "found", "ids"),
    [
        ({1: "liver", 2: "spleen"}, {1: "spleen", 2: "liver"}, {0: 0, 1: 2, 2: 1}),
        ({1: "left kidney"}, {7: "Left_Kidney"}, {0: 0, 7: 1}),
        ({1: "liver", 2: "spleen"}, {1: "label_1", 2: "label_2"}, {0: 0, 1: 1, 2: 2}),
        ({1: "foreground"}, {1: "liver"}, {0: 0, 1: 1}),
        ({1: "region 1", 2: "region 2"}, {1: "Region_2", 2: "Region_1"}, {0: 0, 1: 2, 2: 1}),
        ({1: "mask", 2: "roi"}, {1: "roi", 2: "mask"}, {0: 0, 1: 2, 2: 1}),
        ({1: "liver", 2: "label_2"}, {1: "Liver", 2: "spleen"}, {0: 0, 1: 1, 2: 2}),
        ({1: "left lung", 2: "left-lung"}, {1: "left lung", 2: "left-lung"}, {0: 0, 1: 1, 2: 2}),
    ],
)
def test_ids_follow_names(wanted, found, ids):
    assert match(LabelTable.from_names(wanted), LabelTable.from_names(found)) == ids


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({1: "liver"}, {1: "spleen"}),
        ({1: "liver", 2: "spleen"}, {1: "liver"}),
        ({1: "liver"}, {1: "liver", 2: "spleen"}),
        ({1: "liver", 2: "label_2"}, {1: "spleen", 2: "liver"}),
        ({1: "liver", 2: "spleen"}, {2: "label_2", 5: "liver"}),
    ],
)
def test_other_names_are_refused_with_both_sides(wanted, found):
    with pytest.raises(
        LabelError, match=rf"there has the labels \d \w+.*; the model has 1 {wanted[1]}"
    ):
        match(LabelTable.from_names(wanted), LabelTable.from_names(found))


def test_regions_are_of_the_same_labels():
    labels = tuple(Label(id=i, name=name) for i, name in enumerate(("background", "edema", "core")))
    whole = LabelTable(
        labels=labels, regions=(Region(name="whole", labels=(1, 2)),), decode_ids=(1,)
    )
    other = LabelTable(labels=labels, regions=(Region(name="whole", labels=(2,)),), decode_ids=(2,))
    assert match(whole, whole.model_copy(update={"ignore": 9})) == {0: 0, 1: 1, 2: 2, 9: 9}
    with pytest.raises(LabelError, match=r"regions whole \[2\]; the model has .*whole \[1, 2\]"):
        match(whole, other)


def test_relabelling_refuses_what_has_no_name():
    grid = Geometry.from_spacing((2, 2, 2), (1.0, 1.0, 1.0))
    labels = Volume(np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2) % 4, grid)
    assert relabel(labels, {0: 0, 1: 1}) is labels
    assert relabel(labels, {0: 0, 1: 2, 2: 1, 3: 300}).array.ravel().tolist() == [0, 2, 1, 300] * 2
    with pytest.raises(LabelError, match=r"holds 3, which has no name"):
        relabel(labels, {0: 0, 1: 2, 2: 1})


def test_a_data_set_is_read_in_the_ids_of_a_model(tmp_path):
    dataset = open_dataset(nnunet(tmp_path / "d", names={"background": 0, "tumour": 1, "liver": 2}))
    own = read_annotation(dataset.cases[0]).array
    taken = match_dataset(dataset, ("ct",), table(liver=1, tumour=2), holder="the model")
    assert taken.notes[-1] == "labels are matched by name: 1 is read as 2, 2 is read as 1"
    np.testing.assert_array_equal(read_annotation(taken.cases[0]).array, np.choose(own, [0, 2, 1]))
    assert taken.channels == ("ct",)
    with pytest.raises(LabelError, match="1 tumour, 2 liver; the model has 1 liver, 2 spleen"):
        match_dataset(dataset, ("CT",), table(liver=1, spleen=2), holder="the model")
    unnamed = replace(dataset, labels=table(label_1=1, label_3=3))
    with pytest.raises(LabelError, match="1 label_1, 3 label_3; the model has 1 liver, 2 tumour"):
        match_dataset(unnamed, ("CT",), table(liver=1, tumour=2), holder="the model")


def test_segment_ids_are_then_read_in_the_ids_of_a_model(tmp_path):
    """A file numbers segments unlike the data set, the data set labels unlike the model."""
    dataset = open_dataset(nnunet(tmp_path / "d", names={"background": 0, "tumour": 1, "liver": 2}))
    first, second = dataset.cases[:2]
    dataset = replace(dataset, cases=(replace(first, label_ids={0: 0, 3: 1, 1: 2}), second))
    taken = match_dataset(dataset, ("CT",), table(liver=1, tumour=2), holder="the model")
    assert [case.label_ids for case in taken.cases] == [{0: 0, 3: 2, 1: 1}, {0: 0, 1: 2, 2: 1}]


def _classified(*labels: str, kind="exclusive") -> Dataset:
    cases = tuple(
        Case(str(n), None, {"CT": Path("x")}, label=label) for n, label in enumerate(labels)
    )
    names = tuple(dict.fromkeys(part for label in labels for part in label.split("|")))
    return Dataset(
        "x", "x", "table", cases, ("CT",), None, classes=ClassTable(names=names, kind=kind)
    )


def test_classes_are_taken_by_name():
    taken = match_dataset(
        _classified("Malignant", "benign"),
        ("CT",),
        ClassTable(names=("benign", "malignant")),
        holder="the plan",
    )
    assert [case.label for case in taken.cases] == ["malignant", "benign"]
    assert taken.classes.names == ("benign", "malignant")
    found = match_dataset(
        _classified("b|A", "b", kind="multilabel"),
        ("CT",),
        ClassTable(names=("a", "B"), kind="multilabel"),
        holder="the plan",
    )
    assert [case.label for case in found.cases] == ["B|a", "B"]


@pytest.mark.parametrize(
    ("dataset", "wanted"),
    [
        (_classified("benign", "other"), ClassTable(names=("benign", "malignant"))),
        (_classified("benign", "malignant"), ClassTable(names=("benign", "malignant", "other"))),
        (_classified("a", "b"), ClassTable(names=("a", "b"), kind="multilabel")),
    ],
)
def test_other_classes_are_refused(dataset, wanted):
    with pytest.raises(
        LabelError, match=rf"the classes {', '.join(dataset.classes.names)}.*; the plan has"
    ):
        match_dataset(dataset, ("CT",), wanted, holder="the plan")


def test_a_data_set_of_another_task_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match="opened as a classification; the plan is of a segmentation"
    ):
        match_dataset(_classified("a", "b"), ("CT",), table(liver=1), holder="the plan")
    with pytest.raises(
        UsageError, match="opened as a segmentation; the plan is of a classification"
    ):
        match_dataset(
            open_dataset(nnunet(tmp_path / "d")),
            ("CT",),
            ClassTable(names=("a", "b")),
            holder="the plan",
        )


def test_signs_of_numbers_count():
    signed = ClassTable(names=("-1", "1"))
    assert match_classes(signed, signed, where="x", holder="y") == {"-1": "-1", "1": "1"}
    with pytest.raises(LabelError, match="the classes 10"):
        match_classes(
            ClassTable(names=("1.0", "2")), ClassTable(names=("10", "2")), where="x", holder="y"
        )


@pytest.mark.parametrize(
    "labels",
    [{"background": 1, "liver": 0}, {"liver": "1", "BG ": "2"}, {"1": "Background", "2": "liver"}],
)
def test_a_background_that_is_not_0_is_refused(tmp_path, labels):
    with pytest.raises(LabelError, match=r"(?i)'(background|bg)' has the id '?[12]'?"):
        label_table({"labels": labels}, tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("name", "told"), [("liver", True), ("Background", False), ("Clear Label", False)]
)
def test_a_structure_with_the_id_0_is_told(tmp_path, name, told):
    root = nnunet(tmp_path)
    facts = json.loads((root / "dataset.json").read_text())
    facts["labels"] = {name: 0, "tumour": 1, "vessel": 2}
    (root / "dataset.json").write_text(json.dumps(facts))
    assert any("counts as the background" in note for note in open_dataset(root).notes) == told
