"""The command `deidentify` as users meet it."""

import json

import numpy as np
import pytest
from test_cli import hilum

from hilum.examples import write_dicom_series
from hilum.volume import Geometry, Volume


@pytest.fixture
def study(tmp_path):
    """A small series of a patient."""
    image = np.arange(96, dtype=np.int16).reshape(1, 3, 4, 8)
    geometry = Geometry.from_spacing((3, 4, 8), (2.0, 1.0, 1.0))
    write_dicom_series(Volume(image, geometry), tmp_path / "study")
    return tmp_path


def test_deidentify_says_what_it_did(study):
    said = hilum("deidentify", study / "study", "-o", study / "out", "--key", study / "key")
    assert said.code == 0
    assert "3 files written, none failed. Options: --dates shift." in said.text
    assert "none that identifies somebody was found" in said.text
    assert "This does not prove that nobody can be recognised" in said.text
    assert str(study / "out_private_report") in said.out.replace("\n", "")
    assert (study / "out_private_report" / "report.md").is_file()
    assert "SYN-0001" in (study / "out_private_report" / "report.json").read_text()


def test_deidentify_prints_json_and_takes_options(study):
    said = hilum(
        *("deidentify", study / "study", "-o", study / "out", "--key", study / "key"),
        *("--dates", "keep", "--retain-device", "--clean-descriptors", "--no-search"),
        *("--report", study / "told", "--uid-map", "--workers", 1, "--json"),
    )
    assert said.code == 0
    record = json.loads(said.out)
    assert record["options"] == "dates=keep, retain_device, clean_descriptors"
    assert record["searched"] == 0
    assert (study / "told" / "uid_map.csv").is_file()


def test_failed_file_gives_exit_code_3(study):
    (study / "study" / "notes.txt").write_text("no DICOM")
    (study / "study" / "slice.dcm").write_text("no DICOM")
    said = hilum("deidentify", study / "study", "-o", study / "out", "--key", study / "key")
    assert said.code == 3
    assert "Not de-identified: slice.dcm: no DICOM file" in said.text
    assert "1 file not copied: not DICOM." in said.text


def test_nested_folders_give_exit_code_2(study):
    said = hilum("deidentify", study / "study", "-o", study, "--key", study / "key")
    assert said.code == 2
    assert "lie in each other" in said.text
