"""The parts of the U-Nets against torch's own modules and hand-computed values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from hilum.networks.blocks import (
    AveragePool,
    ConvBlock,
    InstanceNorm,
    ResidualBlock,
    conv_stack,
    crop_like,
    layer,
)
from hilum.networks.unet import UNet

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (3, 4, 6), (1, 1, 3)])
def test_instance_norm_has_the_maths_of_torch(size: tuple[int, ...], channels_last: bool) -> None:
    dimensions = len(size)
    ours = InstanceNorm(4)
    theirs = (nn.InstanceNorm3d if dimensions == 3 else nn.InstanceNorm2d)(4, affine=True)
    weight, bias = image(4, seed=1), image(4, seed=2)
    for norm in (ours, theirs):
        norm.load_state_dict({"weight": weight, "bias": bias})
    a, b = (
        (3 * image(3, 4, *size) + 5).requires_grad_(),
        (3 * image(3, 4, *size) + 5).requires_grad_(),
    )
    x = a.contiguous(memory_format=FORMATS[dimensions]) if channels_last else a
    y, z = ours(x), theirs(b)
    torch.testing.assert_close(y, z, atol=1e-5, rtol=1e-5)
    assert y.is_contiguous(
        memory_format=FORMATS[dimensions] if channels_last else torch.contiguous_format
    )
    (y * image(*y.shape, seed=3)).sum().backward()
    (z * image(*z.shape, seed=3)).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_takes_its_statistics_in_float32(channels_last: bool) -> None:
    x = (
        image(2, 16, 8, 9, 10) + 30
    ).bfloat16()  # statistics in bfloat16 would be wrong in the first digit
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    y = InstanceNorm(16)(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), functional.instance_norm(x.float()), atol=0.02, rtol=0.01)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_of_a_single_voxel_is_the_shift(samples: int, channels_last: bool) -> None:
    norm = InstanceNorm(4)
    nn.init.constant_(norm.bias, 7.0)
    x = image(samples, 4, 1, 1, 1)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(norm(x), torch.full_like(x, 7.0))


def test_instance_norm_treats_each_sample_alone() -> None:
    x = image(3, 4, 3, 5, 4).contiguous(memory_format=torch.channels_last_3d)
    norm = InstanceNorm(4)
    torch.testing.assert_close(norm(x)[1:2], norm(x[1:2]))


def test_average_pool_of_odd_sizes_averages_what_there_is() -> None:
    row = torch.tensor([1.0, 3.0, 5.0, 7.0, 20.0]).reshape(1, 1, 1, 5)
    assert AveragePool((1, 2))(row).flatten().tolist() == [2.0, 6.0, 20.0]
    assert AveragePool((2, 2))(torch.ones(1, 1, 1, 1)).tolist() == [[[[1.0]]]]
    assert AveragePool((2, 1, 2))(torch.ones(1, 1, 1, 2, 3)).tolist() == [
        [[[[1.0, 1.0], [1.0, 1.0]]]]
    ]


def test_average_pool_keeps_type_and_equals_torch() -> None:
    x = image(2, 3, 4, 6, 8)
    torch.testing.assert_close(AveragePool((1, 2, 2))(x), functional.avg_pool3d(x, (1, 2, 2)))
    with torch.autocast("cpu", torch.bfloat16):
        assert AveragePool((2, 2, 2))(x.bfloat16()).dtype == torch.bfloat16


def test_true_convolution_of_the_textbook() -> None:
    """[[1..9]] convolved with the 2x2 identity, valid part.

    A widespread text prints [[1, 2], [4, 5]].
    """
    picture = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    convolution = layer("Conv", 2)(1, 1, 2, bias=False)
    kernel = torch.eye(2)
    with torch.no_grad():
        convolution.weight.copy_(
            kernel.flip(0, 1)[None, None]
        )  # torch correlates: the true convolution flips the kernel
        assert convolution(picture)[0, 0].tolist() == [[6.0, 8.0], [12.0, 14.0]]


@pytest.mark.parametrize("kernel", [(3, 3), (1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_block_is_convolution_norm_leaky_relu(kernel: tuple[int, ...], stride: int) -> None:
    n = len(kernel)
    block = ConvBlock(3, 5, kernel=kernel, stride=(stride,) * n)
    x = image(2, 3, *(5, 7, 6)[:n])
    convolve = functional.conv3d if n == 3 else functional.conv2d
    y = convolve(x, block[0].weight, stride=stride, padding=tuple(k // 2 for k in kernel))
    torch.testing.assert_close(
        block(x), functional.leaky_relu(functional.instance_norm(y), 0.01), atol=1e-5, rtol=1e-5
    )
    assert block(x).shape[2:] == tuple(-(-s // stride) for s in x.shape[2:])


def test_residual_block_adds_its_shortcut() -> None:
    block = ResidualBlock(4, 4, kernel=(3, 3, 3), stride=(1, 1, 1))
    nn.init.zeros_(
        block.second[1].weight
    )  # the branch vanishes: what is left is the shortcut and the last activation
    x = image(2, 4, 3, 4, 5)
    torch.testing.assert_close(block(x), functional.leaky_relu(x, 0.01))


def test_residual_block_pools_and_projects_its_shortcut() -> None:
    block = ResidualBlock(4, 6, kernel=(1, 3, 3), stride=(1, 2, 2))
    nn.init.zeros_(block.second[1].weight)
    x = image(2, 4, 3, 5, 6)
    pooled = functional.avg_pool3d(x, (1, 2, 2), (1, 2, 2), ceil_mode=True)
    projected = functional.instance_norm(functional.conv3d(pooled, block.shortcut[1][0].weight))
    torch.testing.assert_close(
        block(x), functional.leaky_relu(projected, 0.01), atol=1e-5, rtol=1e-5
    )


def test_conv_stack_strides_once() -> None:
    stack = conv_stack(2, 4, blocks=3, kernel=(3, 3), stride=(2, 1))
    assert [tuple(block[0].stride) for block in stack] == [(2, 1), (1, 1), (1, 1)]
    assert [block[0].in_channels for block in stack] == [2, 4, 4]


def test_crop_like_keeps_the_first_voxels() -> None:
    x = torch.arange(24.0).reshape(1, 1, 2, 3, 4)
    assert torch.equal(crop_like(x, torch.empty(1, 1, 2, 2, 3)), x[..., :2, :3])
    assert crop_like(x, x) is x


@pytest.mark.parametrize("dimensions", [2, 3])
def test_up_sampling_of_the_textbook_keeps_voxel_faces(dimensions: int) -> None:
    """Interpolation between voxel faces keeps the mean, that between voxel centres does not."""
    network = UNet(1, 2, dimensions=dimensions, features=(2, 3)).eval()
    deepest, joined = [], []
    network.down[-1].register_forward_hook(lambda *found: deepest.append(found[-1]))
    network.up[0].register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    network(image(1, 1, *(8 if dimensions == 3 else 1, 8, 8)))
    up = joined[0][:, :3]
    axes = tuple(range(2, up.ndim))
    assert up.shape[-1] == 2 * deepest[0].shape[-1]
    torch.testing.assert_close(up.mean(axes), deepest[0].mean(axes))
