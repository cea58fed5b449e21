"""The trained model of finished folds: networks, metrics, facts and notes for the card."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hilum.engines import describe_device
from hilum.errors import counted
from hilum.inference import Facts, ModelMetrics, TrainedModel
from hilum.inference.manifest import WARNING
from hilum.plan.data_card import DATA_CARD, DataCard
from hilum.training.log import loss_still_falls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.networks import Weights
    from hilum.plan import Plan
    from hilum.training.fold import TrainedFold
    from hilum.training.task import P, S, StoreT, Task, TrainedFolds

_FEW_SCORED = 20
"""Metrics of fewer validation cases, and of less than half of them, say little."""
_FEW_STEPS = 100
"""Trainings of fewer steps, or of less than one epoch, may get a warning at the end."""


def first_scores(folds: Sequence[TrainedFold[S]]) -> tuple[S, ...]:
    """Collect the scores of all folds, each case once, by the first fold that scored it."""
    first: dict[str, int] = {}
    return tuple(
        score
        for fold in folds
        for score in fold.scores
        if first.setdefault(score.case, fold.number) == fold.number
    )


def assemble_model(
    trained: TrainedFolds[P, StoreT, S],
    task: Task[P, StoreT, S],
    weights: Weights | None,
    *,
    started: float,
) -> TrainedModel:
    """Put the networks of the folds, their metrics and facts together."""
    dataset, scores, options = trained.data.dataset, trained.scores, trained.options
    folds = trained.members
    unscored = sum(fold.unscored for fold in folds)
    cases = {
        case for fold in folds for case in set(fold.progress.cases) - set(fold.progress.left_out)
    }
    patients = {case.patient for case in dataset.cases if case.id in cases}
    notes = [*dataset.notes, *trained.notes]
    if unscored:
        notes.append(few_scored(folds))
    if len({score.case for score in scores}) < sum(
        len({score.case for score in fold.scores}) for fold in folds
    ):
        notes.append(
            "a case that several folds of the given split validate on counts once, as the first of"
            " them scored it"
        )
    notes += filter(None, (few_steps(trained.plan, fold) for fold in folds))
    notes += [f"fold {fold.number}: {note}" for fold in folds for note in fold.progress.notes]
    if len(folds) > 1:
        notes.append(
            "the folds share one plan, for which all cases were looked at (spacings, sizes,"
            " intensity statistics)"
        )
        notes.append(
            "each case was predicted by the one member that was not trained on it; the ensemble"
            " itself was not measured"
        )
    facts = Facts(
        dataset=dataset.name,
        cases=len(cases),
        patients=len(patients) if None not in patients else None,
        steps=sum(fold.progress.step for fold in folds),
        seconds=round(
            time.perf_counter() - started + sum(fold.earlier_seconds for fold in folds), 1
        ),
        device=describe_device(trained.device),
        seed=options.seed,
        notes=(
            ()
            if weights is None
            else (f"First weights: {weights.origin}, SHA-256 {weights.sha256}.",)
        ),
        details={
            f"fold {number}": {
                "train": list(split.train),
                "validation": list(split.validation),
                "steps": fold.progress.step,
                "unscored": fold.unscored,
                "training_seconds": round(fold.progress.seconds, 1),
                **({"left_out": list(fold.progress.left_out)} if fold.progress.left_out else {}),
            }
            for (number, split), fold in zip(trained.folds, folds, strict=True)
        },
    )
    return TrainedModel(
        plan=trained.plan,
        networks=tuple(fold.network for fold in folds),
        device=trained.device,
        metrics=_metrics(trained, task, notes),
        facts=facts,
        assurance=trained.assurance,
        confidence=trained.confidence,
        data_card=DataCard.load(trained.work / DATA_CARD),
    )


def few_scored(folds: Sequence[TrainedFold[S]]) -> str:
    """Say how many validation cases were scored in the time; "" where all were."""
    cases = sum(len(fold.validated) for fold in folds)
    scored = cases - sum(fold.unscored for fold in folds)
    if scored == cases:
        return ""
    was = "was" if scored == 1 else "were"
    said = f"{scored} of {cases} validation cases {was} scored within the time limit"
    minutes = max(fold.minutes_for_all for fold in folds)
    cure = (
        f"about --minutes {minutes:g} would score all, and so do `hilum predict` and `hilum"
        " evaluate`."
    )
    if scored < min(_FEW_SCORED, cases / 2):
        return f"{WARNING}only {said}: these metrics say little; {cure}"
    return f"Only {said}; {cure}"


def few_steps(plan: Plan, fold: TrainedFold[S]) -> str:
    """Make a warning for a training that was too short.

    "" for one that was not, or whose loss no longer fell.
    """
    progress, cases = fold.progress, len(fold.trained)
    epochs = progress.step * plan.batch.value / max(1, cases)
    if progress.step == 0 or (
        progress.step >= _FEW_STEPS and epochs >= 1
    ):  # a linear probe makes no step
        return ""
    if epochs >= 1 and not loss_still_falls(progress.rows):
        return ""
    why = "its loss was still falling" if epochs >= 1 else "not every training case was used"
    return (
        f"{WARNING}fold {fold.number} trained for only {counted(progress.step, 'step')}"
        f" ({epochs:.2g} epochs of {counted(cases, 'case')}) and {why}: a longer"
        " training in another folder would be better."
    )


def _metrics(
    trained: TrainedFolds[P, StoreT, S], task: Task[P, StoreT, S], notes: list[str]
) -> ModelMetrics:
    """Compute the metrics that the model card shows."""
    scores = trained.scores
    if not scores:
        return ModelMetrics(measured_on="not measured: no validation cases", notes=tuple(notes))
    rows, level = task.validator(trained.plan, trained.device, ()).metrics(scores)
    cases = len({score.case for score in scores})
    one = len(trained.folds) == 1
    split = f"fold {trained.folds[0][0]}" if one else f"{len(trained.folds)}-fold cross-validation"
    return ModelMetrics(
        measured_on=(
            f"{counted(cases, 'validation case')} of {trained.data.dataset.name} ({split}, seed"
            f" {trained.options.seed}; torch in {trained.plan.precision.value})"
        ),
        metrics=rows,
        level=level,
        notes=tuple(notes),
    )
