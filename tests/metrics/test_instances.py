"""Panoptic quality: drawn objects, torchmetrics as oracle, empty cases, properties."""

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hilum.errors import UsageError
from hilum.metrics import Matches, match_instances


def row(text: str) -> np.ndarray:
    """A map of objects (1, 1, X) drawn with digits."""
    return np.array([[[0 if c == "." else int(c) for c in text]]], dtype=np.uint8)


def random_objects(seed: int, shape: tuple[int, int, int], count: int) -> np.ndarray:
    """Boxes at random, later ones over earlier ones."""
    random = np.random.default_rng(seed)
    ids = np.zeros(shape, dtype=np.int32)
    for number in range(1, count + 1):
        corner = [random.integers(0, n) for n in shape]
        size = random.integers(2, 9, size=3)
        ids[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = number
    return ids


def test_by_hand() -> None:
    #                             IoU 3/4; 2/3 for the second; the third is invented
    found = match_instances(row("111..22..33"), row("1111.555..."))
    assert found == Matches(2, 3, 2, pytest.approx(3 / 4 + 2 / 3))
    assert found.sq == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert found.rq == pytest.approx(2 / 2.5)
    assert found.pq == pytest.approx(found.sq * found.rq)


def test_an_iou_of_one_half_is_not_enough() -> None:
    assert match_instances(row("11.."), row("1111")).matched == 0
    assert match_instances(row("111."), row("1111")).matched == 1
    assert match_instances(row("11.."), row("1111"), min_iou=0.49).matched == 1


def test_below_one_half_objects_are_matched_one_to_one() -> None:
    # 1 lies on 3 (IoU 2/6) and on 4 (2/8), 2 on 4 only (2/5)
    prediction, reference = row("1111122..."), row(".33444443.")
    found = match_instances(prediction, reference, min_iou=0.1)
    assert found == Matches(2, 2, 2, pytest.approx(2 / 6 + 2 / 5))


def test_the_table_of_empty_cases() -> None:
    none, some = row("...."), row("11.2")
    both, missed, invented = (
        match_instances(a, b) for a, b in ((none, none), (none, some), (some, none))
    )
    apart = match_instances(row("..1."), row("11.2"))
    assert all(math.isnan(value) for value in (both.pq, both.rq, both.sq))
    for counts in (missed, invented, apart):
        assert (counts.pq, counts.rq, math.isnan(counts.sq)) == (0, 0, True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(1, 40, 50), (7, 21, 24)])
def test_torchmetrics_agrees(seed: int, shape: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.detection import panoptic_quality

    reference = random_objects(seed, shape, 20)
    prediction = np.roll(reference, 1, axis=2)
    prediction[prediction == 3] = 0
    prediction[:, :4] = np.where(prediction[:, :4] == 0, 77, prediction[:, :4])

    def pairs(ids: np.ndarray) -> object:
        return torch.from_numpy(np.stack([(ids > 0).astype(int), ids], axis=-1)[np.newaxis])

    theirs = panoptic_quality(
        pairs(prediction), pairs(reference), things={1}, stuffs={0}, return_per_class=True,
        return_sq_and_rq=True,
    )  # fmt: skip
    of_things = theirs.reshape(-1, 3)[0].tolist()
    found = match_instances(prediction, reference)
    assert [found.pq, found.sq, found.rq] == pytest.approx(of_things)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("min_iou", [0.0, 0.1, 0.3, 0.5, 0.8])
def test_brute_force_and_renaming(seed: int, min_iou: float) -> None:
    a, b = random_objects(seed, (1, 30, 30), 12), random_objects(seed + 9, (1, 30, 30), 15)
    iou = np.array(
        [
            [((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum() for j in np.unique(b)[1:]]
            for i in np.unique(a)[1:]
        ]
    )
    fits = iou > min_iou
    rows, columns = linear_sum_assignment(fits, maximize=True)
    found = match_instances(a, b, min_iou=min_iou)
    assert found.matched == fits[rows, columns].sum()
    assert match_instances(b, a, min_iou=min_iou).iou_sum == pytest.approx(found.iou_sum)
    renamed = np.where(a > 0, 60_000 - 7 * a, 0)
    assert match_instances(renamed, b, min_iou=min_iou).pq == pytest.approx(found.pq)
    assert match_instances(a, a, min_iou=min_iou).pq == 1


def test_what_is_no_map_of_objects_is_refused() -> None:
    ids = row("11.2")
    with pytest.raises(UsageError, match="integers"):
        match_instances(ids.astype(float), ids)
    with pytest.raises(UsageError, match="integers of 0 and more"):
        match_instances(ids.astype(np.int16) - 1, ids)
    with pytest.raises(UsageError, match="one shape"):
        match_instances(ids[..., 1:], ids)
    with pytest.raises(UsageError, match="min_iou is 1"):
        match_instances(ids, ids, min_iou=1.0)
