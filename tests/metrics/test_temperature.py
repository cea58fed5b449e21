"""Temperature: a known one is found again, convexity, where none can be fitted, links by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from hilum.errors import UsageError
from hilum.metrics import apply_temperature, auroc, fit_temperature, log_loss, multiclass_log_loss

KINDS = ["exclusive", "ordinal", "multilabel"]


def honest(kind: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 3) whose probabilities are right, and cases drawn from them."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 3))
    if kind == "multilabel":
        return logits, random.random((n, 3)) < expit(logits)
    if kind == "ordinal":
        logits = np.sort(logits, axis=1)[:, ::-1]
    probabilities = apply_temperature(logits, kind=kind)
    return logits, (probabilities.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(kind: str, true: float) -> None:
    logits, targets = honest(kind, 20_000)
    fitted = fit_temperature(logits * true, targets, kind=kind)
    assert fitted.value == pytest.approx(true, rel=0.03)
    assert fitted.loss_after <= fitted.loss_before
    assert fitted.cases == 20_000


def test_the_losses_are_log_losses_and_the_reason_says_them() -> None:
    logits, targets = honest("exclusive", 500)
    fitted = fit_temperature(3 * logits, targets)
    before, after = (
        multiclass_log_loss(apply_temperature(3 * logits, t), targets) for t in (1, fitted.value)
    )
    assert (fitted.loss_before, fitted.loss_after) == pytest.approx((before, after), rel=1e-4)
    assert after < before
    assert (
        fitted.reason
        == f"smallest log loss of 500 held-out cases, {fitted.loss_before:.4f} before and"
        f" {fitted.loss_after:.4f} after"
    )
    logits, targets = honest("multilabel", 500)
    fitted = fit_temperature(3 * logits, targets, kind="multilabel")
    each = [
        log_loss(
            apply_temperature(3 * logits, fitted.value, kind="multilabel")[:, k], targets[:, k]
        )
        for k in range(3)
    ]
    assert fitted.loss_after == pytest.approx(sum(each), rel=1e-4)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(KINDS), st.floats(0.2, 5))
def test_no_temperature_is_better(seed: int, kind: str, scale: float) -> None:
    logits, targets = honest(kind, 40, seed)
    fitted = fit_temperature(scale * logits, targets, kind=kind)
    assert 0.05 <= fitted.value <= 20
    if "smallest" in fitted.reason:
        for factor in (0.8, 0.97, 1.03, 1.25):
            elsewhere = fit_temperature(
                scale * logits / (fitted.value * factor), targets, kind=kind
            ).loss_before
            assert fitted.loss_after <= elsewhere + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_bias_is_found_again_with_the_temperature(kind: str) -> None:
    """As `honest`, but sharpened after a shift, as training on other frequencies does."""
    logits, targets = honest(kind, 40_000)
    shift = np.array([1.5, 0.3, -1.8])
    fitted = fit_temperature((logits - shift) * 1.6, targets, kind=kind, biased=True)
    assert fitted.value == pytest.approx(1.6, rel=0.05)
    np.testing.assert_allclose(fitted.bias, shift, atol=0.1)
    said = apply_temperature((logits - shift) * 1.6, fitted.value, kind=kind, bias=fitted.bias)
    expected = targets.mean(axis=0) if kind == "multilabel" else np.bincount(targets) / len(targets)
    np.testing.assert_allclose(said.mean(axis=0), expected, atol=1e-3)
    assert fitted.loss_after < fitted.loss_before
    assert "a bias for each output" in fitted.reason
    assert fit_temperature(logits, targets, kind=kind).bias == ()


def test_a_bias_calls_nothing_impossible_and_stays_finite() -> None:
    """One of three classes has no held-out case: half a case of 101.5.

    Two that are told apart keep temperature 1.
    """
    random = np.random.default_rng(0)
    logits, targets = random.normal(0, 1, (100, 3)), random.integers(0, 2, 100)
    fitted = fit_temperature(logits, targets, biased=True)
    said = apply_temperature(logits, fitted.value, bias=fitted.bias).mean(axis=0)
    np.testing.assert_allclose(said, (np.bincount(targets, minlength=3) + 0.5) / 101.5, atol=1e-4)
    apart = fit_temperature(np.eye(2)[targets] * 4 + [3.0, 0.0], targets, biased=True)
    assert apart.value == 1.0
    assert "every class is told apart" in apart.reason
    assert np.abs(apart.bias).max() < 5
    assert fit_temperature(logits[:9], targets[:9], biased=True).bias == ()


def told_apart(
    kind: str, margin: float, jitter: float, n: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, 3) that are right in every case, by half the margin or more, and the targets."""
    random, which = np.random.default_rng(1), np.arange(n) % 3
    flags = {
        "exclusive": np.eye(3)[which],
        "ordinal": (np.arange(n) % 4)[:, None] > np.arange(3),
        "multilabel": np.stack([which == 0, which > 0, np.arange(n) % 5 == 0], axis=1),
    }[kind]
    logits = (flags - 0.5) * margin * (1 + jitter * random.random((n, 3)))
    if kind == "exclusive":
        logits = np.where(flags > 0, np.abs(logits), -margin / 2)
    return logits, {"exclusive": which, "ordinal": np.arange(n) % 4, "multilabel": flags > 0}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.2, 1, 3, 8, 40])
@pytest.mark.parametrize("jitter", [0.0, 2.0])
@pytest.mark.parametrize("shift", [0.0, 7.0])
def test_cases_without_an_error_leave_it_at_one(
    kind: str, margin: float, jitter: float, shift: float
) -> None:
    """Wherever a search would stop on the floor of the loss.

    With biases it is so wherever the right ones leave no error.
    """
    logits, targets = told_apart(kind, margin, jitter)
    logits = logits + shift * np.array([1.0, 0.5, -1.0])
    biased = fit_temperature(logits, targets, kind=kind, biased=True)
    assert biased.value == 1
    assert "every class is told apart" in biased.reason
    assert np.abs(biased.bias).max() < 10 + margin * (1 + jitter)
    if shift == 0:
        plain = fit_temperature(logits, targets, kind=kind)
        assert (plain.value, plain.loss_after) == (1, plain.loss_before)
        assert "every class is told apart" in plain.reason
    errs = logits.copy()
    errs[:10] = errs[10:20] if kind == "multilabel" else -errs[:10]
    for bias in (False, True):
        assert "told apart" not in fit_temperature(errs, targets, kind=kind, biased=bias).reason


@pytest.mark.parametrize("biased", [False, True])
def test_logits_of_any_network_that_makes_no_error_leave_it_at_one(biased: bool) -> None:
    random, targets = np.random.default_rng(0), np.arange(60) % 2
    for _ in range(20):
        margin = np.maximum(random.normal(3, 1.2, 60), 0.01) * (2 * targets - 1) / 2
        assert (
            fit_temperature(np.stack([-margin, margin], axis=1), targets, biased=biased).value == 1
        )


@pytest.mark.parametrize("kind", KINDS)
def test_logits_that_are_the_same_for_all_tell_nothing_apart(kind: str) -> None:
    targets = (
        np.arange(60)[:, None] % [2, 3, 5] == 0
        if kind == "multilabel"
        else np.arange(60) % 4 % (3 + (kind == "ordinal"))
    )
    for logits in ([0.0, 0.0, 0.0], [1.0, 0.0, -1.0]):
        for biased in (False, True):
            fitted = fit_temperature(np.tile(logits, (60, 1)), targets, kind=kind, biased=biased)
            assert "told apart" not in fitted.reason


def test_biases_that_each_pair_of_classes_allows_but_not_all_together() -> None:
    """Any two of three classes could be told apart by a shift.

    Round the three the shifts would sum to more than nothing.
    """
    ahead = np.array(
        [[0.0, 1.0, -2.0], [-2.0, 0.0, 1.0], [1.0, -2.0, 0.0]]
    )  # of class j, how far each other is above it
    which = np.arange(60) % 3
    assert "told apart" not in fit_temperature(ahead[which], which, biased=True).reason
    assert (
        "told apart"
        in fit_temperature(
            ahead[which] - np.array([0, 3, 3]) * (which == 0)[:, None], which, biased=True
        ).reason
    )


def test_a_bias_must_fit() -> None:
    with pytest.raises(UsageError, match=r"the bias has shape \(2,\)[\s\S]*3 finite numbers"):
        apply_temperature(np.zeros((1, 3)), bias=(1.0, 2.0))


def test_a_temperature_changes_no_order() -> None:
    logits, targets = honest("multilabel", 50)
    soft = apply_temperature(logits, 3.3, kind="multilabel")
    assert auroc(soft[:, 0], targets[:, 0]) == auroc(logits[:, 0], targets[:, 0])
    logits, _ = honest("exclusive", 50)
    assert (apply_temperature(logits, 3.3).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("logits", "targets", "reason"),
    [
        (np.zeros((0, 2)), [], "0 held-out cases, 20 are needed"),
        (np.ones((19, 2)), [0, 1] * 9 + [0], "19 held-out cases, 20 are needed"),
        (np.tile([0.0, 3.0], (30, 1)), [1] * 30, "all held-out cases are of one class"),
        (np.eye(2)[[0, 1] * 15], [0, 1] * 15, "every class is told apart"),
        (np.zeros((30, 2)), [0, 1] * 15, "1 is the best temperature for 30"),
    ],
)
def test_where_nothing_can_be_fitted_it_is_one_and_says_why(
    logits: np.ndarray, targets: list[int], reason: str
) -> None:
    fitted = fit_temperature(logits, targets)
    assert fitted.value == 1
    assert reason in fitted.reason
    np.testing.assert_equal(fitted.loss_after, fitted.loss_before)


def test_one_class_of_grades_and_of_findings() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 2))
    assert "one class" in fit_temperature(logits, [1] * 30, kind="ordinal").reason
    assert (
        "one class"
        in fit_temperature(logits, np.tile([True, False], (30, 1)), kind="multilabel").reason
    )
    findings = np.stack([np.arange(30) % 2 == 0, np.zeros(30, dtype=bool)], axis=1)
    assert "one class" not in fit_temperature(logits, findings, kind="multilabel").reason


def test_logits_that_say_the_opposite_are_made_to_say_nothing() -> None:
    logits = 5 * np.eye(2)[[0, 1] * 15]
    fitted = fit_temperature(logits, [1, 0] * 15)
    assert fitted.value == pytest.approx(20, rel=0.01)
    assert "say little" in fitted.reason


def test_links_by_hand() -> None:
    np.testing.assert_allclose(
        apply_temperature([[1.0, 2.0, 4.0]], 2), softmax([[0.5, 1, 2]], axis=1)
    )
    np.testing.assert_allclose(
        apply_temperature([[2.0, -4.0]], 2, kind="multilabel"), expit([[1, -2]])
    )
    falling = apply_temperature([[2.0, -4.0]], 2, kind="ordinal")
    np.testing.assert_allclose(falling, [[1 - expit(1), expit(1) - expit(-2), expit(-2)]])
    np.testing.assert_allclose(
        apply_temperature([[-1.0, 3.0]], kind="ordinal"), [[1 - expit(-1), 0, expit(-1)]]
    )


@pytest.mark.parametrize("kind", ["exclusive", "ordinal"])
def test_probabilities_sum_to_one(kind: str) -> None:
    probabilities = apply_temperature(np.random.default_rng(0).normal(0, 300, (50, 4)), kind=kind)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.shape == (50, 5 if kind == "ordinal" else 4)


def test_impossible_questions_are_refused() -> None:
    logits = np.zeros((2, 3))
    with pytest.raises(UsageError, match="kind is 'softmax'"):
        fit_temperature(logits, [0, 1], kind="softmax")
    with pytest.raises(UsageError, match="kind is 'binary'"):
        apply_temperature(logits, kind="binary")
    with pytest.raises(UsageError, match="temperature is 0"):
        apply_temperature(logits, 0)
    with pytest.raises(UsageError, match="temperature is nan"):
        apply_temperature(logits, math.nan)
    with pytest.raises(UsageError, match="finite numbers"):
        apply_temperature([[math.inf, 0]])
    with pytest.raises(UsageError, match="classes go from 0 to 3"):
        fit_temperature(logits, [0, 3])
    with pytest.raises(UsageError, match="classes go from 0 to 4"):
        fit_temperature(logits, [0, 4], kind="ordinal")
    with pytest.raises(UsageError, match=r"targets has shape \(2,\)"):
        fit_temperature(logits, [0, 1], kind="multilabel")
