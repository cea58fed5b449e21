"""One case scored: rows, regions, ignored voxels, and what is refused."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.errors import GeometryError, LabelError, UsageError
from hilum.evaluation import HIGHER_IS_BETTER, METRICS, Score, score_labels
from hilum.evaluation.metric_table import DISTANCES, higher_is_better, title
from hilum.metrics import (
    boundary_iou,
    cldice,
    dice,
    hd95,
    lesions,
    nsd,
    surface_distances,
    volume_error_ml,
)
from hilum.volume import Label, LabelTable, Region

SPACING = (4.0, 1.0, 2.5)
TABLE = LabelTable.from_names({1: "liver", 2: "tumour"})
REGIONS = LabelTable(
    labels=(Label(id=0, name="background"), Label(id=1, name="liver"), Label(id=7, name="tumour")),
    regions=(Region(name="organ", labels=(1, 7)), Region(name="tumour", labels=(7,))),
    decode_ids=(1, 7),
    ignore=9,
)


def case(shift: int = 0) -> np.ndarray:
    """An asymmetric organ with a lesion, (7, 16, 21)."""
    labels = np.zeros((7, 16, 21), dtype=np.uint8)
    labels[1:5, 3:11, 4 + shift : 14 + shift] = 1
    labels[4:6, 9:13, 10 + shift : 12 + shift] = 2
    return labels


def test_rows_are_the_metrics_of_each_label() -> None:
    prediction, reference = case(2), case()
    rows = score_labels(
        prediction, reference, spacing=SPACING, table=TABLE, tolerance_mm=3.0, case="a", patient="p"
    )
    assert [(row.region, row.case, row.patient) for row in rows] == [
        ("liver", "a", "p"),
        ("tumour", "a", "p"),
    ]
    for row, label in zip(rows, (1, 2), strict=True):
        p, r = prediction == label, reference == label
        assert row.dice == pytest.approx(dice(p, r))
        assert row.iou == pytest.approx(row.dice / (2 - row.dice))
        assert row.nsd == pytest.approx(nsd(p, r, SPACING, tolerance_mm=3.0))
        assert row.hd95 == pytest.approx(hd95(p, r, SPACING))
        assert row.volume_error_ml == pytest.approx(volume_error_ml(p, r, SPACING), abs=1e-12)
        assert row.volume_reference_ml == pytest.approx(r.sum() * 0.01)
        assert row.lesion_f1 == lesions(p, r).f1


def test_the_worked_example() -> None:
    # two voxels, one of them found: Dice 2/3, IoU 1/2, and half of the volume is missing
    reference = np.zeros((3, 4, 5), dtype=np.int16)
    reference[1, 2, 2:4] = 1
    prediction = reference.copy()
    prediction[1, 2, 3] = 0
    (row,) = score_labels(
        prediction, reference, spacing=(10.0, 10.0, 10.0), table=LabelTable.from_names({1: "cyst"})
    )
    assert (row.dice, row.iou) == pytest.approx((2 / 3, 1 / 2))
    assert (
        row.volume_reference_ml,
        row.volume_prediction_ml,
        row.volume_error_ml,
    ) == pytest.approx((2, 1, -1))
    assert row.volume_error_relative == -0.5
    assert (row.lesions_reference, row.lesions_found, row.lesions_predicted, row.lesions_real) == (
        1,
        1,
        1,
        1,
    )


def test_regions_overlap_and_ids_may_have_gaps() -> None:
    prediction, reference = (np.where(labels == 2, 7, labels) for labels in (case(1), case()))
    organ, tumour = score_labels(prediction, reference, spacing=SPACING, table=REGIONS)
    assert organ.dice == pytest.approx(dice(prediction > 0, reference > 0))
    assert tumour.dice == pytest.approx(dice(prediction == 7, reference == 7))


def test_the_table_of_empty_cases() -> None:
    full, empty = case(), np.zeros_like(case())
    undefined = {
        m
        for m in METRICS
        if math.isnan(getattr(score_labels(empty, empty, spacing=SPACING, table=TABLE)[0], m))
    }
    assert undefined == set(METRICS) - {"volume_error_ml", "volume_error_absolute_ml"}
    missed = score_labels(empty, full, spacing=SPACING, table=TABLE)[1]
    assert (
        missed.dice,
        missed.nsd,
        missed.lesion_recall,
        missed.lesion_f1,
        missed.volume_error_relative,
    ) == (0, 0, 0, 0, -1)
    assert {m for m in METRICS if math.isnan(getattr(missed, m))} == {"lesion_precision", "sq"}
    steps = [(n - 1) * mm for n, mm in zip(full.shape, SPACING, strict=True)]
    assert {missed.hd95, missed.hd, missed.assd, missed.masd} == {missed.hd95}
    assert missed.hd95 == pytest.approx(math.hypot(*steps))
    assert missed.one_sided
    invented = score_labels(full, empty, spacing=SPACING, table=TABLE)[1]
    assert (invented.dice, invented.nsd, invented.lesion_precision, invented.lesion_f1) == (
        0,
        0,
        0,
        0,
    )
    assert {m for m in METRICS if math.isnan(getattr(invented, m))} == {
        "lesion_recall", "volume_error_relative", "sq",
    }  # fmt: skip
    assert (missed.pq, missed.rq, invented.pq, invented.rq) == (0, 0, 0, 0)
    assert invented.hd95 == missed.hd95


def test_ignored_voxels_are_neither_right_nor_wrong() -> None:
    reference = np.where(case() == 2, 7, case())
    reference[:, :, 12:] = 9
    good = np.where(reference == 9, 0, reference)
    wild = good.copy()
    wild[:, :, 12:] = np.random.default_rng(0).choice([0, 1, 7], size=wild[:, :, 12:].shape)
    kept = score_labels(good, reference, spacing=SPACING, table=REGIONS)
    rows = score_labels(wild, reference, spacing=SPACING, table=REGIONS)
    assert [(row.dice, row.nsd, row.hd95, row.lesion_f1) for row in rows] == [(1, 1, 0, 1)] * 2
    assert repr(rows) == repr(kept)


def test_a_picture_is_measured_in_its_plane() -> None:
    reference = np.zeros((1, 12, 15), dtype=np.uint8)
    reference[0, 3:8, 4:11] = 1
    table = LabelTable.from_names({1: "nucleus"})
    (row,) = score_labels(
        np.roll(reference, 2, 2),
        reference,
        spacing=(500.0, 1.0, 0.5),
        table=table,
        tolerance_mm=1.0,
    )
    assert row.nsd == 1
    assert row.hd95 == pytest.approx(1.0)


def test_a_slice_thick_structure_in_a_volume_is_measured_in_space() -> None:
    reference = np.zeros((4, 8, 9), dtype=np.uint8)
    reference[2, 2:5, 3:7] = 1
    (row,) = score_labels(
        np.roll(reference, -1, 0),
        reference,
        spacing=SPACING,
        table=LabelTable.from_names({1: "disc"}),
    )
    assert row.hd95 == pytest.approx(4.0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2)),
    arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2)),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.tuples(*[st.booleans()] * 3),
)
def test_the_frame_and_the_orientation_do_not_matter(
    prediction: np.ndarray,
    reference: np.ndarray,
    before: tuple[int, int, int],
    mirrored: tuple[bool, bool, bool],
) -> None:
    flips = tuple(slice(None, None, -1) if m else slice(None) for m in mirrored)
    moved = [np.pad(labels, [(b, 2) for b in before])[flips] for labels in (prediction, reference)]
    plain = score_labels(prediction, reference, spacing=SPACING, table=TABLE)
    framed = score_labels(*moved, spacing=SPACING, table=TABLE)
    for a, b in zip(plain, framed, strict=True):
        for metric in METRICS:
            if a.one_sided and metric in DISTANCES:  # the image's diagonal, which the frame changes
                assert getattr(b, metric) > getattr(a, metric)
            else:
                np.testing.assert_allclose(getattr(a, metric), getattr(b, metric), err_msg=metric)
        if (reference == (1 if a.region == "liver" else 2)).any():
            assert a.volume_error_ml == pytest.approx(
                a.volume_prediction_ml - a.volume_reference_ml
            )


def test_a_large_case_takes_seconds() -> None:
    z, y, x = np.ogrid[:119, :512, :512]
    balls = []
    for shift in (0, 2):
        labels = np.zeros((119, 512, 512), dtype=np.uint8)
        labels[
            ((z - 60) * 2.5) ** 2 + ((y - 200) * 0.8) ** 2 + ((x - 200 - shift) * 0.8) ** 2 < 1e4
        ] = 1
        labels[
            ((z - 60) * 2.5) ** 2 + ((y - 170) * 0.8) ** 2 + ((x - 170 - shift) * 0.8) ** 2 < 400
        ] = 2
        balls.append(labels)
    start = time.process_time()
    rows = score_labels(balls[1], balls[0], spacing=(2.5, 0.8, 0.8), table=TABLE)
    assert time.process_time() - start < 10  # about 1.2 s on an idle core
    assert rows[1].hd95 == pytest.approx(1.6)


def test_groups_are_patients_or_else_cases() -> None:
    row = score_labels(case(), case(), spacing=SPACING, table=TABLE, case="c1")[0]
    assert row.group == "case c1"
    assert (
        score_labels(case(), case(), spacing=SPACING, table=TABLE, case="c1", patient="c1")[0].group
        == "patient c1"
    )


def test_every_summarised_metric_is_a_field_with_a_direction() -> None:
    assert set(METRICS) <= set(Score.__dataclass_fields__)
    assert set(METRICS) - set(HIGHER_IS_BETTER) == {"volume_error_ml", "volume_error_relative"}


def test_what_cannot_be_scored_is_refused() -> None:
    labels = case()
    with pytest.raises(GeometryError, match="two label maps"):
        score_labels(labels[:-1], labels, spacing=SPACING, table=TABLE)
    with pytest.raises(GeometryError, match="three axes"):
        score_labels(labels[None], labels[None], spacing=SPACING, table=TABLE)
    with pytest.raises(LabelError, match="prediction has dtype float32"):
        score_labels(labels.astype(np.float32), labels, spacing=SPACING, table=TABLE)
    with pytest.raises(LabelError, match=r"the reference holds labels that .*: 5"):
        score_labels(labels, np.where(labels == 2, 5, labels), spacing=SPACING, table=TABLE)
    with pytest.raises(LabelError, match=r"the prediction holds labels that .*: -1"):
        score_labels(labels.astype(np.int8) - 1, labels, spacing=SPACING, table=TABLE)
    with pytest.raises(LabelError, match=r"the prediction holds labels that .*: 2"):
        score_labels(labels, labels, spacing=SPACING, table=REGIONS)
    with pytest.raises(LabelError, match=r"the prediction holds labels that .*: 9"):
        score_labels(
            np.where(labels == 2, 9, labels),
            np.where(labels == 2, 9, labels),
            spacing=SPACING,
            table=REGIONS,
        )
    many = np.arange(labels.size, dtype=np.int32).reshape(labels.shape).clip(max=20)
    with pytest.raises(LabelError, match=r"the prediction holds .*, 12 and 8 more\n"):
        score_labels(many, labels, spacing=SPACING, table=TABLE)
    with pytest.raises(UsageError, match="tolerance_mm is -1"):
        score_labels(labels, labels, spacing=SPACING, table=TABLE, tolerance_mm=-1)
    with pytest.raises(UsageError, match="three positive numbers"):
        score_labels(labels, labels, spacing=(1.0, 1.0), table=TABLE)


def test_further_tolerances_and_metrics_have_names_of_their_own() -> None:
    prediction, reference = case(2), case()
    liver, tumour = score_labels(
        prediction,
        reference,
        spacing=SPACING,
        table=TABLE,
        tolerance_mm=(2.0, 1, 0.5, 7.5),
        also=["boundary_iou", "cldice"],
    )
    for row, label in ((liver, 1), (tumour, 2)):
        p, r = prediction == label, reference == label
        assert list(row.further) == ["nsd_1mm", "nsd_0.5mm", "nsd_7.5mm", "boundary_iou", "cldice"]
        for mm, name in ((2.0, "nsd"), (1.0, "nsd_1mm"), (0.5, "nsd_0.5mm"), (7.5, "nsd_7.5mm")):
            assert row[name] == pytest.approx(nsd(p, r, SPACING, tolerance_mm=mm))
        assert row["boundary_iou"] == boundary_iou(p, r, SPACING, width_mm=2.0)
        assert row["cldice"] == cldice(p, r)
    assert title("nsd_0.5mm") == "NSD at 0.5 mm"
    assert title("nsd_0.5mm", scaled=False) == "NSD at 0.5 pixels"
    assert higher_is_better("nsd_0.5mm")
    with pytest.raises(KeyError, match="case"):
        liver["case"]


def test_surface_and_overlap_of_lesions_are_chosen() -> None:
    prediction, reference = case(2), case()
    how = {"spacing": SPACING, "table": TABLE}
    voxel = score_labels(prediction, reference, **how)[1]
    mesh = score_labels(prediction, reference, surface="mesh", **how)[1]
    wanted = surface_distances(prediction == 2, reference == 2, SPACING, surface="mesh")
    assert mesh.assd == pytest.approx(wanted.assd())
    assert mesh.assd != voxel.assd
    moved = np.roll(reference, 1, axis=2)  # half of the tumour is found
    assert score_labels(moved, reference, lesion_overlap=0.5, **how)[1].lesions_found == 1
    assert score_labels(moved, reference, lesion_overlap=0.51, **how)[1].lesions_found == 0


def test_panoptic_quality_is_of_the_components() -> None:
    reference, prediction = np.zeros((2, 4, 9, 20), dtype=np.uint8)
    reference[1:3, 2:6, 2:6] = reference[1:3, 2:6, 10:14] = 1
    prediction[1:3, 2:6, 2:5] = prediction[0, 8, 18] = 1
    (row,) = score_labels(
        prediction, reference, spacing=SPACING, table=LabelTable.from_names({1: "lesion"})
    )
    assert (row.sq, row.rq) == pytest.approx((3 / 4, 2 * 1 / (2 + 2)))
    assert row.pq == pytest.approx(row.sq * row.rq)


def test_instances_are_objects_of_one_kind() -> None:
    reference = np.zeros((1, 9, 20), dtype=np.uint16)
    reference[0, 2:6, 2:6], reference[0, 2:6, 6:10] = 7, 300  # two that touch
    ids, merged, mask = reference.copy(), reference.copy(), reference != 0
    ids[ids == 300] = 5
    merged[merged == 7] = 300
    table = LabelTable.from_names({1: "objects"})
    how = {"spacing": (1.0, 1.0, 1.0), "table": table, "instances": True, "case": "a"}
    (right,) = score_labels(ids, reference, **how)
    assert (right.region, right.case, right.pq, right.lesions_reference) == ("objects", "a", 1, 2)
    (one,) = score_labels(merged, reference, **how)  # half of what is found is each object
    assert (one.dice, one.pq, one.lesions_predicted, one.lesions_found) == (1, 0, 1, 2)
    (components,) = score_labels(mask.astype(np.uint8), reference, **how)
    assert repr(components) == repr(one)


def test_ignored_voxels_are_no_object() -> None:
    reference = np.zeros((1, 9, 20), dtype=np.uint16)
    reference[0, 2:6, 2:6], reference[0, 2:6, 8:12], reference[0, :, 14:] = 1, 2, 255
    clean = np.where(reference == 255, 0, reference)
    wild = clean.copy()
    wild[0, 3:6, 15:18] = 3
    table = LabelTable.from_names({1: "objects"}, ignore=255)
    how = {"spacing": (1.0, 1.0, 1.0), "table": table, "instances": True}
    for prediction in (clean, wild):
        (row,) = score_labels(prediction, reference, **how)
        assert (row.dice, row.pq, row.nsd, row.lesions_reference) == (1, 1, 1, 2)


@pytest.mark.parametrize("shape", [(13, 13, 13), (1, 13, 13)])
@pytest.mark.parametrize("rim", [1, 2, 4])
def test_the_boundary_iou_of_a_region_in_an_ignored_rim(
    shape: tuple[int, int, int], rim: int
) -> None:
    inner, outer = (
        tuple(slice(0, 1) if n == 1 else slice(4 - by, 9 + by) for n in shape) for by in (0, rim)
    )
    reference = np.zeros(shape, dtype=np.uint8)
    reference[outer], reference[inner] = 9, 1
    prediction = np.where(reference == 9, 0, reference)
    how = {"spacing": (1.0, 1.0, 1.0), "table": REGIONS, "also": ["boundary_iou"]}
    organ, _ = score_labels(prediction, reference, tolerance_mm=rim + 1, **how)
    assert organ["boundary_iou"] == 1
    prediction[tuple(slice(s.start, s.start + 1) for s in inner)] = 0
    organ, _ = score_labels(prediction, reference, tolerance_mm=rim + 1, **how)
    assert organ["boundary_iou"] == boundary_iou(
        prediction == 1, reference == 1, (1, 1, 1), width_mm=rim + 1, ignore=reference == 9
    )


@pytest.mark.parametrize(
    ("shape", "size", "dice", "roundness"),
    [
        # a cube of 10: a layer of half a voxel on 600 faces, and its roundness is pi / 6
        ((14, 14, 14), (10, 10, 10), 2000 / 2300, math.pi / 6),
        ((1, 14, 14), (1, 10, 10), 200 / 220, math.pi / 4),
        ((5, 5, 64), (1, 1, 60), 0.58, 0.08),  # a thread
    ],
)
def test_the_shape_of_the_reference(
    shape: tuple[int, int, int], size: tuple[int, int, int], dice: float, roundness: float
) -> None:
    mask = np.zeros(shape, dtype=np.uint8)
    start = tuple(0 if n == 1 else 2 for n in shape)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = 1
    table = LabelTable.from_names({1: "box"})
    (row,) = score_labels(mask, mask, spacing=(2.0, 2.0, 2.0), table=table)
    assert row.half_voxel_dice == pytest.approx(dice, abs=0.08)
    assert row.roundness == pytest.approx(roundness, rel=0.25)
    double = np.concatenate([mask, mask], axis=2)  # two pieces are as round as one
    (pair,) = score_labels(double, double, spacing=(2.0, 2.0, 2.0), table=table)
    assert (pair.half_voxel_dice, pair.roundness) == pytest.approx(
        (row.half_voxel_dice, row.roundness)
    )
    (absent,) = score_labels(mask, np.zeros_like(mask), spacing=(2.0, 2.0, 2.0), table=table)
    assert math.isnan(absent.half_voxel_dice)
    assert math.isnan(absent.roundness)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"tolerance_mm": ()}, "tolerance_mm is"),
        ({"tolerance_mm": (1, -1)}, "tolerances of 0 mm or more"),
        ({"tolerance_mm": (1, 2, 2)}, "each of them once"),
        ({"also": ["cldice", "cldice"]}, "each of them once"),
        ({"also": ["clDice"]}, "no metric 'clDice' on request"),
        ({"surface": "cubes"}, "surface='cubes'"),
        ({"lesion_overlap": 0}, "above 0 and at most 1"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_labels(case(), case(), spacing=SPACING, table=TABLE, **rules)
