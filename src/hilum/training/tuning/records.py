"""Records of a tuning: every trial with its metrics, as tuning.json beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError

from hilum.errors import UsageError
from hilum.evaluation.records import Number, Record
from hilum.io import OutputFolder
from hilum.plan.segmentation import (
    PostprocessingStep,
)

TUNING = "tuning.json"


class Change(Record):
    """Mean Dice of one region before and after something, over the same cases.

    A case without the region counts 1 where none of it is answered and 0 where some is, so that a
    finding invented in a healthy case and then removed is seen (the metrics themselves leave such a
    case out: undefined).

    Args:
        region: its name, or "mean of the regions".
        cases: all of them.
        patients: theirs.
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
        step: what was tried.
        own: of the region it changes; of the whole foreground the mean of the regions.
        others: the region, among the rest, that changed for the worst; None where there is none.
        missed: cases that have the region and are answered without it, before and after.
        invented: cases without the region that are answered with it, before and after.
        p_holm: p-value of the step on its own, with nothing else kept, corrected for all steps that
            were tried (Holm).
        kept: whether it stays.
        because: why.
    """

    step: PostprocessingStep
    own: Change
    p_holm: Number
    others: Change | None
    missed: tuple[int, int]
    invented: tuple[int, int]
    kept: bool
    because: str


class Part(Record):
    """Some of the patients, and what was learnt from all others.

    Args:
        cases: ids of theirs.
        steps: learnt without them.
    """

    cases: tuple[str, ...]
    steps: tuple[PostprocessingStep, ...]


class PostprocessingTuning(Record):
    """Result of tuning the post-processing.

    Args:
        steps: those that stay.
        because: why, with the figures.
        cases: answers that it was learnt from.
        patients: theirs.
        trials: in the order in which they were tried; steps that changed no case are left out.
        unchanged: titles of the steps that changed no case.
        learnt: every region on the very cases it was learnt from: optimistic.
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
    learnt: tuple[Change, ...] = ()
    held_out: Change | None = None
    parts: tuple[Part, ...] = ()

    def steps_without(self, case: str) -> tuple[PostprocessingStep, ...]:
        """Return the steps that a case is scored with: those that its patient had no part in.

        None where none are kept.
        """
        return next(part.steps for part in self.parts if case in part.cases) if self.steps else ()


class OverlapTrial(Record):
    """All cases predicted at one overlap.

    Args:
        overlap: fraction shared by neighbouring patches.
        patches: mean number of patches of a case that the network saw.
        seconds: mean seconds of a case in the network, with its patches taken out and put together.
        changes: every region, against the plan's first choice of 0.5.
        within: whether the interval of no region's change reaches further below 0 than is allowed.
        shared_with: the overlap whose patches these are too, so that nothing was computed again;
            None where it was.
    """

    overlap: float
    patches: float
    seconds: Number
    changes: tuple[Change, ...] = ()
    within: bool = True
    shared_with: float | None = None


class OverlapTuning(Record):
    """Result of tuning the overlap of patches.

    Args:
        overlap: the one that is chosen.
        because: why, with the figures.
        cases: that were predicted.
        trials: in the order in which they were tried, up to the first that costs too much.
        failed: what kept the others from being tried, where an error did.
    """

    overlap: float
    because: str
    cases: int
    trials: tuple[OverlapTrial, ...] = ()
    failed: str = ""


class Tuning(Record):
    """tuning.json.

    Args:
        format: what kind of file this is.
        version: of this format.
        hilum: version that wrote it.
        model: id of the model that was tuned.
        dataset: name of the data set.
        cases: ids of the cases used.
        chosen: how they were chosen, and by which networks each was predicted.
        engine: what ran the networks: engine, precision and device, which the seconds depend on.
        seconds: wall-clock time.
        postprocessing: what was learnt about it.
        overlap: what was learnt about it; None where it was not tried.
    """

    format: Literal["hilum-tuning"] = "hilum-tuning"
    version: Literal[1] = 1
    hilum: str
    model: str
    dataset: str
    cases: tuple[str, ...]
    chosen: tuple[str, ...]
    engine: str
    seconds: float
    postprocessing: PostprocessingTuning
    overlap: OverlapTuning | None = None

    def save(self, folder: Path | str) -> Path:
        """Write tuning.json, completely or not at all."""
        with OutputFolder(folder, "tune") as out:
            out.write({TUNING: self.model_dump_json(indent=2) + "\n"})
        return out.path / TUNING

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        path = Path(folder) / TUNING
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise UsageError(
                f"{path} cannot be read: {error}", needed="a folder that `hilum tune` wrote"
            ) from error
