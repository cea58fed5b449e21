"""One contract for every network, and what is particular to each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks import (
    NETWORKS,
    Network,
    PlainUNet,
    ResidualUNet,
    UNet,
    build_network,
    initialise,
    textbook_spec,
)
from hilum.plan.plan import NetworkSpec


def spec(kind: str, dimensions: int = 3, **changes: Any) -> NetworkSpec:
    if kind == "unet":
        return textbook_spec(2, 3, dimensions=dimensions, features=(4, 8, 12)).model_copy(
            update=changes
        )
    flat = dimensions == 2
    fields: dict[str, Any] = {
        "kind": kind,
        "dimensions": dimensions,
        "in_channels": 2,
        "out_channels": 3,
        "features": (4, 8, 12, 16),
        "kernels": ((1, 3, 3),) * 4 if flat else ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        "strides": (
            ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 1))
            if flat
            else ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 2))
        ),
        "encoder_blocks": (1, 2, 1, 2),
        "decoder_blocks": (1, 1, 2),
    }
    return NetworkSpec(**fields | changes)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


every = pytest.mark.parametrize("kind", sorted(NETWORKS))
both = pytest.mark.parametrize("dimensions", [2, 3])


@every
@both
@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 5), st.integers(1, 19), st.integers(1, 14)),
    batch=st.integers(1, 2),
)
def test_any_size_comes_back_on_its_own_grid(
    kind: str, dimensions: int, size: tuple[int, int, int], batch: int
) -> None:
    network = build_network(spec(kind, dimensions)).eval()
    with torch.inference_mode():
        assert network(image(batch, 2, *size)).shape == (batch, 3, *size)


@every
@both
def test_deep_outputs_begin_with_the_full_resolution(kind: str, dimensions: int) -> None:
    the_spec = spec(kind, dimensions)
    network = build_network(the_spec).eval()
    x = image(2, 2, 3, 21, 18)
    with torch.inference_mode():
        outputs = network.forward_deep(x)
        assert torch.equal(outputs[0], network(x))
    assert len(outputs) == (1 if kind == "unet" else 2)
    size = list(x.shape[2:])
    for stride, output in zip(the_spec.strides, outputs, strict=False):
        size = [math.ceil(n / s) for n, s in zip(size, stride, strict=True)]
        assert output.shape == (2, 3, *size)


@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
def test_without_deep_supervision_there_is_one_output_and_one_head(kind: str) -> None:
    network = build_network(spec(kind, deep_supervision=False))
    assert len(network.forward_deep(image(1, 2, 4, 8, 8))) == 1
    assert len(network.decoder.heads) == 1


@every
def test_two_stages_supervise_the_full_resolution_only(kind: str) -> None:
    small = {"features": (4, 8), "kernels": ((3, 3, 3),) * 2, "strides": ((1, 1, 1), (2, 2, 2))}
    network = build_network(spec(kind, **small, encoder_blocks=(2, 2), decoder_blocks=(2,)))
    assert [tuple(y.shape) for y in network.forward_deep(image(2, 2, 3, 5, 4))] == [(2, 3, 3, 5, 4)]


@every
@both
def test_same_seed_same_weights_and_no_global_random_numbers(kind: str, dimensions: int) -> None:
    before = torch.random.get_rng_state()
    a, b, c = (
        build_network(
            spec(kind, dimensions), generator=torch.Generator().manual_seed(seed)
        ).state_dict()
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)
    assert all(torch.isfinite(value).all() for value in a.values())


@every
@both
def test_weights_draw_he_normal(kind: str, dimensions: int) -> None:
    network = build_network(
        spec(kind, dimensions, **({} if kind == "unet" else {"features": (32, 64, 64, 64)}))
    )
    convolutions = [
        m
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.Conv3d) and m.weight.numel() > 5000
    ]
    for module in convolutions:
        std = math.sqrt(2 / (1 + 0.01**2) / module.weight[0].numel())
        assert module.weight.std().item() == pytest.approx(std, rel=0.06)
    assert all(
        not m.bias.any()
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.Conv3d) and m.bias is not None
    )


@every
@both
def test_every_parameter_learns(kind: str, dimensions: int) -> None:
    network = build_network(spec(kind, dimensions)).train()
    x, target = (
        image(2, 2, 2, 16, 16),
        torch.randint(0, 3, (2, 2, 16, 16), generator=torch.Generator().manual_seed(1)),
    )
    loss = torch.stack(
        [
            functional.cross_entropy(y, target[:, : y.shape[2], : y.shape[3], : y.shape[4]])
            for y in network.forward_deep(x)
        ]
    ).sum()
    loss.backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@every
@both
def test_a_few_steps_fit_an_asymmetric_shape(kind: str, dimensions: int) -> None:
    network = build_network(spec(kind, dimensions, in_channels=2)).train()
    target = torch.zeros(1, 2, 16, 16, dtype=torch.long)
    target[:, :, 2:9, 3:6], target[:, :, 10:14, 5:15] = 1, 2
    x = torch.cat((target[:, None] * 0.5, image(1, 1, 2, 16, 16)), dim=1) + 0.3 * image(
        1, 2, 2, 16, 16, seed=3
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-2)
    losses = []
    for _ in range(25):
        loss = functional.cross_entropy(network(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.35 * losses[0]


@every
@both
def test_samples_do_not_see_each_other(kind: str, dimensions: int) -> None:
    network = build_network(spec(kind, dimensions)).eval()
    x = image(3, 2, 2, 12, 10)
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]), atol=1e-4, rtol=1e-4)


@every
def test_a_2d_network_answers_a_volume_slice_by_slice(kind: str) -> None:
    network = build_network(spec(kind, 2)).eval()
    x = image(2, 2, 3, 13, 9)
    with torch.inference_mode():
        slices = torch.cat([network(x[:, :, z : z + 1]) for z in range(3)], dim=2)
        torch.testing.assert_close(network(x), slices, atol=1e-4, rtol=1e-4)


@every
@both
def test_memory_order_of_input_and_weights_does_not_matter(kind: str, dimensions: int) -> None:
    network = build_network(spec(kind, dimensions)).eval()
    x = image(2, 2, 4, 12, 8)
    with torch.inference_mode():
        expected = network(x)
        network = network.to(
            memory_format=torch.channels_last_3d if dimensions == 3 else torch.channels_last
        )
        for other in (
            x.contiguous(memory_format=torch.channels_last_3d),
            x.transpose(3, 4).contiguous().transpose(3, 4),
        ):
            torch.testing.assert_close(network(other), expected, atol=1e-4, rtol=1e-4)


@every
@both
def test_bfloat16_autocast_is_near_float32(kind: str, dimensions: int) -> None:
    network = build_network(spec(kind, dimensions)).eval()
    x = image(1, 2, 4, 16, 16)
    with torch.inference_mode():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x)
    assert rough.dtype == torch.bfloat16
    assert ((rough.float() - exact).norm() / exact.norm()).item() < 0.05


@every
@both
def test_weights_make_the_network(kind: str, dimensions: int) -> None:
    x, the_spec = image(1, 2, 2, 9, 8), spec(kind, dimensions)
    a = build_network(the_spec, generator=torch.Generator().manual_seed(1)).eval()
    b = build_network(the_spec, generator=torch.Generator().manual_seed(2)).eval()
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


@every
@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 3, 4, 8, 8), (1, 2, 0, 8, 8), (0, 2, 4, 8, 8)])
def test_wrong_input_is_refused(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        UsageError,
        match=r"network was given an input of shape .*\n.*\(B, 2, Z, Y, X\) with no empty axis",
    ):
        build_network(spec(kind))(torch.zeros(shape))


def test_the_dictionary_is_the_family() -> None:
    kinds = NetworkSpec.model_fields["kind"].annotation.__args__
    assert set(NETWORKS) == set(kinds)
    built = [type(build_network(spec(kind))) for kind in ("unet", "plain_unet", "residual_unet")]
    assert built == [UNet, PlainUNet, ResidualUNet]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ((3, 3, 3), (2, 3, 3), (3, 3, 3), (3, 3, 3))}, "odd sizes"),
        (
            {"strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))},
            r"the first stage's \(1, 1, 1\)",
        ),
        ({"strides": ((1, 1, 1), (0, 2, 2), (2, 2, 2), (2, 2, 2))}, "strides of at least 1"),
        ({"features": (4, 0, 8, 8)}, "at least 1 of each"),
        ({"encoder_blocks": (1, 1, 0, 1)}, "at least 1 of each"),
        ({"decoder_blocks": (0, 1, 1)}, "at least 1 of each"),
        ({"dimensions": 2}, r"\(Z\) of each kernel and stride\nCure: dimensions=3"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(spec("residual_unet").model_copy(update=changes))


def test_the_textbook_takes_no_other_spec() -> None:
    with pytest.raises(UsageError, match="decoder_blocks, deep_supervision are not the textbook's"):
        build_network(spec("unet", decoder_blocks=(1, 2), deep_supervision=True))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1, 2), {"dimensions": 4}, "dimensions 2 or 3"),
        ((0, 2), {}, "0 channels in and 2 out"),
        ((1, 2), {"features": (8,)}, "two or more widths"),
        ((1, 2), {"features": (8, 0)}, "each at least 1"),
    ],
)
def test_impossible_textbook_networks_are_refused(
    arguments: Any, options: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        UNet(*arguments, **options)


def test_the_contract_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract method"):
        Network(1, 1, dimensions=2)


@both
def test_the_textbook_unet_is_the_textbook_s(dimensions: int) -> None:
    """Widths 64..1024, two convolutions with batch norm each, pooling only on the way down.

    Skips concatenated.
    """
    with torch.device("meta"):
        network = UNet(1, 2, dimensions=dimensions)
    taps = 3**dimensions
    widths = [
        (1, 64),
        (64, 128),
        (128, 256),
        (256, 512),
        (512, 1024),
        (1536, 512),
        (768, 256),
        (384, 128),
        (192, 64),
    ]
    convolutions = sum(taps * (a * b + b * b) for a, b in widths)
    norms = sum(2 * 2 * b for _, b in widths)
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms + 64 * 2 + 2
    pools = [
        name for name, m in network.named_modules() if isinstance(m, nn.MaxPool2d | nn.MaxPool3d)
    ]
    assert pools == ["pool"]
    assert not any(name.startswith("up") and "pool" in name for name, _ in network.named_modules())


def test_the_textbook_unet_pools_four_times_and_only_on_the_way_down() -> None:
    network = UNet(1, 2, features=(2, 3, 4, 5, 6)).eval()
    calls: list[str] = []
    network.pool.register_forward_hook(lambda *_: calls.append("pool"))
    for name, modules in (("down", network.down), ("up", network.up)):
        for module in modules:
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    network(image(1, 1, 1, 33, 47))
    assert calls == ["down", *["pool", "down"] * 4, *["up"] * 4]


def test_initialise_resets_batch_norm_statistics() -> None:
    network = build_network(spec("unet", 2)).train()
    network(image(2, 2, 1, 16, 16))
    assert any(
        value.any() for name, value in network.named_buffers() if name.endswith("running_mean")
    )
    initialise(network, torch.Generator().manual_seed(0))
    assert not any(
        value.any() for name, value in network.named_buffers() if name.endswith("running_mean")
    )


@both
@pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
def test_every_stage_has_the_kernels_strides_widths_and_blocks_of_the_spec(
    kind: str, dimensions: int
) -> None:
    the_spec = spec(kind, dimensions)
    network = build_network(the_spec)
    own = slice(3 - dimensions, 3)
    for n, stage in enumerate(network.encoder):
        spatial = [
            m
            for m in stage.modules()
            if isinstance(m, nn.Conv2d | nn.Conv3d) and m.kernel_size != (1,) * dimensions
        ]
        assert len(spatial) == the_spec.encoder_blocks[n] * (2 if kind == "residual_unet" else 1)
        assert {m.kernel_size for m in spatial} == {the_spec.kernels[n][own]}
        assert {m.out_channels for m in spatial} == {the_spec.features[n]}
        assert [m.stride for m in spatial] == [
            the_spec.strides[n][own],
            *[(1,) * dimensions] * (len(spatial) - 1),
        ]
    for n, up, stage in zip((2, 1, 0), network.decoder.up, network.decoder.stages, strict=True):
        assert up.stride == up.kernel_size == the_spec.strides[n + 1][own]
        convolutions = [m for m in stage.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
        assert len(convolutions) == the_spec.decoder_blocks[n]
        assert {m.kernel_size for m in convolutions} == {the_spec.kernels[n][own]}
        assert {m.out_channels for m in convolutions} == {the_spec.features[n]}


@both
def test_the_plain_unet_is_monai_s_dynunet(dimensions: int) -> None:
    """The same weights in MONAI's nnU-Net network give the same logits."""
    from monai.networks.nets import DynUNet

    the_spec = spec(
        "plain_unet",
        dimensions,
        encoder_blocks=(2, 2, 2, 2),
        decoder_blocks=(2, 2, 2),
        deep_supervision=False,
    )
    kernels = [
        (3,) * dimensions
    ] * 4  # MONAI and nnU-Net differ in which kernels the decoder takes: one for all
    strides = [stride[3 - dimensions :] for stride in the_spec.strides]
    the_spec = the_spec.model_copy(update={"kernels": ((3 if dimensions == 3 else 1, 3, 3),) * 4})
    ours = build_network(the_spec).eval()
    theirs = DynUNet(
        dimensions,
        2,
        3,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=the_spec.features,
        norm_name=("INSTANCE", {"affine": True}),
        trans_bias=True,
    ).eval()
    _pour(ours, theirs)
    x = image(1, 2, 1 if dimensions == 2 else 8, 16, 16)
    with torch.inference_mode():
        expected = theirs(x[:, :, 0])[:, :, None] if dimensions == 2 else theirs(x)
        torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=1e-4)


def _pour(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy weights from block to block.

    Encoder, then the decoder from its lowest resolution, then the head.
    """
    blocks = [theirs.input_block, *theirs.downsamples, theirs.bottleneck]
    pairs = list(zip(ours.encoder, blocks, strict=True))
    pairs += list(zip(ours.decoder.stages, [up.conv_block for up in theirs.upsamples], strict=True))
    parts = [
        (up, monai.transp_conv.conv)
        for up, monai in zip(ours.decoder.up, theirs.upsamples, strict=True)
    ]
    parts.append((ours.decoder.heads[0], theirs.output_block.conv.conv))
    for stage, block in pairs:
        for mine, convolution, norm in zip(
            stage, (block.conv1, block.conv2), (block.norm1, block.norm2), strict=True
        ):
            parts += [(mine[0], convolution.conv), (mine[1], norm)]
    for source, target in parts:
        target.load_state_dict(source.state_dict())
