"""A corrected copy: what was planted is mended, logged and gone, and the source is as it was."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import SHAPE, facts, image, kinds, labels, nnunet, oblique, picture, pictures

from hilum.dataset import Fold, check, fix, open_dataset, read_annotation, read_case
from hilum.dataset.conversion import whole
from hilum.dataset.doctor.finding import Finding, FixLog
from hilum.dataset.doctor.mend import finite, mend_annotation, mend_images, renumber_labels
from hilum.errors import DataError, LabelError, UsageError
from hilum.files import sha256
from hilum.io import write_labels, write_volume
from hilum.volume import Geometry, LabelTable, Volume


def snapshot(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): sha256(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def mend(root, target):
    before = snapshot(root)
    dataset = open_dataset(root)
    log = fix(dataset, check(dataset), target)
    assert snapshot(root) == before
    assert FixLog.model_validate_json((target / "fixes.json").read_text()) == log
    return log, open_dataset(target)


def errors(dataset):
    return [finding for finding in check(dataset) if finding.severity == "error"]


def test_everything_at_once(tmp_path):
    root = nnunet(tmp_path / "source", ids=tuple("abcdefghij"), channels=("PET", "CT"))

    def annotation(case, volume):
        write_volume(volume, root / "labelsTr" / f"{case}.nii.gz")

    annotation("a", labels(oblique(origin=(-21.0, 33.52, 7.25))))
    annotation("b", labels(Geometry.from_spacing(SHAPE)))
    fine = oblique().resized((8, 14, 18))
    annotation("c", Volume(labels().array.repeat(2, 1).repeat(2, 2).repeat(2, 3), fine))
    annotation("d", Volume(labels().array.astype(np.float32) + 0.001, oblique()))
    array = image(41).array.astype(np.float32)
    array[0, 1, 2, 3] = np.nan
    write_volume(Volume(array, oblique()), root / "imagesTr" / "e_0001.nii.gz")
    write_volume(
        image(51, oblique((8, 14, 18), (1.5, 0.4, 0.65))), root / "imagesTr" / "f_0001.nii.gz"
    )
    (root / "imagesTr" / "g_0000.nii.gz").write_bytes(b"broken")
    for number in (0, 1):
        shutil.copy(
            root / "imagesTr" / f"a_000{number}.nii.gz", root / "imagesTr" / f"h_000{number}.nii.gz"
        )
    (root / "labelsTr" / "i.nii.gz").rename(root / "labelsTr" / "z.nii.gz")
    (root / "patients.csv").write_text("case,patient\na,A\nb,A\nc,C\nd,D\ne,E\nf,F\n")
    (root / "splits_final.json").write_text(
        json.dumps([{"train": list("acdgh"), "val": list("bejd")}])
    )
    log, copy = mend(root, tmp_path / "copy")
    assert {(entry.case, entry.kind) for entry in log.fixed} == {
        ("a", "grid-rounding"),
        ("b", "grid-header"),
        ("c", "grid-mismatch"),
        ("d", "fractional-labels"),
        ("e", "not-finite"),
        ("f", "channel-grid"),
        ("g", "unreadable"),
        ("h", "duplicate-image"),
        ("i", "orphan-image"),
        ("z", "orphan-annotation"),
        ("a", "patient-leak"),
        ("d", "patient-leak"),
        ("d", "split-overlap"),
    }
    assert log.left == ()
    assert errors(copy) == []
    assert [case.id for case in copy.cases] == list("abcdefj")
    assert [case.id for case in copy.unlabelled] == ["i"]
    assert copy.splits == (Fold(("c",), ("b", "d", "e", "j")),)
    assert copy["a"].patient == "A"
    for case in copy.cases:
        assert np.array_equal(read_annotation(case).array, labels().array), case.id
    assert np.array_equal(read_case(copy["b"]).array, read_case(open_dataset(root)["b"]).array)
    assert read_case(copy["e"]).array[1, 1, 2, 3] == np.nanmin(array)
    assert read_case(copy["f"]).array.shape == (2, *SHAPE)


def test_a_sound_data_set_is_copied_byte_for_byte(tmp_path):
    root = nnunet(tmp_path / "source")
    log, _ = mend(root, tmp_path / "copy")
    assert log.fixed == ()
    for part in ("imagesTr", "labelsTr"):
        assert snapshot(root / part) == snapshot(tmp_path / "copy" / part)


def test_findings_that_are_not_given_are_not_mended(tmp_path):
    root = nnunet(tmp_path / "source")
    write_labels(labels(Geometry.from_spacing(SHAPE)), root / "labelsTr" / "b.nii.gz")
    dataset = open_dataset(root)
    log = fix(dataset, (), tmp_path / "copy")
    assert log.fixed == ()
    assert kinds(check(open_dataset(tmp_path / "copy"))) == kinds(check(dataset))


def test_masks_of_255_get_nnunets_numbers(tmp_path):
    log, copy = mend(pictures(tmp_path / "source", value=255), tmp_path / "copy")
    assert copy.labels == LabelTable.from_names({1: "foreground"})
    assert (log.fixed[0].kind, log.fixed[0].done) == (
        "label-numbers",
        "numbered anew as nnU-Net needs them: 255 is 1",
    )
    assert set(np.unique(read_annotation(copy["p1"]).array)) == {0, 1}
    assert (tmp_path / "copy" / "imagesTr" / "p1_0000.png").is_file()


def test_regions_and_ignore_survive(tmp_path):
    root = nnunet(tmp_path / "source")
    names = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 9}
    facts(root, names=names, regions_class_order=[1, 2])
    write_labels(labels(values=(1, 9)), root / "labelsTr" / "a.nii.gz")
    log, copy = mend(root, tmp_path / "copy")
    assert copy.labels is not None
    assert copy.labels.regions == open_dataset(root).labels.regions
    assert (copy.labels.ignore, copy.labels.decode_ids) == (3, (1, 2))
    assert set(np.unique(read_annotation(copy["a"]).array)) == {0, 1, 3}
    assert "9 is 3" in log.fixed[0].done


def test_mixed_formats_become_nifti_and_colour_is_split(tmp_path):
    root = pictures(tmp_path / "source", channels=3)
    array = picture(8, channels=3).array.astype(np.float32)
    array[0, 0, 0, 0] = np.inf
    write_volume(Volume(array, Geometry.from_spacing((1, 12, 17))), root / "images" / "p9.nii.gz")
    write_labels(labels(Geometry.from_spacing((1, 12, 17)), (1,)), root / "masks" / "p9.nii.gz")
    log, copy = mend(root, tmp_path / "copy")
    assert copy.channels == ("red", "green", "blue")
    assert sorted(path.name for path in (tmp_path / "copy" / "imagesTr").iterdir())[:3] == [
        "p1_0000.nii.gz",
        "p1_0001.nii.gz",
        "p1_0002.nii.gz",
    ]
    assert [entry.kind for entry in log.fixed] == ["not-finite"]
    assert np.isfinite(read_case(copy["p9"]).array).all()


def test_colour_pictures_stay_one_picture(tmp_path):
    root = pictures(tmp_path / "source", channels=3)
    write_volume(picture(7, channels=3), root / "images" / "p1.tif")
    (root / "images" / "p1.png").unlink()
    _, copy = mend(root, tmp_path / "copy")
    assert read_case(copy["p1"]).array.shape == (3, 1, 12, 17)
    assert len(set(copy["p1"].images.values())) == 1


def test_classification_becomes_a_table(tmp_path):
    root = tmp_path / "source"
    for seed, name in enumerate("abcd"):
        write_volume(picture(seed % 3), root / "images" / f"{name}.png")
    (root / "cases.csv").write_text(
        "image,patient,label,age\na.png,A,x,7\nb.png,B,y,8\nc.png,C,x,9\nd.png,D,x,10\n"
    )
    log, copy = mend(root, tmp_path / "copy")
    assert [entry.kind for entry in log.fixed] == ["duplicate-image"]
    assert (copy.layout, copy.classes.names, [case.id for case in copy.cases]) == (
        "table",
        ("x", "y"),
        ["a", "b", "c"],
    )
    assert copy["c"].columns["age"] == "9"
    assert copy["c"].patient == "C"


def test_what_can_be_neither_copied_nor_mended_is_left_out(tmp_path):
    root = pictures(tmp_path / "source", value=255)
    dataset = open_dataset(root)
    write_labels(
        Volume(np.where(picture(1).array > 99, 3, 0).astype(np.uint8), picture(1).geometry),
        root / "masks" / "p2.png",
    )
    log = fix(dataset, check(dataset), tmp_path / "copy")
    assert [(entry.case, entry.kind) for entry in log.fixed] == [
        ("", "label-numbers"),
        ("p2", "left-out"),
    ]
    assert log.cases == ("p1", "p3")
    assert [case.id for case in open_dataset(tmp_path / "copy").cases] == ["p1", "p3"]


def test_what_stays_wrong_is_listed(tmp_path):
    root = nnunet(tmp_path / "source")
    write_labels(labels(values=(1, 8)), root / "labelsTr" / "a.nii.gz")
    log, _ = mend(root, tmp_path / "copy")
    assert [(finding.case, finding.kind) for finding in log.left] == [("a", "unknown-label")]


def test_folders_that_cannot_be(tmp_path):
    root = nnunet(tmp_path / "source")
    dataset = open_dataset(root)
    for target in (root, root / "copy"):
        with pytest.raises(UsageError, match="lies in the data set"):
            fix(dataset, (), target)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(UsageError, match="is not empty") as caught:
        fix(dataset, (), tmp_path / "full")
    assert caught.value.cure == f"name another, such as {tmp_path / 'full'}_fixed"


def test_nothing_left(tmp_path):
    dataset = open_dataset(nnunet(tmp_path / "source", ids=("a",)))
    finding = Finding(
        case="a", kind="unreadable", severity="error", found="x", cure="y", fixable=True
    )
    with pytest.raises(DataError, match="no annotated case of"):
        fix(dataset, (finding,), tmp_path / "copy")


def test_progress_and_leaks_without_patients(tmp_path):
    dataset = open_dataset(nnunet(tmp_path / "source", ids=("a", "b")))
    seen = []
    fix(
        replace(dataset, splits=(Fold(("a",), ("b",)),)),
        (),
        tmp_path / "copy",
        progress=lambda done, total, case: seen.append((done, total, case)),
    )
    assert seen == [(1, 2, "a"), (2, 2, "b")]
    assert open_dataset(tmp_path / "copy").splits == (Fold(("a",), ("b",)),)


def test_finite():
    array = np.array([[3.0, np.nan], [-np.inf, 5.0]], np.float32).reshape(1, 1, 2, 2)
    mended, count = finite(np.concatenate([array, array * np.nan]))
    assert mended[:, 0].tolist() == [[[3.0, 3.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert count == 6
    assert finite(image(1).array)[1] == 0


def test_whole():
    one = LabelTable.from_names({255: "x"})
    assert whole(np.array([0.0, 127.4, 127.6, 255.0]), one).tolist() == [0, 0, 255, 255]
    assert whole(np.array([0.0, 254.995]), one).tolist() == [0, 255]


def test_mending_that_was_not_asked_for(tmp_path):
    write_volume(Volume(labels().array.astype(np.float32) * 0.5, oblique()), tmp_path / "a.nii.gz")
    two = LabelTable.from_names({1: "x", 2: "y"})
    for asked in ((), ("fractional-labels",)):
        with pytest.raises(LabelError, match="no whole number"):
            mend_annotation(tmp_path / "a.nii.gz", oblique(), two, frozenset(asked))
    write_volume(
        Volume(labels().array.astype(np.float32) * 0.9999, oblique()), tmp_path / "b.nii.gz"
    )
    with pytest.raises(DataError, match="fractional-labels"):
        mend_annotation(tmp_path / "b.nii.gz", oblique(), two, frozenset())
    root = nnunet(tmp_path / "s", ids=("a",), channels=("PET", "CT"))
    write_volume(image(1, oblique((5, 7, 9))), root / "imagesTr" / "a_0001.nii.gz")
    with pytest.raises(DataError, match="channel-grid"):
        mend_images(open_dataset(root)["a"], frozenset())
    with pytest.raises(LabelError, match=r"labels \[7\] cannot be numbered anew"):
        renumber_labels(labels(values=(7,)), LabelTable.from_names({5: "x"}))


def test_jpeg_masks_are_cut(tmp_path):
    import PIL.Image

    root = pictures(tmp_path / "source", value=255)
    for file in sorted((root / "masks").iterdir()):
        PIL.Image.open(file).save(file.with_suffix(".jpg"), quality=60)
        file.unlink()
    assert open_dataset(root).labels == LabelTable.from_names({255: "foreground"})
    (root / "labels.json").write_text('{"255": "vessel"}')
    assert kinds(check(open_dataset(root))) == [
        (case, "fractional-labels") for case in ("p1", "p2", "p3")
    ]
    log, copy = mend(root, tmp_path / "copy")
    assert log.left == ()
    assert errors(copy) == []
    assert "gives label 255 to values of at least 127.5" in log.fixed[1].done
    wanted = labels(Geometry.from_spacing((1, 12, 17)), (1,)).array
    assert np.mean(read_annotation(copy["p1"]).array == wanted) > 0.95
    with pytest.raises(DataError, match="fractional-labels"):
        mend_annotation(
            root / "masks" / "p1.jpg", oblique(), LabelTable.from_names({255: "x"}), frozenset()
        )


@pytest.mark.parametrize(
    ("names", "written"),
    [(("none", "polyp"), "No Finding"), (("unknown", "known"), "class unknown")],
)
def test_classes_named_like_not_known_stay_classes(tmp_path, names, written):
    for seed in range(6):
        write_volume(picture(seed), tmp_path / "source" / names[seed % 2] / f"a{seed}.png")
    log, copy = mend(tmp_path / "source", tmp_path / "copy")
    assert copy.classes is not None
    assert set(copy.classes.names) == {written, names[1]}
    assert (len(copy.cases), copy.unlabelled) == (6, ())
    assert [(entry.kind, entry.done) for entry in log.fixed] == [
        ("class-name", f"called {written!r} in the copy")
    ]
