"""Results that arrive once, whatever is killed: real models, real senders, real Orthanc."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from node_samples import Archive, RunningNode, free_port, make_study, send, study_uid, wait_until
from orthanc import orthanc  # noqa: F401
from pydicom import dcmread

from hilum.io import read_labels

pytestmark = [
    pytest.mark.slow,
    # pynetdicom leaves the socket of a refused connection to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def archive():
    running = Archive()
    yield running
    running.stop()


@pytest.fixture
def run(tmp_path, model):
    """Start nodes in processes of their own, all in one folder; they are stopped in the end."""
    running = []

    def begin(*options, folder="node", quiet="0.5"):
        required = ("--model", model, "--format", "dicom-seg", "--quiet-seconds", quiet)
        running.append(RunningNode(tmp_path / folder, *required, *options))
        return running[-1]

    yield begin
    for node in running:
        if node.process.poll() is None:
            node.stop()


def test_a_study_goes_through_orthanc_and_back(orthanc, run, tmp_path, model):  # noqa: F811
    """Results also go to its DICOMweb service; sent twice they are one instance."""
    files = make_study(tmp_path / "study")
    node = run("--to", orthanc.destination, "--to", orthanc.web)
    assert send([tmp_path / "study"], orthanc.port, title="ORTHANC") == 0
    address = {"AET": "HILUM", "Host": "127.0.0.1", "Port": node.port}
    orthanc.post("/modalities/node", address, "PUT")
    orthanc.post("/modalities/node/store", orthanc.get("/instances"))
    node.wait_for("done")
    (series,) = orthanc.series("SEG")
    (instance,) = series["Instances"]
    path = tmp_path / "result.dcm"
    path.write_bytes(orthanc.read(f"/instances/{instance}/file"))
    data = dcmread(path)
    assert data.StudyInstanceUID == study_uid(files)
    assert data.PatientID == "SYN-0000"
    from hilum import api

    api.predict(model, tmp_path / "study", tmp_path / "local", device="cpu")
    (local,) = (tmp_path / "local").glob("*.nii.gz")
    orthanc.stop()
    both = tmp_path / "both"
    both.mkdir()
    path.rename(both / "result.dcm")
    for file in files:
        (both / file.name).write_bytes(file.read_bytes())
    came, made = read_labels(both / "result.dcm"), read_labels(local)
    assert (came.array == made.array).all()
    assert came.geometry.is_close(made.geometry)


def test_a_kill_in_mid_transfer_loses_nothing(run, archive, tmp_path):
    """All acknowledged instances are there; the sender, who was not, sends all again."""
    from pynetdicom import AE, build_context

    files = make_study(tmp_path / "study", shape=(160, 20, 24))
    node = run("--to", archive.destination, quiet="4")
    context = build_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = AE("CT").associate("127.0.0.1", node.port, contexts=[context])
    acknowledged = []
    for number, file in enumerate(files):
        if number == 80:
            threading.Timer(0.02, node.kill).start()
        data = dcmread(file)
        try:
            status = association.send_c_store(data)
        except RuntimeError:  # the connection is gone
            break
        if not status or status.Status != 0:
            break
        acknowledged.append(str(data.SOPInstanceUID))
    association.abort()
    wait_until(lambda: node.process.poll() is not None)
    assert 80 <= len(acknowledged) < 160
    kept = {path.stem for path in (node.folder / "studies").glob("*/*.dcm")}
    assert set(acknowledged) <= kept
    again = run("--to", archive.destination, quiet="4")
    assert send([tmp_path / "study"], again.port) == 0
    again.wait_for("done")
    assert archive.studies == [study_uid(files)]
    (result,) = archive.received
    assert result.NumberOfFrames > 80  # of the whole study


def test_a_kill_in_mid_prediction_loses_nothing(run, archive, tmp_path):
    import psutil

    files = make_study(tmp_path / "study")
    node = run("--to", archive.destination)
    assert send([tmp_path / "study"], node.port) == 0
    node.wait_for("predicting")
    workers = psutil.Process(node.process.pid).children(recursive=True)
    node.kill()
    assert workers
    psutil.wait_procs(workers, timeout=20)
    assert not any(one.is_running() for one in workers)
    assert archive.received == []
    again = run("--to", archive.destination)
    again.wait_for("done")
    assert archive.studies == [study_uid(files)]


@pytest.mark.parametrize("moment", ["before the reply", "after the reply"])
def test_a_kill_in_mid_sending_answers_once(run, tmp_path, moment):
    """The same instance may come twice, which an archive keeps once; never another one."""
    nodes = []

    def kill(_):
        node = nodes[-1]
        if len(nodes) == 1 and node.process.poll() is None:
            if moment == "before the reply":
                node.kill()
            else:
                threading.Timer(0.001, node.kill).start()

    archive = Archive(before_reply=kill)
    make_study(tmp_path / "study")
    nodes.append(run("--to", archive.destination))
    assert send([tmp_path / "study"], nodes[0].port) == 0
    wait_until(lambda: nodes[0].process.poll() is not None)
    nodes.append(run("--to", archive.destination))
    nodes[1].wait_for("done")
    archive.stop()
    assert len(set(archive.instances)) == 1
    assert len(archive.instances) <= 2
    assert len({one.to_json() for one in archive.received}) == 1


def test_late_images_give_a_new_instance_that_names_the_first(run, archive, tmp_path):
    files = make_study(tmp_path / "study")
    node = run("--to", archive.destination)
    assert send(files[:4], node.port) == 0
    wait_until(lambda: len(archive.received) == 1)
    node.wait_for("done")
    assert send(files, node.port) == 0
    wait_until(lambda: len(archive.received) == 2)
    node.wait_for("done")
    first, second = archive.received
    assert first.SOPInstanceUID != second.SOPInstanceUID
    (named,) = second.ReferencedImageSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert send(files, node.port) == 0  # once more: nothing new
    assert send_back(archive, tmp_path, node.port) == 0  # as a PACS routes results
    node.wait_for("done")
    assert len(archive.received) == 2


def send_back(archive, tmp_path, port) -> int:
    for number, data in enumerate(archive.received):
        data.save_as(tmp_path / f"back{number}.dcm", enforce_file_format=True)
    return send(sorted(tmp_path.glob("back*.dcm")), port, options=("-R",))


def test_results_wait_for_a_destination_that_is_down(tmp_path, model, start):
    port = free_port()
    make_study(tmp_path / "study")
    peer = {"title": "ARCHIVE", "host": "127.0.0.1", "port": port}
    node = start(
        quiet_seconds=0.3, destinations=[{"name": "late", "peer": peer}], retry_seconds=(0.3,) * 40
    )
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue._rows("SELECT 1 FROM deliveries WHERE attempts > 1"))
    archive = Archive(port)
    wait_until(lambda: node._queue.counts()["runs"].get("done"))
    archive.stop()
    assert len(archive.received) == 1


def test_results_that_no_one_takes_are_given_up_and_retried(tmp_path, model, start):
    port = free_port()
    make_study(tmp_path / "study")
    peer = {"title": "ARCHIVE", "host": "127.0.0.1", "port": port}
    destinations = [{"name": "late", "peer": peer}]
    node = start(quiet_seconds=0.3, destinations=destinations)
    assert send([tmp_path / "study"], node.port) == 0
    wait_until(lambda: node._queue.counts()["runs"].get("dead"))
    (reason,) = (node.config.folder / "dead").glob("*-late/reason.txt")
    assert f"ARCHIVE at 127.0.0.1:{port} cannot be reached" in reason.read_text()
    node.stop()
    archive = Archive(port)
    again = start(quiet_seconds=0.3, destinations=destinations, retry_dead=True)
    wait_until(lambda: again._queue.counts()["runs"].get("done"))
    archive.stop()
    assert len(archive.received) == 1
    assert not (again.config.folder / "dead").exists()


@pytest.mark.timeout(900)
def test_200_studies_of_4_senders_are_all_answered(run, archive, tmp_path):
    studies = [make_study(tmp_path / str(number), number) for number in range(200)]
    node = run("--to", archive.destination, quiet="2")

    def send_part(part):
        return [send([tmp_path / str(number)], node.port) for number in part]

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(send_part, [range(first, 200, 4) for first in range(4)]))
    assert set(itertools.chain(*codes)) == {0}
    node.wait_for("done", 200, seconds=800)
    assert sorted(archive.studies) == sorted(map(study_uid, studies))
    assert len(set(archive.instances)) == 200
