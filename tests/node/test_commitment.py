"""Storage commitment, asked for by a real Orthanc."""

import json

import pytest
from node_samples import free_port, make_study, wait_until
from orthanc import Orthanc

from hilum.node.config import Peer

# pynetdicom leaves the socket of a refused connection to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def pair(start, tmp_path):
    """A node and an Orthanc that know each other."""
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", {"hilum": ("HILUM", port)})
    peer = Peer(title="ORTHANC", host="127.0.0.1", port=orthanc.port)
    yield start(port=port, peers=(peer,)), orthanc
    orthanc.stop()


def commitment(orthanc, instances):
    """Ask the node by Orthanc, and wait for its report."""
    request = {"DicomInstances": instances, "Timeout": 20}
    begun = json.loads(orthanc.post("/modalities/hilum/storage-commitment", request))
    path = f"/storage-commitment/{begun['ID']}"
    wait_until(lambda: orthanc.get(path)["Status"] != "Pending", 30, "the report")
    return orthanc.get(path)


def test_what_is_kept_is_confirmed_and_the_rest_is_named(pair, tmp_path):
    node, orthanc = pair
    files = make_study(tmp_path / "study")
    orthanc.add(*files)
    orthanc.post("/modalities/hilum/store", orthanc.get("/instances"))
    from pydicom import dcmread

    sent = [[str(d.SOPClassUID), str(d.SOPInstanceUID)] for d in map(dcmread, files)]
    report = commitment(orthanc, sent)
    assert report["Status"] == "Success"
    assert len(report["Success"]) == len(files)
    lost = node.config.folder / "studies" / dcmread(files[0]).StudyInstanceUID / f"{sent[0][1]}.dcm"
    lost.unlink()
    report = commitment(orthanc, [*sent, [sent[0][0], "1.2.3"]])
    assert report["Status"] == "Failure"
    failed = {one["SOPInstanceUID"] for one in report["Failures"]}
    assert failed == {sent[0][1], "1.2.3"}
    assert len(report["Success"]) == len(files) - 1
    wait_until(lambda: not node._queue._rows("SELECT 1 FROM commitments"))


def test_strangers_get_no_commitment(start, tmp_path):
    from pydicom.dataset import Dataset
    from pynetdicom import AE, build_context

    node = start()
    push = "1.2.840.10008.1.20.1"
    association = AE("STRANGER").associate("127.0.0.1", node.port, contexts=[build_context(push)])
    request = Dataset()
    request.TransactionUID = "1.2.3.4"
    request.ReferencedSOPSequence = []
    status, _ = association.send_n_action(request, 1, push, "1.2.840.10008.1.20.1.1")
    other, _ = association.send_n_action(request, 2, push, "1.2.840.10008.1.20.1.1")
    association.release()
    assert status.Status == 0x0110
    assert other.Status == 0x0123


def test_reports_wait_until_the_peer_can_be_reached(start, tmp_path):
    port = free_port()
    node = start(
        peers=(Peer(title="LATER", host="127.0.0.1", port=port),), retry_seconds=(0.3,) * 20
    )
    node._queue.add_commitment("1.2.3.4", "LATER", [("1.2.840.10008.5.1.4.1.1.2", "1.2.3")], 0.0)
    wait_until(lambda: node._queue._rows("SELECT attempts FROM commitments")[0][0] > 1)
    from pynetdicom import AE, evt

    reports = []

    def take(event):
        reports.append((event.event_type, event.event_information))
        return 0, None

    entity = AE("LATER")
    entity.add_supported_context("1.2.840.10008.1.20.1", scu_role=True, scp_role=True)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)]
    )
    wait_until(lambda: reports)
    server.shutdown()
    event_type, report = reports[0]
    assert event_type == 2
    assert report.FailedSOPSequence[0].FailureReason == 0x0112
    wait_until(lambda: not node._queue._rows("SELECT 1 FROM commitments"))
