"""Records of a tuning: every trial with its metrics, as tuning.json beside the model."""

from __future__ import annotations

from typing import Literal

from hilum.evaluation.records import Number, Record
from hilum.plan.segmentation import (
    PostprocessingStep,
)


class Change(Record):
    """Mean Dice of one region before and after post-processing, over the same cases.

    A case without the region counts 1 where none of it is predicted and 0 where some is, so that a
    finding invented in a healthy case and then removed counts (the metrics themselves leave such a
    case out: undefined).

    Args:
        region: its name, or "mean of the regions".
        cases: number of cases.
        patients: number of their patients.
        changed: cases whose Dice changed.
        before: mean Dice before.
        after: mean Dice after.
        difference: after minus before.
        low: lower end of its 95 % bootstrap interval, patients resampled.
        high: upper end.
        p_value: Wilcoxon signed-rank test over patients.
    """

    region: str
    cases: int
    patients: int
    changed: int
    before: Number
    after: Number
    difference: Number
    low: Number
    high: Number
    p_value: Number


class Trial(Record):
    """One step of post-processing that was tried on top of those kept before it.

    Args:
        step: the step.
        own: change of the region it works on; of the whole foreground the mean of the regions.
        invented: cases without the region in which it is predicted, before and after.
        kept: whether it stays.
        because: why.
    """

    step: PostprocessingStep
    own: Change
    invented: tuple[int, int]
    kept: bool
    because: str


class Part(Record):
    """Some of the patients, and the steps that were learnt from all others.

    Args:
        cases: ids of their cases.
        steps: learnt without them.
    """

    cases: tuple[str, ...]
    steps: tuple[PostprocessingStep, ...]


class PostprocessingTuning(Record):
    """Result of tuning the post-processing.

    Args:
        steps: those that stay.
        because: why, with the metrics.
        cases: number of predictions that it was learnt from.
        patients: number of their patients.
        trials: in the order in which they were tried; steps that changed no case are left out.
        unchanged: titles of the steps that changed no case.
        held_out: the regions that steps were found for, each case by the steps learnt from the
            other parts of the patients.
        parts: the parts, with those steps.
    """

    steps: tuple[PostprocessingStep, ...] = ()
    because: str
    cases: int
    patients: int
    trials: tuple[Trial, ...] = ()
    unchanged: tuple[str, ...] = ()
    held_out: Change | None = None
    parts: tuple[Part, ...] = ()

    def steps_without(self, case: str) -> tuple[PostprocessingStep, ...]:
        """Return the steps that a case is scored with: those learnt from other patients.

        None where none are kept.
        """
        return next(part.steps for part in self.parts if case in part.cases) if self.steps else ()


class Tuning(Record):
    """Contents of tuning.json.

    Args:
        format: kind of file.
        version: of this format.
        hilum: version that wrote it.
        model: id of the model that was tuned.
        dataset: name of the data set.
        cases: ids of the cases used.
        chosen: how they were chosen, and by which networks each was predicted.
        engine: engine, precision and device that ran the networks.
        seconds: wall-clock time.
        postprocessing: the post-processing that was learnt.
    """

    format: Literal["hilum-tuning"] = "hilum-tuning"
    version: Literal[2] = 2
    hilum: str
    model: str
    dataset: str
    cases: tuple[str, ...]
    chosen: tuple[str, ...]
    engine: str
    seconds: float
    postprocessing: PostprocessingTuning
