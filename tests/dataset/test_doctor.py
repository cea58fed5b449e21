"""The doctor: each fault planted in a healthy data set is found, with its cure, and no other."""

import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from dataset_samples import (
    SHAPE,
    image,
    kinds,
    labels,
    nnunet,
    oblique,
    picture,
    picture_mask,
    pictures,
)

from hilum.dataset import Fold, check, open_dataset, read_annotation
from hilum.dataset.conversion import rounding_rule
from hilum.dataset.doctor import KINDS
from hilum.dataset.doctor.examine import share_inside
from hilum.dataset.grids import Grids, compare_grids
from hilum.dataset.leaks.thumbnail import voxel_digest
from hilum.errors import GeometryError
from hilum.io import write_labels, write_volume
from hilum.volume import Geometry, LabelTable, Volume, reorient


@pytest.fixture
def root(tmp_path):
    return nnunet(tmp_path / "source")


def found(root, kind):
    matching = [finding for finding in check(open_dataset(root)) if finding.kind == kind]
    assert len(matching) == 1, matching
    return matching[0]


def write_annotation(root, case, volume):
    write_labels(volume, root / "labelsTr" / f"{case}.nii.gz")


def test_a_healthy_data_set_has_no_fault(root):
    seen = []
    findings = check(
        open_dataset(root), progress=lambda done, total, case: seen.append((done, total, case))
    )
    assert kinds(findings) == []
    assert seen[0] == (1, 6, "a")
    assert seen[-1] == (6, 6, "f")


def test_unreadable_image_and_annotation(root):
    (root / "imagesTr" / "a_0000.nii.gz").write_bytes(b"not an image")
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"not an image")
    findings = check(open_dataset(root))
    assert kinds(findings) == [("a", "unreadable"), ("b", "unreadable")]
    assert all(
        finding.severity == "error" and finding.fixable and finding.cure
        for finding in findings
        if finding.kind == "unreadable"
    )


def test_another_number_of_channels(root):
    write_volume(image(0, channels=2), root / "imagesTr" / "a_0000.nii.gz")
    assert "holds 2 channels where the data set has 1" in found(root, "channel-count").found


def test_channels_on_two_grids(tmp_path):
    root = nnunet(tmp_path, channels=("PET", "CT"))
    write_volume(image(1, oblique((6, 7, 9), (2.0, 0.8, 1.3))), root / "imagesTr" / "b_0001.nii.gz")
    finding = found(root, "channel-grid")
    assert (finding.case, finding.fixable) == ("b", True)
    assert "6 x 7 x 9 voxels" in finding.found


def test_rounding_header_and_real_mismatch(root):
    write_annotation(root, "a", labels(oblique(origin=(-21.0, 33.52, 7.25))))
    write_annotation(root, "b", labels(Geometry.from_spacing(SHAPE)))
    write_annotation(root, "c", labels(oblique((8, 14, 18), (1.5, 0.4, 0.65))))
    write_annotation(root, "d", labels(oblique(origin=(400.0, 33.5, 7.25))))
    findings = {finding.case: finding for finding in check(open_dataset(root)) if finding.case}
    assert [(f.kind, f.severity, f.fixable) for f in findings.values()] == [
        ("grid-header", "error", True),
        ("grid-mismatch", "error", True),
        ("grid-mismatch", "error", False),
        ("grid-rounding", "note", True),
    ]
    assert "only 0% of the annotated voxels are inside the image" in findings["d"].found
    assert "voxels apart: the rounding of a header" in findings["a"].found


def test_a_flipped_copy_of_the_grid_is_no_rounding(root):
    write_annotation(root, "a", reorient(labels(), "IAR"))
    finding = found(root, "grid-mismatch")
    assert finding.fixable


def test_pictures_whose_resolutions_differ(tmp_path):
    root = pictures(tmp_path)
    write_volume(
        Volume(picture(0).array, Geometry.from_spacing((1, 12, 17), (1.0, 0.25, 0.25))),
        root / "images" / "p1.png",
    )
    finding = found(root, "grid-header")
    assert (finding.case, finding.severity) == ("p1", "note")


@pytest.mark.parametrize("masks", [(6, 9), (10, 15), (17, 12)])
def test_pictures_of_other_sizes_are_never_resampled(tmp_path, masks):
    root = pictures(tmp_path)
    write_labels(
        picture_mask(masks), root / "masks" / "p2.png"
    )  # halved, cropped, turned: 1 mm a pixel is nobody's measure
    finding = found(root, "grid-mismatch")
    assert (finding.case, finding.fixable) == ("p2", False)
    assert (
        "turn it by 90 degrees" if masks == (17, 12) else "do not say where its pixels lie"
    ) in finding.cure
    with pytest.raises(GeometryError, match="lies on"):
        read_annotation(open_dataset(root)["p2"])


@pytest.mark.parametrize(
    ("turn", "shape", "mask", "kind"),
    [
        (3, (12, 17), (12, 17), "picture-turn"),
        (6, (12, 12), (12, 12), "picture-turn"),
        (6, (12, 17), (17, 12), ""),  # drawn on the upright picture
        (6, (12, 17), (12, 17), "grid-mismatch"),
        (1, (12, 17), (12, 17), ""),
    ],
)
def test_a_picture_turned_by_exif_and_its_mask(tmp_path, turn, shape, mask, kind):
    root = pictures(tmp_path)
    photograph = PIL.Image.fromarray(picture(1, shape).array[0, 0])
    exif = photograph.getexif()
    exif[0x112] = turn
    photograph.save(root / "images" / "p2.png", exif=exif)
    write_labels(picture_mask(mask), root / "masks" / "p2.png")
    findings = [
        one for one in check(open_dataset(root)) if one.kind in {"picture-turn", "grid-mismatch"}
    ]
    assert [(one.case, one.kind) for one in findings] == ([("p2", kind)] if kind else [])


def test_unknown_and_unused_labels(root):
    write_annotation(root, "a", labels(values=(1, 7)))
    finding = found(root, "unknown-label")
    assert "holds 7, the label table knows 0, 1, 2" in finding.found
    assert '"NAME": 7' in finding.cure
    document = json.loads((root / "dataset.json").read_text())
    document["labels"]["spleen"] = 3
    (root / "dataset.json").write_text(json.dumps(document))
    assert "3 (spleen)" in found(root, "unused-label").found


def test_ignored_voxels_are_no_unknown_label(root):
    document = json.loads((root / "dataset.json").read_text())
    document["labels"]["ignore"] = 3
    (root / "dataset.json").write_text(json.dumps(document))
    write_annotation(root, "a", labels(values=(1, 3)))
    write_annotation(root, "b", labels(values=(3, 3)))
    assert kinds(check(open_dataset(root))) == [("b", "empty-annotation")]


def test_fractional_labels(root):
    shrunk = Volume(labels().array.astype(np.float32) * 0.5, oblique())
    write_volume(shrunk, root / "labelsTr" / "a.nii.gz")
    finding = found(root, "fractional-labels")
    assert (finding.case, finding.fixable) == ("a", False)
    write_volume(
        Volume(labels().array.astype(np.float32) * 0.9995, oblique()),
        root / "labelsTr" / "a.nii.gz",
    )
    finding = found(root, "fractional-labels")
    assert finding.fixable
    assert "rounds the nearly whole numbers" in finding.cure


def test_coloured_annotations_are_no_fractions(tmp_path):
    root = pictures(tmp_path)
    dataset = open_dataset(root)
    write_volume(picture(4, channels=3), root / "masks" / "p1.png")
    finding = next(f for f in check(dataset) if f.case == "p1" and f.severity == "error")
    assert (finding.kind, finding.fixable) == ("coloured-labels", False)
    assert "give each label its colour" in finding.cure


def test_rounding_rules():
    one, two = LabelTable.from_names({255: "x"}), LabelTable.from_names({1: "x", 3: "y"})
    array = np.array([0.0, 40.0, 130.5, 255.0]).reshape(1, 1, 2, 2)
    assert rounding_rule(array, one) == "gives label 255 to values of at least 127.5"
    assert rounding_rule(array / 100, two) is None
    assert rounding_rule(array * 2.001, one) is None
    assert rounding_rule(array.repeat(2, axis=0), one) is None
    assert rounding_rule(np.full((1, 1, 2, 2), np.nan), one) is None


def test_empty_annotation_nan_and_constant_image(root):
    write_annotation(root, "a", Volume(np.zeros((1, *SHAPE), np.uint8), oblique()))
    array = image(3).array.astype(np.float32)
    array[0, 1, 2, 3], array[0, 0, 0, 0] = np.nan, np.inf
    write_volume(Volume(array, oblique()), root / "imagesTr" / "b_0000.nii.gz")
    for case in "cd":
        write_volume(
            Volume(np.full((1, *SHAPE), 5, np.int16), oblique()),
            root / "imagesTr" / f"{case}_0000.nii.gz",
        )
    findings = check(open_dataset(root))
    assert kinds(findings) == [
        ("b", "not-finite"),
        ("a", "empty-annotation"),
        ("c", "constant-image"),
        ("d", "constant-image"),
    ]
    assert "2 of 252 voxels" in findings[0].found


def test_orphans(root):
    (root / "labelsTr" / "a.nii.gz").rename(root / "labelsTr" / "z.nii.gz")
    findings = check(open_dataset(root))
    assert kinds(findings) == [("a", "orphan-image"), ("z", "orphan-annotation")]


def test_duplicates_by_voxels_not_by_file(root):
    write_volume(image(0, dtype=np.float32), root / "imagesTr" / "c_0000.nii.gz")
    finding = found(root, "duplicate-image")
    assert (finding.case, finding.severity, finding.fixable) == ("c", "warning", True)
    assert "the very same voxels as a" in finding.found
    write_annotation(root, "c", labels(values=(2,)))
    finding = found(root, "duplicate-image")
    assert (finding.severity, finding.fixable) == ("error", False)
    assert "annotated differently" in finding.found


def test_a_test_case_that_is_a_training_case(root):
    write_volume(image(0), root / "imagesTs" / "t_0000.nii.gz")
    write_volume(image(77), root / "imagesTs" / "u_0000.nii.gz")
    write_volume(image(77), root / "imagesTs" / "v_0000.nii.gz")
    findings = [
        finding for finding in check(open_dataset(root)) if finding.kind == "duplicate-image"
    ]
    assert [(f.case, f.severity, f.fixable) for f in findings] == [
        ("t", "error", False),
        ("v", "warning", False),
    ]


def test_leaks_of_a_given_split(root):
    write_volume(image(0), root / "imagesTr" / "f_0000.nii.gz")
    (root / "splits_final.json").write_text(
        json.dumps([{"train": ["a", "b", "c"], "val": ["c", "d", "f"]}])
    )
    (root / "patients.csv").write_text("case,patient\na,A\nb,B\nc,C\nd,B\ne,E\nf,F\n")
    findings = check(open_dataset(root))
    assert kinds(findings) == [
        ("b", "patient-leak"),
        ("c", "patient-leak"),
        ("c", "split-overlap"),
        ("f", "duplicate-image"),
    ]
    assert "patient B (b, d) is on both sides" in findings[0].found
    assert "on the other side of the given split" in findings[3].found
    assert findings[3].severity == "error"


def test_one_case_of_a_split_leaks_not_by_patient(root):
    dataset = open_dataset(root)
    dataset = replace(dataset, splits=(Fold(("a", "b"), ("b", "c")),))
    assert kinds(check(dataset)) == [("b", "split-overlap")]


def test_odd_spacing_and_orientation(root):
    write_volume(image(1, oblique(spacing=(3.0, 0.8, 4.0))), root / "imagesTr" / "a_0000.nii.gz")
    write_annotation(root, "a", labels(oblique(spacing=(3.0, 0.8, 4.0))))
    write_volume(reorient(image(9), "LAS"), root / "imagesTr" / "b_0000.nii.gz")
    write_annotation(root, "b", reorient(labels(), "LAS"))
    findings = check(open_dataset(root))
    assert kinds(findings) == [("a", "odd-spacing"), ("b", "odd-orientation")]
    assert (
        "orientation LAS, where 5 of 6 cases have SPL"
        in next(f for f in findings if f.case == "b").found
    )


def test_what_readers_assume_is_one_finding_for_many_cases(tmp_path):
    import PIL.Image

    root = pictures(tmp_path, ids=tuple("abcdef"))
    for seed, file in enumerate(sorted((root / "images").iterdir())):
        PIL.Image.fromarray(picture(seed).array[0, 0]).save(file)
    notes = [finding for finding in check(open_dataset(root)) if finding.kind == "header"]
    assert len(notes) == 1
    assert notes[0].found.startswith("6 cases (a, b, c and 3 more)")


def test_every_kind_has_a_meaning(root):
    (root / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    assert {finding.kind for finding in check(open_dataset(root))} <= set(KINDS)


def test_share_inside_of_an_empty_annotation():
    assert share_inside(Volume(np.zeros((1, *SHAPE), np.uint8), oblique()), oblique()) == 1.0


def test_digest_sees_shape_and_values_only():
    array = image(1).array
    assert voxel_digest(array) == voxel_digest(array.astype(np.float64))
    assert voxel_digest(array) != voxel_digest(array.reshape(1, 7, 4, 9))
    changed = array.copy()
    changed[0, 3, 6, 8] += 1
    assert voxel_digest(array) != voxel_digest(changed)


def test_grids_compared():
    grid = oblique()
    assert compare_grids(grid, grid) is Grids.SAME
    assert compare_grids(grid, oblique(origin=(-21.05, 33.5, 7.25))) is Grids.ROUNDING
    assert compare_grids(grid, oblique((4, 7, 8))) is Grids.DIFFERENT
    assert compare_grids(grid, Geometry.from_spacing(SHAPE)) is Grids.HEADER_LOST
    assert compare_grids(Geometry.from_spacing(SHAPE), grid) is Grids.DIFFERENT
    flat = oblique((1, 7, 9))
    assert compare_grids(flat, Geometry.from_spacing((1, 7, 9))) is Grids.PICTURES


def test_columns_that_could_be_a_label_are_named_where_none_is_named_like_one(tmp_path):
    columns = {"malignancy": "0101", "site": "ABAB", "study_no": "1234", "reader": "ppqr"}
    root = pictures(tmp_path, ids=("a0", "a1", "a2", "a3"))

    def said(**columns):
        rows = [
            ",".join((f"a{n}.png", *(values[n] for values in columns.values()))) for n in range(4)
        ]
        (root / "cases.csv").write_text("\n".join([",".join(("image", *columns)), *rows]) + "\n")
        return " ".join(finding.found for finding in check(open_dataset(root)))

    one, two, none = (
        said(**columns),
        said(**columns, margin="stts"),
        said(site="ABAB", study_no="1234"),
    )
    assert (
        "the classes of the column malignancy (0, 1) apart, give label='malignancy': the masks then"
        in one
    )
    assert "column malignancy (0, 1) or margin (s, t) apart, give label='COLUMN'" in two
    assert "label=" not in none
