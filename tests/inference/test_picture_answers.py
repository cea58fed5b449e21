"""Predictions of pictures are pictures: PNG with a palette, whose numbers are the ids."""

import numpy as np
import PIL.Image
import pytest

from hilum.errors import FormatError, UsageError
from hilum.evaluation import evaluate_folder
from hilum.inference import Predictor, predict_many
from hilum.inference.prediction import Prediction
from hilum.io import read_labels, read_volume, write_labels, write_volume
from hilum.volume import Geometry, LabelTable, Volume
from inference_toys import make_model

TABLE = LabelTable.from_names({1: "liver", 2: "tumour"})
LABELS = np.array([[[[0, 1, 2], [2, 1, 0]]]], np.uint8)
FLAT = Geometry.from_spacing((1, 2, 3), (1.0, 0.5, 0.25))


def picture_model():
    return make_model(orientation="source")


def picture(seed, shape=(24, 20)):
    return Volume(
        np.random.default_rng(seed).integers(0, 3, (1, 1, *shape)).astype(np.uint8),
        Geometry.from_spacing((1, *shape)),
    )


def test_labels_in_a_palette(tmp_path):
    write_labels(Volume(LABELS, FLAT), tmp_path / "a.png", table=TABLE)
    image = PIL.Image.open(tmp_path / "a.png")
    assert image.mode == "P"
    assert np.array_equal(read_labels(tmp_path / "a.png").array, LABELS)
    assert read_labels(tmp_path / "a.png").geometry.is_close(FLAT)
    shown = np.asarray(image.convert("RGB"))
    assert (tuple(shown[0, 0]), tuple(shown[0, 1])) == ((0, 0, 0), TABLE.colours[1])
    assert read_volume(tmp_path / "a.png").channels == 3


@pytest.mark.parametrize("label", [256, 65535])
def test_large_ids_in_sixteen_bits(tmp_path, label):
    table = LabelTable.from_names({1: "a", label: "b"})
    array = np.where(LABELS == 2, label, LABELS.astype(np.int32))
    write_labels(Volume(array, FLAT), tmp_path / "a.png", table=table)
    assert np.array_equal(read_labels(tmp_path / "a.png").array, array)


def test_ids_that_no_picture_holds(tmp_path):
    write_volume(picture(1), tmp_path / "a.png")
    predictor = Predictor(make_model(labels=LabelTable.from_names({1: "a", 65536: "x"})))
    with pytest.raises(UsageError, match="a picture cannot hold the label 65536"):
        predict_many(predictor, [tmp_path], tmp_path / "out", formats=("png",))
    with pytest.raises(FormatError, match="numbers from 0 to 65536"):
        write_labels(Volume(LABELS.astype(np.int32) * 32768, FLAT), tmp_path / "a.png", table=TABLE)


def test_the_usual_format_follows_each_image(tmp_path):
    for name in ("a.png", "b.bmp", "c.tif"):
        write_volume(picture(1), tmp_path / "in" / "x.png")
        (tmp_path / "in" / "x.png").rename(tmp_path / "in" / "x")
        PIL.Image.open(tmp_path / "in" / "x").save(tmp_path / "in" / name)
        (tmp_path / "in" / "x").unlink()
    PIL.Image.open(tmp_path / "in" / "a.png").save(tmp_path / "in" / "d.jpg")
    write_volume(picture(2), tmp_path / "in" / "e.nii.gz")
    report = predict_many(
        Predictor(picture_model()), [tmp_path / "in"], tmp_path / "out", probabilities=True
    )
    files = {case.case: case.files[0] for case in report.cases}
    assert files == {"a": "a.png", "b": "b.png", "c": "c.png", "d": "d.png", "e": "e.nii.gz"}
    assert all(case.files[1] == f"{case.case}_probabilities.nii.gz" for case in report.cases)
    again = predict_many(
        Predictor(picture_model()), [tmp_path / "in"], tmp_path / "out", skip_existing=True
    )
    assert {case.status for case in again.cases} == {"skipped"}


def test_answers_in_pictures_are_evaluated(tmp_path):
    image = picture(1)
    write_volume(image, tmp_path / "in" / "a.png")
    predict_many(Predictor(picture_model()), [tmp_path / "in"], tmp_path / "out")
    answer = read_labels(tmp_path / "out" / "a.png")
    other = Volume(
        answer.array, Geometry.from_spacing(answer.geometry.shape, (1.0, 0.3, 0.3))
    )  # another resolution entry
    write_labels(other, tmp_path / "reference" / "a.png")
    evaluation = evaluate_folder(tmp_path / "out", tmp_path / "reference", tmp_path / "evaluation")
    assert {score.dice for score in evaluation.scores} <= {1.0}


def test_a_prediction_saves_itself_as_its_image(tmp_path):
    labels = Volume(LABELS, FLAT)
    assert [
        file.name for file in Prediction("a", labels, TABLE, "m", picture=True).save(tmp_path)
    ] == ["a.png"]
    assert [file.name for file in Prediction("a", labels, TABLE, "m").save(tmp_path)] == [
        "a.nii.gz"
    ]
