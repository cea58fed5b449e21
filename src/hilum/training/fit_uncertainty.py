"""Fit calibration, prediction sets and out-of-distribution limits out of fold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from hilum.errors import DataError
from hilum.inference import Assurance, Calibration, ClassPredictor, TrainedModel
from hilum.inference.assurance import logits_of
from hilum.inference.refusal import fit_refusal, intensity_features
from hilum.metrics import conformal_threshold, fit_temperature, multilabel_conformal_threshold
from hilum.training.augmentation import centre_of
from hilum.training.validators.classification import LEARNING_SHARE, MOST_SEEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import ClassTable
    from hilum.inference.refusal import Refusal
    from hilum.plan import ClassificationPlan
    from hilum.preprocess import ClassifierStore
    from hilum.tasks.class_score import ClassScore
    from hilum.training.fold import TrainedFold

T = TypeVar("T")
_CROSS = 5
"""Parts of the answers of a single fold; each is calibrated by what was learnt from the others."""
_REFUSED_SHARE = 0.01
_FEWEST_SEEN = 200
"""Cases of either side that a model learns from when to refuse, until that takes `_GRACE` times its
share of the minutes."""
_GRACE = 4.0
_FEWEST_AT_ALL = 20
"""So many whatever the time: on a machine that is busy with other things a case may take a hundred
times what it should."""


def fit_uncertainty(
    plan: ClassificationPlan,
    members: Sequence[TrainedFold[ClassScore]],
    store: ClassifierStore,
    device: torch.device,
    say: Callable[[str], None],
    *,
    units: Mapping[str, str] | None = None,
    minutes: float | None = None,
) -> tuple[tuple[ClassScore, ...], Assurance | None]:
    """Learn how sure the model may be.

    Temperature and thresholds come from the answers for cases that the answering member was not
    trained on, each on its own: the thresholds are of the network's probabilities, so that no
    temperature that has seen the same answers has a part in them. The answers get their units, by
    which intervals are drawn, calibrated probabilities and sets that were learnt from the other
    folds' answers (of a single fold: from the other fifths of its patients), so that figures about
    them are honest; the model itself keeps what all answers together say.

    Args:
        plan: every decision.
        members: the trained folds.
        store: inputs of their training cases.
        device: where the networks are.
        say: is told what could not be learnt.
        units: what each case hangs together with (see `fold_groups`): its patient, joined with
            near-duplicates; None: its patient.
        minutes: of a training with a time limit, which bounds how many cases tell when to refuse.

    Returns:
        The answers, calibrated out of fold, and what goes into the model; None where there is no
        answer.
    """
    hangs = units or {}
    scores = [
        score.model_copy(update={"fold": member.number, "unit": hangs.get(score.case)})
        for member in members
        for score in member.result.scores
    ]
    first = {score.case: score for score in reversed(scores)}
    scores = [score for score in scores if first[score.case] is score]
    if not scores:
        return (), None
    table, coverage = plan.classes, plan.coverage.value
    how: dict[str, Any] = {"balanced": saw_other_frequencies(plan), "units": units}
    calibrated = cross_calibrated(scores, table, coverage, **how)
    per_class = class_coverage(
        cross_calibrated(scores, table, coverage, per_class=True, **how), table
    )
    calibration = fit_calibration(scores, table, coverage, **how)
    calibration = calibration.model_copy(update={"class_coverage": per_class})
    refusals = []
    for member in members:
        try:
            refusals.append(_refusal(plan, member, store, device, minutes))
        except DataError as error:
            say(f"The model will not refuse any image: {error.found}.")
            return calibrated, Assurance(calibration)
    return calibrated, Assurance(calibration, tuple(refusals))


def saw_other_frequencies(plan: ClassificationPlan) -> bool:
    """Return True if training samples classes at other frequencies than the data have.

    A probe takes each case once.
    """
    probe = any(stage.probe for stage in plan.stages.value)
    return not probe and (plan.balance.value != "none" or plan.loss.value.class_weights is not None)


def fit_calibration(
    scores: Sequence[ClassScore],
    table: ClassTable,
    coverage: float,
    *,
    balanced: bool = False,
    units: Mapping[str, str] | None = None,
) -> Calibration:
    """Temperature and thresholds of out-of-fold answers; biases too where training was balanced.

    See `cross_calibrated` for the arguments.
    """
    probabilities, members = _arrays(scores, table)
    targets = members if table.kind == "multilabel" else members.argmax(axis=1)
    fitted = fit_temperature(
        logits_of(probabilities, table), targets, kind=table.kind, biased=balanced
    )
    learnt = Calibration(
        temperature=fitted.value,
        bias=fitted.bias,
        because=fitted.reason,
        coverage=coverage,
        cases=len(scores),
    )
    groups = [_unit(score, units) for score in scores]

    def least(*, per_class: bool) -> tuple[float, ...]:
        asked: dict[str, Any] = {"coverage": coverage, "per_class": per_class, "groups": groups}
        if table.kind == "multilabel":
            found = multilabel_conformal_threshold(probabilities, members, **asked).T.ravel()
        else:
            found = conformal_threshold(probabilities, members.argmax(axis=1), **asked)
        return tuple(float(one) for one in found)

    thresholds = {
        "thresholds": least(per_class=False),
        "class_thresholds": least(per_class=True),
        "scale": "network",
    }
    return learnt.model_copy(update=thresholds)


def class_coverage(scores: Sequence[ClassScore], table: ClassTable) -> tuple[float | None, ...]:
    """Compute how often the sets hold each class among the cases that have it.

    None for a class that no case has.
    """
    _, members = _arrays(scores, table)
    held = np.array(
        [[name in (score.prediction_set or ()) for name in table.names] for score in scores],
        dtype=bool,
    )
    return tuple(
        float(held[own, k].mean()) if own.any() else None for k, own in enumerate(members.T)
    )


def cross_calibrated(
    scores: Sequence[ClassScore],
    table: ClassTable,
    coverage: float,
    *,
    per_class: bool = False,
    balanced: bool = False,
    units: Mapping[str, str] | None = None,
) -> tuple[ClassScore, ...]:
    """Calibrate each prediction on the others: no patient is on both sides.

    Args:
        scores: out-of-fold answers.
        table: what the classes are.
        coverage: of the sets.
        per_class: sets that keep the promise among the cases of each class.
        balanced: whether training saw the classes in other frequencies than there are.
        units: what each case hangs together with, by its id; None: its patient.
    """
    parts = _parts(scores, units)
    done = list(scores)
    for part in sorted(set(parts)):
        own = [n for n, one in enumerate(parts) if one == part]
        others = [scores[n] for n, one in enumerate(parts) if one != part]
        few = Calibration(because="too few", coverage=coverage)
        calibration = (
            fit_calibration(others, table, coverage, balanced=balanced, units=units)
            if others
            else few
        )
        raw = _arrays([scores[n] for n in own], table)[0]
        sets = (
            calibration.sets(raw, table, per_class=per_class)
            if calibration.thresholds
            else (None,) * len(own)
        )
        certain = calibration.certain(raw, table, per_class=per_class) or (None,) * len(own)
        for n, row, chosen, sure in zip(
            own, calibration.apply(raw, table), sets, certain, strict=True
        ):
            update = {"calibrated": tuple(row.tolist()), "prediction_set": chosen, "certain": sure}
            done[n] = scores[n].model_copy(update=update)
    return tuple(done)


def _unit(score: ClassScore, units: Mapping[str, str] | None) -> str:
    """Return the group that the case of a score is resampled with."""
    return score.group if units is None else units.get(score.case, score.group)


def _parts(scores: Sequence[ClassScore], units: Mapping[str, str] | None) -> list[int]:
    """Split the predictions into calibration parts: folds, or fifths of a single fold's groups."""
    folds = {score.fold for score in scores}
    if len(folds) > 1:
        return [score.fold or 0 for score in scores]
    own = [_unit(score, units) for score in scores]
    every = sorted(set(own))
    order = np.random.default_rng(0).permutation(len(every))
    place = {unit: int(order[n]) % _CROSS for n, unit in enumerate(every)}
    return [place[unit] for unit in own]


def _arrays(
    scores: Sequence[ClassScore], table: ClassTable
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probabilities = np.array([score.probabilities for score in scores], dtype=np.float64).reshape(
        -1, len(table.names)
    )
    return probabilities, np.array(
        [table.indicators(score.reference or "") for score in scores], dtype=bool
    )


def _refusal(
    plan: ClassificationPlan,
    member: TrainedFold[ClassScore],
    store: ClassifierStore,
    device: torch.device,
    minutes: float | None,
) -> Refusal:
    """Fit one member's out-of-distribution check on its training and validation cases."""
    predictor = ClassPredictor(
        TrainedModel(plan=plan, networks=(member.result.network,), device=device)
    )
    seconds = None if minutes is None else LEARNING_SHARE * minutes * 60 / 2
    train = _seen(predictor, (_input(store, case, plan) for case in _some(member.trained)), seconds)
    held_out = _seen(
        predictor, (predictor.prepare(case).array for case in _some(member.validated)), seconds
    )
    return fit_refusal(
        train[0],
        held_out[0],
        share=_REFUSED_SHARE,
        train_intensities=train[1],
        held_out_intensities=held_out[1],
    )


def _some(cases: Sequence[T]) -> list[T]:
    """Choose at most `MOST_SEEN` cases, in an order whose every beginning is a fair sample."""
    return [cases[n] for n in np.random.default_rng(0).permutation(len(cases))[:MOST_SEEN]]


def _seen(
    predictor: ClassPredictor, arrays: Iterable[NDArray[np.float32]], seconds: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute features and intensity statistics of inputs, one at a time, until time is up."""
    begun, rows = time.perf_counter(), []
    for array in arrays:
        rows.append((predictor.features(array)[0], intensity_features(array)))
        over = 0.0 if seconds is None else (time.perf_counter() - begun) / seconds
        if over > (1.0 if len(rows) >= _FEWEST_SEEN else _GRACE) and len(rows) >= min(
            _FEWEST_SEEN, _FEWEST_AT_ALL
        ):
            break
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _input(store: ClassifierStore, case: str, plan: ClassificationPlan) -> NDArray[np.float32]:
    """A training case as a prediction sees it: without the margin."""
    whole = torch.from_numpy(store.read(case).astype(np.float32))[None]
    return np.ascontiguousarray(centre_of(whole, plan.patch.value)[0].numpy())
