import numpy as np
import pytest
import torch
from training_samples import SHAPE, opened

from hilum.errors import DataError
from hilum.preprocess import build_store
from hilum.targets import SegmentationTask
from hilum.training import sampling
from hilum.training.sampling import PatchSampler


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    dataset, plan = opened(folder / "data")
    cases = [case.id for case in dataset.cases][:6]
    return build_store(dataset, plan, folder / "store", cases), cases, SegmentationTask(plan.labels)


def sampler(material, **options) -> PatchSampler:
    store, cases, task = material
    defaults = {
        "size": (8, 10, 8),
        "patch": (8, 10, 8),
        "batch": 2,
        "foreground_fraction": 0.5,
        "seed": 3,
    }
    return PatchSampler(store, cases, task, **(defaults | options))


def test_shapes_and_types(material):
    with sampler(material, size=(10, 14, 10)) as batches:
        images, targets = batches.batch(0)
    assert images.shape == (2, 1, 10, 14, 10)
    assert images.dtype == torch.float32
    assert targets.shape == (2, 1, 10, 14, 10)
    assert targets.dtype == torch.uint8


def test_a_batch_depends_on_seed_and_step_alone(material):
    with sampler(material) as one, sampler(material) as two, sampler(material, seed=4) as other:
        walked = [one.batch(step) for step in range(5)]
        jumped = two.batch(4)
        assert torch.equal(walked[4][0], jumped[0])
        assert torch.equal(walked[4][1], jumped[1])
        assert not torch.equal(other.batch(4)[0], jumped[0])


def test_from_memory_and_from_disk_are_one(material, monkeypatch):
    with sampler(material) as held:
        in_memory = [held.batch(step) for step in range(3)]
    monkeypatch.setattr(sampling, "_SHARE_OF_MEMORY", 0.0)
    with sampler(material) as lazy:
        from_disk = [lazy.batch(step) for step in range(3)]
    for (image, target), (image_too, target_too) in zip(in_memory, from_disk, strict=True):
        assert torch.equal(image, image_too)
        assert torch.equal(target, target_too)


def test_every_case_once_before_any_again(material):
    """With a patch of the whole case, six samples of batch 2 in three steps are the six cases."""
    store, cases, _ = material
    wholes = {case: store.open(case).image for case in cases}
    with sampler(material, size=SHAPE, patch=SHAPE) as batches:
        for epoch in range(2):
            seen = []
            for step in range(3 * epoch, 3 * epoch + 3):
                images = batches.batch(step)[0].numpy()
                seen += [
                    case
                    for image in images
                    for case, whole in wholes.items()
                    if np.array_equal(image, whole)
                ]
            assert sorted(seen) == sorted(cases)


def test_foreground_patches_hold_foreground(material):
    with sampler(material, size=(3, 3, 3), patch=(3, 3, 3), foreground_fraction=1.0) as batches:
        for step in range(10):
            assert (batches.batch(step)[1] > 0).flatten(1).any(dim=1).all()


def test_a_patch_larger_than_the_case_has_it_in_the_middle(material):
    store, cases, _ = material
    size = (SHAPE[0] + 4, SHAPE[1] + 2, SHAPE[2] + 6)
    with sampler(material, size=size, patch=size) as batches:
        image, target = (tensor[0].numpy() for tensor in batches.batch(0))
    middle = image[:, 2:-2, 1:-1, 3:-3]
    assert any(np.array_equal(middle, store.open(case).image) for case in cases)
    assert np.count_nonzero(image) == np.count_nonzero(middle)
    assert target[:, :2].max() == 0


def test_a_case_that_cannot_be_read_is_named(material, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("damaged chunk")

    with sampler(material) as batches:
        monkeypatch.setattr(sampling._Opened, "patch", broken)
        with pytest.raises(
            DataError, match=r"case box_\d\d: its preprocessed copy .* \(damaged chunk\)"
        ):
            batches.batch(7)
