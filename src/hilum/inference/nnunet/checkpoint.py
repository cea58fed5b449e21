"""A PyTorch checkpoint read as what it says, never as a program.

A `.pth` file is a zip archive: one pickle that describes (see `notes`), and one entry a storage of
numbers. Numbers are read only of those tensors that are asked for, after their sizes are checked; a
file cannot ask for more memory than a few times its size.
"""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hilum.errors import ModelError
from hilum.inference.nnunet.notes import Storage, StoredTensor, read_notes
from hilum.io.placeholder import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

MOST_PICKLE_BYTES = 64 * 2**20
"""4000 epochs of 118 labels are described, with each label's Dice as a numpy number, by 35 MiB;
what is larger is not read."""

_MOST_OF_FILE = 4
"""Tensors that are distinct may have so many times the file's bytes: nnU-Net's names of one tensor
are several, but it is one."""
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    LookupError,
    UnicodeError,
    ValueError,
    struct.error,
)


def read_checkpoint(path: Path | str, wanted: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint that `torch.save` wrote (zip format: torch 1.6 and later).

    No code in it is run.

    Args:
        path: the file.
        wanted: the entry of the outermost dictionary whose tensors are read.

    Returns:
        The dictionary without that entry (tensors in it are `StoredTensor`s: their numbers are not
        read), and the entry's tensors by name, on the CPU.

    Raises:
        ModelError: there is no such file, it is not a zip checkpoint, is damaged, or names anything
            but tensors, plain containers and numbers.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(_checked(path)) as archive:
            entries = _entries(archive, path)
            notes = read_notes(archive.read(entries["data.pkl"]), str(path))
            if not isinstance(notes, dict) or not isinstance(notes.get(wanted), dict):
                raise ModelError(
                    f"{path}: a checkpoint without {wanted!r}",
                    needed="a checkpoint that nnU-Net v2 wrote",
                )
            rest = {key: value for key, value in notes.items() if key != wanted}
            return rest, _tensors(archive, entries, notes[wanted], path)
    except _DAMAGE as error:
        raise ModelError(
            f"{path}: damaged, or no checkpoint ({type(error).__name__}: {error})",
            cure="copy the file again from where it was made",
        ) from error


def _checked(path: Path) -> Path:
    """The path, if a zip archive lies there."""
    refuse_placeholder(path, ModelError)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error}", needed="a checkpoint of nnU-Net v2"
        ) from error
    if start != b"PK\x03\x04":
        raise ModelError(
            f"{path}: not in the zip format of torch.save (torch 1.6 and later write it)",
            needed=(
                "a checkpoint in zip format; older ones cannot be read without running what is in"
                " them"
            ),
            cure=(
                "where you trust the file, write it anew with torch 2, torch.save(torch.load(FILE,"
                " weights_only=False), NEW_FILE), and put that in its place"
            ),
        )
    return path


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by their name within its one folder."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    left = path.stat().st_size
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        folders.add(folder)
        left -= info.file_size
        if (
            name in entries
            or info.compress_type != zipfile.ZIP_STORED
            or info.flag_bits & 1
            or left < 0
        ):
            raise ModelError(
                f"{path}: entry {info.filename[:80]!r} is there twice, compressed, encrypted or"
                " beyond the file's size",
                needed="an archive as torch.save writes it",
            )
        entries[name] = info
    if len(folders) != 1 or "data.pkl" not in entries:
        raise ModelError(
            f"{path}: a zip file without a checkpoint in it",
            needed="an archive as torch.save writes it",
        )
    if entries["data.pkl"].file_size > MOST_PICKLE_BYTES:
        raise ModelError(
            f"{path}: a description of {entries['data.pkl'].file_size} bytes",
            needed=f"at most {MOST_PICKLE_BYTES}",
        )
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise ModelError(
            f"{path}: not in little-endian byte order",
            cure="write it anew on a little-endian machine",
        )
    return entries


def _tensors(
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    stored: Mapping[Any, Any],
    path: Path,
) -> dict[str, Tensor]:
    """Read the numbers of these tensors, each storage and each tensor once."""
    for name, one in stored.items():
        if not isinstance(name, str) or not isinstance(one, StoredTensor):
            raise ModelError(
                f"{path}: weights {str(name)[:80]!r} that are no tensor but a {type(one).__name__}",
                needed="tensors by name",
            )
    distinct = set(stored.values())
    asked, most = (
        sum(math.prod(one.shape) * one.storage.dtype.itemsize for one in distinct),
        _MOST_OF_FILE * path.stat().st_size,
    )
    if asked > most:
        raise ModelError(
            f"{path}: weights of {asked} bytes that share their numbers",
            needed=f"at most {most} bytes in this file",
        )
    storages = {
        storage: _read(archive, entries, storage, path)
        for storage in {one.storage for one in distinct}
    }
    tensors = {
        one: storages[one.storage].as_strided(one.shape, one.strides, one.offset).clone()
        for one in distinct
    }
    return {name: tensors[one] for name, one in stored.items()}


def _read(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], storage: Storage, path: Path
) -> Tensor:
    info = entries.get(f"data/{storage.key}")
    needed = storage.count * storage.dtype.itemsize
    if info is None or info.file_size != needed:
        found = "missing" if info is None else f"{info.file_size} bytes long"
        raise ModelError(
            f"{path}: storage {storage.key} is {found}",
            needed=f"{needed} bytes, as its description says",
        )
    if storage.count == 0:
        return torch.empty(0, dtype=storage.dtype)
    read: Callable[..., Tensor] = torch.frombuffer
    return read(bytearray(archive.read(info)), dtype=storage.dtype)
