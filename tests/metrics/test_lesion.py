"""Lesion-wise metrics: drawn examples, empty cases, properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from hilum.errors import UsageError
from hilum.metrics import Lesions, lesions


def row(text: str) -> np.ndarray:
    """A mask (1, 1, X) drawn with #."""
    return (np.frombuffer(text.encode(), dtype=np.uint8) == ord("#"))[None, None]


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("..##..........", "..##......##..", (2, 1, 1, 1)),  # one of two found
        ("..##..##......", "..##..........", (1, 1, 2, 1)),  # one real, one invented
        (
            "############..",
            ".#..#.....#...",
            (3, 3, 1, 1),
        ),  # three lesions in one finding, a quarter of it real
        ("##############", ".#............", (1, 1, 1, 0)),  # floods: finds the lesion, is not real
        (
            "..#...........",
            "..###########.",
            (1, 0, 1, 1),
        ),  # a real finding, too little of the lesion
        (".#.#.#........", ".#####........", (1, 1, 3, 3)),  # one lesion found in pieces
    ],
)
def test_drawn_lesions(
    prediction: str, reference: str, expected: tuple[int, int, int, int]
) -> None:
    assert lesions(row(prediction), row(reference)) == Lesions(*expected)


def test_ratios_by_hand() -> None:
    counts = Lesions(reference=4, found=3, predicted=8, real=4)
    assert (counts.recall, counts.precision) == (0.75, 0.5)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.5 / 1.25)


def test_the_table_of_empty_cases() -> None:
    some, none = row("..##.#"), row("......")
    both, missed, invented = lesions(none, none), lesions(none, some), lesions(some, none)
    assert [math.isnan(v) for v in (both.recall, both.precision, both.f1)] == [True] * 3
    assert (missed.recall, math.isnan(missed.precision), missed.f1) == (0, True, 0)
    assert (math.isnan(invented.recall), invented.precision, invented.f1) == (True, 0, 0)
    assert lesions(row("#...."), row("....#")).f1 == 0


def test_corners_connect_and_the_share_decides() -> None:
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert lesions(mask, mask).reference == 1
    third = mask.copy()
    third[1:] = False
    assert lesions(third, mask, min_overlap=1 / 3).found == 1
    assert lesions(third, mask, min_overlap=0.34).found == 0
    assert lesions(mask, mask, min_overlap=1.0) == Lesions(1, 1, 1, 1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 9), (5, 3, 7), (2, 4, 5)])
def test_scattered_voxels_are_counted_on_any_grid(shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape, dtype=bool)
    mask[::2, ::2, ::2] = True
    assert lesions(mask, mask).found == np.count_nonzero(mask)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(arrays(bool, (3, 4, 5)), arrays(bool, (3, 4, 5)))
def test_scipy_counts_the_same_and_roles_swap(a: np.ndarray, b: np.ndarray) -> None:
    counts, swapped = lesions(a, b), lesions(b, a)
    assert counts.reference == ndimage.label(b, np.ones((3, 3, 3)))[1]
    assert counts.predicted == ndimage.label(a, np.ones((3, 3, 3)))[1]
    assert (counts.found, counts.real) == (swapped.real, swapped.found)
    np.testing.assert_equal(counts.f1, swapped.f1)
    assert lesions(a, a).found == lesions(a, a).reference


def test_a_share_out_of_range_is_refused() -> None:
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError, match="above 0 and at most 1"):
            lesions(row("#"), row("#"), min_overlap=share)
