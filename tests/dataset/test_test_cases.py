"""Cases that a data set keeps for testing are in no fold, in no plan and in no copy's training."""

import numpy as np
import PIL.Image
import pytest
from dataset_samples import nnunet

from hilum.dataset import make_folds, open_dataset
from hilum.dataset.doctor import fix
from hilum.dataset.layouts.splits import folds_from_column
from hilum.errors import DataError
from hilum.plan import make_fingerprint


def _picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(number).integers(0, 255, (12, 12), np.uint8)).save(
        path
    )


def _table(root, word="test", rest=("train",)):
    """Twelve cases, of which c09, c10 and c11 are of the test part."""
    rows = ["case,image,label,split"]
    for number in range(12):
        _picture(root / f"c{number:02}.png", number)
        part = word if number > 8 else rest[number % len(rest)]
        rows.append(f"c{number:02},c{number:02}.png,{number % 2},{part}")
    (root / "cases.csv").write_text("\n".join(rows))
    return root


def _in_folds(dataset):
    return {case for fold in make_folds(dataset, 3) for case in (*fold.train, *fold.validation)}


@pytest.mark.parametrize("word", ["test", "Testing", "TST", "hold-out"])
@pytest.mark.parametrize("rest", [("train",), ("train", "val"), ("0", "1", "2"), ("",)])
def test_test_cases_of_a_column_are_in_no_fold(tmp_path, word, rest):
    dataset = open_dataset(_table(tmp_path, word, rest))
    assert (
        dataset.tests
        == {"c09", "c10", "c11"}
        == {case.id for case in dataset.cases} - _in_folds(dataset)
    )
    assert "3 test cases are in no fold" in dataset.notes


def test_test_cases_of_class_folders_are_in_no_fold(tmp_path):
    for number in range(24):
        part = "test" if number % 3 == 0 else "train"
        _picture(tmp_path / part / "ab"[number % 2] / f"{part}{number}.png", number)
    dataset = open_dataset(tmp_path)
    assert len(dataset.tests) == 8
    assert not dataset.tests & _in_folds(dataset)


@pytest.mark.parametrize(("word", "tests", "splits"), [("train", {"c"}, 0), ("0", set(), 2)])
def test_a_split_beside_any_layout_is_honoured(tmp_path, word, tests, splits):
    root = nnunet(tmp_path, ids=tuple("abc"))
    other = "test" if tests else "1"
    (root / "patients.csv").write_text(f"case,patient,Split\na,1,{word}\nb,2,{word}\nc,3,{other}\n")
    dataset = open_dataset(root)
    assert (dataset.tests, len(dataset.splits)) == (tests, splits)


def test_test_cases_are_not_looked_at_for_a_plan(tmp_path):
    assert len(make_fingerprint(open_dataset(_table(tmp_path))).cases) == 9


def test_a_mended_copy_keeps_test_cases_apart(tmp_path):
    dataset = open_dataset(_table(tmp_path / "data"))
    fix(dataset, [], tmp_path / "copy")
    assert open_dataset(tmp_path / "copy").tests == dataset.tests


def test_a_mended_segmentation_keeps_test_cases_apart(tmp_path):
    root = _table(tmp_path / "data")
    for number in range(12):
        mask = np.zeros((12, 12), np.uint8)
        mask[:6, :number] = 1
        (root / "masks").mkdir(exist_ok=True)
        PIL.Image.fromarray(mask).save(root / "masks" / f"c{number:02}.png")
    fix(open_dataset(root), [], tmp_path / "copy")
    copy = open_dataset(tmp_path / "copy")
    assert len(copy.cases) == 9
    assert {case.id for case in copy.unlabelled} == {"c09", "c10", "c11"}
    assert len(list((tmp_path / "copy" / "labelsTs").iterdir())) == 3


@pytest.mark.parametrize(
    "words", [("train", "internal"), ("train", "val", "0"), ("val", "eval", "test")]
)
def test_parts_beside_other_words_are_refused(words):
    with pytest.raises(DataError, match="the column of the split holds"):
        folds_from_column({f"case{number}": word for number, word in enumerate(words)})
