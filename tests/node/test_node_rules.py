"""A served model with a rule skips studies that have no series for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hilum import api
from hilum.examples import SeriesTags, write_dicom_series
from hilum.node.worker import Job, _result_of
from hilum.volume import Geometry, Volume

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
from inference_toys import make_model


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("kernel=B30f", "done"),
        ("modality=MR", "skipped"),
        ("kernel~B", "refused"),  # two series fulfil it
    ],
)
def test_a_rule_decides_what_becomes_of_a_study(tmp_path, rule, status):
    geometry = Geometry.from_spacing((9, 8, 6), (2.0, 1.0, 1.0))
    for n, kernel in ((2, "B30f"), (3, "B31f")):
        tags = SeriesTags(series_number=n, attributes={"ConvolutionKernel": kernel})
        image = Volume(np.zeros((1, 9, 8, 6), np.int16), geometry)
        write_dicom_series(image, tmp_path / f"study/S{n}", tags=tags)
    job = Job(tmp_path, tmp_path / "study", tmp_path / "out", rule, ("dicom-seg",), "cpu")
    report = api.predict(
        make_model(precision="float32"), [job.images], job.out, formats=job.formats, series=job.rule
    )
    result = _result_of(report, job)
    assert result.status == status
    assert bool(result.files) is (status == "done")
