"""Maps find what decides, on the image's grid, and leave the network as it was."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hilum.errors import UsageError
from hilum.explain import (
    EXPLAINERS,
    grad_cam,
    hires_cam,
    occlusion,
    occlusion_passes,
)
from hilum.explain.occlusion import upsample
from hilum.explain.score import log_odds, scale_to_one
from hilum.networks import CLASSIFIERS, ClassifierNetwork, build_network
from hilum.plan.plan import ClassifierSpec


class BlobNetwork(ClassifierNetwork):
    """A simple classifier: class 1 where something is brighter than 2, class 0 where it is darker.

    Two stages of a real network's kind around it: convolution, batch normalisation, pooling, and
    dropout before the head.
    """

    def __init__(self, outputs=2, stride=(2, 4, 4)):
        super().__init__(
            ClassifierSpec(kind="resnet3d", dimensions=3, in_channels=1, out_channels=outputs)
        )
        self.stem = nn.Conv3d(1, 4, 1)
        self.norm = nn.BatchNorm3d(4)
        self.pool = nn.AvgPool3d(stride)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, outputs))
        self.last = self.head[1]
        with torch.no_grad():
            self.stem.weight.copy_(torch.tensor([1.0, -1.0, 0.3, 0.3]).reshape(4, 1, 1, 1, 1))
            self.stem.bias.copy_(torch.tensor([-2.0, -2.0, 0.0, 0.5]))
            self.last.weight.zero_()
            self.last.weight[:2, :2] = torch.tensor([[0.0, 5.0], [5.0, 0.0]])[: min(2, outputs)]
            self.last.bias.zero_()

    def encode(self, image):
        return self.pool(torch.relu(self.norm(self.stem(image))))

    def pooled(self, maps):
        return maps.mean(dim=(2, 3, 4))

    def groups(self):
        return (
            tuple(self.stem.parameters()),
            tuple(self.norm.parameters()),
            tuple(self.head.parameters()),
        )


class LookingNetwork(BlobNetwork):
    """Its head looks at the left half only, and works in place."""

    def pooled(self, maps):
        maps[..., maps.shape[-1] // 2 :] = 0.0
        return super().pooled(maps)


SIZES = {2: (1, 24, 36), 3: (8, 24, 36)}
BRIGHT, DARK = (
    (slice(4, 8), slice(4, 12), slice(20, 32)),
    (slice(0, 2), slice(16, 22), slice(2, 10)),
)


def blob_image(dimensions=3, *, seed=0):
    """Background of noise, a bright blob and a dark one, nowhere symmetric."""
    image = torch.randn(1, *SIZES[dimensions], generator=torch.Generator().manual_seed(seed)) * 0.3
    for blob, value in ((BRIGHT, 4.0), (DARK, -4.0)):
        z = blob[0] if dimensions == 3 else slice(None)
        image[0, z, *blob[1:]] = value
    return image


def network_for(dimensions, kind=BlobNetwork, outputs=2):
    return kind(outputs, stride=(2, 4, 4) if dimensions == 3 else (1, 4, 4))


def inside(found, blob, dimensions):
    """Share of a map within a blob's box."""
    z = blob[0] if dimensions == 3 else slice(None)
    return found[z, *blob[1:]].sum() / found.sum()


# --- every member of the family
# ----------------------------------------------------------------------------------------------

everyone = pytest.mark.parametrize("name", EXPLAINERS)
both = pytest.mark.parametrize("dimensions", [2, 3])


@everyone
@both
def test_a_map_lies_on_what_decides(name, dimensions):
    network, image = network_for(dimensions), blob_image(dimensions)
    for index, blob in ((1, BRIGHT), (0, DARK)):
        found = EXPLAINERS[name](network, image, index)
        assert found.shape == SIZES[dimensions]
        assert found.dtype == np.float32
        assert found.min() == 0
        assert found.max() == 1
        z = blob[0] if dimensions == 3 else slice(None)
        volume = found[z, *blob[1:]].size / found.size
        assert inside(found, blob, dimensions) > max(0.4, 4 * volume)
        assert found[z, *blob[1:]].max() == 1


@everyone
def test_the_network_is_left_as_it_was(name):
    network, image = network_for(3), blob_image()
    network.train()
    network.release(1)  # stem and batch normalisation are frozen
    network.last.weight.grad = torch.full_like(network.last.weight, 7.0)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    learns = [parameter.requires_grad for parameter in network.parameters()]
    assert set(modes) == {True, False}
    drawn = torch.get_rng_state()
    first, second = (EXPLAINERS[name](network, image, 1) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # dropout would show: it was in evaluation mode
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == learns
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(network.last.weight.grad, torch.full_like(network.last.weight, 7.0))
    assert network.last.bias.grad is None
    assert torch.equal(torch.get_rng_state(), drawn)


@everyone
def test_modes_come_back_after_an_error(name):
    network = network_for(3).train()
    with pytest.raises(UsageError, match="no class 2: the network has 2"):
        EXPLAINERS[name](network, blob_image(), 2)
    assert all(module.training for module in network.modules())


@everyone
def test_frozen_networks_and_callers_that_run_inference(name):
    network, image = network_for(3), blob_image()
    wanted = EXPLAINERS[name](network, image, 1)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for context in (
        torch.no_grad(),
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        with context:
            found = EXPLAINERS[name](
                network, image * 1.0, 1
            )  # made there: under inference_mode an inference tensor
            np.testing.assert_array_equal(found, wanted)


@everyone
def test_an_ensemble_is_the_mean_of_its_members(name):
    image = blob_image()
    network = network_for(3)
    alone = EXPLAINERS[name](network, image, 1)
    np.testing.assert_allclose(EXPLAINERS[name]([network, network], image, 1), alone, atol=1e-6)
    blind = copy.deepcopy(network)
    nn.init.zeros_(blind.last.weight)
    np.testing.assert_allclose(EXPLAINERS[name]((network, blind), image, 1), alone, atol=1e-6)
    contrary = copy.deepcopy(network)
    with torch.no_grad():
        contrary.last.weight.mul_(
            -0.5
        )  # its evidence is taken from the other's before negative values are cut off
    np.testing.assert_allclose(EXPLAINERS[name]((network, contrary), image, 1), alone, atol=1e-5)


@everyone
def test_where_nothing_speaks_for_a_class_the_map_is_zero(name):
    network = network_for(3)
    nn.init.zeros_(network.last.weight)
    assert not EXPLAINERS[name](network, blob_image(), 1).any()


@everyone
def test_calls_that_are_wrong(name):
    network, image = network_for(3), blob_image()
    with pytest.raises(UsageError, match=r"shape \(8, 24, 36\)"):
        EXPLAINERS[name](network, image[0], 1)
    with pytest.raises(UsageError, match="no network to score with"):
        EXPLAINERS[name]((), image, 1)
    with pytest.raises(UsageError, match="class -1"):
        EXPLAINERS[name](network, image, -1)


def small_spec(kind, **changes):
    layers = (
        {"features": (4, 8), "blocks": (1, 1)}
        if kind == "resnet3d"
        else {"backbone": "test_resnet"}
    )
    dimensions = 2 if kind == "backbone" else 3
    return ClassifierSpec(
        kind=kind, dimensions=dimensions, in_channels=2, out_channels=3, **(layers | changes)
    )


@pytest.mark.parametrize(
    "spec",
    [
        *(small_spec(kind) for kind in CLASSIFIERS),
        small_spec("slices", planes="three"),
        small_spec("backbone", backbone="test_vit"),
    ],
    ids=lambda spec: f"{spec.kind}-{spec.planes}-{spec.backbone}",
)
def test_every_classifier_can_be_explained(spec):
    network = build_network(spec).train()
    size = (1, 48, 64) if spec.dimensions == 2 else (6, 32, 40)
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    for name, explainer in EXPLAINERS.items():
        more = {"block": size} if name == "occlusion" else {}
        found = [explainer(network, image, index, **more) for index in range(3)]
        assert all(one.shape == size for one in found)
        assert (
            max(one.max() for one in found) == 1
        )  # what speaks against one class speaks for another
        assert network.training


@everyone
@pytest.mark.gpu
def test_a_gpu_gives_the_same_map(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    network, image = network_for(3), blob_image()
    wanted = EXPLAINERS[name](network, image, 1)
    np.testing.assert_allclose(EXPLAINERS[name](network.cuda(), image, 1), wanted, atol=1e-3)


# --- the number that is explained
# ----------------------------------------------------------------------------------------------


def test_log_odds_are_those_of_the_probabilities():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    torch.testing.assert_close(
        log_odds(logits, 2, "exclusive").double(), torch.log(p / (1 - p)), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        log_odds(logits[:, :2], 1, "exclusive"), (logits[:, 1] - logits[:, 0]).float()
    )
    torch.testing.assert_close(log_odds(logits, 0, "multilabel"), logits[:, 0].float())
    torch.testing.assert_close(log_odds(logits[:, :1], 0, "exclusive"), logits[:, 0].float())


def test_a_grade_is_the_step_that_reaches_it_and_the_lowest_is_that_no_step_is_made():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    found = [log_odds(logits, grade, "ordinal").item() for grade in range(4)]
    assert found == [-2.0, 2.0, -1.0, 0.5]
    with pytest.raises(UsageError, match=r"no class 4: the network has 4[\s\S]*0 to 3"):
        log_odds(logits, 4, "ordinal")


def test_what_moves_both_logits_alike_explains_nothing():
    network, image = network_for(3), blob_image()
    wanted = grad_cam(network, image, 1)
    with torch.no_grad():
        network.last.weight += torch.tensor([0.0, 3.0, 9.0, 9.0])  # to both classes
    np.testing.assert_allclose(grad_cam(network, image, 1), wanted, atol=1e-5)
    assert (
        inside(grad_cam(network, image, 1, kind="multilabel"), BRIGHT, 3)
        < inside(wanted, BRIGHT, 3) - 0.2
    )


# --- Grad-CAM
# --------------------------------------------------------------------------------------------------


@both
def test_grad_cam_is_that_of_monai(dimensions):
    from monai.visualize import GradCAM

    class Difference(nn.Module):
        """The difference of two logits, and its negative, of a network with a hookable layer."""

        def __init__(self, network):
            super().__init__()
            self.network, self.last_maps = network, nn.Identity()

        def forward(self, image):
            logits = self.network.classify(self.last_maps(self.network.maps(image)))
            return logits - logits.flip(1)

    network, image = network_for(dimensions), blob_image(dimensions)
    with torch.no_grad():
        network.last.weight.normal_(generator=torch.Generator().manual_seed(3))
    cam = GradCAM(
        nn_module=Difference(network).eval(), target_layers="last_maps", postprocessing=lambda x: x
    )
    cut_off = [cam.compute_map(image[None], class_idx=index).detach() for index in (0, 1)]
    coarse = (
        cut_off[1] - cut_off[0]
    )  # the signed map again, which is what is linear between its cells
    signed = nn.functional.interpolate(
        coarse, size=image.shape[1:], mode="trilinear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(grad_cam(network, image, 1), scale_to_one(signed.numpy()), atol=1e-4)


def test_hires_cam_is_grad_cam_under_a_mean_and_one_layer_only():
    image = blob_image()
    plain, looking = network_for(3), network_for(3, LookingNetwork)
    np.testing.assert_allclose(hires_cam(plain, image, 1), grad_cam(plain, image, 1), atol=1e-6)
    left = blob_image() + blob_image().flip(-1)
    assert hires_cam(looking, left, 1)[..., 20:].max() < 1e-6
    assert grad_cam(looking, left, 1)[..., 20:].max() > 0.9


# --- grids
# --------------------------------------------------------------------------------------------------


@given(
    coarse=st.tuples(*[st.integers(1, 5)] * 3),
    size=st.tuples(*[st.integers(1, 17)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_upsampling_is_torchs_with_half_pixels(coarse, size, seed):
    values = np.random.default_rng(seed).normal(size=coarse)
    centres = [
        (np.arange(cells) + 0.5) * voxels / cells - 0.5
        for cells, voxels in zip(coarse, size, strict=True)
    ]
    wanted = nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode="trilinear", align_corners=False
    )
    np.testing.assert_allclose(upsample(values, size, centres), wanted[0, 0].numpy(), atol=1e-5)


def test_upsampling_between_centres_of_ones_own():
    ramp = upsample(
        np.array([[[0.0, 1.0, 3.0]]]),
        (1, 1, 6),
        [np.zeros(1), np.zeros(1), np.array([1.0, 2.0, 4.0])],
    )
    np.testing.assert_allclose(ramp[0, 0], [0, 0, 1, 2, 3, 3])


def test_unit_maps():
    np.testing.assert_array_equal(
        scale_to_one(np.array([[[-3.0, 0.0, 1.0, 4.0]]])), [[[0, 0, 0.25, 1]]]
    )
    assert not scale_to_one(np.full((1, 2, 2), -1.0)).any()


# --- occlusion
# --------------------------------------------------------------------------------------------------


def test_occlusion_counts_its_passes():
    network, image, seen = network_for(3), blob_image(), []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    for block, stride in (
        (None, None),
        ((4, 8, 8), None),
        ((3, 7, 11), (2, 5, 6)),
        ((99, 5, 5), (1, 9, 9)),
    ):
        seen.clear()
        occlusion(network, image, 1, block=block, stride=stride)
        assert sum(seen) == occlusion_passes(SIZES[3], block=block, stride=stride)
    assert occlusion_passes((1, 224, 224)) == 65
    assert occlusion_passes((60, 60, 60)) == 217
    assert occlusion_passes((8, 24, 36), block=(4, 8, 8)) == 1 + 2 * 3 * 5


def test_occlusion_is_the_drop_of_the_log_odds():
    """A linear network on a block that the strides hit exactly: the drop is known."""
    network = network_for(2, outputs=1)
    with torch.no_grad():
        network.last.weight[:] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:8, 8:12] = 5.0  # relu(5 - 2) = 3 where it is, 0 elsewhere and in the mean
    image[..., 12:16, 0:4] = 3.0  # relu(3 - 2) = 1
    found = occlusion(network, image, 0, block=(1, 4, 4), fill="mean")
    coarse = found[0, [1, 5, 9, 13]][
        :, [1, 5, 9, 13]
    ]  # half a voxel off the blocks' centres, 1.5 and so on
    drops = np.zeros((4, 4))
    drops[1, 2], drops[3, 0] = 1.0, 1 / 3
    middle = np.array([1.5, 5.5, 9.5, 13.5])
    exact = upsample(drops[None], (1, 16, 16), [np.zeros(1), middle, middle])[0]
    np.testing.assert_allclose(found[0], exact / exact.max(), atol=1e-5)
    assert coarse.argmax() == 6


def test_what_covers_a_block():
    network, image = network_for(2), blob_image(2)
    for fill in ("mean", "blur"):
        assert (
            inside(
                occlusion(network, image, 1, block=(1, 6, 6), stride=(1, 3, 3), fill=fill),
                BRIGHT,
                2,
            )
            > 0.4
        )
    with pytest.raises(UsageError, match=r"fill='blurr'[\s\S]*fill='blur'"):
        occlusion(network, image, 1, fill="blurr")
    with pytest.raises(UsageError, match="at least one voxel"):
        occlusion(network, image, 1, block=(1, 0, 4))


def test_occlusion_refuses_to_begin_what_takes_too_long():
    network, image = network_for(3), blob_image()
    with pytest.raises(UsageError, match=r"occlusion in 865 passes[\s\S]*at most 500"):
        occlusion(network, image, 1, block=(2, 2, 2), stride=(2, 2, 2), most_passes=500)
    alone = occlusion(network, image, 1, most_passes=145)
    np.testing.assert_allclose(
        occlusion([network] * 7, image, 1, most_passes=145), alone, atol=1e-6
    )


@given(size=st.tuples(*[st.integers(1, 400)] * 3))
@settings(deadline=None)
def test_blocks_that_are_not_given_never_take_too_long(size):
    assert occlusion_passes(size) <= (65 if size[0] == 1 else 217)
