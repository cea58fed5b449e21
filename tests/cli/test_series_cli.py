"""`hilum series` lists what a folder holds, and says which series a model takes and why."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hilum import api
from hilum.cli import app
from hilum.errors import UsageError
from hilum.examples import SeriesTags, write_dicom_series
from hilum.volume import Geometry, Volume

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from inference_toys import make_model

SPACING = ["2.5", "x", "1.2", "x", "1.1"]


def write(folder, number, description, *, slices=9, **attributes):
    affine = np.array([[0, 0, 1.1, 4], [0, 1.2, 0, -7], [2.5, 0, 0, 9], [0, 0, 0, 1.0]])
    volume = Volume(np.full((1, slices, 8, 6), 7, np.int16), Geometry((slices, 8, 6), affine))
    tags = SeriesTags(series_number=number, series_description=description, attributes=attributes)
    return write_dicom_series(volume, folder, tags=tags)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    write(folder / "S1", 1, "Topogram", slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(folder / "S2", 2, "Abdomen 2.5", ConvolutionKernel="B30f")
    write(folder / "S3", 3, "Abdomen 2.5", ConvolutionKernel="B70f", ContrastBolusAgent="Ultravist")
    (folder / "readme.txt").write_text("x")
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, ["series", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_table_has_a_verdict_a_series(study):
    lines = run(study).splitlines()
    assert lines[0] == f"Study: patient SYN-0001  20260102  {study}"
    assert [line.split() for line in lines[1:5]] == [
        ["series", "modality", "description", "kind", "slices", "mm", "(Z", "Y", "X)", "verdict"],
        ["1", "CT", "Topogram", "axial", "1", "refused:", "a", "localizer", "(scout)"],
        ["2", "CT", "Abdomen", "2.5", "axial,", "B30f", "9", *SPACING, "ok"],
        [
            "3",
            "CT",
            "Abdomen",
            "2.5",
            "axial,",
            "B70f,",
            "contrast",
            "Ultravist",
            "9",
            *SPACING,
            "ok",
        ],
    ]
    assert lines[-2:] == ["19 files in 1 study", "1 file left out: text: readme.txt"]


def test_a_rule_shows_what_it_takes(study):
    assert "Taken: series 3 'Abdomen 2.5', because: it fulfils 'kernel~b7'" in run(
        study, "--series", "kernel~b7"
    )
    assert "Taken: none. no series fulfils 'slices>50'" in run(study, "--series", "slices>50")


def test_json_has_every_fact(study):
    found = json.loads(run(study, "--json"))
    (one,) = found["studies"]
    assert [row["rule"] for row in one["series"]] == ["1", "2", "3"]
    assert one["series"][1]["spacing_mm"] == [2.5, 1.2, 1.1]
    assert one["series"][0]["refused"] == "a localizer (scout)"
    assert found["files"]["taken"] == 19


def test_a_model_says_which_one_it_takes_and_why(study):
    listing = api.series(study, model=make_model(precision="float32"), device="cpu")
    (one,) = listing.studies
    (taken,) = one.taken
    assert (taken.channel, taken.rule) == ("CT", "2")
    assert taken.because.startswith("modality CT (+1); soft kernel B30f (+0.5)")
    assert one.series[0].scores["CT"].excluded == "a localizer (scout)"
    assert one.series[1].scores["CT"].points > one.series[2].scores["CT"].points


def test_a_model_without_a_clear_series_says_how_to_choose(tmp_path):
    for n in (2, 3):
        write(tmp_path / f"S{n}", n, "Abdomen")
    (one,) = api.series(tmp_path, model=make_model(precision="float32")).studies
    assert one.taken == ()
    assert "2 series suit channel CT equally well" in one.error
    ruled = api.series(tmp_path, model=make_model(precision="float32"), rule="3").studies[0]
    assert [taken.rule for taken in ruled.taken] == ["3"]


def test_a_zip_is_listed(study, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", study)
    assert "19 files in 1 study" in run(archive)


def test_files_that_are_cut_off_are_left_out_with_the_reason(study):
    whole = next((study / "S2").iterdir()).read_bytes()
    for name, left in (("a", 100), ("b", 400)):
        (study / name).mkdir()
        (study / name / "1.dcm").write_bytes(whole[:left])
    assert run(study).splitlines()[-4:] == [
        "19 files in 1 study",
        "1 file left out: no DICOM file: a/1.dcm",
        "1 file left out: a damaged DICOM file whose series cannot be read: b/1.dcm",
        "1 file left out: text: readme.txt",
    ]


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="no DICOM file in it"):
        api.series(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        api.series(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="'kernl' at character 1"):
        api.series(tmp_path, rule="kernl=3")
