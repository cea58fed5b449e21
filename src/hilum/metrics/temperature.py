"""Temperature scaling: one number that calibrates probabilities and keeps their order.

Logits are divided by the temperature before they become probabilities: above 1 softens them, below
1 sharpens them. It is fitted on held-out cases by the smallest log loss, which is convex in 1 / T.

A classifier that saw classes in other frequencies than there are (drawn evenly, or weighed) is
wrong by more: its logits are off by the logarithm of those odds, which no temperature mends. A bias
for each output, fitted together with the temperature, does; the loss is convex in 1 / T and the
biases. How often each answer is right is then taken with half a case added to either side
(Jeffreys), so that what no held-out case has is not called impossible.

Where some 1 / T (and biases) call every held-out case right, the loss falls without end as it
grows, and where a search stops on that flat floor says nothing. So this is asked of the logits
themselves, before anything is searched.

Sources: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (the bias: "vector
scaling" with one temperature); Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a
Classifier to New a Priori Probabilities", Neural Comput 14 (2002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.errors import UsageError
from hilum.metrics.cases import check_index, flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from hilum.metrics.cases import Numbers

Link = Literal["exclusive", "ordinal", "multilabel"]
"""What the logits (N, K') are: one a class (softmax); one a step to the next grade, K' = K - 1
(cumulative); one a finding."""

COLDEST, HOTTEST = 0.05, 20.0
_COLDER = "no temperature is cold enough: left at 1"
_APART = f"every class is told apart, {_COLDER}"
FEWEST = 20


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Args:
        value: what to divide logits by; 1 where none could be fitted.
        reason: how it came about, a sentence for the user.
        cases: held-out cases that it was fitted on.
        loss_before: mean log loss of a case at temperature 1, nats; NaN where there is no case.
        loss_after: the same at this temperature.
        bias: (K',) added to the logits after they were divided; () where none was asked for, or
            none could be fitted.
    """

    value: float
    reason: str
    cases: int
    loss_before: float
    loss_after: float
    bias: tuple[float, ...] = ()


def fit_temperature(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    kind: Link = "exclusive",
    fewest: int = FEWEST,
    biased: bool = False,
) -> Temperature:
    """Fit one temperature to the logits of held-out cases.

    It never refuses: where nothing can be fitted it is 1 and says why.

    That is so with fewer than `fewest` cases, where all cases are of one class, and where the
    classes are told apart without one error (with the best biases, where these are fitted), so that
    the loss falls without end towards temperature 0: that would call certain what merely went well
    so far. Biases are then fitted alone. Temperatures are searched between 0.05 and 20; at 20 the
    logits say next to nothing about the class.

    Args:
        logits: (N, K') of held-out cases.
        targets: (N,) number of each case's class or grade; (N, K') which findings it has where the
            kind is "multilabel".
        kind: what the logits are.
        fewest: cases below which nothing is fitted.
        biased: fit a bias for each output too: where training saw the classes in other frequencies
            than there are.

    Raises:
        UsageError: an unknown kind, shapes that do not fit, logits that are not finite.
    """
    values, signs = _prepare(logits, targets, kind)
    n = len(values)
    loss = _LOSSES[kind]
    before = loss(values, signs) if n else math.nan
    varied = signs.min(axis=0) < signs.max(axis=0) if n else np.zeros(1, dtype=np.bool_)
    if n < fewest:
        return Temperature(
            1.0, f"{n} held-out cases, {fewest} are needed: left at 1", n, before, before
        )
    if not varied.any():
        return Temperature(1.0, "all held-out cases are of one class: left at 1", n, before, before)
    apart = _separable(values, signs, kind, biased=biased)
    if biased:
        return _with_bias(values, signs, kind, before, apart=apart)
    value, after = (
        (COLDEST, before)
        if apart
        else _search(lambda temperature: loss(values / temperature, signs))
    )
    if value <= COLDEST * 1.01:
        return Temperature(1.0, _APART if apart else _COLDER, n, before, before)
    if not after < before:
        return Temperature(
            1.0, f"1 is the best temperature for {n} held-out cases", n, before, before
        )
    at_end = (
        f"; at the end of the range, {HOTTEST:g}: the logits say little"
        if value >= HOTTEST * 0.99
        else ""
    )
    reason = (
        f"smallest log loss of {n} held-out cases, {before:.4f} before and {after:.4f}"
        f" after{at_end}"
    )
    return Temperature(value, reason, n, before, after)


def apply_temperature(
    logits: ArrayLike, temperature: float = 1.0, *, kind: Link = "exclusive", bias: ArrayLike = ()
) -> Numbers:
    """Probabilities (N, K) from logits (N, K') at a temperature.

    A bias (K',) is added to what was divided; () adds none.

    "exclusive": softmax. "multilabel": a sigmoid each. "ordinal": the sigmoid of logit k is the
    probability of a grade above k; where these do not fall they are made to (running minimum), and
    the differences are the probabilities of the K = K' + 1 grades.

    Raises:
        UsageError: an unknown kind, not a table of finite logits, a temperature that is not above
            0, a bias of another length.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature {temperature}", needed="a number above 0")
    values, added = _table(logits), np.asarray(bias, dtype=np.float64)
    if added.shape not in {(0,), values.shape[1:]} or not np.isfinite(added).all():
        raise UsageError(
            f"a bias of shape {added.shape}",
            needed=f"{values.shape[1]} finite numbers, one an output, or none",
        )
    return _PROBABILITIES[_known(kind)](values / temperature + (added if added.size else 0.0))


def _separable(values: Numbers, truth: Numbers, kind: Link, *, biased: bool) -> bool:
    """Return True if the logits, or some biases added, classify every case, ties aside."""
    if kind != "exclusive":
        asked = (
            truth.min(axis=0) < truth.max(axis=0)
            if biased
            else np.ones(values.shape[1], dtype=np.bool_)
        )
        logits, right = values[:, asked], truth[:, asked] > 0
        lowest, highest = (
            np.where(right, logits, np.inf).min(axis=0),
            np.where(right, -np.inf, logits).max(axis=0),
        )
        if biased:
            return bool((lowest >= highest).all() and np.ptp(logits, axis=0).any())
        return bool((lowest >= 0).all() and (highest <= 0).all() and logits.any())
    if not biased:
        return bool(
            ((values * truth).sum(axis=1) >= values.max(axis=1)).all()
            and np.ptp(values, axis=1).any()
        )
    seen = truth.any(axis=0)
    logits, which = values[:, seen], truth[:, seen].argmax(axis=1)
    margins = (
        logits - logits[np.arange(len(logits)), which][:, None]
    )  # (N, K) by how much each class is above the right one
    # Biases that call all cases of j right are above those of k by ahead[j, k] at least; together
    # they can be if on no way
    # from a class round to itself this sums to more than 0.
    ahead = np.stack([margins[which == own].max(axis=0) for own in range(logits.shape[1])])
    for between in range(len(ahead)):
        ahead = np.maximum(ahead, ahead[:, [between]] + ahead[[between]])
    nothing = 1e-12 * np.abs(values).max()
    return bool(
        (ahead.diagonal() <= nothing).all()
        and np.ptp(logits - logits[:, :1], axis=0).max() > nothing
    )


def _search(loss: Callable[[float], float]) -> tuple[float, float]:
    """Find the temperature of the smallest loss, and that loss.

    A bounded search of the logarithm, in which the loss has one valley.
    """
    from scipy import optimize

    found = optimize.minimize_scalar(
        lambda log: loss(math.exp(log)),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return math.exp(float(found.x)), float(found.fun)


def _with_bias(
    values: Numbers, truth: Numbers, kind: Link, before: float, *, apart: bool
) -> Temperature:
    """Temperature and biases of the smallest loss.

    Biases alone where no temperature is cold enough.
    """
    n, said = (
        len(values),
        (
            "with a bias for each output, as training saw the classes in other frequencies than"
            " there are"
        ),
    )
    sharpness, bias = _search_biased(
        values, truth, kind, (1.0, 1.0) if apart else (1 / HOTTEST, 1 / COLDEST)
    )
    if apart:
        said += f"; {_APART}"
    elif sharpness >= 0.99 / COLDEST:
        sharpness, bias = _search_biased(values, truth, kind, (1.0, 1.0))
        said += f"; {_COLDER}"
    after = _LOSSES[kind](values * sharpness + bias, truth)
    reason = (
        f"smallest log loss of {n} held-out cases, {before:.4f} before and {after:.4f} after,"
        f" {said}"
    )
    return Temperature(1 / sharpness, reason, n, before, after, tuple(bias.tolist()))


def _search_biased(
    values: Numbers, truth: Numbers, kind: Link, sharpness: tuple[float, float]
) -> tuple[float, Numbers]:
    """1 / T between the two numbers and biases (K',) of the smallest loss.

    The biases of exclusive classes sum to 0.
    """
    from scipy import optimize

    exclusive = kind == "exclusive"
    n, outputs = values.shape
    frequency = (truth.sum(axis=0) + 0.5) / (n + (outputs / 2 if exclusive else 1.0))
    right = float((values * truth).sum() / n)

    def loss(place: Numbers) -> tuple[float, Numbers]:
        logits = values * place[0] + place[1:]
        said = _softmax(logits) if exclusive else _sigmoid(logits)
        value = _LOSSES[kind](logits, 0 * truth) - place[0] * right - float(place[1:] @ frequency)
        return value, np.concatenate(
            [[(said * values).sum() / n - right], said.mean(axis=0) - frequency]
        )

    start = np.concatenate([[1.0], np.zeros(outputs)])
    bounds = [sharpness, *[(None, None)] * outputs]
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8},
    )
    bias = np.asarray(found.x[1:])
    return float(found.x[0]), bias - bias.mean() if exclusive else bias


def _prepare(logits: ArrayLike, targets: ArrayLike, kind: Link) -> tuple[Numbers, Numbers]:
    """Logits (N, K') and, as 0 and 1 of the same shape, what each of them should have said."""
    values = _table(logits)
    columns = np.arange(values.shape[1])
    if _known(kind) == "multilabel":
        return values, flags(targets, values.shape, "targets").astype(np.float64)
    if kind == "ordinal":
        return values, (
            check_index(targets, len(values), len(columns) + 1)[:, None] > columns
        ).astype(np.float64)
    return values, (check_index(targets, len(values), len(columns))[:, None] == columns).astype(
        np.float64
    )


def _known(kind: Link) -> Link:
    if kind not in _LOSSES:
        raise UsageError(f"kind {kind!r}", needed=f"one of {', '.join(_LOSSES)}")
    return kind


def _table(logits: ArrayLike) -> Numbers:
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise UsageError(
            f"logits of shape {values.shape}", needed="finite numbers, a row a case (N, K')"
        )
    return values


def _softmax_loss(logits: Numbers, truth: Numbers) -> float:
    from scipy.special import logsumexp

    return float((logsumexp(logits, axis=1) - (logits * truth).sum(axis=1)).mean())


def _sigmoid_loss(logits: Numbers, truth: Numbers) -> float:
    """Loss summed over the findings, or over the steps of ordinal classes."""
    return float((np.logaddexp(0, logits) - logits * truth).sum(axis=1).mean())


def _softmax(logits: Numbers) -> Numbers:
    from scipy.special import softmax

    return np.asarray(softmax(logits, axis=1))


def _sigmoid(logits: Numbers) -> Numbers:
    from scipy.special import expit

    return np.asarray(expit(logits))


def _grades(logits: Numbers) -> Numbers:
    above = np.minimum.accumulate(_sigmoid(logits), axis=1)
    ends = np.ones((len(above), 1))
    return np.asarray(-np.diff(np.concatenate([ends, above, 0 * ends], axis=1), axis=1))


_LOSSES: dict[str, Callable[[Numbers, Numbers], float]] = {
    "exclusive": _softmax_loss,
    "ordinal": _sigmoid_loss,
    "multilabel": _sigmoid_loss,
}
_PROBABILITIES: dict[str, Callable[[Numbers], Numbers]] = {
    "exclusive": _softmax,
    "ordinal": _grades,
    "multilabel": _sigmoid,
}
