"""The contract that every classifier keeps."""

import re
from typing import Any

import pytest
import torch
from classifier_toys import SPECS, classifier_spec, image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from hilum.errors import UsageError
from hilum.networks import CLASSIFIERS, ClassifierNetwork, build_network
from hilum.plan.plan import ClassifierSpec

every = pytest.mark.parametrize("name", SPECS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_dictionary_is_the_family():
    assert set(CLASSIFIERS) == set(ClassifierSpec.model_fields["kind"].annotation.__args__)
    assert {spec.kind for spec in SPECS.values()} == set(CLASSIFIERS)


@every
@pytest.mark.parametrize("size", [(1, 33, 47), (3, 40, 33), (6, 32, 32)])
def test_any_size_becomes_maps_features_and_logits(name: str, size: tuple[int, int, int]) -> None:
    network = build_network(SPECS[name]).eval()
    x = image(2, 2, *size)
    with torch.inference_mode():
        maps = network.maps(x)
        features = network.pooled(maps)
        logits = network(x)
        torch.testing.assert_close(network.classify(maps), logits, rtol=0, atol=0)
        torch.testing.assert_close(network.head(network.features(x)), logits, rtol=0, atol=0)
    assert maps.ndim == 5
    assert maps.shape[0] == 2
    assert features.shape == (2, network.head[-1].in_features)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert network.on_image(maps[:, 0], size).shape == (2, *size)


@every
def test_samples_do_not_see_each_other(name: str) -> None:
    network = build_network(SPECS[name]).eval()
    x = image(3, 2, 2, 33, 40)
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]), atol=1e-4, rtol=1e-4)


@every
def test_same_seed_same_weights_and_no_global_random_numbers(name: str) -> None:
    before = torch.random.get_rng_state()
    a, b, c = (
        build_network(SPECS[name], generator=seeded(seed)).state_dict() for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)
    assert all(torch.isfinite(value).all() for value in a.values())


def test_a_generator_moves_on_from_network_to_network():
    generator = seeded(0)
    a, b = (build_network(SPECS["resnet3d"], generator=generator).state_dict() for _ in range(2))
    assert not torch.equal(a["stem.0.weight"], b["stem.0.weight"])


@every
def test_groups_are_all_parameters_from_input_to_head(name: str) -> None:
    network = build_network(SPECS[name])
    groups = network.groups()
    numbers = [id(parameter) for group in groups for parameter in group]
    assert sorted(numbers) == sorted(id(parameter) for parameter in network.parameters())
    assert len(groups) >= 5
    assert all(groups)
    assert {id(parameter) for parameter in network.head.parameters()} <= {
        id(parameter) for parameter in groups[-1]
    }
    first = next(
        parameter for parameter in network.parameters() if parameter.ndim >= 4
    )  # the first convolution sees the channels
    assert first.shape[1] == 2
    assert id(first) in {id(parameter) for parameter in groups[0]}


@every
@pytest.mark.parametrize("n", [1, 2, None])
def test_gradients_reach_what_is_released_and_nothing_else(name: str, n: int | None) -> None:
    network = build_network(SPECS[name]).eval()
    with torch.no_grad():
        for (
            parameter
        ) in network.parameters():  # timm begins some with 0, behind which nothing would be heard
            parameter.add_(torch.randn(parameter.shape, generator=seeded(1)), alpha=0.02)
    network.release(n)
    network(image(2, 2, 2, 33, 40)).square().sum().backward()
    groups = network.groups()
    frozen = 0 if n is None else len(groups) - n
    assert not [
        p.shape for group in groups[:frozen] for p in group if p.requires_grad or p.grad is not None
    ]
    silent = [
        p.shape for group in groups[frozen:] for p in group if p.grad is None or not p.grad.any()
    ]
    assert silent == []


@every
def test_what_is_frozen_keeps_its_statistics_and_drops_nothing(name: str) -> None:
    network = build_network(SPECS[name].model_copy(update={"dropout": 0.5})).eval()
    x = image(2, 2, 2, 33, 40)
    expected = network.features(x)
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    network.release(1)
    network.train()
    features = network.features(x)
    torch.testing.assert_close(features, expected)  # as in evaluation mode
    assert all(torch.equal(value, buffers[key]) for key, value in network.named_buffers())
    assert network.head.training
    assert not network.head[0](torch.ones(9, 9)).all()  # its dropout works
    network.release(0)
    assert not network.head.training
    network.release(None)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["resnet", "inflated lite0", "densenet"])
def test_what_is_released_renews_its_statistics(name: str) -> None:
    network = build_network(SPECS[name])
    network.release(3)
    network.train()
    before = {key: value.clone() for key, value in network.named_buffers()}
    network(image(2, 2, 4, 70, 70))
    changed = [key for key, value in network.named_buffers() if not torch.equal(value, before[key])]
    assert 0 < len(changed) < len(before) - 2
    released = {id(p) for group in network.groups()[-3:] for p in group}
    owners = {key.rpartition(".")[0] for key in changed}
    assert {
        id(p) for owner in owners for p in network.get_submodule(owner).parameters()
    } <= released


@every
@pytest.mark.parametrize("n", [-1, 1000])
def test_more_groups_than_there_are_cannot_be_released(name: str, n: int) -> None:
    with pytest.raises(
        UsageError, match=rf"{n} groups cannot be released\nNeeded: 0 to \d+, or None"
    ):
        build_network(SPECS[name]).release(n)


@every
def test_weights_make_the_network(name: str, tmp_path: Any) -> None:
    x = image(1, 2, 2, 33, 40)
    a, b = (build_network(SPECS[name], generator=seeded(seed)).eval() for seed in (1, 2))
    if hasattr(a, "encoder"):
        a.encoder.expect((0.5, 0.4, 0.3), (0.5, 0.6, 0.7))  # the rescaling travels with the weights
    save_file(a.state_dict(), tmp_path / "weights.safetensors")
    b.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(a(x), b(x))


@every
def test_bfloat16_autocast_is_near_float32(name: str) -> None:
    network = build_network(SPECS[name]).eval()
    x = image(2, 2, 2, 40, 40)
    with torch.inference_mode():
        exact = network.features(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network.features(x)
            assert network(x).dtype == torch.bfloat16
    assert ((rough.float() - exact).norm() / exact.norm()).item() < 0.05


@every
def test_memory_order_of_input_and_weights_does_not_matter(name: str) -> None:
    network = build_network(SPECS[name]).eval()
    x = image(2, 2, 2, 33, 40)
    with torch.inference_mode():
        expected = network(x)
        for order in (torch.channels_last, torch.channels_last_3d):
            for parameter in network.parameters():
                if parameter.ndim == (4 if order is torch.channels_last else 5):
                    parameter.data = parameter.data.contiguous(memory_format=order)
        for other in (
            x.contiguous(memory_format=torch.channels_last_3d),
            x.transpose(3, 4).contiguous().transpose(3, 4),
        ):
            torch.testing.assert_close(network(other), expected, atol=1e-4, rtol=1e-4)


@every
def test_a_few_steps_tell_two_classes_apart(name: str) -> None:
    network = build_network(
        SPECS[name].model_copy(update={"out_channels": 2, "dropout": 0.0})
    ).train()
    x, target = 0.5 * image(4, 2, 2, 32, 32), torch.tensor([0, 1] * 2)
    x[target == 1, :, :, 8:20, 10:14] += 2
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2 if name == "resnet3d" else 1e-3)
    losses = []
    for _ in range(10):
        loss = functional.cross_entropy(network(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@every
@pytest.mark.parametrize(
    "shape", [(1, 2, 32, 32), (1, 3, 2, 32, 32), (1, 2, 0, 32, 32), (0, 2, 2, 32, 32)]
)
def test_wrong_input_is_refused(name: str, shape: tuple[int, ...]) -> None:
    picture = r"\nCure: a 2D picture has Z = 1: image\[:, :, None\]$" if len(shape) == 4 else "$"
    with pytest.raises(
        UsageError,
        match=r"network was given an input of shape .*\n.*\(B, 2, Z, Y, X\) with no empty axis"
        + picture,
    ):
        build_network(SPECS[name])(torch.zeros(shape))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            classifier_spec("inflated", dimensions=2),
            r"kind inflated cannot have 2 dimensions\nNeeded: dimensions=3\nCure: kind='backbone'",
        ),
        (classifier_spec("slices", dimensions=2), "kind slices cannot have 2 dimensions"),
        (classifier_spec("resnet3d", dimensions=2), "kind resnet3d cannot have 2 dimensions"),
        (classifier_spec(backbone=""), "backbone=''\nNeeded: the name of a timm backbone"),
        (classifier_spec("resnet3d", backbone="resnet18"), "'resnet18'\nNeeded: no backbone"),
        (classifier_spec("resnet3d", features=(4, 8)), "one entry a stage in both"),
        (classifier_spec("resnet3d", features=(), blocks=()), "one entry a stage in both"),
        (classifier_spec("resnet3d", features=(4, 0, 4)), "each at least 1"),
        (classifier_spec("resnet3d", blocks=(1, 0, 1)), "each at least 1"),
    ],
)
def test_impossible_specs_are_refused(spec: ClassifierSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(spec)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet5O", "did you mean resnet50"),
        ("qqqq", "timm.list_models"),
        (".in1k", "timm.list_models"),
        ("hf-hub:timm/resnet18", "the name of a network in timm"),
        ("resnet18.nothing", "one of .*resnet18.a1_in1k"),
    ],
)
def test_unknown_backbones_are_refused(backbone: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"backbone {backbone!r}") + f"(?s:.*){message}"):
        build_network(classifier_spec(backbone=backbone))


def test_a_backbone_may_be_named_with_the_tag_of_its_weights():
    a, b = (
        build_network(classifier_spec(backbone=name)).state_dict()
        for name in ("resnet18", "resnet18.a1_in1k")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_contract_is_abstract():
    with pytest.raises(TypeError, match="abstract method"):
        ClassifierNetwork(SPECS["resnet"])


def test_the_3d_resnet_has_the_stages_of_its_spec():
    network = build_network(classifier_spec("resnet3d", features=(8, 12, 7), blocks=(2, 1, 3)))
    assert [len(stage) for stage in network.stages] == [2, 1, 3]
    assert [
        m.out_channels
        for m in network.modules()
        if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)
    ] == [
        *([8] * 5),
        *([12] * 2),
        *([7] * 6),
    ]
    assert {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)} == {8, 4, 1}
    assert network.maps(image(1, 2, 1, 2, 33)).shape == (
        1,
        7,
        1,
        1,
        5,
    )  # strides 2, 1, 2, 2 round up
