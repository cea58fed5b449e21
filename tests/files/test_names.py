"""Names, atomic writing, hashes."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from hilum.errors import ResourceError
from hilum.files import atomic_path, atomic_write_text, image_suffix, sha256


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.nii.gz", ".nii.gz"),
        ("a.b.NII.GZ", ".nii.gz"),
        ("case_1.5mm.nii", ".nii"),
        ("x.PNG", ".png"),
        ("CT.1.2.840.113", ""),
        ("notes.txt", ""),
        (".png", ""),
        ("a.gz", ""),
        ("set.npz#train/12", ".npz"),
        ("folder.nii.gz/plain", ""),
    ],
)
def test_image_suffix(name, suffix):
    assert image_suffix(name) == suffix
    assert image_suffix(Path("/some/where") / name) == suffix


def test_atomic_path_keeps_suffix_and_makes_the_folder(tmp_path):
    target = tmp_path / "new" / "case.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        assert image_suffix(temporary) == ".nii.gz"
        temporary.write_bytes(b"x")
        assert not target.exists()
    assert target.read_bytes() == b"x"
    assert [p.name for p in target.parent.iterdir()] == ["case.nii.gz"]


@pytest.mark.parametrize(
    "failure", [ValueError("bug"), KeyboardInterrupt(), OSError(errno.EIO, "disk trouble")]
)
def test_atomic_path_leaves_the_old_file_when_writing_fails(tmp_path, failure):
    target = tmp_path / "plan.json"
    target.write_text("old", encoding="utf-8")

    def half(temporary):
        temporary.write_text("half", encoding="utf-8")
        raise failure

    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        half(temporary)
    assert target.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.fixture
def syncs(monkeypatch):
    """Record of what is flushed to the disk, and of the names at that moment."""
    seen = []

    def fsync(descriptor, real=os.fsync):
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(
            (
                name.suffix or "folder",
                name.stat().st_size if name.is_file() else sorted(p.name for p in name.iterdir()),
            )
        )
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, syncs):
    with atomic_path(tmp_path / "weights.safetensors") as temporary:
        temporary.write_bytes(bytes(1000))
    assert syncs == [(".safetensors", 1000), ("folder", ["weights.safetensors"])]
    syncs.clear()
    atomic_write_text(tmp_path / "model.json", "{}")
    assert syncs == [(".json", 2), ("folder", ["model.json", "weights.safetensors"])]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_a_folder_is_on_the_disk_with_all_it_holds(tmp_path, syncs):
    with atomic_path(tmp_path / "store") as temporary:
        (temporary / "inner").mkdir(parents=True)
        (temporary / "inner" / "chunk.bin").write_bytes(b"12345")
    assert syncs == [(".bin", 5), ("folder", ["store"])]


def test_a_read_only_copy_can_be_synced(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *_, real=Path.open: modes.append(mode) or real(self, mode),
    )
    with atomic_path(tmp_path / "a.nii") as temporary:
        temporary.touch(mode=0o400)
    assert modes == ["r+b" if os.name == "nt" else "rb"]


def test_a_folder_that_cannot_be_synced_does_not_matter(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "as on Windows")

    monkeypatch.setattr(os, "open", refuse)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "a.txt").read_bytes() == b"x"


def test_atomic_path_removes_a_half_written_folder(tmp_path):
    def half(temporary):
        temporary.mkdir()
        (temporary / "chunk").write_bytes(b"1")
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"), atomic_path(tmp_path / "store.b2nd") as temporary:
        half(temporary)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot be written"),
    ],
)
def test_disk_errors_become_resource_errors(tmp_path, number, text):
    with pytest.raises(ResourceError, match=text), atomic_path(tmp_path / "a.npy"):
        raise OSError(number, "x")
    assert list(tmp_path.iterdir()) == []


def test_text_and_hash(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "µ\n")
    assert (tmp_path / "a.txt").read_bytes() == "µ\n".encode()
    assert sha256(tmp_path / "a.txt") == hashlib.sha256("µ\n".encode()).hexdigest()
