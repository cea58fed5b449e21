"""Models of both tasks in one node, and studies in every form that scanners and archives send."""

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from node_samples import SYNTAXES, Archive, make_study, send_bytes, study_uid, wait_until
from pydicom.uid import generate_uid

sys.path.append(str(Path(__file__).parent.parent / "dicom"))

from dicom_series import write_enhanced

from classification_toys import class_plan
from hilum.dicom.network import read_key
from hilum.inference import TrainedModel
from hilum.io import read_labels
from hilum.networks import build_network

pytestmark = pytest.mark.slow

SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
SHAPE = (6, 40, 48)  # an encoder of JPEG 2000 takes no smaller ones
KEPT = (
    *("SpecificCharacterSet", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "Manufacturer"),
)
SC, PDF = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104.1"


@pytest.fixture
def archive():
    running = Archive()
    yield running
    running.stop()


def destination(archive):
    return {
        "name": "pacs",
        "peer": {"title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
    }


def send_raw(node, files):
    """Send the data sets of files as the bytes they are, in their own transfer syntax."""
    for file in files:
        data = file.read_bytes()
        begin = 144 + int.from_bytes(data[140:144], "little")  # PS3.10: after the file meta
        key = read_key(file)
        syntax = str(pydicom.filereader.read_file_meta_info(file).TransferSyntaxUID)
        status = send_bytes(
            node, data[begin:], sop_class=key.sop_class, instance=key.instance, syntax=syntax
        )
        assert status == 0


def encode(files, name):
    """Encode the files of a series anew, without loss."""
    for file in files:
        data = pydicom.dcmread(file)
        if name == "deflated":
            data.file_meta.TransferSyntaxUID = SYNTAXES[name]
        else:
            data.compress(SYNTAXES[name], generate_instance_uid=False)
        data.save_as(file)
    return files


def as_enhanced(files):
    """Join the files of a series to one, in a study of its own."""
    first = pydicom.dcmread(files[0])
    made = {name: first[name].value for name in KEPT}
    made |= {"SOPInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}

    def name_in_meta(data):
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID

    return [write_enhanced(files[0].with_name("e"), files, edit=name_in_meta, **made)]


def test_studies_in_every_encoding_get_the_same_result(start, archive, tmp_path, model):
    forms = {
        name: encode(make_study(tmp_path / name, shape=SHAPE, seed=name), name)
        for name in ("JPEG-LS", "RLE", "JPEG 2000", "deflated")
    }
    forms["plain"] = make_study(tmp_path / "plain", shape=SHAPE, seed="plain")
    forms["enhanced"] = as_enhanced(make_study(tmp_path / "enhanced", shape=SHAPE, seed="enhanced"))
    served = {"name": "toy", "folder": model, "formats": ("nifti", "dicom-seg")}
    node = start(quiet_seconds=1, models=[served], destinations=[destination(archive)])
    for files in forms.values():
        send_raw(node, files)
    for name, files in forms.items():
        (folder,) = (node.config.folder / "studies").glob(study_uid(files))
        kept = [pydicom.dcmread(path) for path in folder.iterdir()]
        syntaxes = {str(one.file_meta.TransferSyntaxUID) for one in kept}
        assert syntaxes == {SYNTAXES.get(name, SYNTAXES["explicit"])}
        sent = {str(one.SOPInstanceUID): one.PixelData for one in map(pydicom.dcmread, files)}
        assert {str(one.SOPInstanceUID): one.PixelData for one in kept} == sent
    wait_until(lambda: node._queue.counts()["runs"].get("done") == len(forms), 200, "all results")
    assert sorted(archive.studies) == sorted(map(study_uid, forms.values()))
    labels = {}
    for name, files in forms.items():
        (path,) = (node.config.folder / "results" / study_uid(files)).rglob("*.nii.gz")
        labels[name] = read_labels(path)
    assert labels["plain"].array.any()
    for one in labels.values():
        np.testing.assert_array_equal(one.array, labels["plain"].array)
        assert one.geometry.is_close(labels["plain"].geometry)


@pytest.fixture
def classifier(tmp_path):
    """The folder of a small classifier of MR with random weights."""
    plan = class_plan(channels=("MR",))
    torch.manual_seed(5)
    network = build_network(plan.network.value).eval()
    made = TrainedModel(plan=plan, networks=(network,), device=torch.device("cpu"))
    made.save(tmp_path / "classifier")
    return tmp_path / "classifier"


def as_mr(files):
    """Let the images of a study be of MR."""
    for file in files:
        data = pydicom.dcmread(file)
        data.Modality, data.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        data.save_as(file)
    return files


@pytest.mark.parametrize("rules", [("modality=CT", "modality=MR"), ("", "")])
def test_each_study_gets_the_results_of_the_models_it_is_for(
    start, archive, tmp_path, model, classifier, rules
):
    """By rules, or by what the models are for; CT is segmented, MR classified."""
    ct, mr = make_study(tmp_path / "ct"), as_mr(make_study(tmp_path / "mr", 1))
    models = [
        {"name": "liver", "folder": model, "rule": rules[0]},
        {
            "name": "grade",
            "folder": classifier,
            "rule": rules[1],
            "formats": ("dicom-sr", "dicom-sc", "dicom-pdf"),
        },
    ]
    node = start(quiet_seconds=1, models=models, destinations=[destination(archive)])
    send_raw(node, [*ct, *mr])
    wait_until(lambda: node._queue.counts()["runs"].get("done") == 4, 200, "all results")
    came = sorted((str(one.StudyInstanceUID), str(one.SOPClassUID)) for one in archive.received)
    of_mr = [(study_uid(mr), kind) for kind in (SR, SC, PDF)]
    assert came == sorted([(study_uid(ct), SEG), *of_mr])
    assert len(set(archive.instances)) == 4
    reason = "no series fits the rule" if rules[0] else "no series suits the model"
    reasons = {(one.study, one.model): one.reason for one in node._queue.states(1, 0.0)}
    assert {key for key, text in reasons.items() if text == reason} == {
        (study_uid(ct), "grade"),
        (study_uid(mr), "liver"),
    }
    assert not (node.config.folder / "dead").exists()
    for name in ("liver", "grade"):
        skipped = f'hilum_node_predictions_total{{model="{name}",status="skipped"}} 1.0'
        assert skipped in metrics(node)
    again = [path for path in archive.instances if node._queue.is_own_result(path)]
    assert len(again) == 4


def metrics(node):
    from prometheus_client import generate_latest

    return generate_latest(node._counters.registry).decode()
