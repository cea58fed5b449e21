"""SEG and RTSTRUCT files as predictions and as references score as the label maps that they are."""

import json

import numpy as np
import pytest

from hilum.dicom_results.producer import Producer
from hilum.dicom_results.rtstruct import write_rtstruct
from hilum.dicom_results.seg import write_segmentation
from hilum.errors import LabelError
from hilum.evaluation import evaluate_folder
from hilum.examples import write_dicom_series
from hilum.examples.dicom import SeriesTags
from hilum.io import read_geometry, write_labels
from hilum.volume import Geometry, LabelTable, Volume

NAMES = {1: "Liver", 2: "Tumour"}
TABLE = LabelTable.from_names(NAMES)
WRITE = {"seg": write_segmentation, "rtstruct": write_rtstruct}


@pytest.fixture
def cases(tmp_path):
    """Series of two cases, with reference labels and worse predictions of each."""
    found = {}
    for number, name in enumerate(("a", "b")):
        grid = Geometry.from_spacing((6, 16, 11), (3, 0.8, 0.8), origin=(-9, 4, 60 * number))
        image = Volume(np.zeros((1, *grid.shape), dtype=np.int16), grid)
        folder = tmp_path / "images" / name / "ct"
        write_dicom_series(image, folder, tags=SeriesTags(patient_id=name, uid_seed=name))
        read = read_geometry(folder)
        reference = np.zeros((1, *read.shape), dtype=np.uint8)
        reference[0, 1:4, 3:12, 2:9] = 1
        reference[0, 2, 5:8, 4 : 6 + number] = 2
        prediction = reference.copy()
        prediction[0, 3, :, 5:] = 0
        found[name] = folder, Volume(reference, read), Volume(prediction, read)
    return found


def write(cases, out, kind, which, names=NAMES):
    """Write the references (1) or predictions (2) of the cases, named as `hilum predict` does."""
    out.mkdir()
    for name, (folder, *maps) in cases.items():
        labels = maps[which - 1]
        table = LabelTable.from_names(names)
        if kind == "nifti":
            write_labels(labels, out / f"{name}.nii.gz")
        else:
            path = out / f"{name}_{kind}.dcm"
            WRITE[kind](labels, table, folder, path, producer=Producer("m", "1"))
    return out


def scores(evaluation):
    return [(one.case, one.region, round(one.dice, 9)) for one in evaluation.scores]


@pytest.mark.parametrize(
    ("predictions", "references"),
    [("nifti", "seg"), ("nifti", "rtstruct"), ("seg", "nifti"), ("rtstruct", "nifti")],
)
def test_dicom_scores_as_label_maps_do_without_images(cases, tmp_path, predictions, references):
    expected = evaluate_folder(
        write(cases, tmp_path / "p", "nifti", 2),
        write(cases, tmp_path / "r", "nifti", 1),
        tmp_path / "e",
        table=TABLE,
    )
    found = evaluate_folder(
        write(cases, tmp_path / "p2", predictions, 2),
        write(cases, tmp_path / "r2", references, 1),
        tmp_path / "e2",
        table=TABLE,
    )
    assert scores(found) == scores(expected)
    assert 0.5 < min(value for *_, value in scores(found)) < 1


def test_names_count_and_not_numbers(cases, tmp_path):
    predictions = write(cases, tmp_path / "p", "nifti", 2)
    (predictions / "labels.json").write_text(json.dumps({"1": "Liver", "2": "Tumour"}))
    first = evaluate_folder(predictions, write(cases, tmp_path / "r", "seg", 1), tmp_path / "e")
    swapped = {name: (f, relabelled(r), p) for name, (f, r, p) in cases.items()}
    other = write(swapped, tmp_path / "r2", "seg", 1, names={2: "liver", 1: "TUMOUR"})
    assert scores(evaluate_folder(predictions, other, tmp_path / "e2")) == scores(first)


def relabelled(labels):
    """Labels 1 and 2 with each other's number."""
    return labels.with_array(np.array([0, 2, 1], dtype=np.uint8)[labels.array])


def test_data_set_of_studies_is_a_reference(cases, tmp_path):
    for name, (folder, reference, _) in cases.items():
        path = folder.parent / "seg.dcm"
        write_segmentation(reference, TABLE, folder, path, producer=Producer("m", name))
    found = evaluate_folder(
        write(cases, tmp_path / "p", "rtstruct", 2), tmp_path / "images", tmp_path / "e"
    )
    expected = evaluate_folder(
        tmp_path / "p", write(cases, tmp_path / "r", "seg", 1), tmp_path / "e2"
    )
    assert scores(found) == scores(expected)


def test_structures_of_other_names_are_left_out_or_refused(cases, tmp_path):
    predictions = write(cases, tmp_path / "p", "nifti", 2)
    references = write(cases, tmp_path / "r", "rtstruct", 1)
    liver = LabelTable.from_names({1: "Liver"})
    for file in predictions.iterdir():
        _, _, labels = cases[file.name[0]]
        write_labels(labels.with_array((labels.array == 1).astype(np.uint8)), file)
    evaluation = evaluate_folder(predictions, references, tmp_path / "e", table=liver)
    assert {region for _, region, _ in scores(evaluation)} == {"Liver"}
    spleen = LabelTable.from_names({1: "Spleen"})
    with pytest.raises(LabelError, match="has the structures Liver, Tumour; wanted are 1 Spleen"):
        evaluate_folder(predictions, references, tmp_path / "e2", table=spleen)
