"""Many cases: the next one is read and the last one written while this one runs; what fails is reported and the rest go on."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hilum.errors import HilumError, UsageError
from hilum.inference.inputs import find_cases
from hilum.inference.run_report import CaseOutcome, RunClock, RunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hilum.dataset.case import Case
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.prediction import Prediction
    from hilum.inference.predictor import Prepared
    from hilum.inference.predictors import AnyPredictor

    AnyPrediction = Prediction | ClassPrediction

T = TypeVar("T")

_log = logging.getLogger("hilum")


def predict_many(
    predictor: AnyPredictor,
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    probabilities: bool = False,
    skip_existing: bool = False,
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
) -> RunReport:
    """Predict every case in `sources` and write the answers, and run.json, to a folder.

    A case that fails, whatever the reason, is logged and reported, and the rest go on. An interruption leaves run.json with
    what was done, and no half-written file.

    Args:
        predictor: the model, ready.
        sources: see `hilum.inference.find_cases`.
        out: folder for `<case>.nii.gz`, predictions.csv and so on, made where it is missing.
        formats: among `FORMATS`, of a classification `CLASS_FORMATS`; None: those usual for the task.
        probabilities: also write `<case>_probabilities.nii.gz`.
        skip_existing: leave out the cases whose answers are already there in every format.
        progress: called with each outcome, how many are done, and how many there are.

    Returns:
        The report; `status` is "failed" where no case was predicted though some were tried.

    Raises:
        UsageError: a source, a format or `out` cannot be; nothing was predicted.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", needed="a folder for the predictions", cure="-o FOLDER")
    formats = predictor.usual_formats if formats is None else tuple(formats)
    writer: Any = predictor.writer(out, formats, keep=skip_existing)
    cases = find_cases(sources, predictor.model.plan.channels, annotated=predictor.asks_annotated)
    out.mkdir(parents=True, exist_ok=True)
    clock = RunClock(
        "predict",
        device=predictor.engine.torch_device,
        model=predictor.model.id,
        precision=predictor.engine.precision,
        options={
            "formats": list(formats),
            "probabilities": probabilities,
            "mirror_axes": list(predictor.mirror_axes),
            "batch": predictor.batch,
            "skip_existing": skip_existing,
        },
    )

    def write(prediction: AnyPrediction) -> CaseOutcome:
        start = perf_counter()
        files = writer.write(prediction)
        seconds = replace(prediction.seconds, write=perf_counter() - start)
        rounded = {part: round(value, 3) for part, value in asdict(seconds).items()}
        return CaseOutcome(case=prediction.case, status="done", files=tuple(file.name for file in files), seconds=rounded)

    outcomes: list[CaseOutcome] = []
    finished = False
    try:
        there = [case for case in cases if skip_existing and writer.there(case.id)]
        skipped = [CaseOutcome(case=case.id, status="skipped") for case in there]
        wanted = [case for case in cases if case not in there]
        for outcome in chain(skipped, _outcomes(predictor, wanted, write, probabilities=probabilities)):
            outcomes.append(outcome)
            if progress is not None:
                progress(outcome, len(outcomes), len(cases))
        finished = True
    finally:
        writer.close()
        statuses = {outcome.status for outcome in outcomes}
        status: Literal["done", "stopped", "failed"] = (
            "stopped" if not finished else "failed" if statuses == {"failed"} else "done"
        )
        report = clock.report(status=status, cases=tuple(outcomes))
        report.save(out / "run.json")
    return report


def _outcomes(
    predictor: AnyPredictor, cases: Sequence[Case], write: Callable[[AnyPrediction], CaseOutcome], *, probabilities: bool
) -> Iterator[CaseOutcome]:
    """Outcomes in the order of the cases; at most one is read, one predicted and one written at a time."""

    def read(case: Case) -> Prepared | CaseOutcome:
        return _guarded(case.id, lambda: predictor.prepare(case))

    def answer(case: Case, prepared: Prepared | CaseOutcome) -> AnyPrediction | CaseOutcome:
        if isinstance(prepared, CaseOutcome):
            return prepared
        return _guarded(case.id, lambda: predictor.answer(prepared, probabilities=probabilities))

    def finish(case: Case, prediction: AnyPrediction | CaseOutcome) -> CaseOutcome:
        return prediction if isinstance(prediction, CaseOutcome) else _guarded(case.id, lambda: write(prediction))

    with ThreadPoolExecutor(1, "hilum-read") as reader, ThreadPoolExecutor(1, "hilum-write") as writer:
        coming = reader.submit(read, cases[0]) if cases else None
        leaving: Future[CaseOutcome] | None = None
        for number, case in enumerate(cases, start=1):
            prepared = coming.result() if coming is not None else read(case)
            coming = reader.submit(read, cases[number]) if number < len(cases) else None
            prediction = answer(case, prepared)
            if leaving is not None:
                yield leaving.result()
            leaving = writer.submit(finish, case, prediction)
        if leaving is not None:
            yield leaving.result()


def _guarded(case: str, work: Callable[[], T]) -> T | CaseOutcome:
    """What `work` gives; where it raises, the outcome that says so."""
    try:
        return work()
    except HilumError as error:
        _log.error("%s: %s", case, error)
        return CaseOutcome(case=case, status="failed", error=str(error))
    except Exception as error:  # noqa: BLE001  a bug of ours must not cost the cases that come after it
        _log.exception("%s: an error that hilum did not expect", case)
        return CaseOutcome(case=case, status="failed", error=f"{type(error).__name__}: {error}")
