"""Overlap: worked examples, empty cases, oracles."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.errors import UsageError
from hilum.metrics import dice, iou, overlap, relative_volume_error, volume_error_ml, volume_ml

SHAPE = (4, 7, 9)


def box(*spans: tuple[int, int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


def blobs(seed: int, shape: tuple[int, int, int] = (6, 11, 14)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.3


def test_two_boxes_by_hand() -> None:
    prediction, reference = (
        box((0, 2), (0, 3), (0, 4)),
        box((0, 2), (0, 3), (1, 7)),
    )  # 24 and 36 voxels, 18 in common
    counts = overlap(prediction, reference)
    assert (counts.true_positive, counts.false_positive, counts.false_negative) == (18, 6, 18)
    assert dice(prediction, reference) == pytest.approx(2 * 18 / 60)
    assert iou(prediction, reference) == pytest.approx(18 / 42)
    assert counts.sensitivity == pytest.approx(0.5)
    assert counts.precision == pytest.approx(0.75)
    assert volume_error_ml(prediction, reference, (5.0, 2.0, 10.0)) == pytest.approx(-12 * 0.1)
    assert relative_volume_error(prediction, reference) == pytest.approx(-1 / 3)
    assert volume_ml(3, (10.0, 10.0, 5.0)) == pytest.approx(1.5)


def test_the_table_of_empty_cases() -> None:
    some, none = box((1, 3), (2, 4), (3, 8)), np.zeros(SHAPE, dtype=bool)
    spacing = (10.0, 10.0, 1.0)  # 20 voxels are 2 ml
    both, missed, invented = overlap(none, none), overlap(none, some), overlap(some, none)
    assert [math.isnan(v) for v in (both.dice, both.iou, both.sensitivity, both.precision)] == [
        True
    ] * 4
    assert (missed.dice, missed.iou, missed.sensitivity, math.isnan(missed.precision)) == (
        0,
        0,
        0,
        True,
    )
    assert (invented.dice, invented.iou, math.isnan(invented.sensitivity), invented.precision) == (
        0,
        0,
        True,
        0,
    )
    assert [
        volume_error_ml(p, r, spacing) for p, r in ((none, none), (none, some), (some, none))
    ] == pytest.approx([0, -2, 2])
    assert math.isnan(relative_volume_error(none, none))
    assert math.isnan(relative_volume_error(some, none))
    assert relative_volume_error(none, some) == -1


@pytest.mark.parametrize("seed", range(3))
def test_simpleitk_agrees(seed: int) -> None:
    prediction, reference = blobs(seed), blobs(seed + 100)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(
        *(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, reference))
    )
    counts = overlap(prediction, reference)
    assert counts.dice == pytest.approx(oracle.GetDiceCoefficient())
    assert counts.iou == pytest.approx(oracle.GetJaccardCoefficient())
    assert 1 - counts.sensitivity == pytest.approx(oracle.GetFalseNegativeError())
    similarity = 2 * (counts.predicted - counts.referenced) / (counts.predicted + counts.referenced)
    assert similarity == pytest.approx(oracle.GetVolumeSimilarity(), abs=1e-9)


def test_monai_agrees() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    prediction, reference = blobs(1), blobs(2)
    tensors = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    assert dice(prediction, reference) == pytest.approx(
        float(metrics.compute_dice(*tensors)), abs=1e-6
    )
    assert iou(prediction, reference) == pytest.approx(
        float(metrics.compute_iou(*tensors)), abs=1e-6
    )


@settings(deadline=None, max_examples=30, derandomize=True)
@given(arrays(bool, (3, 4, 5)), arrays(bool, (3, 4, 5)), st.permutations(range(3)))
def test_overlap_is_symmetric_bounded_and_blind_to_orientation(
    a: np.ndarray, b: np.ndarray, axes: list[int]
) -> None:
    value = dice(a, b)
    np.testing.assert_equal(dice(b, a), value)
    np.testing.assert_equal(dice(a.transpose(axes)[::-1], b.transpose(axes)[::-1]), value)
    if a.any() or b.any():
        assert 0 <= iou(a, b) <= value <= 1
        assert iou(a, b) == pytest.approx(value / (2 - value))
        assert (value == 1) == np.array_equal(a, b)


def test_what_is_no_mask_is_refused() -> None:
    mask = box((0, 1), (0, 1), (0, 1))
    with pytest.raises(UsageError, match="prediction has dtype uint8"):
        dice(mask.astype(np.uint8), mask)
    with pytest.raises(UsageError, match=r"reference has shape \(7, 9\)"):
        dice(mask, mask[0])
    with pytest.raises(UsageError, match="two masks on one grid"):
        dice(mask, mask[:, :-1])
    for spacing in ((1.0, 2.0), (1.0, 0.0, 1.0), (1.0, math.nan, 1.0)):
        with pytest.raises(UsageError, match="three positive numbers"):
            volume_error_ml(mask, mask, spacing)
