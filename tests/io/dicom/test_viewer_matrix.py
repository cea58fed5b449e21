"""Every Segmentation that hilum writes, read by the readers of the viewers."""

import numpy as np
import pytest
from dicom_sources import SHAPE, SOURCES, make_source
from seg_viewers import (
    by_cornerstone,
    by_dcmqi,
    by_highdicom,
    by_highdicom_volume,
    dciodvfy,
    places,
    refuse_what_ohif_does,
)

from hilum.io.dicom.stack import open_stack
from hilum.io.dicom.write.producer import Producer
from hilum.io.dicom.write.seg import write_segmentation
from hilum.volume import LabelTable, Volume

MODEL = Producer("0123456789abcdef", "0.0")
ONE = {1: "liver"}
SIXTY = {n: f"structure {n}" for n in range(1, 61)}


def blobs(number, shape=SHAPE):
    """Labels 1..number in boxes of no symmetry, none beyond the volume, some on its border."""
    rng = np.random.default_rng(number)
    labels = np.zeros((1, *shape), np.uint8)
    for label in range(1, number + 1):
        low = [rng.integers(0, size - 1) for size in shape]
        high = [rng.integers(start + 1, size + 1) for start, size in zip(low, shape, strict=True)]
        labels[0][tuple(slice(a, min(b, a + 3)) for a, b in zip(low, high, strict=True))] = label
    for label in range(1, number + 1):  # none is lost below later ones
        labels[0].flat[label * 7 + label % 3] = label
    return labels


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    """A series of each geometry."""
    return request.param, make_source(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("names", [ONE, SIXTY], ids=["1 label", "60 labels"])
def test_every_viewer_reads_the_labels_that_were_written(source, kind, names, tmp_path):
    name, made = source
    stack, path = open_stack(made.folder), tmp_path / "case.seg.dcm"
    labels = Volume(blobs(len(names)), stack.geometry)
    table = LabelTable.from_names(names)
    write_segmentation(labels, table, made.folder, path, producer=MODEL, kind=kind)
    truth = stack.to_frames(labels.array[0])  # (N, rows, columns)
    expected = places(truth, made.world)
    assert expected.keys() == names.keys()

    np.testing.assert_array_equal(by_highdicom(path, made), truth)
    if name != "tilted":  # whose frames are no upright box
        assert by_highdicom_volume(path) == expected
    refuse_what_ohif_does(path, made)
    assert dciodvfy(path) == []
    ohif = by_cornerstone(path, made)
    np.testing.assert_array_equal(ohif.labels, truth)
    assert ohif.names == names
    assert ohif.warnings == []
    slicer = by_dcmqi(path, tmp_path / "dcmqi")
    assert slicer.places == expected
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
    np.testing.assert_array_equal(by_highdicom(path, made), array[0])
    refuse_what_ohif_does(path, made)
    assert dciodvfy(path) == []
    ohif = by_cornerstone(path, made)
    np.testing.assert_array_equal(ohif.labels, array[0])
    assert ohif.names == names
    slicer = by_dcmqi(path, tmp_path / "dcmqi")
    assert slicer.places == places(array[0], made.world)
    assert slicer.segments.keys() == names.keys()
