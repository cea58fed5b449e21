"""The process that predicts: when it crashes or hangs, receiving goes on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hilum.dicom.choose import NONE_FULFILS, NONE_SUITS
from hilum.dicom.network import read_key
from hilum.dicom.rule import ANY
from hilum.errors import DataError, HilumError, UsageError, shown_as

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from hilum.inference import ExportedModel, RunReport, TrainedModel

    Models = dict[Path, TrainedModel | ExportedModel]

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
_NICENESS = 5
_NOT_FOR_IT = {
    NONE_FULFILS: "no series fits the rule",
    NONE_SUITS: "no series suits the model",
}


@dataclass(frozen=True)
class Job:
    """A prediction to be made.

    Args:
        model: folder of the model.
        images: folder of links to a study's images.
        study: folder of the images themselves, which messages name.
        out: folder for the results, which is not there yet.
        rule: see `ServedModel`.
        formats: see `ServedModel`; (): the DICOM format of the model's task.
        device: that the model runs on.
    """

    model: Path
    images: Path
    study: Path
    out: Path
    rule: str
    formats: tuple[str, ...]
    device: str


@dataclass(frozen=True)
class JobResult:
    """Outcome of a job.

    Args:
        status: "skipped": the study is not for the model; "failed": trying again may help;
            "refused": it will not; "stopped": the node ends.
        files: DICOM files that were written.
        kind: name of the error, or why it is not for the model, without patient data.
        reason: the whole message, which may hold patient data.
    """

    status: Literal["done", "skipped", "failed", "refused", "stopped"]
    files: tuple[Path, ...] = field(default=())
    kind: str = ""
    reason: str = ""


class PredictionWorker:
    """Predicts in a process of its own, which is started when it is needed.

    The process keeps the models that it has loaded, and ends when this one does.
    """

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._alive: Connection | None = None
        self._stopping = threading.Event()

    @property
    def pid(self) -> int | None:
        """The process id, where it runs."""
        return self._process.pid if self._process is not None else None

    def predict(self, job: Job, minutes: float) -> JobResult:
        """Make a prediction; whatever happens to the process is in the result."""
        if self._stopping.is_set():
            return JobResult("stopped")
        connection = self._started()
        try:
            connection.send(job)
            if not connection.poll(60 * minutes):
                self._end()
                reason = f"the prediction took longer than {minutes:g} minutes and was stopped"
                return JobResult("failed", kind="timeout", reason=reason)
            result = connection.recv()
        except (EOFError, OSError):
            code = self._end()
            if self._stopping.is_set():
                return JobResult("stopped")
            reason = f"the process that predicts ended with exit code {code} (-9: no memory left?)"
            return JobResult("failed", kind="crash", reason=reason)
        return result if isinstance(result, JobResult) else JobResult("failed", kind="crash")

    def stop(self) -> None:
        """End the process, also in mid-prediction."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()

    def _started(self) -> Connection:
        """Return the connection to the process, which is started where none runs."""
        if self._connection is not None and self._process is not None and self._process.is_alive():
            return self._connection
        self._end()
        self._connection, theirs = _CONTEXT.Pipe()
        watched, self._alive = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=serve, args=(theirs, watched), name="hilum-predict", daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        watched.close()
        return self._connection

    def _end(self) -> int | None:
        """End the process and return its exit code."""
        process, self._process = self._process, None
        for connection in (self._connection, self._alive):
            if connection is not None:
                connection.close()
        self._connection = self._alive = None
        if process is None:
            return None
        process.kill()
        process.join()
        return process.exitcode


def serve(jobs: Connection, watched: Connection) -> None:
    """Predict whatever comes through a connection; the body of the worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the node decides when to stop
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_node, args=(watched,), daemon=True).start()
    models: Models = {}
    with suppress(EOFError):
        while True:
            jobs.send(run_job(jobs.recv(), models))


def _end_with_node(watched: Connection) -> None:
    """End this process when the node's process has ended, however it did."""
    with suppress(EOFError, OSError):
        watched.recv()
    os._exit(0)


def run_job(job: Job, models: Models) -> JobResult:
    """Load the model where it is not loaded yet, predict, and name what was written."""
    from hilum import api

    _print_to(job.out.with_suffix(".log"))
    try:
        if job.model not in models:
            models[job.model] = api.load_model(job.model, device=job.device)
        with shown_as(job.images, str(job.study)):
            report = api.predict(
                models[job.model],
                [job.images],
                job.out,
                formats=job.formats or api.dicom_formats(models[job.model]),
                series=job.rule or ANY,  # so that one series alone is not taken whatever it is
            )
    except (DataError, UsageError) as error:  # the same at every attempt
        return JobResult("refused", kind=type(error).__name__, reason=str(error))
    except HilumError as error:
        return JobResult("failed", kind=type(error).__name__, reason=str(error))
    # a bug of ours must not cost the studies that come after this one
    except Exception as error:
        logging.getLogger("hilum").exception(
            "study %s: an error that hilum did not expect; please report it",
            job.study.name,
        )
        return JobResult("failed", kind=type(error).__name__, reason=repr(error))
    return _result_of(report, job)


def _result_of(report: RunReport, job: Job) -> JobResult:
    """Name what was written; of a study that is not for the model nothing was."""
    done = [job.out / name for case in report.cases if case.status == "done" for name in case.files]
    if not done:
        reason = "\n".join(case.error for case in report.cases)
        for text, kind in _NOT_FOR_IT.items():
            if all(text in case.error for case in report.cases):
                return JobResult("skipped", kind=kind, reason=reason)
        return JobResult("refused", kind="DataError", reason=reason)
    return JobResult("done", tuple(path for path in done if read_key(path) is not None))


def _print_to(path: Path) -> None:
    """Write all that this process prints and logs to a file.

    It may hold patient data, also what libraries write, so it stays beside the results.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
