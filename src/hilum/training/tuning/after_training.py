"""Tuning of post-processing at the end of a training, on the label maps of its validation cases.

Whatever fails costs what it was to learn, never the model: the notes say so.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from hilum.dataset import read_annotation
from hilum.errors import HilumError
from hilum.evaluation import Score
from hilum.files import atomic_write_text
from hilum.io import read_labels, write_labels
from hilum.plan import SegmentationPlan
from hilum.preprocess import CaseStore
from hilum.training.task import TrainedFolds
from hilum.training.tuning.postprocessing import (
    NO_TIME,
    hold_case,
    learn_postprocessing,
    not_learnt,
    too_few,
)
from hilum.training.tuning.tune import learning_notes
from hilum.training.validators.segmentation import score_case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hilum.dataset import Case
    from hilum.training.tuning.records import PostprocessingTuning

POSTPROCESSED, RECORD = "postprocessed", "postprocessing.json"
Folds: TypeAlias = TrainedFolds[SegmentationPlan, CaseStore, Score]

_log = logging.getLogger("hilum")


def tune_after_training(folds: Folds) -> Folds:
    """Learn post-processing and score the cases with it, where the plan has none yet."""
    plan, listener = folds.plan, folds.listener
    # files of an end that was interrupted may be of other predictions
    (folds.work / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folds.work / POSTPROCESSED, ignore_errors=True)
    predicted = _find_predictions(folds)
    if plan.postprocessing.value or not predicted:
        return folds
    try:
        found, scores = _learn_and_apply(folds, predicted)
        atomic_write_text(folds.work / RECORD, found.model_dump_json(indent=2) + "\n")
        notes = learning_notes(found)
    except Exception as error:  # noqa: BLE001  whatever it is, the trained model must not be lost
        shutil.rmtree(folds.work / POSTPROCESSED, ignore_errors=True)
        words = error.found if isinstance(error, HilumError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, HilumError):
            _log.exception("Post-processing: an error that hilum did not expect; please report it")
        because = f"it could not be learnt: {words}; `hilum tune` does it"
        found = not_learnt([case.group for case, _ in predicted], because)
        scores, notes = folds.scores, (f"post-processing: {because}",)
    titles = ", ".join(step.title for step in found.steps) or "none"
    listener.say(f"Post-processing: {titles}, because {found.because}.")
    learnt = type(plan.postprocessing)(value=found.steps, because=found.because)
    return replace(
        folds,
        plan=plan.model_copy(update={"postprocessing": learnt}),
        scores=scores,
        notes=(*folds.notes, *notes),
    )


def _find_predictions(folds: Folds) -> list[tuple[Case, Path]]:
    """Find the label map of each scored case, of the first fold that validates on it."""
    scored = {score.case for score in folds.scores}
    found: dict[str, tuple[Case, Path]] = {}
    for fold in folds.members:
        folder = folds.work / f"fold_{fold.number}" / "validation"
        for case in fold.validated:
            if case.id in scored:
                found.setdefault(case.id, (case, folder / f"{case.id}.nii.gz"))
    return list(found.values())


def _learn_and_apply(
    folds: Folds, predicted: Sequence[tuple[Case, Path]]
) -> tuple[PostprocessingTuning, tuple[Score, ...]]:
    """Learn from the saved label maps, and write and score them anew, post-processed.

    Each case is post-processed by what was learnt from other patients. Where the time is up before
    all were scored, nothing is learnt: some of them would be worse than none.
    """
    table, listener = folds.plan.labels, folds.listener
    groups = [case.group for case, _ in predicted]
    if few := too_few(groups):
        return not_learnt(groups, few), folds.scores
    deadline = folds.time_plan.deadline("tuning")
    held = []
    for done, (case, file) in enumerate(predicted, start=1):
        if deadline.passed():
            return not_learnt(groups, NO_TIME), folds.scores
        held.append(hold_case(case, read_labels(file), read_annotation(case), table))
        listener.advance("reading predictions", done, len(predicted), case.id)
    found = learn_postprocessing(
        held,
        table,
        in_voxels=folds.plan.spacing.value is None,
        deadline=deadline,
        progress=lambda title: listener.advance("trying steps", 0, 1, title),
    )
    scores = {(score.case, score.region): score for score in folds.scores}
    for done, one in enumerate(held if found.steps else (), start=1):
        if deadline.passed():
            shutil.rmtree(folds.work / POSTPROCESSED)
            return not_learnt(groups, NO_TIME), folds.scores
        labels = one.volume(found.steps_without(one.case.id), table)
        write_labels(labels, folds.work / POSTPROCESSED / f"{one.case.id}.nii.gz")
        new = score_case(labels, read_annotation(one.case), one.case, table)
        scores |= {(score.case, score.region): score for score in new}
        listener.advance("scoring again", done, len(held), one.case.id)
    return found, tuple(scores.values())
