"""Losses: worked examples, MONAI and torch as oracles, ignored voxels, empty cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss
from torch.nn import functional

from hilum.errors import UsageError
from hilum.plan.segmentation import LossSpec
from hilum.targets import IGNORE, LOSSES, VoxelLoss, build_loss, deep_supervision_loss
from hilum.volume import LabelTable, Region

K = 4
SHAPE = (3, 5, 4)
EXCLUSIVE = LabelTable.from_names({1: "a", 2: "b", 5: "c"}, ignore=9)
REGIONS = EXCLUSIVE.model_copy(
    update={
        "regions": tuple(
            Region(name=n, labels=ids)
            for n, ids in (("all", (1, 2, 5)), ("two", (2, 5)), ("one", (5,)), ("b", (2,)))
        ),
        "decode_ids": (1, 2, 5, 2),
    }
)
every = pytest.mark.parametrize("kind", sorted(LOSSES))
tables = pytest.mark.parametrize("table", [EXCLUSIVE, REGIONS], ids=["exclusive", "regions"])
batched = pytest.mark.parametrize("batch", [False, True])


def logits(*, batch: int = 3, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn((batch, K, *SHAPE), generator=torch.Generator().manual_seed(seed))


def target(table: LabelTable, *, batch: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if table.exclusive:
        return torch.randint(0, K, (batch, 1, *SHAPE), generator=generator, dtype=torch.uint8)
    return torch.randint(0, 2, (batch, K, *SHAPE), generator=generator, dtype=torch.uint8)


def loss_of(kind: str, table: LabelTable, **options: Any) -> VoxelLoss:
    return build_loss(LossSpec(kind=kind, **options), table)


def one_region() -> LabelTable:
    table = LabelTable.from_names({1: "organ"})
    return table.model_copy(
        update={"regions": (Region(name="organ", labels=(1,)),), "decode_ids": (1,)}
    )


def from_probabilities(rows: list[list[float]]) -> torch.Tensor:
    return torch.logit(torch.tensor(rows))[None, None, None]  # (1, 1, 1, Y, X)


# ---------------------------------------------------------------- worked examples


def test_dice_of_the_textbook() -> None:
    loss = loss_of("dice", one_region())
    value = loss(from_probabilities([[0.8, 0.6], [0.4, 0.2]]), torch.eye(2)[None, None, None])
    assert value.item() == pytest.approx(0.5, abs=1e-5)


def test_binary_cross_entropy_of_the_textbook() -> None:
    """-(ln 0.8 + ln 0.7) / 2.

    The 0.164 of a widespread text does not come of the natural logarithm.
    """
    loss = loss_of("cross_entropy", one_region())
    value = loss(from_probabilities([[0.8, 0.3]]), torch.tensor([[[[[1.0, 0.0]]]]]))
    assert value.item() == pytest.approx(0.290, abs=5e-4)
    assert value.item() == pytest.approx(-(math.log(0.8) + math.log(0.7)) / 2, abs=1e-6)


def test_batch_dice_by_hand() -> None:
    """Sample 1: 2*1/(1+1) = 1; sample 2: 2*0/(0+3) = 0.

    Mean 1/2; over the batch 2*1/(1+4) = 2/5.
    """
    x = (
        torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
        .mul(80)
        .sub(40)[:, None, None, None]
    )
    y = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])[:, None, None, None]
    assert loss_of("dice", one_region())(x, y).item() == pytest.approx(0.5, abs=1e-4)
    assert loss_of("dice", one_region(), batch_dice=True)(x, y).item() == pytest.approx(
        0.6, abs=1e-4
    )


def test_tversky_by_hand() -> None:
    """TP 1, FP 1, FN 2: 1 - 1 / (1 + 0.2 * 1 + 0.8 * 2) = 9/14."""
    x = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]).mul(80).sub(40)[None, None, None, None]
    y = torch.tensor([1, 0, 1, 1, 0])[None, None, None, None]
    loss = loss_of("tversky", one_region(), tversky_alpha=0.2, tversky_beta=0.8)
    assert loss(x, y).item() == pytest.approx(9 / 14, abs=1e-4)


# ---------------------------------------------------------------- oracles


def monai_options(table: LabelTable) -> dict[str, Any]:
    return (
        {"softmax": True, "to_onehot_y": True, "include_background": False}
        if table.exclusive
        else {"sigmoid": True}
    )


@tables
@batched
def test_dice_is_monai_s(table: LabelTable, batch: bool) -> None:
    expected = DiceLoss(batch=batch, **monai_options(table))(logits(), target(table).long())
    torch.testing.assert_close(
        loss_of("dice", table, batch_dice=batch)(logits(), target(table)), expected
    )


@tables
@batched
def test_tversky_is_monai_s(table: LabelTable, batch: bool) -> None:
    expected = TverskyLoss(alpha=0.2, beta=0.9, batch=batch, **monai_options(table))(
        logits(), target(table).long()
    )
    ours = loss_of("tversky", table, batch_dice=batch, tversky_alpha=0.2, tversky_beta=0.9)
    torch.testing.assert_close(ours(logits(), target(table)), expected)


@tables
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
def test_focal_is_monai_s(table: LabelTable, gamma: float) -> None:
    theirs = FocalLoss(gamma=gamma, use_softmax=table.exclusive, to_onehot_y=table.exclusive)
    expected = theirs(logits(), target(table).long()) * (
        K if table.exclusive else 1
    )  # MONAI's mean counts the K - 1 zeros
    torch.testing.assert_close(
        loss_of("focal", table, focal_gamma=gamma)(logits(), target(table)), expected
    )


@tables
def test_dice_ce_is_monai_s(table: LabelTable) -> None:
    if table.exclusive:
        expected = DiceCELoss(**monai_options(table))(logits(), target(table).long())
    else:
        binary = functional.binary_cross_entropy_with_logits(logits(), target(table).float())
        expected = DiceLoss(sigmoid=True)(logits(), target(table)) + binary
    torch.testing.assert_close(loss_of("dice_ce", table)(logits(), target(table)), expected)


@pytest.mark.parametrize("weights", [None, (0.1, 1.0, 2.0, 0.0)])
def test_cross_entropy_is_torch_s_with_weights_and_ignored_voxels(
    weights: tuple[float, ...] | None,
) -> None:
    y = target(EXCLUSIVE)
    y[:, :, 0, :2] = IGNORE
    expected = functional.cross_entropy(
        logits(),
        y[:, 0].long(),
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=IGNORE,
    )
    torch.testing.assert_close(
        loss_of("cross_entropy", EXCLUSIVE, class_weights=weights)(logits(), y), expected
    )


def test_binary_cross_entropy_with_weights() -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 0.25])
    each = functional.binary_cross_entropy_with_logits(
        logits(), target(REGIONS).float(), reduction="none"
    ).mean((0, 2, 3, 4))
    loss = loss_of("cross_entropy", REGIONS, class_weights=tuple(weights.tolist()))
    torch.testing.assert_close(
        loss(logits(), target(REGIONS)), (each * weights).sum() / weights.sum()
    )


@tables
def test_dice_with_weights_is_the_weighted_mean(table: LabelTable) -> None:
    weights = torch.tensor([7.0, 1.0, 0.5, 2.0])
    each = DiceLoss(reduction="none", **monai_options(table))(
        logits(), target(table).long()
    ).flatten(1)  # (B, K')
    weights_used = weights[1:] if table.exclusive else weights
    expected = ((each * weights_used).sum(1) / weights_used.sum()).mean()
    loss = loss_of("dice", table, class_weights=tuple(weights.tolist()))
    torch.testing.assert_close(loss(logits(), target(table)), expected)


def test_weights_of_the_background_alone_leave_dice_nothing() -> None:
    assert (
        loss_of("dice", EXCLUSIVE, class_weights=(1.0, 0.0, 0.0, 0.0))(
            logits(), target(EXCLUSIVE)
        ).item()
        == 0
    )


def test_focal_without_gamma_is_cross_entropy() -> None:
    for table in (EXCLUSIVE, REGIONS):
        weights = (0.5, 1.0, 2.0, 3.0)
        focal = loss_of("focal", table, focal_gamma=0.0, class_weights=weights)
        plain = loss_of("cross_entropy", table, class_weights=weights)
        torch.testing.assert_close(focal(logits(), target(table)), plain(logits(), target(table)))


# ---------------------------------------------------------------- what all of them hold


@every
@tables
@batched
def test_ignored_voxels_change_nothing(kind: str, table: LabelTable, batch: bool) -> None:
    loss, y, x = loss_of(kind, table, batch_dice=batch), target(table), logits().requires_grad_()
    y[:, :, 1] = IGNORE
    y[0, :, :, 0, :3] = IGNORE
    value = loss(x, y)
    value.backward()
    ignored = (y == IGNORE).any(dim=1, keepdim=True).expand_as(x)
    assert x.grad is not None
    assert not x.grad[ignored].any()
    assert x.grad[~ignored].any()
    other = torch.where(ignored, logits(seed=7), x.detach())
    torch.testing.assert_close(loss(other, y), value.detach())


@every
@tables
def test_ignored_slices_are_as_if_they_were_not_there(kind: str, table: LabelTable) -> None:
    loss, x, y = loss_of(kind, table), logits(), target(table)
    y[:, :, 1:] = IGNORE
    torch.testing.assert_close(loss(x, y), loss(x[:, :, :1], y[:, :, :1]))


@every
@tables
def test_nothing_annotated_costs_nothing(kind: str, table: LabelTable) -> None:
    x = logits().requires_grad_()
    value = loss_of(kind, table)(x, torch.full_like(target(table), IGNORE))
    value.backward()
    assert value.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


@every
@tables
@batched
def test_a_perfect_answer_costs_nothing_even_without_any_foreground(
    kind: str, table: LabelTable, batch: bool
) -> None:
    loss = loss_of(kind, table, batch_dice=batch)
    for y in (target(table), torch.zeros_like(target(table))):
        truth = functional.one_hot(y[:, 0].long(), K).movedim(-1, 1) if table.exclusive else y
        assert loss(truth.float() * 80 - 40, y).item() == pytest.approx(0, abs=1e-5)


@tables
@pytest.mark.parametrize("kind", ["dice", "tversky"])
def test_foreground_where_there_is_none_costs_nearly_all(kind: str, table: LabelTable) -> None:
    y = torch.zeros_like(target(table))
    x = torch.full((3, K, *SHAPE), -40.0)
    x[:, 1:] = 40.0 if not table.exclusive else 1.0
    if not table.exclusive:
        x[:, 0] = 40.0
    assert loss_of(kind, table)(x, y).item() == pytest.approx(1, abs=1e-3)


@every
@tables
@settings(deadline=None, max_examples=10, derandomize=True)
@given(axis=st.integers(2, 4), seed=st.integers(0, 100))
def test_mirroring_and_sample_order_change_nothing(
    kind: str, table: LabelTable, axis: int, seed: int
) -> None:
    loss, x, y = loss_of(kind, table), logits(seed=seed), target(table, seed=seed + 1)
    value = loss(x, y)
    torch.testing.assert_close(loss(x.flip(axis), y.flip(axis)), value)
    torch.testing.assert_close(loss(x.flip(0), y.flip(0)), value)


@every
@tables
def test_gradients_point_the_way_down(kind: str, table: LabelTable) -> None:
    loss, y, x = loss_of(kind, table), target(table), logits().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    step = 1e-2 * gradient / gradient.norm()
    slope = (loss(x + step, y) - loss(x - step, y)).item() / 2e-2
    assert slope == pytest.approx(gradient.norm().item(), rel=0.02)


@every
@tables
def test_the_loss_is_float32_whatever_comes_in(kind: str, table: LabelTable) -> None:
    loss, y = loss_of(kind, table), target(table)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits().bfloat16(), y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits().bfloat16().float(), y))
    torch.testing.assert_close(
        loss(logits(), y.float()), loss(logits(), y)
    )  # so is the target's type
    assert torch.isfinite(loss(logits() * 1e4, y))


@every
@tables
def test_a_loss_has_no_state_to_save(kind: str, table: LabelTable) -> None:
    loss = loss_of(kind, table, class_weights=(1.0, 2.0, 3.0, 4.0))
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []


def test_the_background_of_a_lonely_output_counts() -> None:
    table = LabelTable.from_names({})
    y = torch.zeros(2, 1, *SHAPE, dtype=torch.uint8)
    assert loss_of("dice_ce", table)(torch.zeros(2, 1, *SHAPE), y).item() == pytest.approx(
        0, abs=1e-6
    )


# ---------------------------------------------------------------- what is refused


@every
@tables
@pytest.mark.parametrize("wrong", ["channels", "outputs", "size", "axes"])
def test_shapes_that_do_not_fit_are_refused(kind: str, table: LabelTable, wrong: str) -> None:
    x, y = logits(), target(table)
    x, y = {
        "channels": (x, y[:, [0, 0]]),
        "outputs": (x[:, :3], y),
        "size": (x, y[..., 1:]),
        "axes": (x[:, :, 0], y[:, :, 0]),
    }[wrong]
    with pytest.raises(
        UsageError, match=rf"the logits have shape .*, the target .*\n.*\(B, {K}, Z, Y, X\)"
    ):
        loss_of(kind, table)(x, y)


@every
@pytest.mark.parametrize(
    "weights",
    [
        (1.0,),
        (1.0, -1.0, 1.0, 1.0),
        (0.0,) * 4,
        (1.0, math.nan, 1.0, 1.0),
        (math.inf, 1.0, 1.0, 1.0),
    ],
)
def test_impossible_class_weights_are_refused(kind: str, weights: tuple[float, ...]) -> None:
    with pytest.raises(
        UsageError, match="4 finite weights of at least 0, one for each output, not all 0"
    ):
        loss_of(kind, EXCLUSIVE, class_weights=weights)


@pytest.mark.parametrize(("alpha", "beta"), [(-0.1, 1.0), (1.0, -0.1), (0.0, 0.0), (math.nan, 1.0)])
def test_impossible_tversky_weights_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(UsageError, match=r"tversky_alpha=.* and tversky_beta"):
        loss_of("tversky", EXCLUSIVE, tversky_alpha=alpha, tversky_beta=beta)


@pytest.mark.parametrize("gamma", [-1.0, math.nan])
def test_impossible_gamma_is_refused(gamma: float) -> None:
    with pytest.raises(UsageError, match="focal_gamma"):
        loss_of("focal", EXCLUSIVE, focal_gamma=gamma)


# ---------------------------------------------------------------- deep supervision


def test_one_output_is_its_own_loss() -> None:
    loss = loss_of("dice_ce", EXCLUSIVE)
    torch.testing.assert_close(
        deep_supervision_loss(loss, (logits(),), target(EXCLUSIVE)),
        loss(logits(), target(EXCLUSIVE)),
    )


def test_weights_halve_and_sum_to_one() -> None:
    loss, x, y = loss_of("cross_entropy", EXCLUSIVE), logits(), target(EXCLUSIVE)
    half = x[:, :, ::2, ::2, ::2]
    total = deep_supervision_loss(loss, (x, half, x), y)
    nearest = y[:, :, [0, 2]][:, :, :, [0, 2, 4]][
        ..., [1, 3]
    ]  # centres of 2 of 3, 3 of 5 and 2 of 4 voxels
    expected = (4 * loss(x, y) + 2 * loss(half, nearest) + loss(x, y)) / 7
    torch.testing.assert_close(total, expected)


@tables
def test_lower_targets_are_labels_still_and_ignored_voxels_too(table: LabelTable) -> None:
    y = target(table)
    y[:, :, :, :, 2:] = IGNORE
    small = logits()[:, :, :2, :3, :2].requires_grad_()
    deep_supervision_loss(loss_of("dice_ce", table), (logits(), small), y).backward()
    assert small.grad is None or not small.grad[..., 1:].any()


def test_no_output_is_refused() -> None:
    with pytest.raises(UsageError, match="no outputs to supervise"):
        deep_supervision_loss(loss_of("dice", EXCLUSIVE), (), target(EXCLUSIVE))
