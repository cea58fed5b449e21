"""From a trained segmentation model and annotated cases to the same model, tuned: `hilum tune`."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hilum.dataset import match_dataset, open_dataset, read_annotation
from hilum.errors import DataError, HilumError, UsageError, counted
from hilum.evaluation.page import span
from hilum.files import OutputFolder, holds_files
from hilum.inference import ModelMetrics, Predictor, TrainedModel
from hilum.inference.manifest import hilum_version
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases
from hilum.inference.voxel_counter import VoxelCounter
from hilum.plan import SegmentationPlan
from hilum.preprocess import preprocess_labels
from hilum.training.case_order import shuffled_order
from hilum.training.fit_confidence import HeldOutCase, decided_notes, fit_confidence
from hilum.training.options import Listener
from hilum.training.time_plan import TUNE_SHARES
from hilum.training.tuning.eligible_cases import EligibleCases, find_eligible_cases
from hilum.training.tuning.postprocessing import hold_case, learn_postprocessing
from hilum.training.tuning.records import Tuning
from hilum.training.validators.segmentation import SegmentationValidator, score_case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset import Case
    from hilum.evaluation import Score
    from hilum.inference import ExportedModel
    from hilum.inference.voxel_calibration import VoxelCalibration
    from hilum.metrics.log_odds import VoxelCounts
    from hilum.training.tuning.postprocessing import HeldCase
    from hilum.training.tuning.records import PostprocessingTuning
    from hilum.volume import LabelTable

TUNING = "tuning.json"


class CountedCase(NamedTuple):
    """A predicted case beside its annotation, and the counts of its voxels."""

    held: HeldCase
    counts: VoxelCounts
    precision: str


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
        """Refuse numbers that are not positive."""
        for name, value, needed in (
            ("cases", self.cases, "at least one case"),
            ("minutes", self.minutes, "a positive number of minutes"),
        ):
            if value is not None and value <= 0:
                raise UsageError(f"{name}={value:g} is too small", needed=needed, cure=f"{name}=20")


def tune(
    model: TrainedModel | ExportedModel,
    data: Path | str,
    out: Path | str,
    options: TuneOptions | None = None,
    *,
    listener: Listener | None = None,
) -> tuple[TrainedModel, Tuning]:
    """Learn post-processing, and write the model anew.

    Args:
        model: of a segmentation.
        data: annotated cases that at least one of the model's networks was not trained on; for the
            data set that it was trained on these are the validation cases of its folds.
        out: a new folder for the tuned model and tuning.json.
        options: of the tuning.
        listener: is told what happens.

    Returns:
        The tuned model, with the folder's id, and what was found.

    Raises:
        UsageError: the folder is in use, the model is none of a segmentation, or was trained on
            every case.
        DataError: no case could be used.
    """
    out = Path(out)
    if not isinstance(model, TrainedModel):
        raise UsageError(
            "the model is an exported one, which stays as it was checked",
            needed="the trained model that it was exported from",
            cure="tune that one, and export it again: hilum export",
        )
    plan = model.plan
    if not isinstance(plan, SegmentationPlan):
        raise UsageError(
            f"the model {plan.name} is a classifier, which has no label maps to be cleaned",
            needed="a segmentation model",
            cure=(
                "a classifier learns its calibration and when to refuse while it is trained: hilum"
                " train"
            ),
        )
    with OutputFolder(out, "tune") as folder:
        if holds_files(out):
            raise UsageError(
                f"{out} is in use",
                needed="a new folder: the model that is tuned stays as it is",
                cure="out='ANOTHER'",
            )
        return _tune(model, plan, data, folder, options or TuneOptions(), listener or Listener())


def _tune(
    model: TrainedModel,
    plan: SegmentationPlan,
    data: Path | str,
    out: OutputFolder,
    options: TuneOptions,
    listener: Listener,
) -> tuple[TrainedModel, Tuning]:
    """Predict out of fold, learn post-processing, and save the model that applies it."""
    started = time.perf_counter()
    end = UNLIMITED if options.minutes is None else Deadline(started + options.minutes * 60)
    opened = open_dataset(data, patients=options.patients)
    opened.refuse_faults()
    dataset = match_dataset(opened, plan.channels, plan.labels, holder="the model")
    eligible = find_eligible_cases(dataset, model.facts, len(model.networks)).limit(options.cases)
    for note in (*dataset.notes[len(opened.notes) :], *eligible.notes):
        listener.say(f"{note[0].upper()}{note[1:]}.")

    counted_cases, engine = predict_out_of_fold(
        model, plan, eligible, deadline=end.part(TUNE_SHARES["predicting"]), listener=listener
    )
    predicted = [one.held for one in counted_cases]
    found = learn_postprocessing(
        predicted,
        plan.labels,
        in_voxels=plan.spacing.value is None,
        deadline=end.part(TUNE_SHARES["learning"] / (1 - TUNE_SHARES["predicting"])),
        progress=lambda title: listener.advance("trying steps", 0, 1, title),
    )
    titles = ", ".join(step.title for step in found.steps) or "none"
    listener.say(f"Post-processing: {titles}, because {found.because}.")

    scores: list[Score] = []
    judged: list[HeldOutCase] = []
    for done, (one, counts, _) in enumerate(counted_cases, start=1):
        labels = one.volume(found.steps_without(one.case.id), plan.labels)
        own = score_case(labels, read_annotation(one.case), one.case, plan.labels)
        scores += own
        judged.append(HeldOutCase(one.case, one.case.group, counts, own))
        listener.advance("measuring", done, len(predicted), one.case.id)
    confidence = _fit_confidence(
        judged,
        plan.labels,
        eligible,
        len(model.networks),
        notes=decided_notes(end=False, postprocessing=bool(found.steps)),
        precision=counted_cases[0].precision,
    )
    rows, level = SegmentationValidator(plan, model.device, ()).metrics(scores)
    untrained = (
        " that the predicting networks were not trained on"
        if eligible.known
        else ", which the model may have been trained on"
    )
    metrics = ModelMetrics(
        measured_on=f"{counted(len(predicted), 'case')} of {dataset.name}{untrained} (hilum tune)",
        metrics=rows,
        level=level,
        notes=(*eligible.notes, *learning_notes(found)),
    )
    record = Tuning(
        hilum=hilum_version(),
        model=model.id,
        dataset=dataset.name,
        cases=tuple(one.case.id for one in predicted),
        chosen=eligible.notes,
        engine=engine,
        seconds=round(time.perf_counter() - started, 1),
        postprocessing=found,
    )
    out.write({TUNING: record.model_dump_json(indent=2) + "\n"})
    learnt = type(plan.postprocessing)(value=found.steps, because=found.because)
    tuned = plan.model_copy(update={"postprocessing": learnt})
    new = replace(model, plan=tuned, metrics=metrics, confidence=confidence)
    return new.save(out.path), record


def _fit_confidence(
    judged: Sequence[HeldOutCase],
    table: LabelTable,
    eligible: EligibleCases,
    networks: int,
    *,
    notes: tuple[str, ...],
    precision: str,
) -> VoxelCalibration:
    """Fit the confidence of the tuned model on the same cases."""
    parts = any(len(eligible.networks[one.case.id]) < networks for one in judged)
    if not eligible.known:
        void = "the model may have learnt from the held-out cases: then the guarantee is void"
        notes = (void, *notes)
    return fit_confidence(
        judged, table, networks=networks if parts else 1, notes=notes, precision=precision
    )


def predict_out_of_fold(
    model: TrainedModel,
    plan: SegmentationPlan,
    eligible: EligibleCases,
    *,
    deadline: Deadline,
    listener: Listener,
) -> tuple[list[CountedCase], str]:
    """Predict each case without post-processing by the networks that were not trained on it.

    Cases that fail, or that the time does not allow, are left out, and that is said; of the cases
    of each group of networks its share is predicted.

    Returns:
        The cases in the order of the data set; engine, precision and device in words.

    Raises:
        DataError: no case could be predicted.
    """
    plain = type(plan.postprocessing)(value=(), because="learnt from predictions without it")
    plan = plan.model_copy(update={"postprocessing": plain})
    groups: defaultdict[tuple[int, ...], list[Case]] = defaultdict(list)
    for case in eligible.cases:
        groups[eligible.networks[case.id]].append(case)
    found: dict[str, CountedCase] = {}
    failed: list[str] = []
    words = ""

    def leave_out(case: Case, error: HilumError) -> None:
        failed.append(case.id)
        listener.say(f"{case.id} is left out: {error.found}")

    left = len(eligible.cases)
    for numbers, cases in sorted(groups.items()):
        networks = tuple(model.networks[n] for n in numbers)
        predictor = Predictor(TrainedModel(plan=plan, networks=networks, device=model.device))
        engine = predictor.engine
        words = f"{engine.name} in {engine.precision} on {engine.device}"
        try:
            found |= predict_cases(
                partial(hold_predicted, predictor, plan.labels),
                cases,
                order=shuffled_order([case.id for case in cases]),
                deadline=deadline.part(len(cases) / left),
                progress=lambda done, total, case: listener.advance(
                    "predicting", done, total, case
                ),
                failed=leave_out,
            )
        finally:
            predictor.close()
        left -= len(cases)
    unpredicted = len(eligible.cases) - len(found) - len(failed)
    if unpredicted:
        listener.say(
            f"{unpredicted} of {len(eligible.cases)} cases are left out: the time does not allow"
            " more."
        )
    if not found:
        raise DataError(
            "no case could be predicted and compared with its annotation",
            needed="at least one annotated case with the model's labels",
            cure="hilum check DATA",
        )
    return [found[case.id] for case in eligible.cases if case.id in found], words


def hold_predicted(predictor: Predictor, table: LabelTable, case: Case) -> CountedCase:
    """Predict a case and hold it beside its annotation, its voxels counted."""
    prepared, reference = predictor.prepare(case), read_annotation(case)
    truth = preprocess_labels(reference, prepared.restore)
    counter = VoxelCounter(table, prepared.restore, truth)
    labels = predictor.predict_prepared(prepared, counter=counter).labels
    held = hold_case(case, labels, reference, table)
    return CountedCase(held, counter.finish(), predictor.engine.precision)


def learning_notes(found: PostprocessingTuning) -> tuple[str, ...]:
    """Describe how the reported metrics were kept apart from the cases that were learnt from."""
    if found.held_out is None or not found.steps:
        return ()
    held = found.held_out
    note = (
        "for these figures each case was post-processed by what was learnt from other patients"
        f" (the model has what was learnt from all): Dice of {held.region}"
        f" {held.difference:+.4f} ({span(held.low, held.high, '+.4f')})"
    )
    return (note,)
