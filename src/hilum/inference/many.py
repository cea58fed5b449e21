"""Many cases: the next one is read and the last one written while this one runs.

What fails is reported and the rest go on.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hilum.dataset.channels import plain_name
from hilum.dataset.layouts.listing import some
from hilum.errors import DataError, HilumError, ResourceError, missing_package
from hilum.inference.earlier import REPORT, Earlier
from hilum.inference.find import find
from hilum.inference.forecast import Advance, Forecast
from hilum.inference.made_from import changes, made_from, say_again
from hilum.inference.run_report import CaseOutcome, RunClock, RunReport, kind_of_saying
from hilum.io import OutputFolder, longest_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.find import Found
    from hilum.inference.prediction import Prediction
    from hilum.inference.predictor import Prepared
    from hilum.inference.predictors import AnyPredictor

    AnyPrediction = Prediction | ClassPrediction

T = TypeVar("T")

_log = logging.getLogger("hilum")
_NAMED = 5
"""Of many cases of which the same is said so many are named."""


def predict_many(
    predictor: AnyPredictor,
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    probabilities: bool = False,
    skip_existing: bool = False,
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
    advance: Callable[[Advance], None] | None = None,
) -> RunReport:
    """Predict every case in `sources` and write the answers, and run.json, to a folder.

    A case that fails, whatever the reason, is logged and reported, and the rest go on. An
    interruption leaves run.json with what was done, and no half-written or temporary file. Where
    the folder holds answers to these cases already, that is logged, they are replaced, and what is
    left of them (other formats, pictures) is removed: `CaseOutcome.replaced` names them all. Only
    files that an earlier run recorded as its own, and nobody changed since, are replaced or
    removed.

    Args:
        predictor: the model, ready.
        sources: see `hilum.inference.find_cases`.
        out: folder for `<case>.nii.gz`, predictions.csv and so on, made where it is missing.
        formats: among `FORMATS`, of a classification `CLASS_FORMATS`; None: PNG of a picture and
            NIfTI of all else, of a classification both.
        probabilities: also write `<case>_probabilities.nii.gz`.
        skip_existing: leave out the cases whose answers are already there in every format, made
            from the same model, options and files.
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
    formats = predictor.usual_formats if formats is None else tuple(formats)
    found = _found(predictor, sources)
    cases = found.cases
    learnt = _warn_of_learnt_cases(predictor, cases)
    with OutputFolder(
        out, "predict", inputs=[file for case in cases for file in case.files]
    ) as folder:
        writer: Any = predictor.writer(folder, formats, probabilities=probabilities)
        there = _still_answered(predictor, cases, writer, folder) if skip_existing else []
        skipped = [CaseOutcome(case=case.id, status="skipped") for case in there]
        spelled = (
            {case.id.casefold(): case.id for case in reversed(cases)}
            if folder.ignores_letter_case
            else {}
        )
        refused = [
            outcome
            for case in cases
            if case not in there and (outcome := _unnamable(case, writer, folder.path, spelled))
        ]
        unwritable = {outcome.case for outcome in refused}
        wanted = [case for case in cases if case not in there and case.id not in unwritable]
        earlier = Earlier(folder, writer, wanted, there, model=predictor.model.id)
        clock = RunClock(
            "predict",
            device=predictor.engine.device,
            engine=predictor.engine.name,
            model=predictor.model.id,
            precision=predictor.engine.precision,
            memory_gb=predictor.memory_gb,
            options={
                "formats": list(formats),
                "probabilities": probabilities,
                "mirror_axes": list(predictor.mirror_axes),
                "batch": predictor.batch,
                "overlap": predictor.overlap,
                "every_patch": predictor.every_patch,
                "skip_existing": skip_existing,
                "engine_because": predictor.engine.because,
            },
        )

        def write(prediction: AnyPrediction) -> CaseOutcome:
            start = perf_counter()
            made = line.made[prediction.case]
            files = writer.write(prediction, made)
            folder.record(*files, made_from=made)
            replaced = earlier.replace(prediction.case, files)
            seconds = replace(prediction.seconds, write=perf_counter() - start)
            rounded = {part: round(value, 3) for part, value in asdict(seconds).items()}
            return CaseOutcome(
                case=prediction.case,
                status="done",
                files=tuple(file.name for file in files),
                replaced=replaced,
                seconds=rounded,
                patches=dict(prediction.patches),
            )

        outcomes: list[CaseOutcome] = []

        def done(outcome: CaseOutcome) -> None:
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome, len(outcomes), len(cases))

        line = _Line(
            predictor,
            wanted,
            write,
            done,
            scratch=folder.path,
            probabilities=probabilities,
            advance=advance,
        )
        finished = False
        try:
            for outcome in (*skipped, *refused):
                done(outcome)
            line.run()
            finished = True
        finally:
            writer.close()
            statuses = {outcome.status for outcome in outcomes} - {"skipped"}
            status: Literal["done", "stopped", "failed"] = (
                "stopped" if not finished else "failed" if statuses == {"failed"} else "done"
            )
            report = clock.report(
                status=status,
                cases=tuple(outcomes),
                files=found.files,
                trained_on=earlier.trained_on.union(learnt),
            )
            folder.write({REPORT: report.as_json()})
        return report


def _found(predictor: AnyPredictor, sources: Sequence[Path | str]) -> Found:
    """Find the cases, and log what was taken; raises as `predict_many`."""
    found = find(sources, predictor.model.plan.channels, annotated=predictor.asks_annotated)
    found.files.log()
    predictor.refuse_all(found.cases)
    _say_order(found.cases, predictor.model.plan.channels)
    return found


def _unnamable(
    case: Case, writer: Any, folder: Path, spelled: Mapping[str, str]
) -> CaseOutcome | None:
    """Refuse a case before any work where the file system has no place for the names of its outputs; None where it has.

    `spelled` names the case that has a name already, by its id in small letters, where the file
    system knows no others.
    """
    most = longest_name(folder)
    first = spelled.get(case.id.casefold(), case.id)
    name = max(writer.names(case), key=lambda name: len(os.fsencode(name)), default="")
    if len(os.fsencode(name)) <= most and first == case.id:
        return None
    error = (
        DataError(
            f"the output of this case would replace that of {first}: to the file system of {folder}"
            " their names are the same",
            needed="ids of cases that differ in more than small and capital letters",
            cure="predict this one into another folder, or rename the image",
        )
        if first != case.id
        else DataError(
            f"the output of this case would be named {name}, which is {len(os.fsencode(name))}"
            " bytes long",
            needed=f"a name of at most {most} bytes, as the file system of {folder} has them",
            cure="give the image a shorter name",
        )
    )
    _log.error("%s: %s", case.id, error)
    return CaseOutcome(case=case.id, status="failed", error=str(error))


def _still_answered(
    predictor: AnyPredictor, cases: Sequence[Case], writer: Any, out: OutputFolder
) -> list[Case]:
    """The cases whose answers are there and were made from the same model, options and files.

    Logs why others are made again, and which answers are no longer as they were written.
    """
    kept, reasons = [], []
    for case in cases:
        if writer.there(case):
            try:
                reason = changes(made_from(predictor, case), writer.made_from(case))
            except HilumError as error:  # which the case says again when it is read
                reason = error.found
            kept += [] if reason else [case]
            reasons += [reason] if reason else []
    for sentence in say_again(reasons):
        _log.warning("%s", sentence)
    edited = [case.id for case in kept if not all(map(out.owned, writer.names(case)))]
    if edited:
        _log.warning(
            "answers to %d cases were changed since hilum wrote them, and stay as they are: %s; to"
            " have them anew, remove them",
            len(edited),
            some(edited),
        )
    return kept


def _warn_of_learnt_cases(predictor: AnyPredictor, cases: Sequence[Case]) -> list[str]:
    """Log and return which cases are named like cases of the training: scores of their predictions would be far too good."""
    facts = predictor.model.facts
    learnt = (
        sorted(facts.cases_for("train") & {case.id for case in cases}) if facts is not None else []
    )
    if learnt:
        _log.warning(
            "%d of %d cases are named like cases that this model learnt from (%s): if they are the"
            " same, scores of these predictions tell nothing of new patients; what held-out cases"
            " gave is in the model's card",
            len(learnt),
            len(cases),
            some(learnt),
        )
    return learnt


def _say_order(cases: Sequence[Case], channels: Sequence[str]) -> None:
    """Log which channels were matched by name, where the cases have them in another order than the model."""
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


class _Line:
    """Cases one after the other: at most one is read, one predicted and one written at a time."""

    def __init__(
        self,
        predictor: AnyPredictor,
        cases: Sequence[Case],
        write: Callable[[AnyPrediction], CaseOutcome],
        done: Callable[[CaseOutcome], None],
        *,
        scratch: Path,
        probabilities: bool,
        advance: Callable[[Advance], None] | None,
    ) -> None:
        self._predictor, self._cases, self._write, self._done = predictor, cases, write, done
        self._scratch, self._probabilities, self._advance = scratch, probabilities, advance
        self._sizes = {case.id: predictor.size(case) for case in cases}
        self._forecast = Forecast(
            {case: size.patches if size else None for case, size in self._sizes.items()}
        )
        self._leaving: Future[CaseOutcome] | None = None  # what is being written
        self.made: dict[str, dict[str, str]] = {}
        """By case the hashes of what its answer is made from, taken before it is read: files may
        change later."""
        self._said = _Said()
        self._unlike: dict[str, tuple[str, ...]] = {}

    def run(self) -> None:
        """Predict and write every case.

        `done` hears of each in their order, also of what was being written when it broke off.
        """
        cases = self._cases
        with (
            ThreadPoolExecutor(1, "hilum-read") as reader,
            ThreadPoolExecutor(1, "hilum-write") as writer,
        ):
            coming: Future[Prepared | CaseOutcome | ResourceError] | None = None
            try:
                for number, case in enumerate(cases, start=1):
                    prepared = self._prepared(case, reader, coming)
                    reserve = (
                        self._reserve(cases[number], prepared) if number < len(cases) else None
                    )
                    coming = (
                        reader.submit(self._read, cases[number]) if reserve is not None else None
                    )
                    if not isinstance(prepared, CaseOutcome) and prepared.unlike:
                        self._unlike[case.id] = prepared.unlike
                        self._said.warn(
                            case.id, "unlike the training data: " + "; ".join(prepared.unlike)
                        )
                    prediction = self._answer(case, prepared, reserve or 0)
                    del prepared  # the next one may be as large
                    self._forecast.finish(case.id)
                    self._tell(case.id, 0.0)
                    self._deliver()
                    self._leaving = writer.submit(self._finish, case, prediction)
                    del prediction
            finally:
                self._deliver()
                self._said.close()

    def _deliver(self) -> None:
        """Wait for what is being written, and tell of it."""
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            self._done(leaving.result())

    def _prepared(
        self,
        case: Case,
        reader: ThreadPoolExecutor,
        coming: Future[Prepared | CaseOutcome | ResourceError] | None,
    ) -> Prepared | CaseOutcome:
        """The case, read.

        What was short of memory beside other cases is read again when there are none.
        """
        beside = coming is not None or self._leaving is not None
        coming = coming or reader.submit(self._read, case)
        if self._leaving is not None:
            both: list[Future[Any]] = [coming, self._leaving]
            wait(both, return_when=FIRST_COMPLETED)
            if self._leaving.done():
                self._deliver()
        prepared = coming.result()
        if isinstance(prepared, ResourceError) and beside:
            self._deliver()
            prepared = reader.submit(self._read, case).result()
        return (
            _failed(case.id, prepared, self._said)
            if isinstance(prepared, ResourceError)
            else prepared
        )

    def _reserve(self, case: Case, before: Prepared | CaseOutcome) -> int | None:
        """Bytes of memory for reading a case beside the one before it.

        None where that has to wait.
        """
        return self._predictor.reserve(
            self._sizes[case.id], None if isinstance(before, CaseOutcome) else before
        )

    def _read(self, case: Case) -> Prepared | CaseOutcome | ResourceError:
        def read() -> Prepared | ResourceError:
            try:
                return self._prepare(case)
            except ResourceError as error:
                return error.with_traceback(None)  # which would hold the image

        return _guarded(case.id, read, self._said)

    def _prepare(self, case: Case) -> Prepared:
        try:
            self.made[case.id] = made_from(self._predictor, case)
        except HilumError:
            self._predictor.prepare(case)  # which knows better what is wrong
            raise
        return self._predictor.prepare(case)

    def _answer(
        self, case: Case, prepared: Prepared | CaseOutcome, reserve: int
    ) -> AnyPrediction | CaseOutcome:
        if isinstance(prepared, CaseOutcome):
            return prepared

        def tell(done: int, total: int) -> None:
            if self._leaving is not None and self._leaving.done():
                self._deliver()
            self._tell(case.id, min(done / total, 0.999))

        return _guarded(
            case.id,
            lambda: self._predictor.answer(
                prepared,
                probabilities=self._probabilities,
                reserve=reserve,
                progress=tell,
                scratch=self._scratch,
            ),
            self._said,
        )

    def _finish(self, case: Case, prediction: AnyPrediction | CaseOutcome) -> CaseOutcome:
        if isinstance(prediction, CaseOutcome):
            return prediction
        outcome = _guarded(case.id, lambda: self._write(prediction), self._said)
        return outcome.model_copy(update={"unlike": self._unlike.get(case.id, ())})

    def _tell(self, case: str, share: float) -> None:
        if self._advance is not None:
            self._advance(self._forecast.at(case, share))


class _Said:
    """Logs each distinct message once and counts the other cases at the end."""

    def __init__(self) -> None:
        self._lock = Lock()  # cases are read, predicted and written by three threads
        self._cases: dict[tuple[int, str], list[str]] = {}

    def warn(self, case: str, said: str) -> None:
        """Something that does not hinder an answer."""
        self._say(logging.WARNING, case, said)

    def fail(self, case: str, said: str) -> None:
        """Why there is no answer."""
        self._say(logging.ERROR, case, said)

    def _say(self, level: int, case: str, said: str) -> None:
        key = level, kind_of_saying(case, said)
        with self._lock:
            known = key in self._cases
            self._cases.setdefault(key, []).append(case)
        _log.log(logging.DEBUG if known else level, "%s: %s", case, said)

    def close(self) -> None:
        """Say how many more there were."""
        for (level, _), (first, *more) in self._cases.items():
            if more:
                names = ", ".join(more[:_NAMED]) + (", ..." if len(more) > _NAMED else "")
                _log.log(level, "%d more cases as %s: %s", len(more), first, names)


def _failed(case: str, error: HilumError, said: _Said) -> CaseOutcome:
    said.fail(case, str(error))
    return CaseOutcome(case=case, status="failed", error=str(error))


def _guarded(case: str, work: Callable[[], T], said: _Said) -> T | CaseOutcome:
    """Return the result of `work`; where it raises, an outcome with the error."""
    try:
        return work()
    except HilumError as error:
        return _failed(case, error, said)
    except Exception as error:  # noqa: BLE001  a bug of ours must not cost the cases that come after it
        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            return _failed(case, missing, said)
        _log.exception("%s: an error that hilum did not expect", case)
        return CaseOutcome(case=case, status="failed", error=f"{type(error).__name__}: {error}")
