"""Zip archives are unpacked into a temporary folder, never outside of it, and removed."""

from __future__ import annotations

import errno
import stat
import warnings
import zipfile
from unittest.mock import Mock

import numpy as np
import pytest

from hilum.errors import FormatError, ResourceError
from hilum.files import archive
from hilum.files.archive import is_zip, unpacked


def make(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries.items():
            made.writestr(name, content)
    return path


def test_files_are_there_and_then_gone(tmp_path):
    path = make(tmp_path / "case 7.zip", {"a/1.dcm": b"one", "a\\2.dcm": b"two", "b/": b""})
    with unpacked([path, tmp_path / "other"]) as (folder, other):
        assert folder.name == "case 7"
        assert (folder / "a/1.dcm").read_bytes() == b"one"
        assert (folder / "a/2.dcm").read_bytes() == b"two"
        assert other == tmp_path / "other"
    assert not folder.parent.exists()
    assert path.exists()


def test_messages_name_the_archive_and_not_the_temporary_folder(tmp_path):
    path = make(tmp_path / "case.zip", {"a/1.dcm": b"one"})
    with unpacked([path]) as (folder,):
        error = FormatError(f"{folder / 'a/1.dcm'}: damaged", cure=f"remove {folder}")
    assert str(error) == f"{path}/a/1.dcm: damaged\nCure: remove {path}"
    assert str(FormatError(str(folder))) == str(folder)  # nothing is left of it


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "..\\x"])
def test_no_file_leaves_the_folder(tmp_path, name):
    path = make(tmp_path / "a.zip", {"fine": b"1", name: b"2"})
    with pytest.raises(FormatError, match="is a file outside of the archive"), unpacked([path]):
        pass
    assert {one.name for one in tmp_path.rglob("*")} == {"a.zip"}


def test_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = make(tmp_path / "a.zip", {entry: b"/etc/passwd"})
    with pytest.raises(FormatError, match="'link' is a link"), unpacked([path]):
        pass


def test_encrypted_archives_are_refused(tmp_path):
    path = make(tmp_path / "a.zip", {"x": b"1"})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="encrypted"), unpacked([path]):
        pass


def test_archives_are_limited_by_their_unpacked_size(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", {"x": bytes(5000), "y": bytes(5000)})
    monkeypatch.setattr(archive, "MOST_BYTES", 9000)
    with pytest.raises(ResourceError, match=r"its files are .* GiB or more"), unpacked([path]):
        pass
    monkeypatch.setattr(archive, "MOST_BYTES", 10000)
    with unpacked([path]) as (folder,):
        assert len([*folder.iterdir()]) == 2


def test_sizes_that_the_archive_states_wrongly_do_not_help(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", {"x": bytes(1 << 20)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises((FormatError, ResourceError)), unpacked([path]):
        pass


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", {str(n): b"" for n in range(4)})
    monkeypatch.setattr(archive, "_MOST_FILES", 3)
    with pytest.raises(ResourceError, match="an archive of 4 files"), unpacked([path]):
        pass


def test_damaged_archives_are_refused(tmp_path):
    path = make(tmp_path / "a.zip", {"x": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the archive cannot be unpacked"), unpacked([path]):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_is_told_of_each_compression(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("x", np.random.default_rng(0).bytes(5000))
    data = bytearray(path.read_bytes())
    data[60:300] = bytes(240)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the archive cannot be unpacked"), unpacked([path]):
        pass


def test_errors_of_the_system_are_no_damage(tmp_path, monkeypatch):
    path = make(tmp_path / "a.zip", {"x": b"1"})
    failing = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr(zipfile.ZipFile, "open", Mock(side_effect=failing))
    with pytest.raises(OSError, match="Input/output error"), unpacked([path]):
        pass


@pytest.mark.parametrize("again", ["a/IM1", "./a/IM1", "a//IM1", "a\\IM1"])
def test_files_of_one_name_are_refused(tmp_path, again):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made, warnings.catch_warnings(action="ignore"):
        for name in ("a/", "a/", "a/IM1", again, "a/IM2"):
            made.writestr(name, b"")
    with pytest.raises(FormatError, match="1 file of the same name as another"), unpacked([path]):
        pass


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"nothing")
    make(tmp_path / "b.txt", {"x": b""})
    assert not is_zip(tmp_path / "a.zip")
    assert not is_zip(tmp_path / "b.txt")
    assert not is_zip(tmp_path)
