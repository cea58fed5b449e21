import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hilum.plan.plan import AugmentationSpec
from hilum.training import Augmenter, enlarged_patch

NOTHING = AugmentationSpec(spatial_probability=0.0, intensity_probability=0.0)
PATCH = (6, 10, 8)


def batch(
    seed: int = 0, size: tuple[int, int, int] = PATCH, samples: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(samples, 2, *size)).astype(np.float32)
    target = rng.integers(0, 3, size=(samples, 1, *size)).astype(np.uint8)
    return torch.from_numpy(image), torch.from_numpy(target)


def augment(
    spec: AugmentationSpec,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    seed: int = 0,
    dimensions: int = 3,
    **more,
):
    augmenter = Augmenter(
        spec,
        more.get("patch", PATCH),
        spacing=more.get("spacing", (1, 1, 1)),
        dimensions=dimensions,
    )
    return augmenter(images, targets, torch.Generator().manual_seed(seed))


def test_nothing_asked_nothing_changed():
    images, targets = batch()
    new_images, new_targets = augment(NOTHING, images, targets)
    assert torch.equal(new_images, images)
    assert torch.equal(new_targets, targets)


def test_larger_blocks_lose_their_border_only():
    images, targets = batch(size=(8, 14, 10))
    new_images, new_targets = augment(NOTHING, images, targets)
    assert torch.equal(new_images, images[:, :, 1:7, 2:12, 1:9])
    assert torch.equal(new_targets, targets[:, :, 1:7, 2:12, 1:9])


def test_the_input_is_left_as_it_was():
    images, targets = batch()
    before = images.clone(), targets.clone()
    augment(
        AugmentationSpec(spatial_probability=1.0, intensity_probability=1.0, mirror_axes=(0, 1, 2)),
        images,
        targets,
    )
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


def test_same_generator_same_batch_and_another_differs():
    images, targets = batch()
    spec = AugmentationSpec(spatial_probability=1.0, intensity_probability=1.0)
    one, two, three = (augment(spec, images, targets, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.allclose(one, three)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirror_turns_image_and_target_alike(axis):
    images, targets = batch(samples=64)
    new_images, new_targets = augment(
        NOTHING.model_copy(update={"mirror_axes": (axis,)}), images, targets
    )
    turned = [not torch.equal(new, old) for new, old in zip(new_images, images, strict=True)]
    assert 16 < sum(turned) < 48
    for sample, was_turned in enumerate(turned):
        flip = [axis + 1] if was_turned else []
        assert torch.equal(new_images[sample], images[sample].flip(flip))
        assert torch.equal(new_targets[sample], targets[sample].flip(flip))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(degrees=st.floats(-40, 40), axis=st.integers(0, 2), scale=st.floats(0.8, 1.25))
def test_rotation_and_scale_equal_scipy(degrees, axis, scale):
    """A fixed angle and scale against ndimage.affine_transform, on an anisotropic grid."""
    spacing = np.array([3.0, 1.0, 2.0])
    image = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(10, 16, 12)), 1.5).astype(
        np.float32
    )
    augmenter = Augmenter(AugmentationSpec(), image.shape, spacing=spacing, dimensions=3)
    from hilum.training.augmentation import SpatialParameters, _rotations

    angles = torch.zeros(1, 3)
    angles[0, axis] = np.deg2rad(degrees)
    rotation = _rotations(angles)[0].numpy().astype(float)
    matrix = np.diag(1 / spacing) @ rotation @ np.diag(spacing) / scale
    centre = (np.array(image.shape) - 1) / 2
    expected = ndimage.affine_transform(
        image, matrix, offset=centre - matrix @ centre, order=1, mode="nearest"
    )
    parameters = SpatialParameters(
        torch.tensor([0]), torch.tensor(matrix, dtype=torch.float32)[None], torch.zeros(1, 3), None
    )
    batch_of_one = torch.from_numpy(image)[None, None]
    moved, _ = augmenter._move(
        batch_of_one, torch.zeros_like(batch_of_one, dtype=torch.uint8), parameters
    )
    np.testing.assert_allclose(moved[0, 0].numpy(), expected, atol=2e-4)


def test_rotations_are_rotations_in_millimetres():
    """On an anisotropic grid distances in mm are kept: the matrix in mm is orthogonal times one
    scale.
    """
    spacing = (4.0, 1.0, 2.0)
    augmenter = Augmenter(
        AugmentationSpec(rotation_degrees=(30.0, 30.0, 30.0), spatial_probability=1.0),
        PATCH,
        spacing=spacing,
        dimensions=3,
    )
    matrices = augmenter._sample_spatial(20, torch.Generator().manual_seed(0)).matrix
    to_mm = torch.diag(torch.tensor(spacing))
    for matrix in to_mm @ matrices @ torch.linalg.inv(to_mm):
        square = matrix @ matrix.T
        torch.testing.assert_close(square, torch.eye(3) * square[0, 0], atol=1e-5, rtol=1e-5)


def test_target_moves_with_the_image():
    """An image that is its own target stays its own target, away from interpolation at edges."""
    target = torch.zeros(1, 1, 24, 24, 24, dtype=torch.uint8)
    target[0, 0, 6:18, 4:14, 8:20] = 1
    spec = AugmentationSpec(spatial_probability=1.0, intensity_probability=0.0, elastic_mm=1.5)
    images, targets = augment(spec, target.float(), target, patch=(24, 24, 24))
    assert (images.round().byte() == targets).float().mean() > 0.995
    assert not torch.equal(targets, target)
    assert set(targets.unique().tolist()) <= {0, 1}


def test_ignored_voxels_stay_ignored_voxels():
    images, targets = batch()
    targets[:, :, :3] = 255
    _, moved = augment(AugmentationSpec(spatial_probability=1.0), images, targets)
    assert set(moved.unique().tolist()) <= {0, 1, 2, 255}


def test_two_dimensional_changes_leave_slices_alone():
    images, targets = batch(size=(1, 20, 16))
    spec = AugmentationSpec(spatial_probability=1.0, intensity_probability=1.0, elastic_mm=2.0)
    new_images, new_targets = augment(spec, images, targets, patch=(1, 20, 16), dimensions=2)
    assert new_images.shape == images.shape
    assert torch.isfinite(new_images).all()
    assert set(new_targets.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "unchanged"),
    [
        ({"noise_std": 0.0}, "_noise"),
        ({"brightness": (1.0, 1.0)}, "_brightness"),
        ({"contrast": (1.0, 1.0)}, "_contrast"),
        ({"gamma": (1.0, 1.0)}, "_gamma"),
    ],
)
def test_a_change_of_no_strength_changes_nothing(change, unchanged):
    images, _ = batch()
    augmenter = Augmenter(AugmentationSpec(**change), PATCH, spacing=(1, 1, 1), dimensions=3)
    same = getattr(augmenter, unchanged)(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=1e-5)


def test_blur_equals_scipy():
    images, _ = batch(size=(9, 12, 11), samples=1)
    augmenter = Augmenter(
        AugmentationSpec(blur_sigma=(0.8, 0.8)), (9, 12, 11), spacing=(1, 1, 1), dimensions=3
    )
    blurred = augmenter._blur(images, torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(images[0, 1].numpy(), 0.8, mode="nearest", radius=3)
    np.testing.assert_allclose(blurred[0, 1].numpy(), expected, atol=1e-5)


def test_gamma_keeps_mean_and_spread():
    images, _ = batch()
    augmenter = Augmenter(
        AugmentationSpec(gamma=(0.6, 0.6)), PATCH, spacing=(1, 1, 1), dimensions=3
    )
    bent = augmenter._gamma(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        bent.mean(dim=(2, 3, 4)), images.mean(dim=(2, 3, 4)), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        bent.std(dim=(2, 3, 4)), images.std(dim=(2, 3, 4)), atol=1e-5, rtol=1e-5
    )
    assert not torch.allclose(bent, images, atol=0.01)


def test_low_resolution_loses_detail_not_the_mean():
    images, _ = batch(size=(16, 16, 16))
    augmenter = Augmenter(
        AugmentationSpec(low_resolution=(0.5, 0.5)), (16, 16, 16), spacing=(1, 1, 1), dimensions=3
    )
    coarse = augmenter._low_resolution(images, torch.Generator().manual_seed(0))
    assert coarse.std() < 0.8 * images.std()
    assert coarse.shape == images.shape


def test_enlarged_patch():
    spec = AugmentationSpec(
        rotation_degrees=(30.0, 30.0, 30.0), scale=(0.8, 1.2), spatial_probability=0.5
    )
    larger = enlarged_patch(spec, (20, 20, 20), dimensions=3)
    assert all(n > 20 for n in larger)
    assert enlarged_patch(spec, (1, 20, 20), dimensions=2)[0] == 1
    assert enlarged_patch(NOTHING, (20, 30, 40), dimensions=3) == (20, 30, 40)
    anyhow = AugmentationSpec(
        rotation_degrees=(180.0, 0.0, 0.0), scale=(1.0, 1.2), spatial_probability=0.5
    )
    assert enlarged_patch(anyhow, (1, 100, 100), dimensions=2) == (1, 142, 142)
