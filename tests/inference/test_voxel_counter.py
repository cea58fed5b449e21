"""Counts of voxels by log odds against counting each voxel, in any slabs."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from hilum.errors import GeometryError
from hilum.inference import voxel_counter
from hilum.inference.voxel_counter import VoxelCounter, region_volumes_ml
from hilum.metrics.log_odds import BINS, LEAST, log_odds_bin
from hilum.preprocess import preprocess_case
from hilum.targets.encoding import decode_logits
from hilum.volume import Volume
from inference_toys import REGIONS, TABLE, index_volume, make_plan


def restore_of(table):
    return preprocess_case(index_volume(), make_plan(labels=table))[1]


def counted_one_by_one(logits, table, reference):
    p = softmax(logits, axis=0)[1:] if table.exclusive else expit(logits)
    chosen = decode_logits(logits, table)
    counts = np.zeros((len(table.scored), 2, 2, BINS), dtype=int)
    for region, own in zip(table.scored, range(len(p)), strict=True):
        inside, true = np.isin(chosen, region.labels), np.isin(reference, region.labels)
        for place in np.ndindex(reference.shape):
            if p[own][place] >= LEAST and reference[place] != table.ignore:
                at = log_odds_bin(p[own][place][None])[0]
                counts[own, int(inside[place]), int(true[place]), at] += 1
    return counts


@pytest.mark.parametrize("table", [TABLE, REGIONS, TABLE.model_copy(update={"ignore": 9})])
@pytest.mark.parametrize("values", [7, 10**6])
def test_counts_are_those_of_each_voxel(table, values, monkeypatch):
    monkeypatch.setattr(voxel_counter, "_VALUES", values)
    restore, rng = restore_of(table), np.random.default_rng(2)
    logits = rng.normal(0, 6, (table.outputs, *restore.shape)).astype(np.float32)
    if table.exclusive:
        logits[0] += 12  # mostly background, as an image is
    ids = [0, 2, 300] if table.ignore is None else [0, 2, 300, 9]
    reference = rng.choice(ids, restore.shape)
    counter = VoxelCounter(table, restore, reference)
    for part in (slice(0, 2), slice(2, 2), slice(2, None)):
        counter.feed(logits[:, part])
    found, expected = counter.finish(), counted_one_by_one(logits, table, reference)
    assert found.voxels.sum() > 20
    # float32 and float64 may put a voxel into neighbouring bins
    assert np.abs(found.voxels - expected.sum(axis=2)).sum() <= 4
    assert np.abs(found.reference - expected[:, :, 1]).sum() <= 4
    own = [np.isin(reference, region.labels).sum() for region in table.scored]
    assert found.referenced.tolist() == own
    assert found.voxel_ml == pytest.approx(restore.geometry.voxel_volume_mm3 / 1000)


def test_without_a_reference_nothing_is_said_of_one():
    restore = restore_of(TABLE)
    counter = VoxelCounter(TABLE, restore)
    air = np.array([20, 0, 0], np.float32)[:, None, None, None]
    counter.feed(np.broadcast_to(air, (3, *restore.shape)))
    found = counter.finish()
    assert not found.voxels.any()
    assert not found.reference.any()


def test_missing_rows_and_other_grids_are_refused():
    restore = restore_of(TABLE)
    with pytest.raises(GeometryError, match="0 rows of logits"):
        VoxelCounter(TABLE, restore).finish()
    with pytest.raises(GeometryError, match="the array to restore"):
        VoxelCounter(TABLE, restore, np.zeros((1, 1, 1), dtype=int))


def test_volumes_of_regions_by_hand():
    image = index_volume()
    ids = np.array([0, 2, 300])[image.array.astype(int)]
    ml = image.geometry.voxel_volume_mm3 / 1000
    counts = [(ids == 2).sum(), (ids == 300).sum()]
    labels = Volume(ids, image.geometry)
    assert region_volumes_ml(labels, TABLE) == pytest.approx([n * ml for n in counts])
    assert region_volumes_ml(labels, REGIONS) == pytest.approx([sum(counts) * ml, counts[1] * ml])
