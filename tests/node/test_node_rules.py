"""Studies that are for a served model, that are not, and that cannot be read."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from hilum.examples import SeriesTags, write_dicom_series
from hilum.node import worker
from hilum.volume import Geometry, Volume
from inference_toys import make_model

UNSUITED, UNFIT = "no series suits the model", "no series fits the rule"


def write_study(folder, *kernels, modality="CT"):
    """Write a series of each kernel into one study."""
    geometry = Geometry.from_spacing((9, 8, 6), (2.0, 1.0, 1.0))
    for number, kernel in enumerate(kernels):
        tags = SeriesTags(
            series_number=number, modality=modality, attributes={"ConvolutionKernel": kernel}
        )
        image = Volume(np.zeros((1, 9, 8, 6), np.int16), geometry)
        write_dicom_series(image, folder / f"S{number}", tags=tags)


def result_of(folder, rule, monkeypatch):
    """Run the job of a model that wants CT on the study in a folder."""
    monkeypatch.setattr(worker, "_print_to", lambda _: None)
    job = worker.Job(
        folder, folder / "study", folder / "kept", folder / "out", rule, ("dicom-seg",), "cpu"
    )
    return worker.run_job(job, {folder: make_model(precision="float32")})


@pytest.mark.parametrize(
    ("modality", "kernels", "rule", "status", "kind"),
    [
        ("CT", ["B30f"], "", "done", ""),
        ("CT", ["B30f", "B31f"], "kernel=B30f", "done", ""),
        ("CT", ["B30f", "B31f"], "modality=MR", "skipped", UNFIT),
        ("CT", ["B30f", "B31f"], "kernel~B", "refused", "DataError"),  # two series fulfil it
        ("MR", ["a"], "", "skipped", UNSUITED),
        ("MR", ["a", "b"], "", "skipped", UNSUITED),
        ("MR", ["a"], "modality=MR", "skipped", UNSUITED),  # a rule makes no CT of it
    ],
)
def test_rule_and_model_decide_what_becomes_of_a_study(
    tmp_path, monkeypatch, modality, kernels, rule, status, kind
):
    write_study(tmp_path / "study", *kernels, modality=modality)
    result = result_of(tmp_path, rule, monkeypatch)
    assert (result.status, result.kind) == (status, kind)
    assert bool(result.files) is (status == "done")


@pytest.mark.parametrize(
    ("modality", "rule", "status"),
    [
        ("CT", "", "refused"),
        ("CT", "modality=CT", "refused"),
        ("MR", "", "skipped"),
        ("CT", "modality=MR", "skipped"),
    ],
)
def test_damage_is_told_from_a_study_for_others(tmp_path, monkeypatch, modality, rule, status):
    """A study that the model would take, but for a fault, is never left out in silence."""
    write_study(tmp_path / "study", "B30f", modality=modality)
    for path in (tmp_path / "study").rglob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PixelSpacing = "0\\0"
        data.save_as(path)
    result = result_of(tmp_path, rule, monkeypatch)
    assert result.status == status
    if status == "refused":
        assert "PixelSpacing is missing or is no such value" in result.reason
        assert str(tmp_path / "kept") in result.reason  # not the links, which are there no longer
