"""SEG and SR of one prediction: the report refers to the SEG, and measures what it holds."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_sources import SHAPE, SOURCES, make_source
from pydicom.sr.codedict import codes

from hilum.dicom.stack import open_stack
from hilum.inference.prediction import Prediction
from hilum.volume import LabelTable, Volume

TABLE = LabelTable.from_names({1: "liver", 2: "liver tumour", 5: "cyst"})
LESION, SMALL = (2, slice(3, 8), slice(4, 13)), (5, slice(8, 11), slice(6, 9))


def labels_on_frames() -> np.ndarray:
    """An organ on five frames, two lesions on one frame each, and no cyst."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:6, 2:11, 2:16] = 1
    labels[LESION] = labels[SMALL] = 2
    return labels


def written(tmp_path: Path, kind: str):
    """The source, its labels frame by frame, and the SEG and SR of them."""
    made = make_source(tmp_path / "series", kind)
    opened = open_stack(made.folder)
    grid = opened.from_frames(labels_on_frames())
    volume = Volume(grid[np.newaxis], opened.geometry)
    prediction = Prediction("a", volume, TABLE, "0123456789abcdef", files=(made.folder,))
    seg, sr = prediction.save(tmp_path / "out", formats=("dicom-seg", "dicom-sr"))
    return made, opened.to_frames(grid), seg, sr


@pytest.mark.parametrize("kind", SOURCES)
def test_the_report_measures_the_segments_it_refers_to(tmp_path, kind):
    made, labels, seg_file, sr_file = written(tmp_path, kind)
    seg, report = hd.seg.segread(seg_file), hd.sr.srread(sr_file)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == [
        *("liver", "liver tumour", "liver tumour #1", "liver tumour #2")
    ]
    voxel = abs(np.linalg.det(np.stack(steps_of(made))))
    for group, label in zip(groups, (1, 2, 2, 2), strict=True):
        referred = reference_of(group)
        assert referred.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert referred.ReferencedSOPClassUID == seg.SOPClassUID
        segment = seg.get_segment_description(referred.ReferencedSegmentNumber)
        assert segment.segment_label == TABLE.foreground[label - 1].name
        (measured,) = group.get_measurements(name=codes.SCT.Volume)
        if "#" not in group.tracking_identifier:
            assert group.tracking_uid == segment.tracking_uid
            assert measured.value == pytest.approx(np.count_nonzero(labels == label) * voxel)
    assert (seg.SeriesInstanceUID, seg.SOPInstanceUID) in {
        (series, instance) for _, series, instance, _ in report.get_evidence()
    }


@pytest.mark.parametrize("kind", SOURCES)
def test_diameters_are_those_of_the_lesion_in_the_patient(tmp_path, kind):
    """Ends and lengths in LPS mm, from the places of the source's pixels alone."""
    made, labels, _, sr_file = written(tmp_path, kind)
    lines = [
        group
        for group in hd.sr.srread(sr_file).content.get_image_measurement_groups()
        if "Bidirectional" in group.tracking_identifier
    ]
    assert len(lines) == 2
    for group, frame in zip(lines, (2, 5), strict=True):
        vectors = []
        for number in group.get_measurements():
            (scoord,) = number.referenced_coordinates
            ends = scoord.value[:, ::-1] - 0.5  # (row, column) of pixel centres
            assert reference_in(scoord) == made.frames[frame]
            near = [labels[frame, round(row), round(column)] for row, column in inwards(ends)]
            assert near == [2, 2]
            start, end = (in_patient(made, frame, *place) for place in ends)
            assert np.linalg.norm(end - start) == pytest.approx(number.value, abs=1e-3)
            vectors.append(end - start)
        assert vectors[0] @ vectors[1] == pytest.approx(0, abs=1e-3)
        pixels = made.world[frame][labels[frame] == 2]
        apart = np.linalg.norm(pixels[:, None] - pixels, axis=-1).max()
        long = np.linalg.norm(vectors[0])
        assert apart < long < apart + 0.8  # half a pixel at each end


def steps_of(made) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps in LPS mm along frames, rows and columns."""
    first = made.world[0, 0, 0]
    return made.world[1, 0, 0] - first, made.world[0, 1, 0] - first, made.world[0, 0, 1] - first


def in_patient(made, frame: int, row: float, column: float) -> np.ndarray:
    _, down, across = steps_of(made)
    return made.world[frame, 0, 0] + row * down + column * across


def inwards(ends: np.ndarray) -> np.ndarray:
    """Both ends a little nearer to each other: on the pixels that they bound."""
    return ends + 0.06 * (ends[::-1] - ends)


def reference_of(group):
    items = group[0].ContentSequence
    (found,) = [one for one in items if one.ConceptNameCodeSequence[0].CodeValue == "121191"]
    return found.ReferencedSOPSequence[0]


def reference_in(scoord) -> tuple[str, int]:
    referred = scoord.ContentSequence[0].ReferencedSOPSequence[0]
    return referred.ReferencedSOPInstanceUID, int(referred.get("ReferencedFrameNumber", 1))


def test_a_label_that_was_not_found_is_absent_though_it_has_a_segment(tmp_path):
    *_, seg_file, sr_file = written(tmp_path, "axial")
    names = [str(one.SegmentLabel) for one in pydicom.dcmread(seg_file).SegmentSequence]
    assert names == ["liver", "liver tumour", "cyst"]
    assert str(pydicom.dcmread(sr_file)).count("'Absent'") == 1
