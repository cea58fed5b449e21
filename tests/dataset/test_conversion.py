"""The doctor opens every data set: numbers that are no labels are findings, mended where safe."""

import gzip
import json

import nibabel
import numpy as np
import PIL.Image
import pytest
from dataset_samples import SHAPE, image, kinds, labels, nnunet, oblique, picture, pictures

from hilum.dataset import check, fix, open_dataset, read_annotation
from hilum.errors import DataError, LabelError
from hilum.io import write_labels, write_volume
from hilum.plan import make_fingerprint
from hilum.volume import MOST_LABELS, LabelTable, Volume

TRUTH = labels().array[0]  # (Z, Y, X), ids 0, 1, 2
MASK = (TRUTH > 0).astype(np.float32)


def layers(*masks):
    return np.stack([np.asarray(mask) for mask in masks])


def annotated(folder, array):
    """An nnU-Net folder without dataset.json whose annotations hold one array (C, Z, Y, X)."""
    root = nnunet(folder, ids=tuple("abcd"))
    (root / "dataset.json").unlink()
    for file in sorted((root / "labelsTr").iterdir()):
        write_volume(Volume(array, oblique(array.shape[1:])), file)
    return root


@pytest.mark.parametrize(
    ("array", "kind", "wanted"),
    [
        (TRUTH[None] * np.float32(0.9999), "fractional-labels", TRUTH),
        (0.1 + 0.73 * MASK[None], "fractional-labels", MASK),
        (MASK[None] * np.float32(254.7), "fractional-labels", MASK),
        (layers(TRUTH == 1, TRUTH == 2).astype(np.uint8), "layered-labels", TRUTH),
        (layers(TRUTH == 1, TRUTH == 2).astype(np.float32), "layered-labels", TRUTH),
        (layers(TRUTH == 0, TRUTH == 1, TRUTH == 2).astype(np.uint8), "layered-labels", TRUTH),
        (
            0.1 + 0.7 * layers(TRUTH == 0, TRUTH == 1, TRUTH == 2).astype(np.float32),
            "layered-labels",
            TRUTH,
        ),
        (
            layers(TRUTH == 1, TRUTH == 2, 0 * TRUTH).astype(np.uint8) * 255,
            "coloured-labels",
            (3 - TRUTH) % 3,
        ),
    ],
    ids=[
        "0.9999",
        "probabilities",
        "254.7",
        "layers",
        "layers of floats",
        "one-hot",
        "softmax",
        "colours",
    ],
)
def test_numbers_that_become_labels(tmp_path, array, kind, wanted):
    root = annotated(tmp_path / "source", array)
    findings = [finding for finding in check(open_dataset(root)) if finding.severity == "error"]
    assert {(finding.kind, finding.fixable) for finding in findings} == {(kind, True)}
    assert len(findings) == 4
    log = fix(open_dataset(root), check(open_dataset(root)), tmp_path / "copy")
    assert {entry.kind for entry in log.fixed} >= {kind}
    assert log.left == ()
    copy = open_dataset(tmp_path / "copy")
    assert [finding for finding in check(copy) if finding.severity != "note"] == []
    for case in copy.cases:
        assert np.array_equal(read_annotation(case).array[0], wanted)


@pytest.mark.parametrize(
    ("array", "kind", "cure"),
    [
        (
            layers(TRUTH > 0, TRUTH == 2).astype(np.uint8),
            "layered-labels",
            "which one a voxel belongs to",
        ),
        (layers(TRUTH, TRUTH * 2).astype(np.uint8), "layered-labels", "store one label map"),
        (TRUTH[None] * np.float32(1.4), "fractional-labels", "nearest neighbour"),
        (np.full((1, *SHAPE), np.nan, np.float32), "fractional-labels", "write 0 for NaN"),
        (TRUTH[None].astype(np.int8) - 1, "unknown-label", 'that of "ignore"'),
        (
            np.arange(600, dtype=np.int16).reshape(1, 5, 10, 12),
            "too-many-labels",
            "an image that was taken",
        ),
        (
            np.random.default_rng(0).integers(0, 255, (3, 5, 10, 12), np.uint8),
            "coloured-labels",
            "give each label its colour",
        ),
    ],
    ids=["overlap", "labels in layers", "1.4", "nan", "negative", "an image", "a photograph"],
)
def test_numbers_that_become_no_labels(tmp_path, array, kind, cure):
    root = annotated(tmp_path / "source", array)
    findings = [
        finding
        for finding in check(open_dataset(root))
        if finding.severity == "error" and finding.case
    ]
    assert {(finding.case, finding.kind, finding.fixable) for finding in findings} >= {
        (case, kind, False) for case in "abcd"
    }
    assert any(cure in finding.cure for finding in findings)


def test_empty_annotations_are_no_reason_to_stop(tmp_path):
    root = annotated(tmp_path / "source", np.zeros((1, *SHAPE), np.uint8))
    found = check(open_dataset(root))
    assert ("", "no-labels") in kinds(found)
    assert [finding.case for finding in found if finding.kind == "empty-annotation"] == list("abcd")
    with pytest.raises(LabelError, match="has no label beside the background"):
        make_fingerprint(open_dataset(root))


def test_a_copy_without_any_case_is_no_copy(tmp_path):
    root = annotated(tmp_path / "source", TRUTH[None] * np.float32(1.4))
    (root / "labels.json").write_text('{"3": "vessel", "5": "liver"}')
    with pytest.raises(
        DataError, match=r"can be copied or mended, the first because .*hold no whole number"
    ):
        fix(open_dataset(root), check(open_dataset(root)), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_more_labels_than_can_be_learnt(tmp_path):
    root = nnunet(tmp_path / "source", ids=("a",))
    names = {"background": 0} | {f"part {n}": n for n in range(1, MOST_LABELS + 1)}
    document = json.loads((root / "dataset.json").read_text()) | {"labels": names}
    (root / "dataset.json").write_text(json.dumps(document))
    assert ("", "too-many-labels") in kinds(check(open_dataset(root)))
    with pytest.raises(LabelError, match="has 256 labels with the background"):
        make_fingerprint(open_dataset(root))


def test_label_names_come_from_labels_json(tmp_path):
    root = annotated(tmp_path / "source", TRUTH[None])
    assert open_dataset(root).labels == LabelTable.from_names({1: "label_1", 2: "label_2"})
    (root / "labels.json").write_text('{"1": "liver", "2": "tumour"}')
    assert open_dataset(root).labels == LabelTable.from_names({1: "liver", 2: "tumour"})


def test_colours_that_the_label_table_names(tmp_path):
    root = pictures(tmp_path / "source")
    for file in sorted((root / "masks").iterdir()):
        flags = np.asarray(PIL.Image.open(file)) > 0
        PIL.Image.fromarray(
            np.where(flags[..., None], (200, 30, 10), (255, 255, 255)).astype(np.uint8)
        ).save(file)
    table = {
        "labels": [
            {"id": 0, "name": "background", "colour": [255, 255, 255]},
            {"id": 1, "name": "vessel", "colour": [200, 30, 10]},
        ]
    }
    (root / "labels.json").write_text(json.dumps(table))
    log = fix(open_dataset(root), check(open_dataset(root)), tmp_path / "copy")
    assert "(200, 30, 10) becomes 1, (255, 255, 255) becomes 0" in log.fixed[0].done
    copy = open_dataset(tmp_path / "copy")
    assert [label.name for label in copy.labels.labels] == ["background", "vessel"]
    assert set(np.unique(read_annotation(copy.cases[0]).array)) == {0, 1}


def test_blurred_black_and_white_masks(tmp_path):
    root = pictures(tmp_path / "source", value=255)
    for file in sorted((root / "masks").iterdir()):
        image = PIL.Image.open(file)
        image.resize((68, 48), PIL.Image.Resampling.BILINEAR).resize(image.size).save(file)
    array = np.asarray(PIL.Image.open(root / "masks" / "p1.png"))
    assert len(np.unique(array)) > 2, np.unique(array, return_counts=True)
    dataset = open_dataset(root)
    assert dataset.labels == LabelTable.from_names({255: "foreground"})
    assert {finding.kind for finding in check(dataset) if finding.severity == "error"} == {
        "fractional-labels"
    }


def test_a_mask_to_look_at_in_probabilities(tmp_path):
    root = tmp_path / "source"
    for n in range(4):
        array = np.random.default_rng(n).normal(0, 50, (1, *SHAPE)).astype(np.int16)
        write_volume(Volume(array, oblique()), root / "images" / f"c{n}.nii.gz")
        write_volume(Volume(0.2 + 0.6 * MASK[None], oblique()), root / "masks" / f"c{n}.nii.gz")
    rows = "".join(f"c{n},images/c{n}.nii.gz,masks/c{n}.nii.gz,{'ab'[n % 2]}\n" for n in range(4))
    (root / "cases.csv").write_text("case,image,mask,label\n" + rows)
    dataset = open_dataset(root, label="label")
    log = fix(dataset, check(dataset), tmp_path / "copy")
    assert [entry.kind for entry in log.fixed] == ["fractional-labels"] * 4
    copy = open_dataset(tmp_path / "copy")
    assert [finding for finding in check(copy) if finding.severity == "error"] == []


def test_large_label_ids_are_measured_and_written(tmp_path):
    large = np.where(TRUTH == 2, 200_000_000, TRUTH.astype(np.int32))[None]
    root = annotated(tmp_path / "source", large)
    assert [finding for finding in check(open_dataset(root)) if finding.severity != "note"] == []
    cases = make_fingerprint(open_dataset(root)).cases
    assert [label.id for label in cases[0].labels] == [1, 200_000_000]
    fix(open_dataset(root), check(open_dataset(root)), tmp_path / "copy")
    assert open_dataset(tmp_path / "copy").labels.ids == (0, 1, 2)
    write_labels(Volume(large, oblique()), tmp_path / "large.nrrd")


@pytest.mark.parametrize("held", ["a", "nobody"])
def test_labels_that_a_fold_cannot_learn(tmp_path, held):
    root = nnunet(tmp_path / "source", ids=tuple("abcd"))
    for file in sorted((root / "labelsTr").iterdir()):
        write_labels(labels(values=(1, 2 if file.name[0] == held else 1)), file)
    found = {finding.kind: finding.found for finding in check(open_dataset(root))}
    if held == "nobody":
        assert "no annotation holds 2 (tumour)" in found["unused-label"]
        return
    assert "2 (tumour) is held by a alone" in found["rare-label"]
    (root / "splits_final.json").write_text(json.dumps([{"train": ["b", "c", "d"], "val": ["a"]}]))
    found = {finding.kind: finding.found for finding in check(open_dataset(root))}
    assert (
        found["rare-label"]
        == "no training case of fold 0 of the given split holds 2 (tumour); a hold it"
    )


def test_a_spacing_that_makes_too_many_voxels(tmp_path):
    root = nnunet(tmp_path / "source", ids=tuple("abcd"))
    write_volume(image(1, oblique(spacing=(1e3, 1e3, 1e3))), root / "imagesTr" / "a_0000.nii.gz")
    for case in "bcd":
        write_volume(
            image(ord(case), oblique(spacing=(1e-3, 1e-3, 1e-3))),
            root / "imagesTr" / f"{case}_0000.nii.gz",
        )
    finding = next(
        finding for finding in check(open_dataset(root)) if finding.kind == "odd-spacing"
    )
    assert (finding.case, finding.severity) == ("a", "error")
    assert "it has 2.52e+20 voxels" in finding.found


def test_a_header_that_claims_too_much_is_a_finding(tmp_path):
    root = nnunet(tmp_path / "source", ids=tuple("abcd"))
    data = bytearray(gzip.decompress((root / "imagesTr" / "a_0000.nii.gz").read_bytes()))
    data[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (root / "imagesTr" / "a_0000.nii.gz").write_bytes(gzip.compress(bytes(data)))
    finding = next(
        finding
        for finding in check(open_dataset(root))
        if finding.case == "a" and finding.kind == "unreadable"
    )
    assert "its header claims 5.03e+04 GiB of voxels" in finding.found


def test_palettes_that_number_their_colours_otherwise(tmp_path):
    red, green = (255, 0, 0), (0, 255, 0)
    for number, colours in enumerate(([red, green], [red, green], [green, red])):
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_volume(picture(number), tmp_path / "images" / f"c{number}.png")
        height, width = picture(number).array.shape[-2:]
        mask = PIL.Image.fromarray(
            np.arange(height * width, dtype=np.uint8).reshape(height, width) % 3
        ).convert("P")
        mask.putpalette([0, 0, 0, *colours[0], *colours[1]])
        mask.save(tmp_path / "masks" / f"c{number}.png")
    found = [one for one in check(open_dataset(tmp_path)) if one.kind == "palettes"]
    assert [one.found[:13] for one in found] == ["1 has 2 colou", "2 has 2 colou"]
    assert "(255, 0, 0) in c0, c1; (0, 255, 0) in c2" in found[0].found


@pytest.mark.parametrize("dtype", [np.uint32, np.float64])
def test_ids_beyond_32_bits_are_ids_and_leave_no_case_out(tmp_path, dtype):
    root = nnunet(tmp_path)
    case = open_dataset(root).cases[0]
    labels = np.asarray(nibabel.load(case.annotation).dataobj).astype(dtype) * dtype(4_000_000_000)
    nibabel.save(
        nibabel.Nifti1Image(labels, nibabel.load(case.annotation).affine, dtype=dtype),
        case.annotation,
    )
    found = [
        one for one in check(open_dataset(root)) if one.case == case.id and one.severity == "error"
    ]
    assert [(one.kind, one.fixable) for one in found] == [("unknown-label", False)]
    assert "number the labels anew" in found[0].cure
