"""Rare formats, names that are UIDs, files without content, headers that libraries change."""

import gzip
import json
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from io_support import write_series

from hilum.dataset import open_dataset
from hilum.errors import FormatError, GeometryError
from hilum.files import header_of, image_stem, image_suffix
from hilum.inference import case_id, find_cases
from hilum.io import inspect_file, read_labels, read_volume, supported, write_volume
from hilum.io.content import content_hash, files_of
from hilum.io.inventory import take_inventory

AFFINE = np.array([[-0.8, 0, 0, 40], [0, 0.9, 0, -30], [0, 0, 2.5, -100], [0, 0, 0, 1.0]])
DATA = np.random.default_rng(0).integers(-1000, 1000, (7, 5, 4)).astype(np.int16)  # (X, Y, Z)


def nifti() -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(DATA, AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    return image


def same_as_nifti(path: Path, tmp_path: Path) -> None:
    nibabel.save(nifti(), tmp_path / "reference.nii.gz")
    expected, found = read_volume(tmp_path / "reference.nii.gz"), read_volume(path)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.geometry.is_close(expected.geometry, tolerance_voxels=1e-5)
    facts = inspect_file(path)
    assert (facts.geometry, facts.channels, facts.dtype) == (
        found.geometry,
        found.channels,
        found.array.dtype,
    )


# --- formats
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["t.mgz", "t.mgh", "pair.hdr", "pair.img", "pair.hdr.gz", "pair.img.gz", "T.MGZ"]
)
def test_mgh_and_nifti_pairs_are_read(tmp_path, name):
    kind = nibabel.MGHImage if "mg" in name.lower() else nibabel.Nifti1Pair
    image = kind(DATA, AFFINE)
    nibabel.save(image, tmp_path / name)
    same_as_nifti(tmp_path / name, tmp_path)


def test_a_pair_in_capitals_is_one_image(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(DATA, AFFINE), tmp_path / "p.hdr")
    for ending in ("hdr", "img"):
        (tmp_path / f"p.{ending}").rename(tmp_path / f"P.{ending.upper()}")
    same_as_nifti(tmp_path / "P.HDR", tmp_path)
    same_as_nifti(tmp_path / "P.IMG", tmp_path)
    assert header_of(tmp_path / "P.IMG") == tmp_path / "P.HDR"


def test_detached_nrrd_is_read(tmp_path, volume):
    write_volume(volume, tmp_path / "whole.nrrd")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "whole.nrrd")), str(tmp_path / "a.nhdr"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nhdr").array, volume.array)
    assert supported(tmp_path / "a.nhdr")
    assert not supported(next(tmp_path.glob("a.raw*")))


@pytest.mark.parametrize(
    ("orient", "orientation"),
    [(0, "SAL"), (1, "ASL"), (2, "LSA"), (3, "SPL"), (4, "AIL"), (5, "LIA")],
)
def test_analyze_follows_its_orientation_number(tmp_path, orient, orientation):
    nibabel.save(nibabel.AnalyzeImage(DATA, np.diag([0.8, 0.9, 2.5, 1])), tmp_path / "a.hdr")
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[252] = orient
    (tmp_path / "a.hdr").write_bytes(bytes(header))
    facts = inspect_file(tmp_path / "a.hdr")
    assert facts.geometry.orientation == orientation
    assert facts.geometry.spacing == (2.5, 0.9, 0.8)
    assert any(f"hist.orient {orient}" in note for note in facts.notes)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.hdr").array[0].T, DATA)


def test_analyze_of_an_unknown_orientation_is_refused(tmp_path):
    nibabel.save(nibabel.AnalyzeImage(DATA, np.eye(4)), tmp_path / "a.hdr")
    header = bytearray((tmp_path / "a.hdr").read_bytes())
    header[252] = 9
    (tmp_path / "a.hdr").write_bytes(bytes(header))
    with pytest.raises(FormatError, match="an Analyze file of the orientation 9"):
        read_volume(tmp_path / "a.hdr")


def test_analyze_with_a_matrix_of_spm(tmp_path):
    nibabel.save(nibabel.Spm99AnalyzeImage(DATA, AFFINE), tmp_path / "a.img")
    assert (tmp_path / "a.mat").is_file()
    same_as_nifti(tmp_path / "a.img", tmp_path)
    assert "orientation is that of the .mat file" in inspect_file(tmp_path / "a.hdr").notes[0]


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_half_a_pair_is_refused(tmp_path, name):
    nibabel.save(nibabel.Nifti1Pair(DATA, AFFINE), tmp_path / "a.hdr")
    (tmp_path / {"a.hdr": "a.img", "a.img": "a.hdr"}[name]).unlink()
    assert supported(tmp_path / name)
    with pytest.raises(FormatError, match=r"of the pair is missing"):
        read_volume(tmp_path / name)


def test_mgh_without_orientation_says_so(tmp_path):
    nibabel.save(nibabel.MGHImage(DATA, AFFINE), tmp_path / "t.mgh")
    data = bytearray((tmp_path / "t.mgh").read_bytes())
    data[28:30] = b"\0\0"
    (tmp_path / "t.mgh").write_bytes(bytes(data))
    facts = inspect_file(tmp_path / "t.mgh")
    assert facts.geometry.spacing == (1, 1, 1)
    assert "goodRASFlag 0" in facts.notes[0]


@pytest.mark.parametrize("ending", [".mgz", ".hdr", ".nhdr", ".seg.nrrd"])
def test_a_folder_of_such_files_becomes_one_case_a_file(tmp_path, volume, ending):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for case in ("a", "1.2.3.111628"):
        for part in ("images", "labels"):
            array = (DATA > 0).astype(np.uint8) if part == "labels" else DATA
            target = tmp_path / part / f"{case}{ending}"
            if ending in {".nhdr", ".seg.nrrd"}:
                sitk.WriteImage(sitk.GetImageFromArray(array.T), str(target))
            else:
                nibabel.save(
                    (nibabel.MGHImage if ending == ".mgz" else nibabel.Nifti1Pair)(array, AFFINE),
                    target,
                )
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["1.2.3.111628", "a"]
    if ending != ".seg.nrrd":
        assert [case.id for case in find_cases([tmp_path / "images"], ["CT"])] == [
            "1.2.3.111628",
            "a",
        ]
        assert [
            case.id for case in find_cases(sorted((tmp_path / "images").iterdir()), ["CT"])
        ] == ["1.2.3.111628", "a"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("1.2.3.111628", "1.2.3.111628"),
        ("1.2.840.1.dcm", "1.2.840.1"),
        ("c0.seg.nrrd", "c0"),
        ("c0.NII.GZ", "c0"),
        ("IM.0001", "IM.0001"),
        ("a.hdr.gz", "a"),
        ("v1.5_scan", "v1.5_scan"),
    ],
)
def test_only_known_suffixes_are_cut(name, stem):
    assert image_stem(name) == stem
    assert case_id(name) == stem
    assert name.lower() == (stem + image_suffix(name)).lower()


# --- DICOM without preamble or prefix
# ----------------------------------------------------------------------------------------


def stripped(file: Path, kind: str) -> bytes:
    whole = file.read_bytes()
    if kind == "no prefix":
        return whole[:128] + whole[132:]
    if kind == "no preamble":
        return whole[128:]
    if kind == "neither":
        return whole[132:]
    data = pydicom.dcmread(file)
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, kind == "implicit data set alone"
    pydicom.filewriter.write_dataset(stream, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind",
    ["no prefix", "no preamble", "neither", "implicit data set alone", "explicit data set alone"],
)
def test_dicom_without_preamble_or_prefix_is_read(tmp_path, volume, kind):
    for file in write_series(tmp_path, volume):
        file.write_bytes(stripped(file, kind))
    assert supported(tmp_path)
    found = read_volume(tmp_path)
    np.testing.assert_array_equal(found.array, volume.array)
    assert "without DICOM's preamble or prefix: 4 files" in inspect_file(tmp_path).notes[0]


@pytest.mark.parametrize(
    "content",
    [b"\x08\x00\x05\x00 no DICOM at all", b"\x02\x00" * 40, b"\x08\x00\x00\x00text", b"\x00" * 300],
)
def test_other_bytes_are_no_dicom(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert not supported(tmp_path / "a")


# --- content that is not there
# ----------------------------------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


def annex(path: Path) -> None:
    path.symlink_to("../.git/annex/objects/Zz/9J/MD5E-s5--0.nii.gz/MD5E-s5--0.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.mha", "a.tif", "a.mgz", "a.dcm", "a.hdr"])
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (annex, r"git-annex link whose content was not fetched(?s:.*)git annex get"),
        (lambda path: path.symlink_to("elsewhere"), "a link to elsewhere, which does not exist"),
        (lambda path: path.write_bytes(b"/annex/objects/MD5E-s5--0.nii.gz\n"), "git-annex link"),
        (lambda path: path.write_bytes(LFS), r"pointer of git-lfs(?s:.*)git lfs pull"),
        (lambda path: path.write_bytes(b""), r"empty file \(0 bytes\)"),
        (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>login</html>"), "a web page"),
    ],
)
def test_a_file_without_its_content_says_so(tmp_path, name, make, text):
    make(tmp_path / name)
    assert supported(tmp_path / name)
    for read in (read_volume, read_labels, inspect_file):
        with pytest.raises(FormatError, match=text):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "make", [annex, lambda path: path.write_bytes(LFS), lambda path: path.write_bytes(b"")]
)
@pytest.mark.parametrize("name", ["IM009", "9.dcm", "1.2.3.9"])
def test_a_slice_without_its_content_is_refused(tmp_path, volume, make, name):
    write_series(tmp_path, volume)
    make(tmp_path / name)
    with pytest.raises(
        FormatError, match=rf"{name}: (a git-annex link|a pointer of git-lfs|an empty file)"
    ):
        read_volume(tmp_path)


def test_a_folder_of_unfetched_slices_is_a_series(tmp_path):
    for name in ("IM1", "IM2"):
        annex(tmp_path / name)
    assert supported(tmp_path)
    with pytest.raises(FormatError, match="git annex get IM1"):
        read_volume(tmp_path)


def test_unfetched_files_are_cases_that_the_doctor_names(tmp_path):
    from hilum.dataset import check

    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    for case in ("a", "b", "c"):
        nibabel.save(nifti(), tmp_path / "imagesTr" / f"{case}_0000.nii.gz")
        nibabel.save(
            nibabel.Nifti1Image((DATA > 0).astype(np.uint8), AFFINE),
            tmp_path / "labelsTr" / f"{case}.nii.gz",
        )
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                "labels": {"background": 0, "x": 1},
                "channel_names": {"0": "CT"},
                "file_ending": ".nii.gz",
            }
        ),
        encoding="utf-8",
    )
    for part in ("imagesTr/b_0000.nii.gz", "labelsTr/c.nii.gz"):
        (tmp_path / part).unlink()
        annex(tmp_path / part)
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    found = [finding for finding in check(dataset) if finding.kind == "unreadable"]
    assert {finding.case for finding in found} == {"b", "c"}
    assert all("git-annex" in finding.found for finding in found)


# --- gzip that the name does not say
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pack", "text"),
    [
        ("a.nii.gz", lambda data: data, "not gzipped, though its name says so"),
        ("a.nii", gzip.compress, "gzipped, though its name does not say so"),
        ("a.nii.gz", lambda data: gzip.compress(gzip.compress(data)), "gzipped twice"),
        ("a.nii", lambda data: gzip.compress(gzip.compress(data)), "gzipped twice"),
    ],
)
def test_gzip_is_read_from_the_bytes(tmp_path, name, pack, text):
    (tmp_path / name).write_bytes(pack(nifti().to_bytes()))
    same_as_nifti(tmp_path / name, tmp_path)
    (note,) = inspect_file(tmp_path / name).notes
    assert text in note


def test_gzip_of_pairs_and_mgh_is_read_from_the_bytes(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(DATA, AFFINE), tmp_path / "p.hdr")
    (tmp_path / "p.img").write_bytes(gzip.compress((tmp_path / "p.img").read_bytes()))
    nibabel.save(nibabel.MGHImage(DATA, AFFINE), tmp_path / "m.mgh")
    (tmp_path / "m.mgh").rename(tmp_path / "m.mgz")
    for name in ("p.hdr", "m.mgz"):
        same_as_nifti(tmp_path / name, tmp_path)
        assert "gzipped" in inspect_file(tmp_path / name).notes[0]


def test_other_content_under_an_unzipped_name_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"x" * 500)
    with pytest.raises(FormatError, match=r"the file cannot be read as NIfTI"):
        read_volume(tmp_path / "a.nii.gz")


# --- headers that libraries mend
# ----------------------------------------------------------------------------------------


def patched(path: Path, *fields: tuple[int, str, tuple[float, ...]]) -> Path:
    """A NIfTI file with numbers written over at byte offsets, as no library would write them."""
    data = bytearray(nifti().to_bytes())
    for offset, form, values in fields:
        data[offset : offset + struct.calcsize(form)] = struct.pack(form, *values)
    path.write_bytes(gzip.compress(bytes(data)))
    return path


PIXDIM, QFORM_CODE, SFORM_CODE, SROW, SLOPE, BITPIX = 76, 252, 254, 280, 112, 72
NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "spacing", "text"),
    [
        (
            [(PIXDIM + 12, "<f", (0,))],
            (2.5, 0.9, 0.8),
            r"pixdim\) of the header are 0.8 x 0.9 x 0; those of the sform",
        ),
        (
            [(PIXDIM + 12, "<f", (0,)), (SFORM_CODE, "<h", (0,))],
            (1, 0.9, 0.8),
            "1 mm is assumed for 0",
        ),
        (
            [(PIXDIM + 4, "<3f", (0, 0, 0)), (QFORM_CODE, "<2h", (0, 0))],
            (1, 1, 1),
            "1 mm is assumed for 0",
        ),
        (
            [(PIXDIM + 4, "<3f", (-0.8, 0.9, -2.5)), (QFORM_CODE, "<2h", (0, 0))],
            (2.5, 0.9, 0.8),
            "the sign is dropped",
        ),
        (
            [(PIXDIM + 4, "<f", (-0.8,)), (SFORM_CODE, "<h", (0,))],
            (2.5, 0.9, 0.8),
            "-0.8 x 0.9 x 2.5",
        ),
        (
            [(PIXDIM, "<f", (0,)), (SFORM_CODE, "<h", (0,))],
            (2.5, 0.9, 0.8),
            r"qfac \(pixdim\[0\]\) is 0; 1 is taken",
        ),
        ([(SROW, "<f", (NAN,))], (2.5, 0.9, 0.8), "the sform is no grid .*; the qform is used"),
        ([(SROW, "<12f", (0,) * 12)], (2.5, 0.9, 0.8), "the sform is no grid"),
        (
            [(PIXDIM + 4, "<f", (NAN,))],
            (2.5, 0.9, 0.8),
            "nan x 0.9 x 2.5; those of the sform are used",
        ),
        ([(SLOPE, "<2f", (0, 5))], (2.5, 0.9, 0.8), "scl_slope is 0 and scl_inter 5"),
        ([(SLOPE, "<2f", (NAN, -1024))], (2.5, 0.9, 0.8), "scl_slope is nan and scl_inter -1024"),
        ([(SLOPE, "<2f", (float("inf"), 0))], (2.5, 0.9, 0.8), "scl_slope is inf"),
        (
            [(SFORM_CODE, "<h", (77,))],
            (2.5, 0.9, 0.8),
            "sform_code is 77, which the NIfTI standard does not know",
        ),
        (
            [(BITPIX, "<h", (8,))],
            (2.5, 0.9, 0.8),
            "bitpix is 8, but the data type int16 has 16 bits",
        ),
    ],
)
def test_what_nibabel_mends_silently_is_said(tmp_path, fields, spacing, text):
    path = patched(tmp_path / "a.nii.gz", *fields)
    facts = inspect_file(path)
    np.testing.assert_allclose(facts.geometry.spacing, spacing, rtol=1e-6)
    assert any(re.search(text, note) for note in facts.notes), facts.notes
    np.testing.assert_array_equal(read_volume(path).array[0].T, DATA)


def test_a_sound_header_has_no_notes(tmp_path):
    assert inspect_file(patched(tmp_path / "a.nii.gz")).notes == ()
    assert inspect_file(patched(tmp_path / "b.nii.gz", (SLOPE, "<2f", (NAN, NAN)))).notes == ()


def test_no_number_without_another_source_is_refused(tmp_path):
    path = patched(tmp_path / "a.nii.gz", (PIXDIM + 4, "<f", (NAN,)), (SFORM_CODE, "<h", (0,)))
    with pytest.raises(GeometryError, match=r"a\.nii\.gz"):
        read_volume(path)


SPACE = "space: left-posterior-superior\nspace origin: (0,0,0)\n"
DIRECTIONS = "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"


@pytest.mark.parametrize(
    ("name", "fields", "spacing", "text"),
    [
        ("a.mha", DIRECTIONS, (1, 1, 1), "no spacing is stored; 1 mm is assumed"),
        (
            "a.mha",
            DIRECTIONS + "ElementSize = 0.5 0.5 2\n",
            (2, 0.5, 0.5),
            "the size of a voxel, 0.5 0.5 2, is taken",
        ),
        (
            "a.mha",
            DIRECTIONS + "ElementSpacing = 0.5 0.5 -2\n",
            (2, 0.5, 0.5),
            "has a sign; the axis is turned round",
        ),
        (
            "a.mha",
            DIRECTIONS + "ElementSpacing = 0.5 0.5 2\nOffset = nan 0 0\n",
            (2, 0.5, 0.5),
            "the origin is nan 0 0",
        ),
        (
            "a.mha",
            DIRECTIONS + "ElementSpacing = 0.5 0.5 2\n",
            (2, 0.5, 0.5),
            "no origin is stored; 0 is assumed",
        ),
        ("a.mha", "ElementSpacing = 0.5 0.5 2\n", (2, 0.5, 0.5), "no directions are stored"),
        (
            "a.mha",
            "TransformMatrix = 2 0 0 0 2 0 0 0 2\n",
            (2, 2, 2),
            "directions have lengths of 2, 2, 2",
        ),
        ("a.nrrd", SPACE, (1, 1, 1), "no spacing is stored; 1 mm is assumed"),
        ("a.nrrd", "spacings: 0.5 0.5 nan\n", (1, 0.5, 0.5), "an axis without spacing"),
        ("a.nrrd", "spacings: 0.5 0.5 -2\n", (2, 0.5, 0.5), "has a sign"),
        (
            "a.nrrd",
            SPACE + "space directions: (0.5,0,0) (0,0.5,0) none\n",
            (1, 0.5, 0.5),
            "an axis without spacing",
        ),
        (
            "a.nrrd",
            "space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n",
            (2, 1, 1),
            "no origin is stored; 0 is assumed",
        ),
        (
            "a.nrrd",
            SPACE
            + 'space units: "m" "m" "m"\nspace directions: (0.001,0,0) (0,0.001,0) (0,0,0.002)\n',
            (2, 1, 1),
            "stored in m; they were converted",
        ),
        (
            "a.nrrd",
            SPACE + 'space units: "furlong" "mm" "mm"\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n',
            (2, 1, 1),
            "stored in furlong; millimetres are assumed",
        ),
    ],
)
def test_what_itk_fills_in_silently_is_said(tmp_path, name, fields, spacing, text):
    start = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\nencoding: raw\n"
    if name.endswith("mha"):
        start = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 3 2\nElementType ="
            " MET_SHORT\n"
        )
    end = "ElementDataFile = LOCAL\n" if name.endswith("mha") else "\n"
    (tmp_path / name).write_bytes(
        (start + fields + end).encode() + np.arange(24, dtype="<i2").tobytes()
    )
    facts = inspect_file(tmp_path / name)
    np.testing.assert_allclose(facts.geometry.spacing, spacing)
    assert any(text in note for note in facts.notes), facts.notes


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_hilum_writes_lacks_nothing(tmp_path, volume, name, channels):
    write_volume(volume.with_array(np.repeat(volume.array, channels, axis=0)), tmp_path / name)
    assert inspect_file(tmp_path / name).notes == ()


def test_the_orientation_beside_an_analyze_pair_is_a_part_of_it(tmp_path):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nibabel.save(
        nibabel.Spm99AnalyzeImage(np.zeros((4, 3, 2), np.int16), affine), tmp_path / "a.img"
    )
    assert [file.name for file in files_of(tmp_path / "a.img")] == ["a.hdr", "a.img", "a.mat"]
    assert take_inventory([tmp_path], [tmp_path / "a.hdr"]).others == ()
    before = content_hash(tmp_path / "a.hdr")
    affine[0, 3] = 7.0
    nibabel.save(
        nibabel.Spm99AnalyzeImage(np.zeros((4, 3, 2), np.int16), affine), tmp_path / "b.img"
    )
    (tmp_path / "b.mat").replace(tmp_path / "a.mat")
    assert content_hash(tmp_path / "a.hdr") != before
