"""From a trained segmentation model and annotated cases to the same model, tuned: `hilum tune`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.dataset import arranged, open_dataset
from hilum.errors import UsageError
from hilum.evaluation.page import span
from hilum.inference import ModelMetrics, TrainedModel
from hilum.inference.manifest import hilum_version
from hilum.io import OutputFolder, holds_files
from hilum.plan import Decision, SegmentationPlan
from hilum.training.options import Listener
from hilum.training.tuning.eligible_cases import find_eligible_cases
from hilum.training.tuning.out_of_fold import OutOfFoldPredictions
from hilum.training.tuning.overlap import OVERLAPS, choose_overlap, said
from hilum.training.tuning.postprocessing import learn_postprocessing
from hilum.training.tuning.records import Tuning
from hilum.training.validators.segmentation import segmentation_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.inference import ExportedModel
    from hilum.training.tuning.postprocessing import Unit
    from hilum.training.tuning.records import OverlapTuning, PostprocessingTuning

_FIRST_SHARE, _LEARNING_SHARE, _OVERLAP_SHARE = 0.4, 0.6, 0.85
"""Of the minutes: until when cases are predicted, post-processing is learnt, overlaps are tried;
the rest is for the metrics."""


@dataclass(frozen=True)
class TuneOptions:
    """Options of tuning.

    Args:
        cases: how many to use at most, spread evenly; None: all that may be used.
        minutes: wall-clock time; None: as long as it takes.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.

    Raises:
        UsageError: a number that is not positive.
    """

    cases: int | None = None
    minutes: float | None = None
    patients: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.cases is not None and self.cases < 1:
            raise UsageError(f"--cases {self.cases}", needed="at least one case", cure="--cases 20")
        if self.minutes is not None and self.minutes <= 0:
            raise UsageError(
                f"--minutes {self.minutes:g}",
                needed="a positive number of minutes",
                cure="--minutes 20",
            )


def tune(
    model: TrainedModel | ExportedModel,
    data: Path | str,
    out: Path | str,
    options: TuneOptions | None = None,
    *,
    listener: Listener | None = None,
) -> tuple[TrainedModel, Tuning]:
    """Learn post-processing and the overlap of patches, and write the model anew.

    Args:
        model: of a segmentation.
        data: annotated cases that at least one of the model's networks was not trained on; for the
            data set that it was trained on these are the validation cases of its folds.
        out: a new folder for the tuned model and tuning.json.
        options: what is asked for.
        listener: is told what happens.

    Returns:
        The tuned model, with the folder's id, and what was found.

    Raises:
        UsageError: the folder is in use, the model is none of a segmentation, or has seen every
            case.
        DataError: no case could be used.
    """
    out = Path(out)
    if not isinstance(model, TrainedModel):
        raise UsageError(
            "an exported model, whose files are sealed as they were checked",
            needed="the trained model that it was exported from",
            cure="tune that one, and export it again: hilum export",
        )
    plan = model.plan
    if not isinstance(plan, SegmentationPlan):
        raise UsageError(
            f"{plan.name}: a classifier, which has neither patches that overlap nor labels to be"
            " cleaned",
            needed="a segmentation model",
            cure=(
                "a classifier learns its calibration and when to refuse while it is trained: hilum"
                " train"
            ),
        )
    with OutputFolder(out, "tune"):
        if holds_files(out):
            raise UsageError(
                f"{out} is in use",
                needed="a new folder: the model that is tuned stays as it is",
                cure="-o ANOTHER",
            )
        return _tune(model, plan, data, out, options or TuneOptions(), listener or Listener())


def _tune(
    model: TrainedModel,
    plan: SegmentationPlan,
    data: Path | str,
    out: Path,
    options: TuneOptions,
    listener: Listener,
) -> tuple[TrainedModel, Tuning]:
    started = time.perf_counter()
    opened = open_dataset(data, patients=options.patients)
    opened.refuse_faults()
    dataset = arranged(opened, plan.channels, plan.labels, holder="the model")
    for note in dataset.notes[len(opened.notes) :]:
        listener.say(f"{note[0].upper()}{note[1:]}.")
    unseen = find_eligible_cases(dataset, model.facts, len(model.networks)).limit(options.cases)
    for sentence in unseen.said:
        listener.say(f"{sentence[0].upper()}{sentence[1:]}.")
    rounds = OutOfFoldPredictions(
        model,
        unseen,
        say=listener.say,
        progress=lambda overlap, done, total, case: listener.advance(
            f"predicting at {overlap:g}", done, total, case
        ),
    )

    def until(share: float) -> float | None:
        return None if options.minutes is None else started + share * options.minutes * 60

    rounds.first(until(_FIRST_SHARE))
    cleaned = learn_postprocessing(
        rounds.answers(OVERLAPS[0]),
        plan.labels,
        unit=unit_of(plan),
        deadline=until(_LEARNING_SHARE),
        progress=told(listener),
    )
    listener.say(
        f"Post-processing: {', '.join(step.title for step in cleaned.steps) or 'none'}, because"
        f" {cleaned.because}."
    )
    chosen = choose_overlap(
        rounds.round(OVERLAPS[0], cleaned.steps),
        lambda overlap: rounds.round(overlap, cleaned.steps),
        rounds.patches,
        kept=plan.overlap.value,
        groups=[answer.group for answer in rounds.answers(OVERLAPS[0])],
        regions=[region.name for region in plan.labels.scored],
        deadline=until(_OVERLAP_SHARE),
    )
    listener.say(f"Overlap: {chosen.overlap:g}, because {chosen.because}.")
    tuned = plan.model_copy(
        update={
            "overlap": Decision[float](value=chosen.overlap, because=chosen.because),
            "postprocessing": type(plan.postprocessing)(
                value=cleaned.steps, because=cleaned.because
            ),
        }
    )
    scores = rounds.scores(
        cleaned.steps_without,
        lambda done, total, case: listener.advance("measuring", done, total, case),
    )
    rows, level = segmentation_metrics(scores)
    notes = [*unseen.said, *learning_notes(cleaned, chosen)]
    had_not = (
        " that the answering networks had not seen"
        if unseen.known
        else ", which the model may have been trained on"
    )
    metrics = ModelMetrics(
        measured_on=f"{len(rounds.cases)} cases of {dataset.name}{had_not} (hilum tune)",
        metrics=rows,
        level=level,
        notes=tuple(notes),
    )
    record = Tuning(
        hilum=hilum_version(),
        model=model.id,
        dataset=dataset.name,
        cases=tuple(case.id for case in rounds.cases),
        chosen=unseen.said,
        engine=rounds.engine,
        seconds=round(time.perf_counter() - started, 1),
        postprocessing=cleaned,
        overlap=chosen,
    )
    record.save(out)
    return replace(model, plan=tuned, metrics=metrics).save(out), record


def learning_notes(found: PostprocessingTuning, overlap: OverlapTuning | None) -> tuple[str, ...]:
    """Describe how the reported metrics were kept apart from the cases that were learnt from."""
    notes = []
    if found.held_out is not None and found.steps:
        held = found.held_out
        notes.append(
            "for these figures each case was post-processed by what was learnt from other patients"
            f" (the model has what was learnt from all): Dice of {held.region}"
            f" {held.difference:+.4f} ({span(held.low, held.high, '+.4f')})"
        )
    if overlap is not None and overlap.failed:
        notes.append(f"the overlap of patches: {overlap.failed}")
    if overlap is not None and overlap.overlap != OVERLAPS[0] and overlap.trials:
        chosen = [said(trial) for trial in overlap.trials if trial.overlap == overlap.overlap]
        notes.append(
            f"these figures are at an overlap of {OVERLAPS[0]:g}; the model's is"
            f" {overlap.overlap:g}"
            + "".join(
                f", which was chosen on the same cases, where it changes at worst {one}"
                for one in chosen
            )
        )
    return tuple(notes)


def unit_of(plan: SegmentationPlan) -> Unit:
    """Return the unit of minimum volumes: ml, or voxels where the images have no physical scale."""
    return "voxels" if plan.spacing.value is None else "ml"


def told(listener: Listener) -> Callable[[str], None]:
    """Steps that are tried, as a bar whose length is not known."""
    tried = 0

    def tell(title: str) -> None:
        nonlocal tried
        tried += 1
        listener.advance("trying steps", tried, tried + 1, title)

    return tell
