"""Hashes of content: alike wherever files lie, other ones where a byte does."""

from __future__ import annotations

import gzip
import os
import shutil

import numpy as np
import pytest

from hilum.errors import FormatError
from hilum.files import OutputFolder
from hilum.io import read_volume
from hilum.io.content import content_hash, files_of


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
        ("a.nrrd", "NRRD0004\ndata file: b.raw\n", "b.raw"),
        ("a.mha", "NDims = 3\nElementDataFile = b.raw\n", "b.raw"),
        ("a.nhdr", "NRRD0004\ndata file: é 1.raw\n", "é 1.raw"),
        ("a.nhdr", "NRRD0004\ndata file: s%03d.raw 2 8 3\n", "s008.raw"),
        ("a.nhdr", "NRRD0004\ndata file: s%03d.raw 8 2 -3 2\n", "s002.raw"),
        ("a.nhdr", "NRRD0004\ndata file: LIST\none.raw\ntwo.raw\n", "two.raw"),
        ("a.nhdr", "NRRD0004\r\ndatafile: LIST 2\r\none.raw\r\ntwo.raw\r\n", "one.raw"),
        ("a.mhd", "NDims = 3\nElementDataFile = s%d.raw 1 3 1\n", "s3.raw"),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST 2D\none.raw\ntwo.raw\n", "two.raw"),
    ],
)
def test_a_header_is_hashed_with_its_voxels(tmp_path, header, text, voxels):
    (tmp_path / header).write_bytes(text.encode())
    (tmp_path / voxels).write_bytes(b"1")
    before = content_hash(tmp_path / header)
    (tmp_path / voxels).write_bytes(b"22")
    assert content_hash(tmp_path / header) != before


@pytest.mark.parametrize("value", ["LIST", "s%02d.raw.gz 0 3 1"])
def test_every_data_file_of_a_header_is_read_and_checked(tmp_path, value):
    slices = np.arange(4 * 5 * 7, dtype=np.int16).reshape(4, 5, 7)
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 5 4\nencoding: gzip\nendian: little\n"
    names = [f"s{number:02d}.raw.gz" for number in range(4)]
    for name, pixels in zip(names, slices, strict=True):
        (tmp_path / name).write_bytes(gzip.compress(pixels.tobytes()))
    text = "\n".join([head + f"data file: {value}", *(names if value == "LIST" else ()), ""])
    (tmp_path / "a.nhdr").write_text(text)
    assert np.array_equal(read_volume(tmp_path / "a.nhdr").array[0], slices)
    (tmp_path / names[2]).write_bytes((tmp_path / names[2]).read_bytes()[:-3])
    with pytest.raises(FormatError, match="the compressed voxels break off"):
        read_volume(tmp_path / "a.nhdr")


def test_a_header_with_its_own_voxels_is_hashed_alone(tmp_path):
    text = b"NRRD0004\ntype: short\n\ndata file: b.raw\n"  # behind the blank line are voxels
    for name, header in (
        ("a.nrrd", text),
        ("a.mha", b"NDims = 3\nElementDataFile = LOCAL\nElementDataFile = b.raw\n"),
    ):
        (tmp_path / name).write_bytes(header)
        (tmp_path / "b.raw").write_bytes(b"1")
        assert files_of(tmp_path / name) == (tmp_path / name,)


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


def test_a_file_that_is_given_its_former_time_is_read_again(tmp_path):
    file = tmp_path / "a.nii"
    file.write_bytes(b"1234")
    before, facts = content_hash(file), file.stat()
    file.write_bytes(b"1243")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert content_hash(file) != before
