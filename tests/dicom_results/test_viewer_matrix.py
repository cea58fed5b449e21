"""Every Segmentation that hilum writes, read by the readers of the viewers."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import data_store
import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_sources import SHAPE, SOURCES, describe, make_source
from seg_viewers import (
    assert_same_places,
    by_cornerstone,
    by_dcmqi,
    by_highdicom,
    by_highdicom_volume,
    dciodvfy,
    places,
    refuse_what_ohif_does,
)

from hilum.dicom.annotation import read_annotation
from hilum.dicom.stack import open_stack
from hilum.dicom_results.producer import Producer
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import FormatError, HilumError
from hilum.volume import LabelTable, Volume

pytestmark = pytest.mark.slow
MODEL = Producer("0123456789abcdef", "0.0")
ONE = {1: "liver"}
SIXTY = {n: f"structure {n}" for n in range(1, 61)}


def blobs(number, shape=SHAPE):
    """Labels 1..number in boxes of no symmetry, none beyond the volume, some on its border."""
    rng = np.random.default_rng(number)
    labels = np.zeros(shape, np.uint8)
    for label in range(1, number + 1):
        low = [rng.integers(0, size - 1) for size in shape]
        high = [rng.integers(start + 1, size + 1) for start, size in zip(low, shape, strict=True)]
        labels[tuple(slice(a, min(b, a + 3)) for a, b in zip(low, high, strict=True))] = label
    for label in range(1, number + 1):  # none is lost below later ones
        labels.flat[label * 7 + label % 3] = label
    return labels


def upright(world):
    """Places of a tilted stack as ITK, and so 3D Slicer, has them: without shifts in the planes.

    An ITK image is a box. Each label lies on its own pixels of its own slice all the same.
    """
    across, down = world[0, 0, 1] - world[0, 0, 0], world[0, 1, 0] - world[0, 0, 0]
    normal = np.cross(across, down) / np.linalg.norm(np.cross(across, down))
    drift = world[:, 0, 0] - world[0, 0, 0]  # (N, 3)
    return world - (drift - np.outer(drift @ normal, normal))[:, None, None]


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    """A series of each geometry."""
    return request.param, make_source(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("names", [ONE, SIXTY], ids=["1 label", "60 labels"])
def test_every_viewer_reads_the_labels_that_were_written(source, kind, names, tmp_path):
    name, made = source
    stack, path = open_stack(made.folder), tmp_path / "case.seg.dcm"
    truth = blobs(len(names))  # (N, rows, columns) on the source's own frames
    labels = Volume(stack.from_frames(truth)[None], stack.geometry)
    table = LabelTable.from_names(names)
    write_segmentation(labels, table, made.folder, path, producer=MODEL, kind=kind)
    assert {*np.unique(truth)} - {0} == names.keys()
    assert_viewers_agree(path, made, truth, names, tmp_path, tilted=name == "tilted")
    again = read_annotation(path, source=made.folder).volume
    np.testing.assert_array_equal(again.array, labels.array)


def assert_viewers_agree(path, made, truth, names, tmp_path, *, tilted=False):
    """Every reader finds these labels (N, rows, columns) on the source's frames."""
    expected = places(truth, made.world)
    np.testing.assert_array_equal(by_highdicom(path, made), truth)
    if len(expected) and not tilted:  # whose frames are no upright box
        assert_same_places(by_highdicom_volume(path), expected)
    refuse_what_ohif_does(path, made)
    assert dciodvfy(path) == []
    ohif = by_cornerstone(path, made)
    np.testing.assert_array_equal(ohif.labels, truth)
    assert ohif.names == names
    slicer = by_dcmqi(path, tmp_path / "dcmqi")
    assert_same_places(slicer.places, places(truth, upright(made.world)) if tilted else expected)
    assert {n: one["SegmentLabel"] for n, one in slicer.segments.items()} == names


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("present", [(), (2,)], ids=["nothing found", "one of three found"])
def test_every_viewer_reads_that_something_was_not_found(kind, present, tmp_path):
    made = make_source(tmp_path / "series", "oblique")
    stack, path = open_stack(made.folder), tmp_path / "case.seg.dcm"
    array = np.zeros((1, *SHAPE), np.uint8)
    for label in present:
        array[0, 1:3, 2:5, 4:9] = label
    names = {1: "liver", 2: "spleen", 3: "left kidney"}
    labels = Volume(array, stack.geometry)
    write_segmentation(
        labels, LabelTable.from_names(names), made.folder, path, producer=MODEL, kind=kind
    )
    assert_viewers_agree(path, made, array[0], names, tmp_path)


def test_every_viewer_reads_frames_that_begin_within_a_byte(tmp_path):
    shape = (6, 11, 13)
    made = make_source(tmp_path / "series", "oblique", shape=shape)
    stack, path = open_stack(made.folder), tmp_path / "case.seg.dcm"
    truth = blobs(3, shape)
    names = {1: "liver", 2: "spleen", 3: "left kidney"}
    labels, table = Volume(truth[None], stack.geometry), LabelTable.from_names(names)
    write_segmentation(labels, table, made.folder, path, producer=MODEL)
    assert_viewers_agree(path, made, truth, names, tmp_path)

    write_segmentation(labels, table, made.folder, path, producer=MODEL, kind="binary")
    ohif = by_cornerstone(path, made)  # where this fails, binary may be written of these too
    assert not np.array_equal(ohif.labels, truth)
    np.testing.assert_array_equal(by_highdicom(path, made), truth)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "folder",
    [
        *("mr_enhanced_multiframe_philips", "mr_hyperfine_multiframe", "mr_implicit_vr"),
        *("mr_jpeg2000", "mr_jpeg_lossless", "mr_non_square_pixels", "mr_single_slice"),
        *("mr_two_slices", "seg_liver_ct_3slices/ct"),
    ],
)
def test_every_viewer_reads_labels_of_real_series(real_data, folder, tmp_path):
    source, path = real_data / "dicom" / folder, tmp_path / "case.seg.dcm"
    stack = open_stack(source)
    found = describe(source, list(dict.fromkeys(frame.path for frame in stack.frames)))
    order = [found.frames.index((frame.instance, frame.index + 1)) for frame in stack.frames]
    made = replace(
        found, world=found.world[order], frames=tuple(found.frames[place] for place in order)
    )
    truth = np.zeros((len(order), *stack.frames[0].shape), np.uint8)
    _, rows, columns = truth.shape
    truth[len(truth) // 3 :, rows // 4 : rows // 2, columns // 3 : columns // 2] = 1
    truth[len(truth) // 2, rows // 2 : rows // 2 + 5, 3:9] = 2
    names = {1: "liver", 2: "tumour"}
    labels = Volume(stack.from_frames(truth)[None], stack.geometry)
    write_segmentation(labels, LabelTable.from_names(names), source, path, producer=MODEL)
    assert_viewers_agree(path, made, truth, names, tmp_path)


OF_THE_SOURCE = (
    *("Illegal root for UID", "StudyInstanceUID has same value as FrameOfReferenceUID"),
    "Value invalid for this VR",
)
"""Errors of UIDs and numbers of the source, which what is written about it must repeat."""


def readable_files():
    """The files of pydicom and pydicom-data that hilum reads as a series, with their stack."""
    folders = [Path(package.__file__).parent for package in (pydicom, data_store)]
    for file in (file for folder in folders for file in sorted(folder.rglob("*.dcm"))):
        with suppress(HilumError):
            yield file, open_stack(file)


@pytest.mark.filterwarnings("ignore:.*VR")
def test_whatever_hilum_reads_gets_a_segmentation(tmp_path):
    path, found = tmp_path / "case.seg.dcm", Counter()
    for file, stack in readable_files():
        rows, columns = stack.frames[0].shape
        truth = np.zeros((len(stack.frames), rows, columns), np.uint8)
        truth[:, : rows // 2, : columns // 2], truth[-1, -1, -1] = 1, 2
        labels = Volume(stack.from_frames(truth)[None], stack.geometry)
        table = LabelTable.from_names({1: "liver", 2: "tumour"})
        try:
            write_segmentation(labels, table, file, path, producer=MODEL)
        except FormatError as error:
            found[error.found.removeprefix(f"{file} ").partition(",")[0]] += 1
            continue
        errors = dciodvfy(path)
        assert all(any(known in error for known in OF_THE_SOURCE) for error in errors), (
            file,
            errors,
        )
        pixels = hd.seg.segread(path).pixel_array
        assert np.count_nonzero(pixels) == np.count_nonzero(truth), file
        found["written"] += 1
    assert found.keys() == {"written", "has no StudyInstanceUID"}
    assert found["written"] > 80
