"""Prediction of many cases: while one runs, the next is read and the last one written.

What fails is reported and the rest go on.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import zip_longest
from time import perf_counter
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from hilum.dataset.channels import plain_name
from hilum.errors import DataError, HilumError, ResourceError, counted, missing_package, some
from hilum.files import OutputFolder, longest_name
from hilum.inference.find import Found, find
from hilum.inference.forecast import Advance, Forecast
from hilum.inference.made_from import changes, made_from
from hilum.inference.prediction_writer import REPORT, P
from hilum.inference.run_report import (
    CaseOutcome,
    RunClock,
    RunReport,
    message_kind,
    skipped_outcomes,
)
from hilum.inference.studies import choice_of_plan, describe_choices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from hilum.dataset.case import Case
    from hilum.dicom.choose import SeriesChoice
    from hilum.inference.case_predictor import CasePredictor, Prepared
    from hilum.inference.memory_plan import MemoryPlan
    from hilum.inference.prediction_writer import PredictionWriter

    _Read = tuple[Prepared, dict[str, str]]
    """A case that was read, and the hashes of its files."""

T = TypeVar("T")

_log = logging.getLogger("hilum")
_NAMED = 5
"""Cases that are named of many with the same message."""


def predict_many(
    predictor: CasePredictor[P],
    sources: Sequence[Path | str] | Found,
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    probabilities: bool = False,
    skip_existing: bool = False,
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
    advance: Callable[[Advance], None] | None = None,
) -> RunReport:
    """Predict every case in `sources` and write the predictions, and run.json, to a folder.

    A case that fails, whatever the reason, is logged and reported, and the rest go on. An
    interruption leaves run.json with what was done, and no half-written or temporary file; where
    nothing could be predicted, the folder of the images themselves stays as it was. Where
    the folder holds predictions of these cases already, that is logged, they are replaced, and
    what is left of them (other formats, pictures) is removed: `CaseOutcome.replaced` names them
    all. Only files that an earlier run recorded as its own, and nobody changed since, are replaced
    or removed.

    Args:
        predictor: the model, ready.
        sources: see `hilum.inference.find_cases`; or what `find_for` gave.
        out: folder for `<case>.nii.gz`, predictions.csv and so on, made where it is missing.
        formats: among `FORMATS`, of a classification `CLASS_FORMATS`; None: PNG of a picture and
            NIfTI of all else, of a classification both.
        probabilities: also write `<case>_probabilities.nii.gz`.
        skip_existing: leave out the cases whose predictions are already there in every format,
            made from the same model, options and files.
        progress: called with each outcome, how many are done, and how many there are.
        advance: called whenever patches are done, with how far the run is and how long the rest is
            expected to take.

    Returns:
        The report; `status` is "failed" where no case was predicted though some were tried.

    Raises:
        UsageError: a source, a format or `out` cannot be, or files of others are in the way;
            nothing was predicted.
        ResourceError: another process writes to `out`.
        DataError: what the model needs beside an image, not one case has; nothing was predicted.
    """
    channels = predictor.model.plan.channels
    formats = predictor.usual_formats if formats is None else tuple(formats)
    if not isinstance(sources, Found):
        sources = find_for(predictor, sources)
    cases, files = sources.cases, sources.files
    files.log()
    chosen = {case: describe_choices(choices) for case, choices in sources.choices.items()}
    _log_choices(chosen, len(cases))
    predictor.refuse_all(cases)
    _warn_of_channel_order(cases, channels)
    trained_on = _warn_of_training_cases(predictor, cases)
    inputs = [file for case in cases for file in case.files]
    outcomes: list[CaseOutcome] = []

    def done(outcome: CaseOutcome) -> None:
        outcome = outcome.model_copy(update={"series": chosen.get(outcome.case, ())})
        outcomes.append(outcome)
        if progress is not None:
            progress(outcome, len(outcomes), len(cases))

    with OutputFolder(out, "predict", inputs=inputs) as folder:
        writer = predictor.writer(folder, formats, probabilities=probabilities)
        kept = _up_to_date(predictor, cases, writer) if skip_existing else {}
        skipped = skipped_outcomes(kept, folder.path / REPORT)  # before it is replaced
        refused = _refuse_cases(cases, kept, writer)
        wanted = [case for case in cases if case.id not in kept and case.id not in refused]
        trained_on |= writer.take_over(wanted, [*kept.values()], model=predictor.model.id)
        engine = predictor.engine
        options: dict[str, JsonValue] = {
            "formats": list(formats),
            "probabilities": probabilities,
            **predictor.run_options,
            **({"series": sources.rule} if sources.rule else {}),
            "skip_existing": skip_existing,
            "engine_because": engine.because,
        }
        clock = RunClock(
            "predict",
            device=engine.device,
            engine=engine.name,
            model=predictor.model.id,
            precision=engine.precision,
            memory_gb=predictor.memory_gb,
            options=options,
        )
        pipeline = _Pipeline(predictor, writer, wanted, done, probabilities, advance)
        status: Literal["done", "stopped", "failed"] = "stopped"
        try:
            for outcome in (*skipped, *refused.values()):
                done(outcome)
            pipeline.run()
            tried = {outcome.status for outcome in outcomes} - {"skipped"}
            status = "failed" if tried == {"failed"} else "done"
        finally:
            writer.close()
            metrics = predictor.model.metrics
            report = clock.report(
                status=status,
                cases=tuple(outcomes),
                files=files,
                trained_on=trained_on,
                model_warnings=() if metrics is None else metrics.warnings,
            )
            if not (status == "failed" and folder.holds_any(inputs) and not folder.owned(REPORT)):
                folder.write({REPORT: report.as_json()})
        return report


def choice_for(predictor: CasePredictor[P], *, series: str | None = None) -> SeriesChoice:
    """Return how a model chooses among the series of a DICOM study.

    Args:
        predictor: of the model, whose own check of an image decides between equal series.
        series: a rule of the user (`hilum.dicom.rule`).

    Raises:
        UsageError: the rule cannot be read.
    """
    return choice_of_plan(predictor.model.plan, rule=series, judge=predictor.judge)


def find_for(
    predictor: CasePredictor[P], sources: Sequence[Path | str], *, series: str | None = None
) -> Found:
    """Find the cases for a model, of DICOM studies with the series that suits it.

    Raises:
        HilumError: as `find`, or the rule for the series cannot be read.
    """
    choice = choice_for(predictor, series=series)
    channels = predictor.model.plan.channels
    return find(sources, channels, annotated=predictor.asks_annotated, choice=choice)


def _log_choices(chosen: Mapping[str, Sequence[str]], cases: int) -> None:
    """Log which series were chosen: of a few studies one by one, of many their number."""
    if len(chosen) > _NAMED:
        _log.warning(
            "of %d of %d studies one of several series was chosen; which and why: %s",
            len(chosen),
            cases,
            REPORT,
        )
    for case, words in chosen.items():
        for line in words:
            level = logging.INFO if len(chosen) > _NAMED else logging.WARNING
            _log.log(level, "%s: %s", case, line)


def _refuse_cases(
    cases: Sequence[Case], kept: Collection[str], writer: PredictionWriter[P]
) -> dict[str, CaseOutcome]:
    """Refuse cases that have a fault or cannot be written, before any is predicted.

    The file system cannot name their outputs, or not apart from another case's, or a format cannot
    hold them.
    """
    refused, folder = {}, writer.out
    first_by_name: dict[str, str] = {}
    for case in cases:
        first = (
            first_by_name.setdefault(case.id.casefold(), case.id)
            if folder.ignores_letter_case
            else case.id
        )
        error = None if case.id in kept else case.fault or _fault_of(case, first, writer)
        if error is not None:
            _log.error("%s: %s", case.id, error)
            refused[case.id] = CaseOutcome(case=case.id, status="failed", error=str(error))
    return refused


def _fault_of(case: Case, first: str, writer: PredictionWriter[P]) -> DataError | None:
    """Return why a case cannot be written; `first` is the case that already has its name."""
    folder = writer.out.path
    if first != case.id:
        return DataError(
            f"the output of this case would replace that of {first}: to the file system of"
            f" {folder} their names are the same",
            needed="ids of cases that differ in more than small and capital letters",
            cure="predict this one into another folder, or rename the image",
        )
    most = longest_name(folder)
    name = max(writer.names(case), key=lambda name: len(os.fsencode(name)), default="")
    if len(os.fsencode(name)) > most:
        return DataError(
            f"the output of this case would be named {name}, which is"
            f" {len(os.fsencode(name))} bytes long",
            needed=f"a name of at most {most} bytes, as the file system of {folder} has them",
            cure="give the image a shorter name",
        )
    try:
        writer.refuse(case)
    except DataError as error:
        return error
    return None


def _up_to_date(
    predictor: CasePredictor[P],
    cases: Sequence[Case],
    writer: PredictionWriter[P],
) -> dict[str, Case]:
    """Find the cases with predictions that were made from the same model, options and files.

    Logs why others are predicted again, and which predictions are no longer as they were written.
    """
    kept, reasons = {}, []
    for case in cases:
        if writer.is_written(case):
            try:
                reason = changes(made_from(predictor, case), writer.made_from(case))
            except HilumError as error:  # which is reported when the case is read
                reason = error.found
            if reason:
                reasons.append(reason)
            else:
                kept[case.id] = case
    for reason, count in Counter(reasons).items():
        _log.warning("%s to be predicted again: %s", counted(count, "case"), reason)
    edited = [
        name for name, case in kept.items() if not all(map(writer.out.owned, writer.names(case)))
    ]
    if edited:
        _log.warning(
            "predictions of %d cases were changed since hilum wrote them, and stay as they are: %s;"
            " to have them anew, remove them",
            len(edited),
            some(edited),
        )
    return kept


def _warn_of_training_cases(predictor: CasePredictor[P], cases: Sequence[Case]) -> set[str]:
    """Log and return the cases that are named like training cases of the model."""
    facts = predictor.model.facts
    found = {case.id for case in cases} & facts.cases_for("train") if facts is not None else set()
    if found:
        _log.warning(
            "%d of %d cases are named like cases that this model learnt from (%s): if they are the"
            " same, scores of these predictions tell nothing of new patients; the scores of"
            " held-out cases are in the model's card",
            len(found),
            len(cases),
            some(sorted(found)),
        )
    return found


def _warn_of_channel_order(cases: Sequence[Case], channels: Sequence[str]) -> None:
    """Log the channels that were matched by name, as the cases have them in another order."""
    wanted = [plain_name(name) for name in channels]
    orders = Counter(
        tuple(case.images) for case in cases if [plain_name(name) for name in case.images] != wanted
    )
    for names, count in orders.items():
        if sorted(map(plain_name, names)) == sorted(wanted):
            _log.warning(
                "channels %s of %d cases are read by name as the model's %s",
                ", ".join(names),
                count,
                ", ".join(channels),
            )


@dataclass(eq=False)
class _Pipeline(Generic[P]):
    """Cases one after the other: at most one is read, one predicted and one written at a time.

    Args:
        predictor: the model.
        writer: of predictions.
        cases: to predict.
        done: called with the outcome of each case, in their order, also of the case that was being
            written when the run broke off.
        probabilities: also predict them.
        advance: see `predict_many`.
    """

    predictor: CasePredictor[P]
    writer: PredictionWriter[P]
    cases: Sequence[Case]
    done: Callable[[CaseOutcome], None]
    probabilities: bool
    advance: Callable[[Advance], None] | None

    def __post_init__(self) -> None:
        """Estimate the work."""
        sizes = {case.id: self.predictor.size(case) for case in self.cases}
        self._forecast = Forecast(
            {case: size.patches if size else None for case, size in sizes.items()}
        )
        self._writing: tuple[str, tuple[str, ...], Future[CaseOutcome]] | None = None
        self._messages = _OncePerMessageLog()

    def run(self) -> None:
        """Predict and write every case."""
        attempt = self._messages.attempt
        with (
            ThreadPoolExecutor(1, "hilum-read") as reader,
            ThreadPoolExecutor(1, "hilum-write") as writer,
        ):
            ahead: Future[_Read] | None = None
            try:
                for case, following in zip_longest(self.cases, self.cases[1:]):
                    read = attempt(case.id, partial(self._finish_reading, case, ahead))
                    ahead = None
                    prediction: P | CaseOutcome
                    if isinstance(read, CaseOutcome):
                        prediction = read
                    else:
                        prepared, hashes = read
                        unlike = prepared.unlike
                        memory = self.predictor.plan_memory(
                            prepared,
                            probabilities=self.probabilities,
                            following=following,
                            folder=self.writer.out.path,
                        )
                        if following is not None and memory.reads_ahead:
                            ahead = reader.submit(self._read, following)
                        prediction = attempt(
                            case.id, partial(self._predict, case, prepared, memory)
                        )
                        del prepared
                    del read  # the next image may be as large
                    self._forecast.finish(case.id)
                    self._report_progress(case.id, 0.0)
                    self._collect_written()
                    if isinstance(prediction, CaseOutcome):
                        self.done(prediction)
                    else:
                        future = writer.submit(self._write, prediction, hashes)
                        self._writing = case.id, unlike, future
                    del prediction
            finally:
                self._collect_written()
                self._messages.close()

    def _finish_reading(self, case: Case, ahead: Future[_Read] | None) -> _Read:
        """Read a case, or wait until it is; where memory is short beside others, read it alone."""
        try:
            read = self._read(case) if ahead is None else ahead.result()
        except ResourceError as error:
            if ahead is None and self._writing is None:
                raise
            error.with_traceback(None)  # which would hold the image
            self._collect_written()
            read = self._read(case)
        if read[0].unlike:
            text = "unlike the training data: " + "; ".join(read[0].unlike)
            self._messages.log(logging.WARNING, case.id, text)
        return read

    def _read(self, case: Case) -> _Read:
        """Hash the inputs of a case, and read and preprocess it."""
        try:
            found = made_from(self.predictor, case)  # before it is read: files may change later
        except HilumError:
            self.predictor.prepare(case)  # its error says more of what is wrong
            raise
        return self.predictor.prepare(case), found

    def _predict(self, case: Case, prepared: Prepared, memory: MemoryPlan) -> P:
        """Predict a prepared case, while the one before is written."""

        def report(done: int, total: int) -> None:
            if self._writing is not None and self._writing[2].done():
                self._collect_written()
            self._report_progress(case.id, min(done / total, 0.999))

        return self.predictor.predict_prepared(prepared, memory=memory, progress=report)

    def _write(self, prediction: P, made_from: dict[str, str]) -> CaseOutcome:
        """Write a prediction, record its files, and remove those it replaces."""
        start = perf_counter()
        files = self.writer.write(prediction, made_from)
        self.writer.out.record(*files, made_from=made_from)
        replaced = self.writer.remove_stale(prediction.case, files)
        seconds = replace(prediction.seconds, write=perf_counter() - start)
        return CaseOutcome(
            case=prediction.case,
            status="done",
            files=tuple(file.name for file in files),
            replaced=replaced,
            seconds={part: round(value, 3) for part, value in asdict(seconds).items()},
            patches=dict(prediction.patches),
            unlike=prediction.unlike,
            confidence=prediction.confidence,
        )

    def _collect_written(self) -> None:
        """Wait for the case that is being written, and report its outcome."""
        writing, self._writing = self._writing, None
        if writing is not None:
            case, unlike, future = writing
            outcome = self._messages.attempt(case, future.result)
            differences = tuple(dict.fromkeys((*unlike, *outcome.unlike)))
            self.done(outcome.model_copy(update={"unlike": differences}))

    def _report_progress(self, case: str, share: float) -> None:
        if self.advance is not None:
            self.advance(self._forecast.at(case, share))


class _OncePerMessageLog:
    """Logs each distinct message once and counts the other cases at the end."""

    def __init__(self) -> None:
        self._cases: dict[tuple[int, str], list[str]] = {}

    def log(self, level: int, case: str, message: str) -> None:
        """Log a message about a case, in full where it is the first of its kind."""
        key = level, message_kind(case, message)
        known = key in self._cases
        self._cases.setdefault(key, []).append(case)
        _log.log(logging.DEBUG if known else level, "%s: %s", case, message)

    def fail(self, case: str, error: HilumError) -> CaseOutcome:
        """Log why a case failed, and return the outcome."""
        self.log(logging.ERROR, case, str(error))
        return CaseOutcome(case=case, status="failed", error=str(error))

    def attempt(self, case: str, work: Callable[[], T]) -> T | CaseOutcome:
        """Return the result of `work`; where it raises, an outcome with the error."""
        try:
            return work()
        except HilumError as error:
            return self.fail(case, error)
        # a bug of ours must not cost the cases that come after it
        except Exception as error:  # noqa: BLE001
            missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
            if missing is not None:
                return self.fail(case, missing)
            _log.exception("%s: an error that hilum did not expect; please report it", case)
            text = f"{type(error).__name__}: {error}"
            return CaseOutcome(case=case, status="failed", error=text)

    def close(self) -> None:
        """Log how many more cases had each message."""
        for (level, _), (first, *more) in self._cases.items():
            if more:
                names = ", ".join(more[:_NAMED]) + (", ..." if len(more) > _NAMED else "")
                _log.log(level, "%d more cases with the message of %s: %s", len(more), first, names)
