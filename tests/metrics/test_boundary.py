"""Boundary IoU: boxes by hand, the source's own steps as oracle, empty cases."""

import math

import numpy as np
import pytest
from scipy import ndimage

from hilum.errors import UsageError
from hilum.metrics import boundary_iou, iou, overlap

SPACING = (3.0, 0.7, 1.9)


def box(*bounds: tuple[int, int], shape: tuple[int, int, int] = (12, 20, 17)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*one) for one in bounds)] = True
    return mask


def of_the_source(prediction: np.ndarray, reference: np.ndarray, steps: int) -> float:
    """mask_to_boundary of github.com/bowenc0221/boundary-iou-api with scipy's erosion for cv2's."""
    bands = []
    for mask in (prediction, reference):
        padded = np.pad(mask, 1)
        ring = padded & ~ndimage.binary_erosion(padded, np.ones((3, 3)), iterations=steps)
        bands.append(ring[1:-1, 1:-1])
    return (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_boxes_have_the_band_of_the_source(steps: int) -> None:
    # of a box the distance to the outside is straight, so that steps over corners add nothing
    reference = box((0, 1), (0, 15), (3, 16), shape=(1, 22, 25))
    prediction = box((0, 1), (0, 16), (5, 16), shape=(1, 22, 25))
    found = boundary_iou(prediction, reference, (9.0, 1.0, 1.0), width_mm=steps)
    assert found == pytest.approx(of_the_source(prediction[0], reference[0], steps))


def test_a_shell_by_hand() -> None:
    # 5 x 9 x 8 voxels against the same but one plane along x: the shells of one voxel
    reference, prediction = box((3, 8), (5, 14), (4, 12)), box((3, 8), (5, 14), (4, 11))
    shells = [n - k for n, k in ((5 * 9 * 8, 3 * 7 * 6), (5 * 9 * 7, 3 * 7 * 5))]
    both = shells[1] - 3 * 7  # its last plane is inside the larger but for the rim
    assert boundary_iou(prediction, reference, SPACING, width_mm=0.1) == pytest.approx(
        both / (sum(shells) - both)
    )


def test_a_wide_band_is_the_whole_mask() -> None:
    reference, prediction = box((3, 8), (5, 14), (4, 12)), box((3, 8), (6, 14), (3, 11))
    found = boundary_iou(prediction, reference, SPACING, width_mm=100)
    assert found == iou(prediction, reference)


def test_the_width_is_in_millimetres() -> None:
    reference = box((2, 10), (3, 17), (3, 14))
    prediction = np.roll(reference, 1, axis=1)
    fine = boundary_iou(prediction, reference, SPACING, width_mm=2.0)
    assert boundary_iou(prediction, reference, [2 * s for s in SPACING], width_mm=4.0) == fine
    assert boundary_iou(prediction, reference, SPACING, width_mm=0.7) < fine
    assert fine < iou(prediction, reference)


@pytest.mark.parametrize("shape", [(5, 6, 9), (1, 6, 9)])
def test_the_table_of_empty_cases(shape: tuple[int, int, int]) -> None:
    some, none = box((0, 1), (2, 4), (3, 6), shape=shape), np.zeros(shape, dtype=bool)
    assert math.isnan(boundary_iou(none, none, SPACING, width_mm=1))
    assert boundary_iou(some, none, SPACING, width_mm=1) == 0
    assert boundary_iou(none, some, SPACING, width_mm=1) == 0


def test_the_edge_of_what_nobody_annotated_is_no_boundary() -> None:
    shape = (6, 10, 20)
    reference, prediction = (box((1, 5), (2, 8), (2, stop), shape=shape) for stop in (10, 18))
    ignore = box((0, 6), (0, 10), (9, 20), shape=shape)
    assert boundary_iou(prediction, reference, SPACING, width_mm=2, ignore=ignore) == 1
    everywhere = np.ones(shape, dtype=bool)
    assert math.isnan(boundary_iou(prediction, reference, SPACING, width_mm=2, ignore=everywhere))


def test_a_width_of_nothing_is_refused() -> None:
    mask = box((3, 8), (5, 14), (4, 12))
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="width above 0 mm"):
            boundary_iou(mask, mask, SPACING, width_mm=width)


@pytest.mark.parametrize("shape", [(11, 11, 11), (1, 11, 11)])
@pytest.mark.parametrize("rim", [1, 2])
@pytest.mark.parametrize("width", [2.0, 3.0, 6.5])
def test_the_boundary_is_looked_for_behind_a_rim_that_nobody_annotated(
    shape: tuple[int, int, int], rim: int, width: float
) -> None:
    reference = box((0, 1) if shape[0] == 1 else (3, 8), (3, 8), (3, 8), shape=shape)
    ignore = ndimage.binary_dilation(reference, np.ones((3, 3, 3)), iterations=rim) & ~reference
    missed = reference.copy()
    missed[reference.nonzero()[0][0], 3, 3] = False
    margin = [(0, 0) if n == 1 else (9, 9) for n in shape]
    hidden = np.pad(ignore, margin)
    bands = [
        np.pad(mask, margin)
        & (ndimage.distance_transform_edt(np.pad(mask, margin) | hidden) <= width)
        for mask in (missed, reference)
    ]
    how = {"spacing": (1.0, 1.0, 1.0), "width_mm": width, "ignore": ignore}
    found = [boundary_iou(mask, reference, **how) for mask in (missed, reference)]
    if width <= rim:  # nothing that is known is near the reference
        assert found[0] == 0
        assert math.isnan(found[1])
    else:
        assert found == [overlap(*bands).iou, 1]
        assert 0.6 < found[0] < 1


def test_a_picture_of_several_planes_is_refused() -> None:
    mask = box((3, 8), (5, 14), (4, 12))
    with pytest.raises(UsageError, match="one plane"):
        boundary_iou(mask, mask, SPACING, width_mm=2, picture=True)


def test_an_endless_width_is_the_whole_mask() -> None:
    reference, prediction = box((3, 8), (5, 14), (4, 12)), box((3, 8), (6, 14), (3, 11))
    found = boundary_iou(prediction, reference, SPACING, width_mm=math.inf)
    assert found == iou(prediction, reference)
