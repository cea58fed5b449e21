"""The node: receives studies, runs models on them, sends the results.

::

    senders --C-STORE--> Receiver --> InstanceFolder + Queue     one process, a thread a connection
                                          |  quiet for N seconds
                                          v
                         predict thread --> PredictionWorker     another process
                                          |  DICOM files in results/
                                          v
                         a thread a destination --C-STORE or STOW-RS--> destinations
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from hilum.dicom.network import holds_image, read_key
from hilum.errors import HilumError, ResourceError, counted
from hilum.files import atomic_write_text
from hilum.files.atomic import names_to_disk
from hilum.inference.exported import read_manifest
from hilum.node.commitment import confirm
from hilum.node.delivery import deliver, retry_after
from hilum.node.instances import InstanceFolder
from hilum.node.queue import Delivery, Queue, Result, Run
from hilum.node.receiver import Receiver
from hilum.node.status import Counters, StatusServer
from hilum.node.worker import Job, JobResult, PredictionWorker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hilum.node.config import Destination, NodeConfig, ServedModel

_TICK_SECONDS = 0.25
_CLEANING_SECONDS = 600.0
_STOPPING_SECONDS = 20.0
_PAUSE_SECONDS = 30.0
"""Time until work is begun again whose outcome the disk or the queue did not take."""
_INCOMPLETE = ".part"

_log = logging.getLogger("hilum")


class Node:
    """A node, which receives, predicts and sends from its construction until it is stopped.

    Args:
        config: what it does.
        retry_dead: try again what was given up.

    Raises:
        ModelError: there is no model in a folder that the configuration names.
        ResourceError: another node has the folder, or a port cannot be listened on.
    """

    def __init__(self, config: NodeConfig, *, retry_dead: bool = False) -> None:
        """Check the models, open the queue, resume what a crash interrupted, then start."""
        for model in config.models:
            read_manifest(model.folder)
        config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config = config
        self._models = {one.name: one for one in config.models}
        self._counters, self._worker = Counters(), PredictionWorker()
        self._stopping, self._threads = threading.Event(), list[threading.Thread]()
        self._unrecorded = False  # whether a run was taken whose outcome is not in the queue
        with ExitStack() as ending:  # undone in reverse when the node stops, or cannot start
            ending.callback(_held(config.folder).release)
            self._folder = InstanceFolder(config.folder, config.reserve)
            self._queue = Queue(config.folder / "queue.sqlite")
            ending.callback(self._queue.close)
            self._recover(retry_dead=retry_dead)
            self._receiver = Receiver(config, self._folder, self._queue, self._counters)
            ending.callback(self._receiver.stop)
            self._status = self._serve_status(ending)
            ending.callback(self._end_threads)
            self._start_threads()
            self._ending = ending.pop_all()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._receiver.port

    @property
    def status_port(self) -> int | None:
        """The port of the status page."""
        return None if self._status is None else self._status.port

    @property
    def worker_pid(self) -> int | None:
        """The process that predicts, where it runs."""
        return self._worker.pid

    def stop(self) -> None:
        """Stop; what is not finished goes on at the next start."""
        self._ending.close()

    def _start_threads(self) -> None:
        """Start the threads that predict, confirm, clean up and send to each destination."""
        self._begin("predict", self._predict_next)
        self._begin("confirm", self._confirm_next)
        self._begin("clean", self._clean, _CLEANING_SECONDS)
        for one in self.config.destinations:
            self._begin(f"send to {one.name}", partial(self._send_next, one))

    def _end_threads(self) -> None:
        """Stop the prediction that runs, and wait some seconds for the threads to end."""
        self._stopping.set()
        self._worker.stop()
        end = time.monotonic() + _STOPPING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # --- starting

    def _recover(self, *, retry_dead: bool) -> None:
        """Enter instances that a crash left out of the queue, and resume what it interrupted."""
        now = time.time()
        shutil.rmtree(self.config.folder / "work", ignore_errors=True)  # of what was interrupted
        entered = self._queue.instances()
        for path in self._folder.all():
            if (path.parent.name, path.stem) in entered:
                continue
            key = read_key(path)
            if key is not None:
                image = holds_image(key.sop_class) and not self._queue.is_own_result(key.instance)
                self._queue.add_instance(
                    key.study, key.instance, key.sop_class, image=image, now=now
                )
        resumed = self._queue.resume(now)
        if resumed:
            _log.warning("%s resumed", counted(resumed, "interrupted prediction"))
        if retry_dead:
            again = self._queue.retry_dead(now)
            shutil.rmtree(self.config.folder / "dead", ignore_errors=True)
            _log.warning("%d predictions or sendings that were given up are tried again", again)

    def _serve_status(self, ending: ExitStack) -> StatusServer | None:
        """Serve the status page where the settings give it a port."""
        if self.config.status_port is None:
            return None
        server = StatusServer(self.config, self.port, self._queue, self._counters)
        ending.callback(server.stop)
        return server

    def _begin(self, name: str, step: Callable[[], bool], pause: float = _TICK_SECONDS) -> None:
        """Start a thread that calls `step`, and waits when there was nothing to do."""

        def loop() -> None:
            while not self._stopping.is_set():
                try:
                    seconds = 0.0 if step() else pause
                # a full disk, or a bug of ours: the work is still in the queue
                except Exception as error:  # noqa: BLE001
                    _log.error("%s: %s; trying again", name, _in_words(error))
                    seconds = max(pause, _PAUSE_SECONDS)
                self._stopping.wait(seconds)

        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    # --- predicting

    def _predict_next(self) -> bool:
        """Run the model that is due next; return whether there was one."""
        now, names = time.time(), list(self._models)
        if self._unrecorded:  # only this thread predicts: what is left in that state is not
            self._queue.return_runs(now + _PAUSE_SECONDS)
            self._unrecorded = False
        for study in self._queue.settle(names, self.config.quiet_seconds, now):
            _log.info("study %s: %s", study, counted(len(self._queue.images(study)), "image"))
        run = self._queue.take_run(names, now)
        if run is None:
            return False
        self._unrecorded, model = True, self._models[run.model]
        if run.attempts > len(self.config.retry_seconds) + 1:  # it crashed the node each time
            self._give_up_run(run, JobResult("failed", kind="crash", reason="the node crashed"))
        else:
            result = self._predict(run, model)
            self._record(run, model, result)
            self._counters.predicted(run.model, result.status, time.time() - now)
        self._unrecorded = False
        return True

    def _predict(self, run: Run, model: ServedModel) -> JobResult:
        """Run a model on the images of a study; what the disk refuses is a failed attempt."""
        images = self.config.folder / "work" / run.study
        try:
            out = self._prepare_out(run)
            self._folder.link_into(images, run.study, self._queue.images(run.study))
            job = Job(
                model.folder,
                images,
                self._folder.studies / run.study,
                out,
                model.rule,
                model.formats,
                self.config.device,
            )
            result = self._worker.predict(job, self.config.predict_minutes)
            return _keep_results(result, out) if result.status == "done" else result
        # a full disk, or a bug of ours: an attempt, after which there is a pause
        except Exception as error:  # noqa: BLE001
            return JobResult("failed", kind=type(error).__name__, reason=str(error))
        finally:
            shutil.rmtree(images, ignore_errors=True)

    def _prepare_out(self, run: Run) -> Path:
        """Prepare the folder of a run's results, which gets its own name when they are complete.

        It begins as a copy of the earlier results, which the new ones then name as predecessors.
        """
        parent = self.config.folder / "results" / run.study / run.model
        out = parent / f"{run.revision}{_INCOMPLETE}"
        shutil.rmtree(out, ignore_errors=True)  # of an attempt that was interrupted
        earlier = [int(one.name) for one in parent.glob("*/") if one.name.isdecimal()]
        latest = max((one for one in earlier if one < run.revision), default=None)
        if latest is not None:
            shutil.copytree(parent / str(latest), out)
        return out

    def _record(self, run: Run, model: ServedModel, result: JobResult) -> None:
        """Enter the outcome of a prediction into the queue."""
        now = time.time()
        if result.status == "stopped":
            self._queue.return_run(run, now)
        elif result.status == "skipped":
            self._queue.end_run(run, "done", result.kind, at=now)
            _log.info("study %s: not for %s (%s)", run.study, model.name, result.kind)
        elif result.status == "done":
            names = [one.name for one in self.config.destinations_of(model.name)]
            self._queue.finish_run(run, self._results(result), names, now)
            _log.info("study %s: predicted by %s", run.study, model.name)
        elif (pause := retry_after(run.attempts, self.config.retry_seconds)) is None or (
            result.status == "refused"
        ):
            self._give_up_run(run, result)
        else:
            self._queue.end_run(run, "waiting", result.kind, at=now + pause)
            _log.warning(
                "study %s: %s failed (%s), tried again in %d seconds",
                run.study,
                model.name,
                result.kind,
                pause,
            )

    def _results(self, result: JobResult) -> list[Result]:
        """List the DICOM files among those that a run wrote."""
        found = []
        for path in result.files:
            key = read_key(path)
            if key is not None:
                file = path.relative_to(self.config.folder).as_posix()
                found.append(Result(key.instance, key.sop_class, file))
        return found

    def _give_up_run(self, run: Run, result: JobResult) -> None:
        folder = self._bury(f"{run.study}-{run.model}", result.reason)
        self._queue.end_run(run, "dead", f"{result.kind}, see {folder}", at=time.time())
        _log.error("study %s: %s given up (%s), see %s", run.study, run.model, result.kind, folder)

    def _bury(self, name: str, reason: str) -> str:
        """Write why work was given up; return where, below the node's folder."""
        path = self.config.folder / "dead" / name / "reason.txt"
        cure = "To try again what was given up: end the node, then hilum node --retry-dead ..."
        atomic_write_text(path, f"{reason}\n{cure}\n")
        return f"dead/{name}"

    # --- sending

    def _send_next(self, destination: Destination) -> bool:
        """Send the result that is due next; return whether there was one."""
        delivery = self._queue.take_delivery(destination.name, time.time())
        if delivery is None:
            return False
        try:
            deliver(self.config.folder / delivery.result.file, destination, self.config.title)
        # also of a library, or a bug of ours: an attempt, after which there is a pause
        except Exception as error:  # noqa: BLE001
            self._put_off(delivery, error)
            self._counters.sent(destination.name, "failed")
        else:
            self._queue.end_delivery(delivery, "done", at=time.time())
            self._counters.sent(destination.name, "done")
            _log.info("study %s: result sent to %s", delivery.study, destination.name)
        return True

    def _put_off(self, delivery: Delivery, error: Exception) -> None:
        """Let a result be sent later, or give it up."""
        pause = retry_after(delivery.attempts, self.config.retry_seconds)
        where, reason, now = delivery.destination, _in_words(error), time.time()
        if pause is not None:
            self._queue.end_delivery(delivery, "sending", reason, at=now + pause)
            _log.warning(
                "study %s: not sent to %s, tried again in %d seconds: %s",
                delivery.study,
                where,
                pause,
                reason,
            )
            return
        file = self.config.folder / delivery.result.file
        text = str(error) if isinstance(error, HilumError) else repr(error)
        folder = self._bury(f"{delivery.result.instance}-{where}", f"{file}\n{text}")
        self._queue.end_delivery(delivery, "dead", reason, at=now)
        _log.error("study %s: sending to %s given up, see %s", delivery.study, where, folder)

    def _confirm_next(self) -> bool:
        """Confirm the storage commitment that is due next; return whether there was one."""
        commitment = self._queue.take_commitment(time.time())
        if commitment is None:
            return False
        peer = self.config.address_of(commitment.title)
        pause = retry_after(commitment.attempts, self.config.retry_seconds)
        try:
            if peer is not None:
                confirm(commitment, peer, self.config.title, self._folder, self._queue)
        except Exception as error:  # noqa: BLE001  (as in sending)
            due = None if pause is None else time.time() + pause
            self._queue.end_commitment(commitment, due=due)
            _log.warning("storage commitment not confirmed: %s", _in_words(error))
        else:
            self._queue.end_commitment(commitment)
        return True

    # --- cleaning

    def _clean(self) -> bool:
        """Remove studies that were answered, or given up, long enough ago; return False."""
        now = time.time()
        before = now - 86400 * self.config.keep_days
        given_up = now - 86400 * self.config.keep_dead_days
        for study in self._queue.finished_studies(before, given_up):
            forget = partial(self._queue.forget_study, study, before, given_up)
            if self._folder.remove(study, forget):
                shutil.rmtree(self.config.folder / "results" / study, ignore_errors=True)
        for reason in self.config.folder.glob("dead/*/reason.txt"):
            if reason.stat().st_mtime < given_up:
                shutil.rmtree(reason.parent)
                _log.warning(
                    "dead/%s removed: given up more than %g days ago",
                    reason.parent.name,
                    self.config.keep_dead_days,
                )
        return False


def _keep_results(result: JobResult, out: Path) -> JobResult:
    """Give the complete results of a run their own folder."""
    kept = out.with_suffix("")
    shutil.rmtree(kept, ignore_errors=True)  # complete, but a crash kept it out of the queue
    out.rename(kept)
    for folder in (kept.parent, *kept.parents[1:3]):
        names_to_disk(folder)
    return replace(result, files=tuple(kept / path.relative_to(out) for path in result.files))


def _in_words(error: Exception) -> str:
    """Describe an error for the log; only the kind of one not ours, which may quote headers."""
    if isinstance(error, HilumError):
        return str(error)
    strerror = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {strerror}" if strerror else type(error).__name__


def _held(folder: Path) -> FileLock:
    """Hold a node's folder for this process.

    Raises:
        ResourceError: another node has it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ResourceError(
            f"{folder} is in use by another node", cure="end that one, or choose another folder"
        ) from error
    return lock
