"""Centreline Dice: drawn tubes, the source's formula, empty cases."""

import itertools
import math

import numpy as np
import pytest
from skimage.morphology import skeletonize

from hilum.errors import UsageError
from hilum.metrics import centreline, cldice, dice


def picture(*lines: str) -> np.ndarray:
    """A mask (1, Y, X) drawn with #."""
    return np.array([[[c == "#" for c in line] for line in lines]])


def tube(length: int, *, width: int = 3, shape: tuple[int, int, int] = (9, 9, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    half = width // 2
    mask[4 - half : 5 + half, 4 - half : 5 + half, 2 : 2 + length] = True
    return mask


def test_the_width_of_a_tube_does_not_matter() -> None:
    thin, thick = tube(30, width=1), tube(30, width=5)
    assert dice(thin, thick) < 0.1
    assert cldice(thin, thick) == pytest.approx(1.0)


def test_a_gap_counts_by_its_length() -> None:
    whole, broken = tube(30, width=1), tube(30, width=1)
    broken[:, :, 12:18] = False
    # the broken centreline lies in the whole one; of the whole one 24 of 30 voxels are found
    assert cldice(broken, whole) == pytest.approx(2 * 1 * 0.8 / 1.8)


def test_by_hand_in_a_picture() -> None:
    reference = picture(".......", "######.", ".......")
    prediction = picture(".......", "###....", "...###.")
    # 3 of the 6 voxels of either line lie in the other's mask
    assert cldice(prediction, reference) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(1, 40, 50), (12, 14, 16)])
def test_the_sources_own_formula(seed: int, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(seed)
    a, b = random.random((2, *shape)) < 0.35
    squeezed = [mask[0] if shape[0] == 1 else mask for mask in (a, b)]
    lines = [skeletonize(mask) for mask in squeezed]
    precision = np.sum(lines[0] * squeezed[1]) / np.sum(lines[0])
    sensitivity = np.sum(lines[1] * squeezed[0]) / np.sum(lines[1])
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert cldice(a, b) == pytest.approx(expected)
    assert cldice(a, b) == pytest.approx(cldice(b, a))
    assert cldice(a, a) == 1


@pytest.mark.parametrize("shape", [(5, 6, 9), (1, 6, 9)])
def test_the_table_of_empty_cases(shape: tuple[int, int, int]) -> None:
    none, some = np.zeros((2, *shape), dtype=bool)
    some[0, 2, 3:6] = True
    far = np.zeros(shape, dtype=bool)
    far[-1, 5, 8] = True
    assert math.isnan(cldice(none, none))
    assert [cldice(none, some), cldice(some, none), cldice(some, far)] == [0, 0, 0]
    assert centreline(some).any()


def test_a_mask_too_small_to_be_thinned_is_its_own_centreline() -> None:
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[1:3, 1:3, 1:3] = True
    assert (centreline(mask) == mask).all()
    assert cldice(mask, mask) == 1


def test_false_blobs_that_thinning_removes_are_false() -> None:
    reference = tube(30, shape=(9, 30, 40))
    prediction = reference.copy()
    for y, x in itertools.product(range(9, 29, 3), range(1, 39, 3)):
        prediction[3:5, y : y + 2, x : x + 2] = True
    blobs, line = 7 * 13 * 8, np.count_nonzero(centreline(reference))
    precision = line / (line + blobs)
    assert np.count_nonzero(centreline(prediction)) == line + blobs
    assert cldice(prediction, reference) == pytest.approx(2 * precision / (precision + 1))


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="two masks on one grid"):
        cldice(tube(3), tube(3)[1:])
