"""DICOMweb: studies from a real Orthanc, and results back to it."""

import re

import pytest
from node_samples import free_port, make_study, study_uid
from orthanc import orthanc  # noqa: F401
from pydicom import Dataset, dcmread

from hilum.api import predict
from hilum.dicom.web import WebService, is_web_address, web_address
from hilum.errors import ResourceError, UsageError
from inference_toys import make_model


def test_addresses_name_their_encryption():
    assert web_address("dicomweb://pacs:8042/dicom-web/") == "http://pacs:8042/dicom-web"
    assert web_address("dicomwebs://pacs/dicom-web") == "https://pacs/dicom-web"
    assert web_address("https://pacs/x") == "https://pacs/x"
    assert is_web_address("dicomweb://pacs")
    assert not is_web_address("/data/dicomweb")
    with pytest.raises(UsageError, match="address 'dicomweb://'"):
        web_address("dicomweb://")


def test_studies_come_and_go_without_a_change(orthanc, tmp_path):  # noqa: F811
    files = make_study(tmp_path / "study")
    service = WebService(orthanc.web)
    service.store(files)
    fetched = service.retrieve(study_uid(files), tmp_path / "fetched")
    sent = {str(data.SOPInstanceUID): data for data in map(dcmread, files)}
    came = {str(data.SOPInstanceUID): data for data in map(dcmread, fetched)}
    assert came == sent


def test_messages_name_the_address_and_not_a_temporary_folder(tmp_path, monkeypatch, caplog):
    """In the log and in run.json."""
    study = make_study(tmp_path / "study")
    for file in study:
        data = dcmread(file)
        data.PixelSpacing = "0\\0"
        data.save_as(file)
    files = [dcmread(file) for file in study]
    place = "http://pacs.example/dicom-web/studies/1.2.3"
    monkeypatch.setattr(WebService, "_instances", lambda *_: iter(files))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level("INFO", "hilum"):
        predict(make_model(), "dicomweb://pacs.example/dicom-web", tmp_path / "out", study="1.2.3")
    assert f"Files of {place}: " in caplog.text
    for text in (caplog.text, (tmp_path / "out" / "run.json").read_text()):
        assert re.search(rf"{place}/[0-9.]+\.dcm: PixelSpacing is missing", text)
        assert f"{tmp_path}/hilum-" not in text


def test_unknown_studies_are_named(orthanc, tmp_path):  # noqa: F811
    with pytest.raises(UsageError, match=r"no study 1\.2\.3 at http://127"):
        WebService(orthanc.web).retrieve("1.2.3", tmp_path)


def test_a_refused_file_is_named(tmp_path, monkeypatch):
    file = make_study(tmp_path / "study")[0]
    reply, failed = Dataset(), Dataset()
    failed.FailureReason = 0x0110
    reply.FailedSOPSequence = [failed]
    service = WebService("dicomweb://pacs/dicom-web")
    monkeypatch.setattr(service._client, "store_instances", lambda _: reply)
    with pytest.raises(ResourceError, match=rf"(?s)refused {file.name} \(reason 0x0110\).*log"):
        service.store([file])


def test_services_that_cannot_be_reached_are_named(tmp_path):
    service = WebService(f"dicomweb://127.0.0.1:{free_port()}/dicom-web")
    with pytest.raises(ResourceError, match="cannot retrieve from http://127"):
        service.retrieve("1.2.3", tmp_path)
    with pytest.raises(ResourceError, match="cannot store at http://127"):
        service.store(make_study(tmp_path / "study")[:1])
