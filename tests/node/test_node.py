"""The node as a whole, without other programs: predicting, stopping, logs, status, TLS."""

import ctypes
import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_samples import RunningNode, fetch, make_study, send, study_uid, wait_until

from hilum.node.queue import Result
from hilum.node.worker import JobResult
from programs import require

# pynetdicom leaves the socket of a refused connection to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
PLANTED = ("Zebulon^Quux", "SYN-0000", "19700203")


@pytest.mark.slow
def test_a_study_is_predicted_when_it_is_quiet(start, tmp_path, model):
    files = make_study(tmp_path / "study")
    models = [{"name": "toy", "folder": model, "formats": ("nifti",)}]
    node = start(quiet_seconds=0.5, models=models)
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue.counts()["runs"].get("done"), 60)
    uid = study_uid(files)
    (result,) = (node.config.folder / "results" / uid / "toy" / "6").glob("*.nii.gz")
    from hilum.io import read_labels, read_volume

    assert read_labels(result).geometry.is_close(read_volume(tmp_path / "study").geometry)
    assert not (node.config.folder / "work" / uid).exists()


@pytest.mark.slow
def test_the_log_holds_no_patient_data(tmp_path, model):
    """Nor does the status page; also where a prediction fails and its message quotes a header."""
    from pydicom import dcmread

    files = make_study(tmp_path / "good", name=PLANTED[0])
    broken = make_study(tmp_path / "bad", 1, name=PLANTED[0])
    for file in (*files, *broken):
        data = dcmread(file)
        data.PatientID, data.PatientBirthDate = PLANTED[1], PLANTED[2]
        data.SeriesDescription = f"for {PLANTED[0]}"
        if file in broken:
            data.PixelSpacing = "0\\0"
            data.StudyDescription = f"of {PLANTED[0]}"
        data.save_as(file)
    node = RunningNode(
        tmp_path / "node", "--model", model, "--format", "nifti", "--quiet-seconds", "0.5"
    )
    try:
        assert send([tmp_path / "good", tmp_path / "bad"], node.port) == 0
        node.wait_for("done")
        node.wait_for("dead")
        shown = node.page() + node.page("/metrics")
    finally:
        assert node.stop() == 0
    log = node.log.read_text()
    assert re.search(rf"(?m)^\d{{4}}-\d\d-\d\d [\d:]{{8}} study {study_uid(files)}: 6 images", log)
    assert study_uid(broken) in shown
    for text in PLANTED:
        assert text not in log
        assert text not in shown
        assert text.encode() not in (node.folder / "queue.sqlite").read_bytes()
    (reason,) = (node.folder / "dead").glob("*/reason.txt")
    assert "hilum node --retry-dead" in reason.read_text()


@pytest.mark.slow
def test_a_stop_in_mid_prediction_goes_on_later(tmp_path, model):
    make_study(tmp_path / "study")
    options = ("--model", model, "--format", "nifti", "--quiet-seconds", "0.3")
    node = RunningNode(tmp_path / "node", *options)
    assert send([tmp_path / "study"], node.port) == 0
    node.wait_for("predicting")
    assert node.stop() == 0
    assert "Stopped." in node.log.read_text()
    again = RunningNode(tmp_path / "node", *options)
    again.wait_for("done")
    assert re.search(r"<td>done<td>6<td>[^<]*<td>1<td>", again.page())  # images, date, attempts
    assert again.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="threads are found in /proc")
def test_a_signal_that_another_thread_gets_stops_it_too(tmp_path, model):
    """The system may give it to any thread, which Python tells the main one when that wakes."""
    node = RunningNode(tmp_path / "node", "--model", model, "--format", "nifti")
    pid = node.process.pid
    wait_until(lambda: "No destination" in node.log.read_text())
    tasks = (int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    other = next(task for task in tasks if task != pid)
    assert ctypes.CDLL(None).tgkill(pid, other, signal.SIGTERM) == 0
    assert node.process.wait(40) == 0


def test_what_crashes_the_worker_is_given_up_and_receiving_goes_on(start, tmp_path, model):
    make_study(tmp_path / "study")
    models = [{"name": "toy", "folder": model, "formats": ("nifti",)}]
    node = start(quiet_seconds=0.3, models=models)
    assert send([tmp_path / "study"], node.port) == 0

    def kill_worker():
        import contextlib

        with contextlib.suppress(TypeError, ProcessLookupError):
            os.kill(node.worker_pid, signal.SIGKILL)
        return node._queue.counts()["runs"].get("dead")

    wait_until(kill_worker)
    (state,) = node._queue.states(0.3, time.time())
    assert state.attempts == 3
    assert state.reason.startswith("crash, see dead/")
    assert send([tmp_path / "study"], node.port) == 0


@pytest.mark.parametrize("step", ["_prepare_out", "_bury"])
def test_a_disk_that_fails_in_a_prediction_costs_no_study(start, tmp_path, monkeypatch, step):
    """Neither before it nor when its outcome is written."""
    failures = []

    def fails(*_):
        failures.append(step)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hilum.node.node._PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(f"hilum.node.node.Node.{step}", fails)
    make_study(tmp_path / "study")
    node = start(quiet_seconds=0.3, predict_minutes=0.0001, retry_seconds=(0.1, 0.1))
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: len(failures) > 1)
    monkeypatch.undo()
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    assert not (node.config.folder / "work" / node._queue.states(0, 0)[0].study).exists()


def counted_calls(monkeypatch, where, kind=KeyError):
    """Let a function of the node's raise, and return the times at which it was called."""
    times = []

    def fails(*_, **__):
        times.append(time.monotonic())
        raise kind("of a library")

    monkeypatch.setattr(where, fails)
    return times


def enter_result(node):
    """Enter a result that is to be sent, as if a study had been predicted."""
    now = time.time()
    later = now + 3600  # so that the node itself does not take the run
    node._queue.add_instance("1", "1.1", "1.2", image=True, now=now)
    node._queue.settle(["toy"], 0.0, later)
    run = node._queue.take_run(["toy"], later)
    node._queue.finish_run(run, [Result("9.9", "1.2", "results/a.dcm")], ["pacs"], now)


def test_sending_that_fails_in_any_way_has_its_pauses(start, tmp_path, monkeypatch):
    times = counted_calls(monkeypatch, "hilum.node.node.deliver")
    peer = {"title": "ARCHIVE", "host": "127.0.0.1", "port": 1}
    node = start(destinations=[{"name": "pacs", "peer": peer}], retry_seconds=(0.8, 0.8))
    enter_result(node)
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    assert len(times) == 3
    assert min(second - first for first, second in itertools.pairwise(times)) > 0.7
    (reason,) = (node.config.folder / "dead").glob("9.9-pacs/reason.txt")
    assert "KeyError('of a library')" in reason.read_text()


def test_giving_up_that_fails_has_its_pauses(start, monkeypatch):
    """A result is not sent again and again where the disk does not take the reason."""
    times = counted_calls(monkeypatch, "hilum.node.node.deliver")
    monkeypatch.setattr("hilum.node.node._PAUSE_SECONDS", 0.8)
    counted_calls(monkeypatch, "hilum.node.node.Node._bury", OSError)
    peer = {"title": "ARCHIVE", "host": "127.0.0.1", "port": 1}
    node = start(destinations=[{"name": "pacs", "peer": peer}], retry_seconds=())
    enter_result(node)
    wait_until(lambda: len(times) == 3)
    assert min(second - first for first, second in itertools.pairwise(times)) > 0.7


def test_confirming_that_fails_in_any_way_has_its_pauses(start, monkeypatch):
    times = counted_calls(monkeypatch, "hilum.node.node.confirm")
    node = start(
        peers=({"title": "PEER", "host": "127.0.0.1", "port": 1},), retry_seconds=(0.8, 0.8)
    )
    node._queue.add_commitment("1.2.3", "PEER", [("1.2", "3.4")], 0.0)
    wait_until(lambda: not node._queue._rows("SELECT 1 FROM commitments"))
    assert len(times) == 3
    assert min(second - first for first, second in itertools.pairwise(times)) > 0.7


def test_predicting_that_fails_in_any_way_is_an_attempt(start, monkeypatch):
    times = counted_calls(monkeypatch, "hilum.node.worker.PredictionWorker.predict")
    node = start(quiet_seconds=0.1, retry_seconds=(0.8, 0.8))
    node._queue.add_instance("1", "1.1", "1.2", image=True, now=0.0)
    monkeypatch.setattr(node._folder, "link_into", lambda *_: None)
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    assert len(times) == 3
    assert min(second - first for first, second in itertools.pairwise(times)) > 0.7


def test_results_that_are_not_complete_have_no_successors(start, monkeypatch):
    """Results of a failed attempt were never sent: later ones must not name them."""
    jobs = []

    def predicts(self, job, minutes):
        jobs.append((job, sorted(path.name for path in job.out.glob("*"))))
        job.out.mkdir(parents=True, exist_ok=True)
        name = f"{len(jobs)}.dcm"
        (job.out / name).write_bytes(b"a result")
        if len(jobs) == 2:
            return JobResult("failed", kind="crash")
        return JobResult("done", (job.out / name,))

    monkeypatch.setattr("hilum.node.worker.PredictionWorker.predict", predicts)
    monkeypatch.setattr("hilum.node.instances.InstanceFolder.link_into", lambda *_: None)
    node = start(quiet_seconds=0.1, retry_seconds=())
    monkeypatch.setattr(node, "_results", lambda result: results.append(result.files) or [])
    results = []
    for number in (1, 2, 3):
        node._queue.add_instance("1", f"1.{number}", "1.2", image=True, now=time.time())
        wait_until(lambda number=number: len(jobs) == number)
        wait_until(lambda: not node._queue.counts()["runs"].get("predicting"))
    assert [found for _, found in jobs] == [[], ["1.dcm"], ["1.dcm"]]
    folder = node.config.folder / "results" / "1" / "toy"
    assert results == [(folder / "1" / "1.dcm",), (folder / "3" / "3.dcm",)]
    assert all(path.is_file() for (path,) in results)


def test_what_was_given_up_goes_after_its_own_days(start, tmp_path, monkeypatch):
    monkeypatch.setattr("hilum.node.node.deliver", lambda *_: None)
    node = start(quiet_seconds=0.1, predict_minutes=0.0001, retry_seconds=(), keep_days=0)
    folder = node.config.folder
    (folder / "studies" / "1").mkdir()
    (folder / "studies" / "1" / "1.1.dcm").write_bytes(b"an image")
    node._queue.add_instance("1", "1.1", "1.2", image=True, now=0.0)
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    node._clean()
    assert (folder / "studies" / "1" / "1.1.dcm").is_file()
    assert (folder / "dead" / "1-toy" / "reason.txt").is_file()
    later = time.time() + 86400 * node.config.keep_dead_days + 1
    monkeypatch.setattr("hilum.node.node.time.time", lambda: later)
    node._clean()
    assert not (folder / "studies" / "1").exists()
    assert not (folder / "dead" / "1-toy").exists()
    assert node._queue.states(1, later) == []


def test_predictions_that_hang_are_stopped(start, tmp_path, model):
    make_study(tmp_path / "study")
    models = [{"name": "toy", "folder": model, "formats": ("nifti",)}]
    node = start(quiet_seconds=0.3, models=models, predict_minutes=0.0001, retry_seconds=())
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    assert node._queue.states(0.3, time.time())[0].reason.startswith("timeout, see dead/")


def test_the_status_page_and_metrics_say_what_is_there(start, tmp_path):
    from urllib.error import HTTPError

    files = make_study(tmp_path / "study")
    node = start(status_port=0)
    assert send([tmp_path / "study"], node.port) == 0
    page = fetch(node.status_port, "/")
    assert f"<td>{study_uid(files)}<td><td>received<td>6" in page
    text = fetch(node.status_port, "/metrics")
    assert "hilum_node_received_total 6.0" in text
    assert "hilum_node_instances 6.0" in text
    assert float(re.search(r"hilum_node_free_bytes (\d\S+)", text)[1]) > 0
    with pytest.raises(HTTPError, match="404"):
        fetch(node.status_port, "/etc/passwd")


def certificate(folder, name):
    """Make a key and a certificate signed by itself for this machine."""
    key, made = f"{folder}/{name}.key", f"{folder}/{name}.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    options = ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", names]
    subprocess.run(
        [
            require("openssl"),
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-keyout",
            key,
            "-out",
            made,
            *options,
        ],
        check=True,
        capture_output=True,
    )
    return folder / f"{name}.pem", folder / f"{name}.key"


def test_connections_are_encrypted_and_show_their_certificates(start, tmp_path):
    from pynetdicom import build_context

    from hilum.errors import ResourceError
    from hilum.node.config import Peer, Tls
    from hilum.node.delivery import associate

    mine, my_key = certificate(tmp_path, "node")
    theirs, their_key = certificate(tmp_path, "sender")
    node = start(tls=Tls(certificate=mine, key=my_key, authority=theirs))
    echo = [build_context("1.2.840.10008.1.1")]
    good = Tls(certificate=theirs, key=their_key, authority=mine)
    association = associate(
        Peer(title="HILUM", host="127.0.0.1", port=node.port, tls=good), "SENDER", echo
    )
    assert association.send_c_echo().Status == 0
    association.release()
    for tls in (None, Tls(authority=mine), Tls(certificate=theirs, key=their_key)):
        with pytest.raises(ResourceError, match="cannot be reached"):
            associate(
                Peer(title="HILUM", host="127.0.0.1", port=node.port, tls=tls), "SENDER", echo
            )


def test_instances_that_a_crash_left_out_of_the_queue_are_entered(start, tmp_path, model):
    files = make_study(tmp_path / "study")
    node = start()
    assert send([tmp_path / "study"], node.port) == 0
    node.stop()
    node._ending.pop_all()
    for path in node.config.folder.glob("queue.sqlite*"):
        path.unlink()
    again = start()
    assert len(again._queue.images(study_uid(files))) == len(files)


@pytest.mark.slow
def test_finished_studies_are_removed_after_their_days(start, tmp_path, model):
    files = make_study(tmp_path / "study")
    models = [{"name": "toy", "folder": model, "formats": ("nifti",)}]
    node = start(quiet_seconds=0.3, models=models, keep_days=0)
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue.counts()["runs"].get("done"))
    node._clean()
    assert node._queue.states(1, time.time()) == []
    assert not (node.config.folder / "studies" / study_uid(files)).exists()
    assert not (node.config.folder / "results" / study_uid(files)).exists()


@pytest.mark.slow
def test_models_run_on_the_studies_that_their_rule_takes(start, tmp_path, model):
    make_study(tmp_path / "study")
    rules = {"any": "", "ct": "modality=CT and slices>3", "mr": "modality=MR"}
    models = [{"name": name, "folder": model, "rule": rule} for name, rule in rules.items()]
    node = start(quiet_seconds=0.3, models=models)
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue.counts()["runs"].get("done") == 3)
    reasons = {one.model: one.reason for one in node._queue.states(1, time.time())}
    assert reasons == {"any": "", "ct": "", "mr": "no series fits the rule"}
    written = {path.parts[-3] for path in (node.config.folder / "results").rglob("*.dcm")}
    assert written == {"any", "ct"}
