"""Fit calibration, prediction sets and out-of-distribution limits out of fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import torch

from hilum.errors import DataError
from hilum.inference import Assurance, Calibration, ClassPredictor, TrainedModel
from hilum.inference.assurance import logits_of
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases
from hilum.inference.refusal import fit_refusal, intensity_features
from hilum.metrics import conformal_threshold, fit_temperature, multilabel_conformal_threshold
from hilum.training.augmentation import centre_of
from hilum.training.time_plan import MOST_LEARNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset import ClassTable
    from hilum.inference.refusal import Refusal
    from hilum.plan import ClassificationPlan
    from hilum.preprocess import ClassifierStore
    from hilum.targets.class_score import ClassScore
    from hilum.training.fold import TrainedFold

T = TypeVar("T")
Features: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"
"""Features of one case: the input of the network's head, and intensity statistics."""
_PARTS = 5
"""Parts of the predictions of a single fold; each is calibrated by the others."""
_REFUSED_SHARE = 0.01
_FEWEST = 50
"""Cases of either side that the out-of-distribution check is fitted on however long they take."""


def fit_uncertainty(
    plan: ClassificationPlan,
    folds: Sequence[TrainedFold[ClassScore]],
    store: ClassifierStore,
    device: torch.device,
    say: Callable[[str], None],
    *,
    groups: Mapping[str, str] | None = None,
    deadline: Deadline = UNLIMITED,
) -> tuple[tuple[ClassScore, ...], Assurance | None]:
    """Fit calibration, prediction sets and the out-of-distribution check.

    Temperature and thresholds come from out-of-fold predictions, each on its own: the thresholds
    are of the network's probabilities, so that no temperature that was fitted on the same
    predictions has a part in them. The predictions get their groups, by which intervals are
    resampled, calibrated probabilities and sets that were learnt from the other folds' predictions
    (of a single fold: from the other fifths of its patients), so that metrics of them are honest;
    the model itself keeps what all predictions together give.

    Args:
        plan: every decision.
        folds: the trained folds.
        store: inputs of their training cases.
        device: where the networks are.
        say: called with what could not be learnt.
        groups: group of each case (see `fold_groups`): its patient, joined with near-duplicates;
            None: its patient.
        deadline: bounds how many cases the out-of-distribution check is fitted on.

    Returns:
        The predictions, calibrated out of fold, and what goes into the model; None where there is
        no prediction.
    """
    first: dict[str, ClassScore] = {}
    for fold in folds:
        for score in fold.scores:
            update = {"fold": fold.number, "unit": (groups or {}).get(score.case)}
            first.setdefault(score.case, score.model_copy(update=update))
    scores = list(first.values())
    if not scores:
        return (), None
    table, coverage, balanced = plan.classes, plan.coverage.value, saw_other_frequencies(plan)
    calibrated = cross_calibrated(scores, table, coverage, balanced=balanced)
    per_class = cross_calibrated(scores, table, coverage, per_class=True, balanced=balanced)
    calibration = fit_calibration(scores, table, coverage, balanced=balanced)
    calibration = calibration.model_copy(
        update={"class_coverage": class_coverage(per_class, table)}
    )
    refusals = []
    for number, fold in enumerate(folds):
        try:
            part = deadline.part(1 / (len(folds) - number))
            refusals.append(_refusal(plan, fold, store, device, part))
        except DataError as error:
            say(f"The model will not refuse any image: {error.found}.")
            return calibrated, Assurance(calibration)
    return calibrated, Assurance(calibration, tuple(refusals))


def saw_other_frequencies(plan: ClassificationPlan) -> bool:
    """Return True if training samples classes at other frequencies than the data have.

    A probe takes each case once.
    """
    balanced = plan.balance.value != "none" or plan.loss.value.class_weights is not None
    return plan.makes_steps and balanced


def fit_calibration(
    scores: Sequence[ClassScore],
    table: ClassTable,
    coverage: float,
    *,
    balanced: bool = False,
) -> Calibration:
    """Fit temperature and thresholds, and biases where training was balanced.

    See `cross_calibrated` for the arguments.
    """
    probabilities, present = _arrays(scores, table)
    numbers = present.argmax(axis=1)
    multilabel = table.kind == "multilabel"
    fitted = fit_temperature(
        logits_of(probabilities, table),
        present if multilabel else numbers,
        kind=table.kind,
        biased=balanced,
    )
    groups = [score.unit or score.group for score in scores]

    def thresholds(*, per_class: bool) -> tuple[float, ...]:
        if multilabel:
            found = multilabel_conformal_threshold(
                probabilities, present, coverage=coverage, per_class=per_class, groups=groups
            ).T.ravel()
        else:
            found = conformal_threshold(
                probabilities, numbers, coverage=coverage, per_class=per_class, groups=groups
            )
        return tuple(float(one) for one in found)

    return Calibration(
        temperature=fitted.value,
        bias=fitted.bias,
        because=fitted.reason,
        coverage=coverage,
        cases=len(scores),
        thresholds=thresholds(per_class=False),
        class_thresholds=thresholds(per_class=True),
        scale="network",
    )


def class_coverage(scores: Sequence[ClassScore], table: ClassTable) -> tuple[float | None, ...]:
    """Compute how often the sets hold each class among the cases that have it.

    None for a class that no case has.
    """
    _, present = _arrays(scores, table)
    held = np.array(
        [[name in (score.prediction_set or ()) for name in table.names] for score in scores],
        dtype=bool,
    )
    return tuple(
        float(held[own, k].mean()) if own.any() else None for k, own in enumerate(present.T)
    )


def cross_calibrated(
    scores: Sequence[ClassScore],
    table: ClassTable,
    coverage: float,
    *,
    per_class: bool = False,
    balanced: bool = False,
) -> tuple[ClassScore, ...]:
    """Calibrate each prediction on the others: no patient is on both sides.

    Args:
        scores: out-of-fold predictions.
        table: the classes.
        coverage: of the sets.
        per_class: sets whose coverage holds among the cases of each class.
        balanced: whether training sampled classes at other frequencies than the data have.
    """
    parts = _parts(scores)
    done = list(scores)
    for part in sorted(set(parts)):
        own = [n for n, one in enumerate(parts) if one == part]
        others = [scores[n] for n, one in enumerate(parts) if one != part]
        calibration = (
            fit_calibration(others, table, coverage, balanced=balanced)
            if others
            else Calibration(because="too few", coverage=coverage)
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


def _parts(scores: Sequence[ClassScore]) -> list[int]:
    """Split the predictions into calibration parts: folds, or fifths of a single fold's groups."""
    if len({score.fold for score in scores}) > 1:
        return [score.fold or 0 for score in scores]
    own = [score.unit or score.group for score in scores]
    groups = sorted(set(own))
    order = np.random.default_rng(0).permutation(len(groups))
    part = {group: int(order[n]) % _PARTS for n, group in enumerate(groups)}
    return [part[group] for group in own]


def _arrays(
    scores: Sequence[ClassScore], table: ClassTable
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return probabilities (N, K) of the cases, and which classes each has, (N, K)."""
    probabilities = np.array([score.probabilities for score in scores], dtype=np.float64).reshape(
        -1, len(table.names)
    )
    return probabilities, np.array(
        [table.indicators(score.reference or "") for score in scores], dtype=bool
    )


def _refusal(
    plan: ClassificationPlan,
    fold: TrainedFold[ClassScore],
    store: ClassifierStore,
    device: torch.device,
    deadline: Deadline,
) -> Refusal:
    """Fit one network's out-of-distribution check on its training and validation cases."""
    model = TrainedModel(plan=plan, networks=(fold.network,), device=device)
    predictor = ClassPredictor(model)

    def measure(array: NDArray[np.float32]) -> Features:
        return predictor.features(array)[0], intensity_features(array)

    def measure_stored(case: str) -> Features:
        whole = torch.from_numpy(store.read(case).astype(np.float32))[None]
        centre = centre_of(whole, plan.patch.value)[0].numpy()  # as a prediction gets it
        return measure(np.ascontiguousarray(centre))

    train = predict_cases(
        measure_stored, _sample(fold.trained), deadline=deadline.part(0.5), least=_FEWEST
    )
    held_out = predict_cases(
        lambda case: measure(predictor.prepare(case).array),
        _sample(fold.validated),
        deadline=deadline,
        least=_FEWEST,
    )
    return fit_refusal(
        np.array([features for features, _ in train.values()]),
        np.array([features for features, _ in held_out.values()]),
        share=_REFUSED_SHARE,
        train_intensities=np.array([intensities for _, intensities in train.values()]),
        held_out_intensities=np.array([intensities for _, intensities in held_out.values()]),
    )


def _sample(cases: Sequence[T]) -> list[T]:
    """Choose at most `MOST_LEARNT` cases, in an order whose every beginning is a fair sample."""
    return [cases[n] for n in np.random.default_rng(0).permutation(len(cases))[:MOST_LEARNT]]
