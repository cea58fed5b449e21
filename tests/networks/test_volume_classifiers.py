"""2D networks turned to 3D, and slices weighed: what must hold whatever the weights."""

import pytest
import timm
import torch
from classifier_toys import classifier_spec, image
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks import build_network
from hilum.networks.inflated import AcsConv, InflatedConv, Reach, inflate, reaches, thirds
from hilum.networks.to_3d import Pool, to_3d

TURNED = [
    "resnet18",
    "resnet50",
    "resnet18d",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "mobilenetv2_050",
    "densenet121",
    "regnety_002",
]
some = settings(deadline=None, max_examples=40, derandomize=True)
convolutions = st.builds(
    lambda kernel, stride, dilation, groups, same, bias: (Conv2dSame if same else nn.Conv2d)(
        4,
        8,
        kernel,
        stride,
        padding=0 if same else dilation * (kernel // 2),
        dilation=dilation,
        groups=groups,
        bias=bias,
    ),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 4]),
    same=st.booleans(),
    bias=st.booleans(),
)
sizes = st.tuples(st.integers(1, 7), st.integers(4, 11), st.integers(4, 9))


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights and statistics drawn from a seed, none of them 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                noise = (
                    torch.randn(value.shape, generator=generator)
                    / max(1, value[0].numel() if value.ndim > 1 else 4) ** 0.5
                )
                positive = name.endswith("running_var") or (
                    value.ndim == 1 and name.endswith("weight")
                )
                value.copy_(noise.abs() + 0.5 if positive else noise)
    return module.eval()


# --- inflated
# ------------------------------------------------------------------------------


@some
@given(flat=convolutions, size=sizes)
@torch.no_grad()
def test_an_inflated_convolution_sees_a_repeated_slice_as_one(
    flat: nn.Conv2d, size: tuple[int, int, int]
) -> None:
    drawn(flat)
    depth, *plane = size
    picture = image(2, 4, *plane)
    expected = flat(picture)
    found = InflatedConv(flat)(picture[:, :, None].expand(-1, -1, depth, -1, -1))
    assert found.shape[2] == -(-depth // flat.stride[0])
    torch.testing.assert_close(found, expected[:, :, None].expand_as(found), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_an_inflated_convolution_reaches_as_deep_as_high():
    flat = drawn(nn.Conv2d(1, 1, 5, padding=2))
    volume = torch.zeros(1, 1, 13, 9, 9)
    volume[:, :, 6] = image(1, 1, 9, 9)
    found = InflatedConv(flat)(volume) - flat.bias
    once = (flat(volume[:, :, 6]) - flat.bias) / 5
    for z in range(13):
        torch.testing.assert_close(
            found[:, :, z], once if 4 <= z <= 8 else torch.zeros_like(once), atol=1e-5, rtol=1e-4
        )


def test_inflated_kernels_sum_to_the_flat_ones():
    weight = image(3, 2, 5, 5)
    assert inflate(weight, 7).shape == (3, 2, 7, 5, 5)
    torch.testing.assert_close(inflate(weight, 7).sum(2), weight)


@pytest.mark.parametrize("backbone", TURNED)
@torch.no_grad()
def test_an_inflated_network_sees_a_repeated_slice_as_one(backbone: str) -> None:
    """The maps of the 2D network, at every depth.

    Convolutions, batch norms, pooling and squeeze-and-excitation agree.
    """
    deep = build_network(classifier_spec("inflated", backbone)).eval()
    flat = drawn(timm.create_model(backbone, num_classes=0, in_chans=2))
    state = {
        name: inflate(v, k.shape[2]) if k.ndim == 5 else v
        for (name, v), k in zip(
            flat.state_dict().items(), deep.encoder.model.state_dict().values(), strict=True
        )
    }
    deep.encoder.model.load_state_dict(state)
    picture = image(2, 2, 70, 64)
    expected = flat.forward_features(picture)
    volume = picture[:, :, None].expand(-1, -1, 40, -1, -1)
    found = deep.maps(volume)
    assert found.shape == (*expected.shape[:2], 2, *expected.shape[2:])  # 40, 20, 10, 5, 3, 2
    assert expected.std() > 1e-3
    for z in range(found.shape[2]):
        torch.testing.assert_close(
            found[:, :, z], expected, atol=1e-3 * expected.abs().max().item(), rtol=1e-3
        )
    torch.testing.assert_close(
        deep.features(volume), flat(picture), atol=1e-3 * expected.abs().max().item(), rtol=1e-3
    )


# --- axial, coronal, sagittal
# -------------------------------------------------------------------------------------------------


def in_three_planes(flat: nn.Conv2d) -> torch.Tensor:
    """The 2D kernels as 3D ones that are 0 off their plane.

    Axial, coronal and sagittal by thirds of the outputs or groups.
    """
    outputs, kernel = flat.out_channels, flat.kernel_size[0]
    middle = kernel // 2
    units = flat.groups if flat.groups > 1 else outputs
    dense = torch.zeros(*flat.weight.shape[:2], kernel, kernel, kernel)
    counts = [len(part) for part in torch.arange(units).tensor_split(3)]
    plane = [axis for axis, count in enumerate(counts) for _ in range(count * (outputs // units))]
    for output, axis in enumerate(plane):
        index = [slice(None), slice(None), slice(None)]
        index[axis] = middle
        dense[output][(slice(None), *index)] = flat.weight[output]
    return dense


@some
@given(flat=convolutions, size=sizes)
@torch.no_grad()
def test_an_acs_convolution_is_one_with_kernels_that_are_flat_in_three_planes(
    flat: nn.Conv2d, size: tuple[int, int, int]
) -> None:
    drawn(flat)
    volume = image(2, 4, *size)
    (kernel, _), (stride, _), (dilation, _) = flat.kernel_size, flat.stride, flat.dilation
    margins = []
    for n in reversed(size):
        both = max(0, (-(-n // stride) - 1) * stride + dilation * (kernel - 1) + 1 - n)
        margins += (
            [both // 2, both - both // 2] if isinstance(flat, Conv2dSame) else [flat.padding[0]] * 2
        )
    dense = flat.weight[:, :, None] if kernel == 1 else in_three_planes(flat)
    expected = functional.conv3d(
        functional.pad(volume, margins), dense, flat.bias, stride, 0, dilation, flat.groups
    )
    torch.testing.assert_close(AcsConv(flat)(volume), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_each_third_of_an_acs_convolution_is_the_flat_one_on_its_slices():
    flat = drawn(nn.Conv2d(2, 7, 3, padding=1))
    volume = image(1, 2, 5, 6, 4)
    found = AcsConv(flat)(volume)
    for z in range(5):
        torch.testing.assert_close(found[:, :3, z], flat(volume[:, :, z])[:, :3])
    for y in range(6):
        torch.testing.assert_close(found[:, 3:5, :, y], flat(volume[:, :, :, y])[:, 3:5])
    for x in range(4):
        torch.testing.assert_close(found[..., x][:, 5:], flat(volume[..., x])[:, 5:])


@given(units=st.integers(0, 40))
@settings(max_examples=41, derandomize=True)
def test_thirds_are_as_equal_as_can_be(units: int) -> None:
    parts = thirds(units)
    assert sum(parts) == units
    assert sorted(parts, reverse=True) == list(parts)
    assert parts[0] - parts[2] <= 1


@pytest.mark.parametrize("backbone", TURNED)
def test_an_acs_network_has_the_parameters_of_the_flat_one(backbone: str) -> None:
    network = build_network(classifier_spec("acs", backbone)).eval()
    flat = timm.create_model(backbone, num_classes=0, in_chans=2)
    assert {name: v.shape for name, v in network.encoder.model.state_dict().items()} == {
        name: v.shape for name, v in flat.state_dict().items()
    }
    assert network(image(1, 2, 9, 64, 40)).shape == (1, 3)


@torch.no_grad()
def test_an_acs_network_sees_depth():
    network = drawn(build_network(classifier_spec("acs")))
    volume = image(1, 2, 33, 40, 40)
    shuffled = volume[:, :, torch.randperm(33, generator=torch.Generator().manual_seed(0))]
    assert not torch.allclose(network.features(volume), network.features(shuffled), rtol=1e-2)


# --- what both are made of
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flat",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    ],
)
@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_pooling_takes_any_depth(flat: nn.Module, depth: int) -> None:
    volume = image(2, 3, depth, 6, 8)
    found = Pool(flat)(volume)
    cube = type(flat)(flat.kernel_size, flat.stride, flat.padding)
    whole = nn.MaxPool3d if isinstance(flat, nn.MaxPool2d) else nn.AvgPool3d
    assert found.shape == (2, 3, -(-depth // 2), 3, 4)
    if depth % 2 == 0:
        torch.testing.assert_close(
            found, whole(cube.kernel_size, cube.stride, cube.padding)(volume)
        )
    last = torch.full((1, 1, depth, 6, 8), -1.0)
    last[:, :, -1] = 1  # the last slice is never left out
    assert (Pool(flat)(last)[:, :, -1] > -1).all()


@pytest.mark.parametrize("kind", ["inflated", "acs"])
@pytest.mark.parametrize(
    ("backbone", "modules"),
    [
        ("convnext_atto", "ConvNeXt, .*LayerNorm2d"),
        ("vit_tiny_patch16_224", "Attention, Block"),
        ("resnetv2_50x1_bit", "StdConv2d"),
    ],
)
def test_networks_that_are_not_known_in_3d_are_refused_by_their_modules(
    kind: str, backbone: str, modules: str
) -> None:
    with pytest.raises(
        UsageError,
        match=rf"'{backbone}' cannot be turned to 3D: it has .*{modules}.*\n.*ResNet.*\n"
        "Cure: kind='slices'",
    ):
        build_network(classifier_spec(kind, backbone))


@pytest.mark.parametrize(
    "flat",
    [
        nn.Conv2d(1, 1, (1, 7)),
        nn.Conv2d(1, 1, 3, stride=(1, 2)),
        nn.Conv2d(1, 1, 2),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_convolutions_that_are_not_known_in_3d_are_refused(flat: nn.Conv2d) -> None:
    for turned in (InflatedConv, AcsConv):
        with pytest.raises(UsageError, match="square kernels of odd size, padded with zeros"):
            turned(flat)


def test_reaches_are_those_of_the_convolution():
    assert reaches(nn.Conv2d(1, 1, 5, 2, padding=2, dilation=3)) == (Reach(5, 2, 3, 2),) * 2
    assert reaches(Conv2dSame(1, 1, 3, 2)) == (Reach(3, 2, 1, None),) * 2
    assert Reach(3, 2, 1, None).margins(8) == (0, 1)
    assert Reach(3, 2, 1, None).centres(8) == (1, 4)
    assert Reach(3, 2, 1, 1).centres(8) == (0, 4)


def test_turning_keeps_state_and_order():
    model = timm.create_model("resnet18", num_classes=0)
    names = list(model.state_dict())
    model.bn1.running_mean += 3
    to_3d(model, AcsConv, name="resnet18")
    assert list(model.state_dict()) == names
    assert model.bn1.running_mean.tolist() == [3.0] * 64


# --- slices
# ------------------------------------------------------------------------------


@torch.no_grad()
def test_slices_are_weighed_and_their_order_does_not_matter():
    network = build_network(classifier_spec("slices")).eval()
    network.attention.score.weight.mul_(30)
    x = image(2, 2, 5, 33, 40)
    weights = network.slice_weights(x)
    assert weights.shape == (2, 5)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert (weights.max(1).values - weights.min(1).values > 0.01).all()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        network.slice_weights(x[:, :, order]), weights[:, order], atol=1e-5, rtol=1e-3
    )
    torch.testing.assert_close(network(x[:, :, order]), network(x), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_features_are_the_slices_features_by_their_weights():
    network = build_network(classifier_spec("slices")).eval()
    x = image(1, 2, 4, 33, 40)
    each = torch.cat([network.encoder.pool(network.encoder.maps(x[:, :, z])) for z in range(4)])
    h = each.double()
    attention = network.double().attention
    raw = (
        torch.tanh(h @ attention.content.weight.T + attention.content.bias)
        / (1 + torch.exp(-(h @ attention.gate.weight.T + attention.gate.bias)))
    ) @ attention.score.weight[0]
    expected = ((raw.exp() / raw.exp().sum())[:, None] * h).sum(0)
    torch.testing.assert_close(
        network.float().features(x)[0].double(), expected, atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_three_planes_are_axial_coronal_and_sagittal_slices():
    network = build_network(classifier_spec("slices", planes="three")).eval()
    x = image(1, 2, 40, 40, 40)
    maps = network.maps(x)
    assert maps.shape == (1, 512, 120, 2, 2)
    assert network.slice_weights(x).shape == (1, 120)
    for start, slices in ((0, x[:, :, 7]), (40, x[:, :, :, 7]), (80, x[..., 7])):
        torch.testing.assert_close(
            maps[:, :, start + 7], network.encoder.maps(slices), atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_slices_of_other_planes_are_resized_to_the_axial_ones():
    network = build_network(classifier_spec("slices", planes="three")).eval()
    x = image(1, 2, 12, 36, 48)
    maps = network.maps(x)
    assert maps.shape[2:] == (12 + 36 + 48, 2, 2)
    for start, slices in ((12, x[:, :, :, 7]), (48, x[..., 7])):
        resized = functional.interpolate(
            slices, size=(36, 48), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(
            maps[:, :, start + 7], network.encoder.maps(resized), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(("start", "axis"), [(0, 0), (12, 1), (48, 2)])
def test_what_three_planes_say_meets_on_the_image(start: int, axis: int) -> None:
    network = build_network(classifier_spec("slices", planes="three"))
    size = (12, 36, 48)
    weights = torch.zeros(1, 96, 2, 3)
    weights[0, start + 7, 1, 0] = 1  # rows low, columns left in this slice
    shown = network.on_image(weights, size)[0]
    assert shown.shape == size
    assert set(shown.nonzero()[:, axis].tolist()) == {7}
    row, column = {0, 1, 2} - {axis}
    peak = [int(v) for v in torch.unravel_index(shown.argmax(), size)]
    assert peak[row] >= size[row] // 2
    assert peak[column] <= size[column] // 3
