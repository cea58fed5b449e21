"""The data card: what it counts, and that no name of a case or patient is in it."""

import numpy as np
import pytest

from hilum.dataset import open_dataset
from hilum.errors import DataError
from hilum.io import write_labels, write_volume
from hilum.plan import make_fingerprint
from hilum.plan.data_card import DATA_CARD, DataCard, make_data_card
from hilum.volume import Geometry, Volume

GRID = Geometry.from_spacing((6, 10, 8), (5.0, 2.0, 1.0))
ROWS = (
    "case,patient,label,PatientAge,sex,ScannerModel,rater_score",
    "a1,anna,benign,61,F,X1,3",
    "a2,anna,malignant,61,F,X1,4",
    "b1,bert,benign,7,M,X2,1",
    "c1,carl,benign,,M,unknown,1",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    header, *rows = ROWS
    lines = [f"{header},image"]
    for row in rows:
        case = row.partition(",")[0]
        write_volume(Volume(np.full((1, *GRID.shape), 40, np.int16), GRID), root / f"{case}.nii.gz")
        lines.append(f"{row},{case}.nii.gz")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    return root / "cases.csv"


def test_what_tables_say_of_cases_is_summarised(table):
    card = make_data_card(open_dataset(table), None)
    assert (card.cases, card.patients, card.tests, card.measured) == (4, 3, 0, None)
    assert [(one.name, one.cases) for one in card.labels] == [("benign", 3), ("malignant", 1)]
    (age,) = card.columns_about("age")
    assert (age.known, age.numbers.low, age.numbers.median, age.numbers.high) == (3, 7, 61, 61)
    (sex,) = card.columns_about("sex", "gender")
    assert sex.counts == (("F", 2), ("M", 2))
    (scanner,) = card.columns_about("scanner")
    assert (scanner.known, scanner.counts) == (3, (("X1", 2), ("X2", 1)))
    assert [one.name for one in card.columns] == ["PatientAge", "sex", "ScannerModel"]


def test_no_case_and_no_patient_is_named(table):
    text = make_data_card(open_dataset(table), None).as_json()
    assert not [name for name in ("anna", "bert", "carl", '"a1"', '"b1"') if name in text]


def test_labels_and_images_are_measured(tmp_path):
    folder = tmp_path / "Dataset001_Two"
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2},'
        ' "numTraining": 3, "file_ending": ".nii.gz"}'
    )
    random = np.random.default_rng(0)
    for number in range(3):
        image = random.normal(0, 300, (1, *GRID.shape)).astype(np.int16)
        write_volume(Volume(image, GRID), folder / "imagesTr" / f"c{number}_0000.nii.gz")
        labels = np.zeros((1, *GRID.shape), np.uint8)
        labels[0, 1:3, 2:7, 1:6] = 1  # 50 voxels of 10 mm3
        labels[0, 4, 4, 4] = 2 * (number == 2)
        write_labels(Volume(labels, GRID), folder / "labelsTr" / f"c{number}.nii.gz")
    write_volume(Volume(image, GRID), folder / "imagesTs" / "t_0000.nii.gz")
    dataset = open_dataset(folder)
    card = make_data_card(dataset, make_fingerprint(dataset))
    liver, tumour = card.labels
    assert (liver.cases, tumour.cases) == (3, 1)
    assert (liver.volume_ml.low, liver.volume_ml.high) == (pytest.approx(0.5), pytest.approx(0.5))
    assert tumour.volume_ml.median == pytest.approx(0.01)
    assert card.unlabelled == 1
    assert card.measured.spacing_mm == ((5, 5), (2, 2), (1, 1))
    assert card.measured.orientations == ((open_dataset_orientation(folder), 3),)
    assert DataCard.model_validate_json(card.as_json()) == card


def open_dataset_orientation(folder):
    from hilum.io import read_geometry

    return read_geometry(folder / "labelsTr" / "c0.nii.gz").orientation


def test_a_damaged_card_is_refused(tmp_path):
    assert DataCard.load(tmp_path / DATA_CARD) is None
    (tmp_path / DATA_CARD).write_text("{}")
    with pytest.raises(DataError, match=r"data_card\.json is damaged"):
        DataCard.load(tmp_path / DATA_CARD)
