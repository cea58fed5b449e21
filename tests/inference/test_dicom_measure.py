"""Measurements of label maps: hand-computed volumes, areas, diameters and components."""

import math

import numpy as np
import pytest

from hilum.inference.dicom.measure import MOST_COMPONENTS, measure_labels
from hilum.volume import Geometry, Label, LabelTable

TABLE = LabelTable(
    labels=(
        Label(id=0, name="background"),
        Label(id=3, name="organ", code=("10200004", "SCT", "Liver")),
        Label(id=7, name="lesion"),
        Label(id=9, name="cyst"),
    )
)
GEOMETRY = Geometry.from_spacing((6, 20, 30), (4.0, 0.5, 2.0), origin=(3, 4, 5))


def labelled():
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[1:5, 2:12, 3:20] = 3
    labels[2, 4, 5:9] = 7  # 4 x 1 pixels, 8 x 0.5 mm
    labels[3:5, 8:10, 14] = 7  # 1 x 2 pixels on two slices
    labels[3, 8, 15] = 7
    return labels


def test_each_label_is_measured_as_a_whole():
    organ, lesion, *_, cyst = measure_labels(labelled(), GEOMETRY, TABLE)
    assert (organ.name, organ.code, organ.label) == ("organ", ("10200004", "SCT", "Liver"), 3)
    assert organ.volume_mm3 == pytest.approx((4 * 10 * 17 - 9) * 4)
    assert (organ.frames, organ.components) == ((1, 2, 3, 4), 1)
    assert organ.diameters is None  # anatomy
    assert (lesion.volume_mm3, lesion.components) == (9 * 4, 2)
    assert lesion.diameters is None  # its components are measured
    assert (cyst.name, cyst.frames, cyst.components) == ("cyst", (), 0)
    assert cyst.volume_mm3 is None


def test_components_are_measured_largest_first():
    _, _, first, second, _ = measure_labels(labelled(), GEOMETRY, TABLE)
    assert [one.name for one in (first, second)] == ["lesion #1", "lesion #2"]
    assert [one.volume_mm3 for one in (first, second)] == [5 * 4, 4 * 4]
    assert [one.frames for one in (first, second)] == [(3, 4), (2,)]
    assert second.diameters.frame == 2
    long, short = second.diameters.long, second.diameters.short
    assert long.length_mm == pytest.approx(8.0)
    assert short.length_mm == pytest.approx(0.5)
    assert sorted((long.start, long.end)) == [(4.0, 4.5), (4.0, 8.5)]
    # of three pixels in an L: from (8, 15.5) to (9, 13.5)
    assert first.diameters.frame == 3
    assert first.diameters.long.length_mm == round(math.hypot(0.5, 4.0), 3) == 4.031


def test_measurements_are_rounded_by_their_unit():
    labels = np.zeros((3, 40, 40), np.uint8)
    labels[1, :7, :7] = 7
    odd = Geometry.from_spacing(labels.shape, (1 / 3, 12 / 7, 10 / 7))
    (lesion,) = (one for one in measure_labels(labels, odd, TABLE) if one.label == 7)
    assert lesion.volume_mm3 == 40.0  # 49 pixels of 0.8163 mm3
    assert lesion.diameters.long.length_mm == 14.75  # hypot(12, 6 x 10 / 7) = 14.7468
    flat = Geometry.from_spacing((1, 40, 40), (1 / 3, 12 / 7, 10 / 7))
    (lesion,) = (one for one in measure_labels(labels[1:2], flat, TABLE) if one.label == 7)
    assert lesion.area_mm2 == 120.0
    tiny = Geometry.from_spacing(labels.shape, (0.01, 0.01, 1 / 7))
    (lesion,) = (one for one in measure_labels(labels, tiny, TABLE) if one.label == 7)
    assert lesion.volume_mm3 == 0.0007  # four significant digits of 0.00070000
    small = Geometry.from_spacing(labels.shape, (0.01, 0.01, 1 / 9))
    (lesion,) = (one for one in measure_labels(labels, small, TABLE) if one.label == 7)
    assert lesion.volume_mm3 == 0.0005444


def test_labels_have_the_concepts_of_their_segments():
    organ, lesion, *_ = measure_labels(labelled(), GEOMETRY, TABLE)
    assert (lesion.code, lesion.site) == (("52988006", "SCT", "Lesion"), None)
    assert organ.site is None


def test_sites_and_sides_are_those_that_a_name_tells():
    names = {1: "liver tumour", 2: "left kidney", 3: "xyz"}
    table = LabelTable.from_names(names)
    tumour, kidney, unknown = measure_labels(np.zeros((2, 3, 3), np.uint8), GEOMETRY, table)
    assert (tumour.code[2], tumour.site.region[2], tumour.site.side) == ("Neoplasm", "Liver", None)
    assert (kidney.code[2], kidney.site.region[2]) == ("Kidney", "Kidney")
    assert kidney.site.side == ("7771000", "SCT", "Left")
    value, scheme, meaning = unknown.code
    assert (scheme, meaning, len(value), unknown.site) == ("99HILUM", "xyz", 16, None)


def test_of_many_components_the_largest_are_measured():
    labels = np.zeros((1, 40, 40), np.uint8)
    labels[0, ::3, ::3] = 7
    labels[0, 0, 0:2] = 7
    geometry = Geometry.from_spacing((3, 40, 40), (1, 1, 1))
    found = measure_labels(np.repeat(labels, 1, 0), geometry, TABLE)
    lesions = [one for one in found if one.label == 7]
    assert lesions[0].components == 14 * 14
    assert len(lesions) == 1 + MOST_COMPONENTS
    assert lesions[1].volume_mm3 == 2


def test_a_single_frame_has_areas_and_no_volume():
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[0, 2:4, 2:5] = 7
    found = measure_labels(labels, Geometry.from_spacing((1, 9, 9), (5, 0.5, 2)), TABLE)
    assert (found[1].volume_mm3, found[1].area_mm2) == (None, 6.0)
    assert found[1].diameters is not None


def test_a_picture_without_scale_has_no_millimetres():
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[0, 2:4, 2:5] = 7
    lesion = measure_labels(labels, Geometry.from_spacing((1, 9, 9), (1, 1, 1)), TABLE)[1]
    assert (lesion.volume_mm3, lesion.area_mm2, lesion.diameters) == (None, None, None)
    assert (lesion.frames, lesion.components) == ((0,), 1)
