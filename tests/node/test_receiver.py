"""Receiving: anything is accepted as it is, on the disk before it is acknowledged."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import threading
import time
from io import BytesIO

import pytest
from node_samples import (
    CT,
    SYNTAXES,
    associate,
    encoded,
    make_study,
    send,
    send_bytes,
    stored,
    study_uid,
    wait_until,
)
from pydicom import dcmread
from pydicom.uid import generate_uid

from hilum.node import instances
from programs import require


def test_studies_of_storescu_are_kept_byte_for_byte(start, tmp_path):
    files = make_study(tmp_path / "study")
    node = start()
    assert send([tmp_path / "study"], node.port) == 0
    kept = stored(node, study_uid(files))
    assert len(kept) == len(files)
    sent = {str(dcmread(file).SOPInstanceUID): dcmread(file) for file in files}
    for path in kept:
        data = dcmread(path)
        assert data == sent[path.stem]
        assert data.file_meta.MediaStorageSOPInstanceUID == path.stem
        assert data.file_meta.TransferSyntaxUID == SYNTAXES["explicit"]
    assert not list((node.config.folder / "incoming").iterdir())


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_is_accepted_as_raw_bytes(start, syntax):
    import zlib

    node = start()
    data, header = encoded(syntax)
    if syntax == "deflated":
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = packer.compress(data) + packer.flush()
        data += b"\0" * (len(data) % 2)
    status = send_bytes(node, data, instance=header.SOPInstanceUID, syntax=SYNTAXES[syntax])
    assert status == 0
    (path,) = stored(node)
    assert path.parent.name == header.StudyInstanceUID
    assert path.read_bytes().endswith(data)
    assert dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == SYNTAXES[syntax]


def test_private_sop_classes_are_accepted(start):
    node = start()
    private = "1.2.826.0.1.3680043.2.1143.1.1"
    data, header = encoded(SOPClassUID=private)
    assert send_bytes(node, data, sop_class=private, instance=header.SOPInstanceUID) == 0
    assert len(stored(node)) == 1


def test_an_instance_sent_again_changes_nothing(start):
    node = start(quiet_seconds=60)
    data, header = encoded()
    for _ in range(2):
        assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
    assert node._queue._rows("SELECT revision FROM studies") == [(1,)]
    other, _ = encoded(
        **{name: header[name].value for name in ("SOPInstanceUID", "StudyInstanceUID")},
        pixels=b"\2\0" * 64,
    )
    assert send_bytes(node, other, instance=header.SOPInstanceUID) == 0
    assert node._queue._rows("SELECT revision FROM studies") == [(2,)]
    (path,) = stored(node)
    assert path.read_bytes().endswith(other)


@pytest.mark.parametrize("begun", [False, True])
def test_what_the_queue_did_not_take_is_taken_when_sent_again(start, monkeypatch, begun):
    """A new instance, and one that replaces another."""
    node = start(quiet_seconds=60)
    data, header = encoded()
    if begun:
        assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
        same = {name: header[name].value for name in ("SOPInstanceUID", "StudyInstanceUID")}
        data, _ = encoded(**same, pixels=b"\2\0" * 64)

    def fails(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(node._queue, "add_instance", fails)
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == instances.OUT_OF_RESOURCES
    monkeypatch.undo()
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
    assert node._queue._rows("SELECT revision FROM studies") == [(2 if begun else 1,)]


def test_late_images_keep_a_study_that_is_about_to_be_removed(start, monkeypatch):
    """Images that came since it was found to be finished, or are coming."""
    node = start(quiet_seconds=60, keep_days=0)
    data, header = encoded()
    study = header.StudyInstanceUID
    monkeypatch.setattr(node._queue, "finished_studies", lambda *_: [study])
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
    node._clean()
    assert len(stored(node)) == len(node._queue.images(study)) == 1
    monkeypatch.setattr(node._queue, "forget_study", lambda *_: True)
    with node._folder.arriving(study):
        node._clean()
    assert len(stored(node)) == 1
    node._clean()
    assert stored(node) == []


@pytest.mark.parametrize("study", ["../../../etc/passwd", "..", "1.2/3", "", "1." * 40, "abc"])
def test_uids_that_are_no_safe_names_are_refused(start, study):
    node = start()
    data, header = encoded(StudyInstanceUID="1.2.3")
    place = data.index(b"1.2.3\0")  # pydicom itself would not write such a UID
    padded = study.encode() + b"\0" * (len(study) % 2)
    data = data[: place - 2] + len(padded).to_bytes(2, "little") + padded + data[place + 6 :]
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == instances.NOT_UNDERSTOOD
    assert stored(node) == []
    assert not list((node.config.folder / "incoming").iterdir())


def test_a_data_set_of_another_instance_is_refused(start):
    node = start()
    data, _ = encoded()
    assert send_bytes(node, data, instance=generate_uid()) == instances.OTHER_INSTANCE
    assert stored(node) == []


def test_damaged_data_sets_are_refused(start):
    node = start()
    noise = bytes(range(256)) * 8
    assert send_bytes(node, noise, instance=generate_uid()) == instances.NOT_UNDERSTOOD
    assert stored(node) == []


def test_less_space_than_the_reserve_is_refused_politely(start):
    node = start(reserve="1000TB")
    data, header = encoded(pixels=b"\0\1" * 400_000)
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == instances.OUT_OF_RESOURCES
    assert stored(node) == []
    assert not list((node.config.folder / "incoming").iterdir())
    assert 'hilum_node_refused_total{status="0xA700"} 1.0' in metrics(node)


def metrics(node):
    from prometheus_client import generate_latest

    return generate_latest(node._counters.registry).decode()


def test_a_disk_that_fills_up_in_mid_transfer_is_refused_politely(start, monkeypatch):
    node = start()
    data, header = encoded(pixels=b"\0\1" * 400_000)

    def fails(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(instances.IncomingFile, "_open", fails)
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == instances.OUT_OF_RESOURCES
    monkeypatch.undo()
    assert stored(node) == []
    assert not list((node.config.folder / "incoming").iterdir())
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0


@pytest.mark.parametrize("ending", ["abort", "close"])
def test_a_sender_that_goes_away_leaves_nothing(start, ending):
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    node = start()
    data, header = encoded(pixels=b"\0\1" * 400_000)
    association = associate(node, CT, SYNTAXES["explicit"])
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = CT
    request.AffectedSOPInstanceUID = header.SOPInstanceUID
    request.DataSet = BytesIO(data)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    fragments = list(message.encode_msg(association.accepted_contexts[0].context_id, 16382))
    for fragment in fragments[:-5]:
        association.dul.send_pdu(fragment)
    incoming = node.config.folder / "incoming"
    wait_until(lambda: list(incoming.iterdir()), what="the beginning of the file")
    association.abort() if ending == "abort" else association.dul.socket.close()
    wait_until(lambda: not list(incoming.iterdir()), what="an empty folder")
    assert stored(node) == []


def begin(node, data, header, **request) -> tuple:
    """Send a whole request without waiting for its reply; return association and message."""
    from pynetdicom.dimse_primitives import C_STORE

    association = associate(node, CT, SYNTAXES["explicit"])
    made = C_STORE()
    made.MessageID, made.Priority, made.AffectedSOPClassUID = 1, 2, CT
    made.AffectedSOPInstanceUID, made.DataSet = header.SOPInstanceUID, BytesIO(data)
    for name, value in request.items():
        setattr(made, name, value)
    return association, made


def test_requests_behind_one_that_is_kept_leave_nothing_when_the_sender_goes(start, monkeypatch):
    """The second has arrived whole, and waits for the first."""
    node = start()
    reached, goes_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def waits(descriptor):
        reached.set()
        goes_on.wait(20)
        fsync(descriptor)

    incoming = node.config.folder / "incoming"
    monkeypatch.setattr(instances.os, "fsync", waits)
    data, header = encoded(pixels=b"\0\1" * 400_000)
    association, request = begin(node, data, header)
    context = association.accepted_contexts[0].context_id
    association.dimse.send_msg(request, context)
    assert reached.wait(20)
    request.DataSet = BytesIO(data)
    association.dimse.send_msg(request, context)
    wait_until(lambda: len(list(incoming.iterdir())) == 2, what="the second file")
    association.abort()
    time.sleep(0.5)  # for the node to see it
    goes_on.set()
    wait_until(lambda: not list(incoming.iterdir()), 10, "an empty folder")


@pytest.mark.parametrize("fault", ["no instance", "no class", "context"])
def test_requests_that_are_none_leave_nothing(start, fault):
    """Without an attribute they need, or in a context that was not agreed."""
    node = start()
    data, header = encoded(pixels=b"\0\1" * 400_000)
    missing = {"no instance": "AffectedSOPInstanceUID", "no class": "AffectedSOPClassUID"}
    changes = {missing[fault]: None} if fault in missing else {}
    association, request = begin(node, data, header, **changes)
    context = association.accepted_contexts[0].context_id
    association.dimse.send_msg(request, context + 2 * (fault == "context"))
    time.sleep(0.5)
    association.abort()
    wait_until(lambda: not list((node.config.folder / "incoming").iterdir()), 10, "no file")
    assert stored(node) == []
    data, header = encoded()
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0


def test_names_of_folders_are_on_the_disk_before_success(start, tmp_path, monkeypatch):
    """Also of one that was made by a node that was killed before it came to that."""
    written = []

    def notes(folder):
        written.append(folder)

    monkeypatch.setattr(instances, "names_to_disk", notes)
    node = start()
    folder = node.config.folder
    assert {folder, folder.parent} <= {*written}
    data, header = encoded()
    (folder / "studies" / header.StudyInstanceUID).mkdir()
    written.clear()
    assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
    assert written == [folder / "studies", folder / "studies" / header.StudyInstanceUID]


def test_echo_is_replied_to_and_only_by_allowed_titles(start):
    node = start(allow=("GOOD",))
    echo = [require("/usr/bin/echoscu"), "-aec", "HILUM", "127.0.0.1", str(node.port)]
    assert subprocess.run([*echo, "-aet", "GOOD"], check=False).returncode == 0
    bad = subprocess.run([*echo, "-aet", "BAD"], check=False, capture_output=True, text=True)
    assert bad.returncode != 0
    assert "Calling AE Title Not Recognized" in bad.stderr


def test_memory_stays_bounded_while_large_instances_come(start):
    """Only the fragments in flight of an instance of 64 MB are held."""
    import tracemalloc

    node = start()
    size = 2**26
    data, header = encoded(pixels=b"\0" * size)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert send_bytes(node, data, instance=header.SOPInstanceUID) == 0
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert stored(node)[0].stat().st_size > size
    assert peak < size  # the sender in this process holds one copy at most


def test_connections_that_announce_too_much_are_ended(start):
    """A peer that says that gigabytes follow is not waited for with memory in hand."""
    import socket

    node = start()
    with socket.create_connection(("127.0.0.1", node.port), 10) as connection:
        connection.sendall(b"\x01\x00\xf0\x00\x00\x00" + b"\0" * 1000)
        connection.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    association = associate(node, CT, SYNTAXES["explicit"])
    association.release()
