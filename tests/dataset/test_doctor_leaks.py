"""The doctor on leaks: near-duplicates, columns that tell the class, rare classes.

And the copy in which they are mended.
"""

import json

import numpy as np
import pytest
from dataset_samples import as_picture, block, kinds, labels, nnunet, oblique, tissue

from hilum.dataset import check, fix, make_folds, open_dataset
from hilum.dataset.doctor import KINDS
from hilum.io import read_labels, write_labels, write_volume
from hilum.volume import Volume

CASES = 24


@pytest.fixture
def root(tmp_path):
    """24 pictures of 24 people: 14 is 2 mirrored, 15 is 3 zoomed, 16 is 4 with noise."""
    for n in range(CASES):
        array = {
            14: tissue(2)[:, ::-1],
            15: tissue(3)[5:91, 5:107],
            16: np.clip(tissue(4) + 5.0, 0, 255).astype(np.uint8),
        }
        write_volume(
            as_picture(array.get(n, tissue(n))), tmp_path / "set" / "images" / f"p{n:02d}.png"
        )
    write(tmp_path / "set")
    return tmp_path / "set"


def write(root, *, split=True, label=None, **columns):
    label = label or ["sick" if n % 2 else "well" for n in range(CASES)]
    header = ["image", "patient", "label", *["split"] * split, *columns]
    rows = [
        [
            f"p{n:02d}.png",
            f"P{4 if n == 16 else n}",
            label[n],
            *(["train" if n < 12 else "val"] * split),
        ]
        + [values[n] for values in columns.values()]
        for n in range(CASES)
    ]
    (root / "cases.csv").write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")


def of(findings, kind):
    return [finding for finding in findings if finding.kind == kind]


def test_near_duplicates_on_both_sides_of_a_split(root):
    findings = check(open_dataset(root))
    first, second, third = of(findings, "near-duplicate")
    assert (first.case, first.others, first.severity, first.fixable) == (
        "p02",
        ("p14",),
        "error",
        True,
    )
    assert (
        "nearly the same image as p14 (likeness 1.00, mirrored), on both sides of the given split"
        in first.found
    )
    assert (second.case, second.others) == ("p03", ("p15",))
    assert "labelled" not in second.found
    assert (third.case, third.others, third.fixable) == ("p04", ("p16",), False)
    assert "keep them in one fold" in third.cure
    assert of(findings, "patient-leak")
    assert {finding.kind for finding in findings} <= set(KINDS)


def test_near_duplicates_without_a_split(root):
    write(root, split=False, label=["sick" if n % 2 or n == 14 else "well" for n in range(CASES)])
    first, second, third = of(check(open_dataset(root)), "near-duplicate")
    assert (first.severity, first.case) == ("warning", "p02")
    assert "but labelled differently: sick, well" in first.found
    assert first.cure.startswith(
        "look at them; keep them in one fold: --fix makes them one patient"
    )
    assert second.severity == "warning"
    assert (third.severity, third.case) == ("note", "")
    assert third.found == "2 cases are nearly the same image as another of the same patient"


def test_a_test_case_that_is_nearly_a_training_case(root):
    write(
        root,
        split=False,
        label=["" if n == 14 else "sick" if n % 2 else "well" for n in range(CASES)],
    )
    first = of(check(open_dataset(root)), "near-duplicate")[0]
    assert "is a test case among the training data?" in first.found
    assert not first.fixable


def test_a_group_of_several_is_one_finding(root):
    write_volume(as_picture(tissue(2)[::-1]), root / "images" / "p20.png")
    write_volume(as_picture(tissue(2)[4:92, 4:108]), root / "images" / "p21.png")
    first = of(check(open_dataset(root)), "near-duplicate")[0]
    assert first.others == ("p14", "p20", "p21")
    assert "or more, some mirrored, some turned, some zoomed)" in first.found


def test_mending_keeps_copies_in_one_fold(root, tmp_path):
    dataset = open_dataset(root)
    log = fix(dataset, check(dataset), tmp_path / "copy")
    done = {(entry.case, entry.kind): entry.done for entry in log.fixed}
    assert (
        done["p02", "near-duplicate"]
        == "one patient, P14_and_copies, so that they stay in one fold"
    )
    copy = open_dataset(tmp_path / "copy")
    assert copy["p02"].patient == copy["p14"].patient == "P14_and_copies"
    assert copy["p03"].patient == copy["p15"].patient
    assert copy["p05"].patient == "P5"
    (fold,) = copy.splits
    assert not {"p02", "p03", "p04"} & set(fold.train)
    assert {"p14", "p15", "p16"} <= set(fold.validation)
    assert not [finding for finding in check(copy) if finding.severity == "error"]
    (tmp_path / "copy" / "splits_final.json").unlink()
    for fold in make_folds(open_dataset(tmp_path / "copy"), 5):
        assert len({"p02", "p14"} & set(fold.train)) in {0, 2}


def test_mending_names_no_other_patient(root, tmp_path):
    write(root, split=False)
    text = (root / "cases.csv").read_text().replace("P20", "P14_and_copies")
    (root / "cases.csv").write_text(text)
    dataset = open_dataset(root)
    fix(dataset, check(dataset), tmp_path / "copy")
    copy = open_dataset(tmp_path / "copy")
    assert copy["p14"].patient == "P14_and_copies_"
    assert copy["p20"].patient == "P14_and_copies"


def test_copies_of_unknown_patients_in_a_segmentation(tmp_path):
    root = nnunet(tmp_path / "source")
    for case, seed in zip("abcdef", (1, 2, 3, 4, 5, 2), strict=True):
        array = block(seed, (8, 30, 32))
        write_volume(
            Volume(
                (array if case != "f" else array[:, :, ::-1] * 2 + 9)[None], oblique(array.shape)
            ),
            _image(root, case),
        )
        write_labels(labels(oblique(array.shape)), root / "labelsTr" / f"{case}.nii.gz")
    (root / "patients.csv").write_text("case,patient,age,label\na,,5,x\n")
    dataset = open_dataset(root)
    assert kinds(check(dataset)) == [("b", "near-duplicate")]
    fix(dataset, check(dataset), tmp_path / "copy")
    copy = open_dataset(tmp_path / "copy")
    assert copy["b"].patient == copy["f"].patient == "b_and_copies"
    assert copy["a"].patient is None
    assert copy["a"].columns == {"age": "5", "label": "x"}
    assert (
        json.loads((tmp_path / "copy" / "fixes.json").read_text())["fixed"][0]["kind"]
        == "near-duplicate"
    )


def _image(root, case):
    return root / "imagesTr" / f"{case}_0000.nii.gz"


def test_columns_that_tell_the_class(root):
    sick = [n % 2 == 1 for n in range(CASES)]
    write(
        root,
        ward=["A" if s else "B" for s in sick],
        label_text=["yes" if s else "no" for s in sick],
        view=["AP" if s or n in {0, 2, 6} else "PA" for n, s in enumerate(sick)],
    )
    findings = check(open_dataset(root))
    (leak,) = of(findings, "label-leak")
    assert (leak.severity, leak.case) == ("error", "")
    assert leak.found.startswith("the column ward alone tells sick from well: AUROC 1.000 (")
    (copy,) = of(findings, "label-copy")
    assert (copy.severity, "label_text" in copy.found) == ("note", True)
    (confounder,) = of(findings, "confounder")
    assert (confounder.severity, "the column view alone" in confounder.found) == ("warning", True)


def test_rare_classes(root):
    write(
        root, label=["odd" if n in {4, 16} else "sick" if n % 2 else "well" for n in range(CASES)]
    )
    (rare,) = of(check(open_dataset(root)), "rare-class")
    assert rare.found == "odd: 2 cases of 1 patient"
    dataset = open_dataset(root, classes="multilabel")
    assert dataset.classes.names == ("odd", "sick", "well")
    assert [finding.found for finding in of(check(dataset), "rare-class")] == [
        "odd: 2 cases of 1 patient"
    ]


def test_what_was_not_audited_is_said(root, monkeypatch):
    module = __import__("sys").modules["hilum.dataset.leaks.audit"]
    monkeypatch.setattr(module, "PARTS_LIMIT", 3)
    (finding,) = of(check(open_dataset(root)), "not-audited")
    assert "parts cut out of pictures" in finding.found


def test_regions_are_copied_and_mended(root, tmp_path):
    for n in range(CASES):
        mask = np.zeros((96, 112), np.uint8)
        mask[10 : 20 + n, 30:50] = 255
        write_labels(as_picture(mask if n else mask[:90]), root / "masks" / f"p{n:02d}.png")
    dataset = open_dataset(root, label="label")
    findings = check(dataset)
    assert ("p00", "grid-mismatch") in kinds(findings)
    log = fix(dataset, findings, tmp_path / "copy")
    copy = open_dataset(tmp_path / "copy")
    assert copy.labels is None
    assert copy["p05"].region == tmp_path / "copy" / "regions" / "p05.png"
    assert set(np.unique(read_labels(copy["p05"].region).array)) == {0, 1}
    assert read_labels(copy["p05"].region).array.sum() == 15 * 20
    # nothing says which rows of p00 were cut off; p15 is a part cut out of another image
    assert [finding.case for finding in log.left if finding.kind == "grid-mismatch"] == [
        "p00",
        "p15",
    ]
    assert [finding.case for finding in check(copy) if finding.kind.startswith("grid")] == [
        "p00",
        "p15",
    ]


def test_findings_survive_the_copy(root, tmp_path):
    write(
        root,
        label=[
            "Mass|Edema" if n % 3 == 0 else "Mass" if n % 3 == 1 else "No Finding"
            for n in range(CASES)
        ],
    )
    dataset = open_dataset(root)
    fix(dataset, check(dataset), tmp_path / "copy")
    copy = open_dataset(tmp_path / "copy")
    assert copy.classes == dataset.classes
    assert [case.label for case in copy.cases] == [case.label for case in dataset.cases]
