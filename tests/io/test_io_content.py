"""Hashes of content: alike wherever files lie, other ones where a byte does."""

from __future__ import annotations

import os
import shutil

import pytest

from hilum.errors import FormatError
from hilum.io import OutputFolder
from hilum.io.content import content_hash


def test_time_place_and_name_do_not_count(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_bytes(b"1")
    before = content_hash(file)
    os.utime(file, (1, 1))
    assert content_hash(file) == before == content_hash(shutil.copy(file, tmp_path / "b.nii.gz"))
    file.write_bytes(b"22")
    assert content_hash(file) != before


def test_a_folder_is_its_files_without_those_of_hilum(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.dcm").write_bytes(b"1")
    before = content_hash(tmp_path / "one")
    assert before == content_hash(tmp_path / "two")
    (tmp_path / "one" / ".DS_Store").write_bytes(b"x")
    with OutputFolder(tmp_path / "one", "predict") as folder:
        folder.write({"run.json": "{}"})
    assert content_hash(tmp_path / "one") == before
    (tmp_path / "one" / "more.dcm").write_bytes(b"2")
    assert content_hash(tmp_path / "one") != before


@pytest.mark.parametrize(
    ("header", "text", "voxels"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = a.raw\n", "a.raw"),
        ("a.nhdr", "NRRD0004\ndata file: other.raw\n", "other.raw"),
        ("a.hdr", "x", "a.img"),
        ("a.img", "x", "a.hdr"),
        ("a.hdr.gz", "x", "a.img.gz"),
        ("A.HDR", "x", "A.IMG"),
        ("a.seg.nhdr", "NRRD0004\ndata file: b.raw.gz\n", "b.raw.gz"),
    ],
)
def test_a_header_is_hashed_with_its_voxels(tmp_path, header, text, voxels):
    (tmp_path / header).write_text(text)
    (tmp_path / voxels).write_bytes(b"1")
    before = content_hash(tmp_path / header)
    (tmp_path / voxels).write_bytes(b"22")
    assert content_hash(tmp_path / header) != before


def test_a_series_is_the_files_of_its_folder(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"1")
    before = content_hash(f"{tmp_path}#series/1.2")
    assert before != content_hash(f"{tmp_path}#series/1.3")
    (tmp_path / "a.dcm").write_bytes(b"2")
    assert content_hash(f"{tmp_path}#series/1.2") != before


def test_an_archive_is_hashed_with_the_place_in_it(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"1")
    assert content_hash(tmp_path / "set.npz#train/1") != content_hash(tmp_path / "set.npz#train/2")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"gone.nii.gz cannot be read"):
        content_hash(tmp_path / "gone.nii.gz")
