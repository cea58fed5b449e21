"""Tuning of post-processing and overlap at the end of a training, on validation predictions.

Post-processing is learnt from their saved label maps. The overlap of patches is tried only in a
training of given minutes, where enough of them are left: every case is predicted again at up to
five overlaps. A training without minutes is a function of plan, data and seed, not of the speed of
the machine, and one of a given plan keeps it. Where the time does not even allow the new metrics,
what was learnt is given up: `hilum tune` does it later.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hilum.dataset import read_annotation
from hilum.evaluation import score_labels
from hilum.inference import TrainedModel
from hilum.io import atomic_write_text, read_labels, write_labels
from hilum.plan import Decision
from hilum.tasks import apply_postprocessing
from hilum.training.tuning.eligible_cases import EligibleCases
from hilum.training.tuning.out_of_fold import OutOfFoldPredictions
from hilum.training.tuning.overlap import OVERLAPS, choose_overlap, what_failed
from hilum.training.tuning.postprocessing import learn_postprocessing, no_time, too_few
from hilum.training.tuning.postprocessing_trials import FEWEST, compress_case, group_of
from hilum.training.tuning.records import PostprocessingTuning
from hilum.training.tuning.tune import learning_notes, told, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from hilum.dataset import Case
    from hilum.evaluation import Score
    from hilum.plan import SegmentationPlan
    from hilum.training.fold import TrainedFold
    from hilum.training.options import Listener, TrainOptions
    from hilum.training.tuning.postprocessing_trials import Steps
    from hilum.training.tuning.records import OverlapTuning
    from hilum.volume import Volume

POSTPROCESSED, FIGURES, OVERLAP_FIGURES = "postprocessed", "postprocessing.json", "overlap.json"
_PROBED = 10.0
"""Seconds below which not even one case is predicted to see what that takes."""
_ROUNDS = 3.5
"""What predicting at all overlaps takes, in times of predicting once at the first."""
_FINISH_SECONDS = 2.5
"""What writing the model takes."""


@dataclass(frozen=True)
class TuningContext:
    """Context of the last stages: folder, device, options and deadline.

    Args:
        work: the folder whose `fold_<n>/validation` hold the label maps.
        device: where the networks are.
        options: what the user asked for.
        listener: is told what happens.
        last_fold: `time.perf_counter` when the minutes of the last fold began.
    """

    work: Path
    device: torch.device
    options: TrainOptions
    listener: Listener
    last_fold: float

    @property
    def deadline(self) -> float | None:
        """Time at which everything must have ended; None without a limit."""
        minutes = self.options.minutes
        return None if minutes is None else self.last_fold + minutes * 60 - _FINISH_SECONDS

    @property
    def late(self) -> bool:
        """True if the time is up."""
        return self.deadline is not None and time.perf_counter() > self.deadline

    def room(self) -> float:
        """Return the seconds that trying overlaps may take."""
        return (
            0.0
            if self.deadline is None or self.options.plan is not None
            else self.deadline - time.perf_counter()
        )


@dataclass(frozen=True)
class TuningOutcome:
    """The plan with what was tuned, the members with their new scores, and notes for the card."""

    plan: SegmentationPlan
    members: tuple[TrainedFold[Score], ...]
    notes: tuple[str, ...] = ()


def learn_afterwards(
    plan: SegmentationPlan, members: Sequence[TrainedFold[Score]], ending: TuningContext
) -> TuningOutcome:
    """Learn post-processing, and the overlap where there is time.

    Nothing where the plan already has post-processing.

    Whatever fails costs what it was to learn, never the model: the notes say so.
    """
    for stale in (
        FIGURES,
        OVERLAP_FIGURES,
    ):  # of an end that was interrupted, and may be of other answers
        (ending.work / stale).unlink(missing_ok=True)
    shutil.rmtree(ending.work / POSTPROCESSED, ignore_errors=True)
    answered = _answered(members, ending)
    if plan.postprocessing.value or not answered:
        return TuningOutcome(plan, tuple(members))
    found, scored, failed = _tune_postprocessing(plan, members, answered, ending)
    ending.listener.say(
        f"Post-processing: {', '.join(step.title for step in found.steps) or 'none'}, because"
        f" {found.because}."
    )
    update: dict[str, object] = {
        "postprocessing": type(plan.postprocessing)(value=found.steps, because=found.because)
    }
    try:
        overlap = _overlap(plan, members, answered, found.steps, ending)
        if overlap is not None:
            atomic_write_text(
                ending.work / OVERLAP_FIGURES, overlap.model_dump_json(indent=2) + "\n"
            )
    except Exception as error:  # noqa: BLE001  whatever it is, the trained model must not be lost
        overlap = None
        failed = (
            *failed,
            (
                f"no other overlap of patches could be tried: {what_failed(error)}; `hilum tune`"
                " does it"
            ),
        )
    if overlap is not None:
        ending.listener.say(f"Overlap: {overlap.overlap:g}, because {overlap.because}.")
        update["overlap"] = Decision[float](value=overlap.overlap, because=overlap.because)
    return TuningOutcome(
        plan.model_copy(update=update), scored, (*learning_notes(found, overlap), *failed)
    )


def _tune_postprocessing(
    plan: SegmentationPlan,
    members: Sequence[TrainedFold[Score]],
    answered: Sequence[_Answered],
    ending: TuningContext,
) -> tuple[PostprocessingTuning, tuple[TrainedFold[Score], ...], tuple[str, ...]]:
    """Learn post-processing and score the members with it; where that fails, nothing is learnt."""
    cases, patients = len(answered), len({group_of(one.case) for one in answered})
    try:
        found = _postprocessing(plan, answered, ending)
        scored = _rescored(plan, members, answered, found, ending)
        if scored is None:
            found, scored = no_time(cases, patients), tuple(members)
        atomic_write_text(ending.work / FIGURES, found.model_dump_json(indent=2) + "\n")
    except Exception as error:  # noqa: BLE001  whatever it is, the trained model must not be lost
        shutil.rmtree(ending.work / POSTPROCESSED, ignore_errors=True)
        because = f"it could not be learnt: {what_failed(error)}; `hilum tune` does it"
        nothing = PostprocessingTuning(because=because, cases=cases, patients=patients)
        return nothing, tuple(members), (f"post-processing: {because}",)
    return found, scored, ()


@dataclass(frozen=True)
class _Answered:
    """A scored case: the place of the first member that predicted it, and its label map."""

    place: int
    case: Case
    file: Path


def _answered(members: Sequence[TrainedFold[Score]], ending: TuningContext) -> list[_Answered]:
    """The scored cases, each as the first member that has it predicted it."""
    found: dict[str, _Answered] = {}
    for place, member in enumerate(members):
        scored = {score.case for score in member.result.scores}
        folder = ending.work / f"fold_{member.number}" / "validation"
        for case in member.validated:
            if case.id in scored:
                found.setdefault(case.id, _Answered(place, case, folder / f"{case.id}.nii.gz"))
    return list(found.values())


def _postprocessing(
    plan: SegmentationPlan, answered: Sequence[_Answered], ending: TuningContext
) -> PostprocessingTuning:
    """Learn it from the saved label maps."""
    few = too_few([group_of(one.case) for one in answered])
    if few is not None:
        return few
    held = []
    for done, one in enumerate(answered, start=1):
        if ending.late:
            return no_time(len(answered), len({group_of(other.case) for other in answered}))
        held.append(
            compress_case(one.case, read_labels(one.file), read_annotation(one.case), plan.labels)
        )
        ending.listener.advance("reading answers", done, len(answered), one.case.id)
    return learn_postprocessing(
        held,
        plan.labels,
        unit=unit_of(plan),
        deadline=ending.deadline,
        progress=told(ending.listener),
    )


def _rescored(
    plan: SegmentationPlan,
    members: Sequence[TrainedFold[Score]],
    answered: Sequence[_Answered],
    found: PostprocessingTuning,
    ending: TuningContext,
) -> tuple[TrainedFold[Score], ...] | None:
    """Score the post-processed label maps, which are written to a folder of their own.

    Each case is post-processed by what was learnt from other patients.

    Returns:
        None where the time was up before all were scored.
    """
    if not found.steps:
        return tuple(members)
    folder = ending.work / POSTPROCESSED
    folder.mkdir(parents=True, exist_ok=True)
    new: list[Score] = []
    for done, one in enumerate(answered, start=1):
        if ending.late:
            shutil.rmtree(folder)  # not all of them would be worse than none
            return None
        before = read_labels(one.file)
        after = apply_postprocessing(before, found.steps_without(one.case.id), plan.labels)
        if (after.array == before.array).all():
            shutil.copyfile(one.file, folder / one.file.name)
        else:
            write_labels(after, folder / one.file.name)
            new += _score(plan, after, one.case)
        ending.listener.advance("scoring again", done, len(answered), one.case.id)
    return _with_scores(members, answered, new)


def _score(plan: SegmentationPlan, labels: Volume, case: Case) -> tuple[Score, ...]:
    return score_labels(
        labels.array[0],
        read_annotation(case).array[0],
        spacing=labels.geometry.spacing,
        table=plan.labels,
        case=case.id,
        patient=case.patient,
    )


def _with_scores(
    members: Sequence[TrainedFold[Score]], answered: Sequence[_Answered], new: Sequence[Score]
) -> tuple[TrainedFold[Score], ...]:
    """The members with new scores of the cases that they were the first to predict."""
    rows = {(score.case, score.region): score for score in new}
    first = {one.case.id: one.place for one in answered}
    return tuple(
        replace(
            member,
            result=replace(
                member.result,
                scores=tuple(
                    (
                        rows.get((score.case, score.region), score)
                        if first[score.case] == place
                        else score
                    )
                    for score in member.result.scores
                ),
            ),
        )
        for place, member in enumerate(members)
    )


def _overlap(
    plan: SegmentationPlan,
    members: Sequence[TrainedFold[Score]],
    answered: Sequence[_Answered],
    steps: Steps,
    ending: TuningContext,
) -> OverlapTuning | None:
    """Try overlaps.

    None where that does not fit into the time, there are few patients, or the overlap is the user's
    own.
    """
    room = ending.room()
    patients = len({group_of(one.case) for one in answered})
    if room <= _PROBED or patients < FEWEST or plan.overlap.value != OVERLAPS[0]:
        return None
    model = TrainedModel(
        plan=plan, networks=tuple(member.result.network for member in members), device=ending.device
    )
    unseen = EligibleCases(
        tuple(one.case for one in answered), {one.case.id: (one.place,) for one in answered}, ()
    )
    begun = time.perf_counter()
    OutOfFoldPredictions(model, unseen.limit(1), say=ending.listener.say).first(None)
    if (time.perf_counter() - begun) * len(answered) * _ROUNDS > room:
        return None
    rounds = OutOfFoldPredictions(
        model,
        unseen,
        say=ending.listener.say,
        progress=lambda overlap, done, total, case: ending.listener.advance(
            f"predicting at {overlap:g}", done, total, case
        ),
    )
    rounds.first(begun + room)
    if len(rounds.cases) < len(answered):
        return None
    return choose_overlap(
        rounds.round(OVERLAPS[0], steps),
        lambda overlap: rounds.round(overlap, steps),
        rounds.patches,
        kept=plan.overlap.value,
        groups=[group_of(case) for case in rounds.cases],
        regions=[region.name for region in plan.labels.scored],
        deadline=begun + room,
    )
