"""Segmentations of 3D Slicer: paired by name, labels named by their segments, layers merged."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from hilum.dataset import check, fix, open_dataset, read_annotation
from hilum.errors import LabelError
from hilum.evaluation import evaluate_folder
from hilum.io import inspect_file, read_labels

LIVER, TUMOUR = np.zeros((4, 6, 7), bool), np.zeros((4, 6, 7), bool)
LIVER[1:3, 1:5, 1:6] = TUMOUR[1, 2:4, 2] = True
BOTH = LIVER.astype(np.uint8) + TUMOUR  # 1 liver, 2 tumour


def write(path, array, segments):
    """`segments`: (name, value, layer) each; several layers as components of a voxel."""
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing((0.9, 0.9, 3))
    for number, facts in enumerate(segments):
        for key, value in zip(("Name", "LabelValue", "Layer"), facts, strict=True):
            image.SetMetaData(f"Segment{number}_{key}", str(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def dataset_of(root, *annotations, ending=".seg.nrrd"):
    for number, (array, segments) in enumerate(annotations):
        image = np.random.default_rng(number).normal(0, 9, BOTH.shape).astype(np.int16)
        write(root / "images" / f"c{number}.nrrd", image, [])
        write(root / "labels" / f"c{number}{ending}", array, segments)
    return root


PLAIN = (BOTH, [("liver", 1, 0), ("tumour", 2, 0)])
SWAPPED = (np.array([0, 2, 1], np.uint8)[BOTH], [("Liver", 2, 0), ("tumour", 1, 0)])
LAYERS = (np.stack([LIVER, TUMOUR], -1).astype(np.uint8), [("liver", 1, 0), ("tumour", 1, 1)])


@pytest.mark.parametrize("ending", [".seg.nrrd", ".nrrd"])
def test_segments_are_paired_and_named(tmp_path, ending):
    dataset = open_dataset(dataset_of(tmp_path, PLAIN, PLAIN, ending=ending))
    assert [case.id for case in dataset.cases] == ["c0", "c1"]
    assert [label.name for label in dataset.labels.labels] == ["background", "liver", "tumour"]
    assert any(
        "named by the segments of the annotations: 1 = liver, 2 = tumour" in note
        for note in dataset.notes
    )


def test_numbers_that_differ_are_matched_by_name(tmp_path):
    dataset = open_dataset(dataset_of(tmp_path / "data", PLAIN, SWAPPED))
    assert any(
        "1 annotations number the names of their segments otherwise, e.g. c1" in note
        for note in dataset.notes
    )
    for case in dataset.cases:
        np.testing.assert_array_equal(read_annotation(case).array[0], BOTH)
    fix(dataset, check(dataset), tmp_path / "fixed")
    for case in open_dataset(tmp_path / "fixed").cases:
        np.testing.assert_array_equal(read_annotation(case).array[0], BOTH)


def test_layers_are_merged_and_the_later_segment_counts(tmp_path, caplog):
    dataset = open_dataset(dataset_of(tmp_path, PLAIN, LAYERS))
    for case in dataset.cases:
        np.testing.assert_array_equal(read_annotation(case).array[0], BOTH)
    assert "segments liver and tumour overlap; tumour, the later one, counts there" in caplog.text
    assert [one.value for one in inspect_file(tmp_path / "labels/c1.seg.nrrd").segments] == [1, 2]
    assert not [finding for finding in check(dataset) if finding.severity == "error"]


def test_layers_apart_keep_their_numbers(tmp_path, caplog):
    layers = np.stack([(LIVER & ~TUMOUR) * 3, TUMOUR * 7], -1).astype(np.uint8)
    write(tmp_path / "a.seg.nrrd", layers, [("liver", 3, 0), ("tumour", 7, 1)])
    np.testing.assert_array_equal(
        read_labels(tmp_path / "a.seg.nrrd").array[0], np.array([0, 3, 7], np.uint8)[BOTH]
    )
    assert "overlap" not in caplog.text


def test_names_of_the_data_set_decide(tmp_path):
    dataset_of(tmp_path, SWAPPED, SWAPPED)
    facts = {"labels": {"background": 0, "liver": 1, "tumour": 2}, "channel_names": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    for case in open_dataset(tmp_path).cases:
        np.testing.assert_array_equal(read_annotation(case).array[0], BOTH)
    facts["labels"] = {"background": 0, "liver": 1, "cyst": 2}
    (tmp_path / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(
        LabelError, match="has the segments Liver, tumour; the data set has the labels liver, cyst"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ([("liver", 1, 0), ("tumour", 1, 2)], "segment tumour lies in layer 2, the file has 2"),
        ([("liver", 1, 0)], "belong to no segment of the header"),
    ],
)
def test_layers_that_do_not_fit_their_segments_are_refused(tmp_path, segments, text):
    write(tmp_path / "a.seg.nrrd", LAYERS[0], segments)
    with pytest.raises(LabelError, match=text):
        read_labels(tmp_path / "a.seg.nrrd")


def test_files_are_evaluated_by_the_names_of_their_segments(tmp_path):
    for folder, (array, segments) in {
        "ours": SWAPPED,
        "theirs": PLAIN,
        "slicer": (BOTH, [("Segment_1", 1, 0), ("Segment_2", 2, 0)]),
    }.items():
        write(tmp_path / folder / "a.seg.nrrd", array, segments)
    for predictions, reference in (
        ("ours", "theirs"),
        ("theirs", "ours"),
        ("slicer", "theirs"),
        ("theirs", "slicer"),
    ):
        evaluation = evaluate_folder(
            tmp_path / predictions, tmp_path / reference, tmp_path / predictions / reference
        )
        assert [score.dice for score in evaluation.scores] == [1, 1]
    assert (
        "labels are named by the segments of the references" in evaluation.record.notes
        or reference == "slicer"
    )
    write(tmp_path / "other/a.seg.nrrd", BOTH, [("liver", 1, 0), ("cyst", 2, 0)])
    with pytest.raises(
        LabelError,
        match=r"has the segments liver, cyst; the reference has the labels liver, tumour",
    ):
        evaluate_folder(tmp_path / "other", tmp_path / "theirs", tmp_path / "o")


def test_segments_of_other_names_are_refused(tmp_path):
    dataset_of(tmp_path, (BOTH, [("organ", 1, 0), ("cyst", 2, 0)]))
    (tmp_path / "labels.json").write_text('{"liver": 1, "tumour": 2}', encoding="utf-8")
    with pytest.raises(
        LabelError, match="has the segments organ, cyst; the data set has the labels liver, tumour"
    ):
        open_dataset(tmp_path)
