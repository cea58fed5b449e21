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
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import special

from hilum.errors import UsageError
from hilum.metrics.validation import check_index, flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from hilum.metrics.validation import Numbers

Link = Literal["exclusive", "ordinal", "multilabel"]
"""Meaning of the logits (N, K'): one a class (softmax); one a step to the next grade, K' = K - 1
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
    values, truth = _prepare(logits, targets, kind)
    n = len(values)
    before = _loss(values, truth, kind) if n else math.nan

    def left(reason: str) -> Temperature:
        return Temperature(1.0, reason, n, before, before)

    if n < fewest:
        return left(f"{n} held-out cases, {fewest} are needed: left at 1")
    if not n or not np.ptp(truth, axis=0).any():
        return left("all held-out cases are of one class: left at 1")
    apart = _separable(values, truth, kind, biased=biased)
    if biased:
        return _with_bias(values, truth, kind, before, apart=apart)
    value, after = _search(lambda temperature: _loss(values / temperature, truth, kind))
    if apart or value <= COLDEST * 1.01:
        return left(_APART if apart else _COLDER)
    if not after < before:
        return left(f"1 is the best temperature for {n} held-out cases")
    reason = f"smallest log loss of {n} held-out cases, {before:.4f} before and {after:.4f} after"
    if value >= HOTTEST * 0.99:
        reason += f"; at the end of the range, {HOTTEST:g}: the logits say little"
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
        raise UsageError(f"temperature is {temperature}", needed="a number above 0")
    values, added = _table(logits), np.asarray(bias, dtype=np.float64)
    if added.shape not in {(0,), values.shape[1:]} or not np.isfinite(added).all():
        raise UsageError(
            f"the bias has shape {added.shape}, or some of it is not finite",
            needed=f"{values.shape[1]} finite numbers, one an output, or none",
            cure="take the bias that was fitted with the temperature, or bias=()",
        )
    _check_kind(kind)
    scaled = values / temperature + (added if added.size else 0.0)
    if kind == "exclusive":
        return np.asarray(special.softmax(scaled, axis=1))
    above = np.asarray(special.expit(scaled))
    if kind == "multilabel":
        return above
    above = np.minimum.accumulate(above, axis=1)
    ends = np.ones((len(above), 1))
    return np.asarray(-np.diff(np.concatenate([ends, above, 0 * ends], axis=1), axis=1))


def _separable(values: Numbers, truth: Numbers, kind: Link, *, biased: bool) -> bool:
    """Return True if the logits, or some biases added, classify every case, ties aside.

    A finding, or a step between grades, is a choice between the logit 0 and its own.
    """
    choices = [(values, truth)]
    if kind != "exclusive":
        choices = [
            (np.stack([0 * z, z], axis=1), np.stack([1 - t, t], axis=1))
            for z, t in zip(values.T, truth.T, strict=True)
        ]
    nothing = 1e-12 * np.abs(values).max()
    apart = [
        _order_of_classes(z, t, nothing) if biased else _order_of_cases(z, t) for z, t in choices
    ]
    return all(right for right, _ in apart) and any(varied for _, varied in apart)


def _order_of_cases(logits: Numbers, truth: Numbers) -> tuple[bool, bool]:
    """Say if every case (N, K) is called right, and if the logits differ at all."""
    right = (logits * truth).sum(axis=1) >= logits.max(axis=1)
    return bool(right.all()), bool(np.ptp(logits, axis=1).any())


def _order_of_classes(logits: Numbers, truth: Numbers, nothing: float) -> tuple[bool, bool]:
    """Return whether some biases classify all cases, ties counted as right, and logits differ.

    Biases that call all cases of class j right are above those of k by ahead[j, k] at least;
    together they can be if on no way from a class round to itself this sums to more than 0.
    """
    known = truth.any(axis=0)
    logits, which = logits[:, known], truth[:, known].argmax(axis=1)
    above = logits - logits[np.arange(len(logits)), which][:, None]  # (N, K) the right class
    ahead = np.stack([above[which == own].max(axis=0) for own in range(logits.shape[1])])
    for between in range(len(ahead)):
        ahead = np.maximum(ahead, ahead[:, [between]] + ahead[[between]])
    varied = np.ptp(logits - logits[:, :1], axis=0).max() > nothing
    return bool((ahead.diagonal() <= nothing).all()), bool(varied)


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
    at_one = (1.0, 1.0)
    range_ = at_one if apart else (1 / HOTTEST, 1 / COLDEST)
    sharpness, bias = _search_biased(values, truth, kind, range_)
    remark = f"; {_APART}" if apart else ""
    if not apart and sharpness >= 0.99 / COLDEST:
        sharpness, bias = _search_biased(values, truth, kind, at_one)
        remark = f"; {_COLDER}"
    after = _loss(values * sharpness + bias, truth, kind)
    reason = (
        f"smallest log loss of {len(values)} held-out cases, {before:.4f} before and {after:.4f}"
        " after, with a bias for each output, as training saw the classes in other frequencies"
        f" than there are{remark}"
    )
    return Temperature(1 / sharpness, reason, len(values), before, after, tuple(bias.tolist()))


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
        p = special.softmax(logits, axis=1) if exclusive else special.expit(logits)
        value = _loss(logits, 0 * truth, kind) - place[0] * right - float(place[1:] @ frequency)
        return value, np.concatenate([[(p * values).sum() / n - right], p.mean(axis=0) - frequency])

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


def _loss(logits: Numbers, truth: Numbers, kind: Link) -> float:
    """Mean log loss of a case, summed over the findings or the steps of ordinal classes."""
    if kind == "exclusive":
        normaliser = special.logsumexp(logits, axis=1)
        return float((normaliser - (logits * truth).sum(axis=1)).mean())
    return float((np.logaddexp(0, logits) - logits * truth).sum(axis=1).mean())


def _prepare(logits: ArrayLike, targets: ArrayLike, kind: Link) -> tuple[Numbers, Numbers]:
    """Logits (N, K') and, as 0 and 1 of the same shape, what each of them should have said."""
    values = _table(logits)
    _check_kind(kind)
    columns = np.arange(values.shape[1])
    if kind == "multilabel":
        truth = flags(targets, values.shape, "targets")
    elif kind == "ordinal":
        truth = check_index(targets, len(values), len(columns) + 1)[:, None] > columns
    else:
        truth = check_index(targets, len(values), len(columns))[:, None] == columns
    return values, truth.astype(np.float64)


def _check_kind(kind: Link) -> None:
    if kind not in get_args(Link):
        raise UsageError(f"kind is {kind!r}", needed=f"one of {', '.join(get_args(Link))}")


def _table(logits: ArrayLike) -> Numbers:
    """Return logits (N, K') as an array; refuse another shape, and infinite or NaN ones."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1] or not np.isfinite(values).all():
        raise UsageError(
            f"the logits have shape {values.shape}, or some are not finite",
            needed="finite numbers, a row a case (N, K')",
        )
    return values
