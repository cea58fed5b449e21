"""Images too large by header or spacing are refused, and the other cases go on."""

import gzip

import numpy as np

from hilum.inference import Predictor, predict_many
from hilum.io import write_volume
from hilum.volume import Geometry, Volume
from inference_toys import make_model


def image(spacing):
    return Volume(np.ones((1, 6, 7, 8), np.int16), Geometry.from_spacing((6, 7, 8), (spacing,) * 3))


def test_images_that_would_need_more_than_there_is(tmp_path):
    write_volume(image(1.0), tmp_path / "in" / "a.nii.gz")
    write_volume(image(1e6), tmp_path / "in" / "b.nii.gz")
    data = bytearray(gzip.decompress((tmp_path / "in" / "a.nii.gz").read_bytes()))
    data[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (tmp_path / "in" / "c.nii.gz").write_bytes(gzip.compress(bytes(data)))
    report = predict_many(
        Predictor(make_model(spacing=(1.0, 1.0, 1.0))), [tmp_path / "in"], tmp_path / "out"
    )
    found = {case.case: (case.status, case.error or "") for case in report.cases}
    assert {case: status for case, (status, _) in found.items()} == {
        "a": "done",
        "b": "failed",
        "c": "failed",
    }
    assert "b: its images take" in found["b"][1]
    assert "c: its images take" in found["c"][1]
