"""A PyTorch checkpoint read as what it says, never as a program.

A `.pth` file is a zip archive: one pickle that describes, and one entry a storage of numbers. The
pickle is read as data: of its instructions only those of protocol 2 that torch.save writes are
followed, and of its names only those of a table, each of which takes notes; every other one ends
the reading. Numbers are read only of those tensors that are asked for, after their sizes are
checked; a file cannot ask for more memory than a few times its size.
"""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hilum.errors import ModelError
from hilum.files.placeholder import refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Entries = dict[str, zipfile.ZipInfo]

MOST_PICKLE_BYTES = 64 * 2**20
"""4000 epochs of 118 labels are described, with each label's Dice as a numpy number, by 35 MiB;
what is larger is not read."""
_MOST_STEPS = 8_000_000
"""Instructions, each of which makes at most one small object; those 4000 epochs are 6 million."""
_MOST_OF_FILE = 4
"""Tensors that are distinct may have so many times the file's bytes: nnU-Net's names of one tensor
are several, but it is one."""
_MOST_AXES = 16
_MOST_NAME = 64
_DAMAGE = (
    *(zipfile.BadZipFile, NotImplementedError, EOFError, struct.error),
    *(LookupError, TypeError, ValueError),
)
_AS_TORCH = "an archive as torch.save writes it"
_VALUES = frozenset(
    ("NONE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
)  # instructions whose argument is the value
_DTYPES = {
    f"torch {storage}Storage": getattr(torch, name)
    for storage, name in (
        *(("Double", "float64"), ("Float", "float32"), ("Half", "float16")),
        *(("BFloat16", "bfloat16"), ("Long", "int64"), ("Int", "int32"), ("Short", "int16")),
        *(("Char", "int8"), ("Byte", "uint8"), ("Bool", "bool")),
    )
}


class Storage(NamedTuple):
    """An entry of the archive: numbers of one type."""

    key: str
    dtype: torch.dtype
    elements: int


class StoredTensor(NamedTuple):
    """Position of a tensor in a storage, in elements; nothing is read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_checkpoint(
    path: Path | str, wanted: str
) -> tuple[dict[str | int, object], dict[str, Tensor]]:
    """Read a checkpoint that `torch.save` wrote (zip format: torch 1.6 and later).

    No code in it is run.

    Args:
        path: the file.
        wanted: the entry of the outermost dictionary whose tensors are read.

    Returns:
        The dictionary without that entry (tensors in it are `StoredTensor`s, whose numbers are not
        read; numbers of numpy and devices are None; a part may be shared, or stand in itself), and
        the entry's tensors by name, on the CPU.

    Raises:
        ModelError: there is no such file, it is not a zip checkpoint, is damaged, or names anything
            but tensors, plain containers and numbers.
    """
    path = Path(path)
    refuse_placeholder(path, ModelError)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error}",
            needed="a checkpoint of nnU-Net v2",
            cure="check the file and its permissions",
        ) from error
    if start != b"PK\x03\x04":
        raise ModelError(
            f"{path} is not in the zip format of torch.save (torch 1.6 and later write it)",
            needed="a checkpoint in zip format; older ones cannot be read without running them",
            cure="where you trust the file, write it anew with torch 2, torch.save(torch.load(FILE,"
            " weights_only=False), NEW_FILE), and put that in its place",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path)
            notes = _describe(archive.read(entries["data.pkl"]), path)
            stored = notes.pop(wanted, None) if isinstance(notes, dict) else None
            if not isinstance(notes, dict) or not isinstance(stored, dict):
                raise ModelError(
                    f"{path} is a checkpoint without {wanted!r}",
                    needed="a checkpoint that nnU-Net v2 wrote",
                    cure="import a checkpoint_final.pth or checkpoint_best.pth of nnU-Net v2",
                )
            return notes, _tensors(archive, entries, stored, path)
    except _DAMAGE as error:
        raise ModelError(
            f"{path} is damaged, or no checkpoint ({type(error).__name__}: {str(error)[:200]})",
            cure="copy the file again from where it was made",
        ) from error


def _entries(archive: zipfile.ZipFile, path: Path) -> Entries:
    """Map the archive's entries by their name within its one folder."""
    entries: Entries = {}
    folders = set()
    left = path.stat().st_size
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        folders.add(folder)
        left -= info.file_size
        stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        if name in entries or not stored or left < 0:
            raise ModelError(
                f"{path}: entry {info.filename[:80]!r} is there twice, compressed, encrypted or"
                " beyond the file's size",
                needed=_AS_TORCH,
                cure="save it again with torch.save",
            )
        entries[name] = info
    if len(folders) != 1 or "data.pkl" not in entries:
        raise ModelError(
            f"{path} is a zip file without a checkpoint in it",
            needed=_AS_TORCH,
            cure="copy the file again from where it was made",
        )
    if entries["data.pkl"].file_size > MOST_PICKLE_BYTES:
        raise ModelError(
            f"{path}: data.pkl in it has {entries['data.pkl'].file_size} bytes",
            needed=f"at most {MOST_PICKLE_BYTES}",
            cure="copy the file again from where it was made",
        )
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise ModelError(
            f"{path} is not in little-endian byte order",
            cure="write it anew on a little-endian machine",
        )
    return entries


def _tensors(
    archive: zipfile.ZipFile, entries: Entries, stored: Mapping[str | int, object], path: Path
) -> dict[str, Tensor]:
    """Read the numbers of these tensors, each storage and each tensor once."""
    named: dict[str, StoredTensor] = {}
    for name, one in stored.items():
        if not isinstance(name, str) or not isinstance(one, StoredTensor):
            raise ModelError(
                f"{path}: weights {str(name)[:80]!r} that are no tensor but a {type(one).__name__}",
                needed="tensors by name",
                cure="copy the file again from where it was made",
            )
        named[name] = one
    distinct = set(named.values())
    total = sum(math.prod(one.shape) * one.storage.dtype.itemsize for one in distinct)
    most = _MOST_OF_FILE * path.stat().st_size
    if total > most:
        raise ModelError(
            f"{path}: weights of {total} bytes that share their numbers",
            needed=f"at most {most} bytes in this file",
            cure="copy the file again from where it was made",
        )
    storages: dict[Storage, Tensor] = {}
    for storage in {one.storage for one in distinct}:
        info, needed = entries.get(f"data/{storage.key}"), storage.elements * storage.dtype.itemsize
        if info is None or info.file_size != needed:
            found = "missing" if info is None else f"{info.file_size} bytes long"
            raise ModelError(
                f"{path}: storage {storage.key} is {found}",
                needed=f"{needed} bytes, as data.pkl in the file says",
                cure="copy the file again from where it was made",
            )
        storages[storage] = torch.empty(storage.elements, dtype=storage.dtype)
        if needed:
            numbers = np.frombuffer(archive.read(info), np.uint8).copy()
            storages[storage] = torch.from_numpy(numbers).view(storage.dtype)
    tensors = {
        one: storages[one.storage].as_strided(one.shape, one.strides, one.offset).clone()
        for one in distinct
    }
    return {name: tensors[one] for name, one in named.items()}


def _describe(data: bytes, path: Path) -> object:
    """Read a checkpoint's pickle as data, tensors as `StoredTensor`.

    Raises:
        ModelError: it names anything but tensors, plain containers and numbers.
        ValueError, TypeError, LookupError: it is damaged, or not as torch.save writes it.
    """
    if data[:2] != b"\x80\x02":
        raise ValueError("the pickle has another protocol than 2, which torch.save writes")
    stack: list[object] = []
    marks: list[int] = []
    memo: dict[int, object] = {}
    argument: Any  # by the instruction
    for instruction, argument, _ in islice(pickletools.genops(data[2:]), _MOST_STEPS):
        name = instruction.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(memo[argument])
        elif name in {"BINPUT", "LONG_BINPUT"}:
            memo[argument] = stack[-1]
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "GLOBAL":
            stack.append(_find_global(argument, path))
        elif name == "STOP":
            return stack.pop()
        else:
            count, combine = _COMBINED[name]
            start = max(0, len(stack) - count if count > 0 else marks.pop() + count)
            parts = stack[start:]
            del stack[start:]
            stack.append(combine(parts))
    raise ValueError(f"data.pkl has more than {_MOST_STEPS} instructions")


def _find_global(name: str, path: Path) -> object:
    """Look a name up that the pickle wants to call; refuse every name outside the list."""
    if name not in _KNOWN:
        raise ModelError(
            f"{path}: wants {name[:80].replace(' ', '.')}, which is no part of a tensor or a"
            " number; nothing of the file was run",
            needed="a checkpoint that holds tensors, plain containers and numbers only",
            cure="do not load it with torch.load either, unless you know who made it",
        )
    return _KNOWN[name]


def _extend(parts: list[object]) -> object:
    """Add elements to a list."""
    owner, *items = parts
    if type(owner) is not list:
        raise ValueError("the pickle adds elements to an object that is not a list")
    owner.extend(items)
    return owner


def _update(parts: list[object]) -> object:
    """Enter keys and values into a dictionary; keys may be texts and small integers only."""
    owner, *items = parts
    if type(owner) is not dict:
        raise ValueError("the pickle adds entries to an object that is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # others' hashes can be made to hang or crash
        if type(key) is not str and not (type(key) is int and abs(key) < 2**31):
            raise ValueError(f"a key of a dictionary has the type {type(key).__name__}")
        owner[key] = value
    return owner


def _call(parts: list[object]) -> object:
    name, given = parts
    if not isinstance(name, _Name) or type(given) is not tuple:
        raise ValueError("the pickle calls an object that is not a named function")
    return name.make(given)


def _storage(parts: list[object]) -> Storage:
    """Read what torch writes: ("storage", type, entry, device, elements)."""
    (entry,) = parts
    if type(entry) is not tuple or len(entry) != 5 or entry[0] != "storage":
        raise ValueError("a storage of a tensor is not described as torch.save does")
    _, dtype, key, _, count = entry
    if not isinstance(dtype, torch.dtype) or type(key) is not str or len(key) > _MOST_NAME:
        raise ValueError("a storage of a tensor has no type or no name")
    return Storage(key, dtype, _natural(count))


_NEW: dict[str, Callable[[], object]] = {
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_COMBINED: dict[str, tuple[int, Callable[[list[object]], object]]] = {
    "TUPLE1": (1, tuple),
    "TUPLE2": (2, tuple),
    "TUPLE3": (3, tuple),
    "TUPLE": (0, tuple),
    "APPEND": (2, _extend),
    "APPENDS": (-1, _extend),
    "SETITEM": (3, _update),
    "SETITEMS": (-1, _update),
    "REDUCE": (2, _call),
    "BUILD": (2, itemgetter(0)),  # a state, of dictionaries and numpy's types, is dropped
    "BINPERSID": (1, _storage),
}
"""Parts that an instruction takes from the stack, to put back what they make: so many, those since
the mark (0), or those and the one before (-1)."""


class _Name(NamedTuple):
    """A name that may be called."""

    make: Callable[[tuple[object, ...]], object]


def _same(kind: type[object], given: tuple[object, ...]) -> object:
    """Return the object itself: a copy could be asked for a million times."""
    value = given[0]
    if type(value) is not kind:
        raise ValueError(f"an object has the type {type(value).__name__} and not {kind.__name__}")
    return value


def _rebuild_tensor(given: tuple[object, ...]) -> StoredTensor:
    """Return a view of a storage that stays within it and has no element more than once."""
    storage, offset, shape, strides, *_ = given
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("a tensor has no storage, shape or strides")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes, more than {_MOST_AXES}")
    if len(shape) != len(strides):
        raise ValueError(f"a tensor has {len(shape)} axes and {len(strides)} strides")
    first, sizes, steps = _natural(offset), (*map(_natural, shape),), (*map(_natural, strides),)
    count = math.prod(sizes)
    last = first + sum((n - 1) * k for n, k in zip(sizes, steps, strict=True))
    if count and (last >= storage.elements or count > storage.elements):
        raise ValueError(
            f"a tensor of shape {sizes} needs more than the {storage.elements} elements of its"
            " storage"
        )
    return StoredTensor(storage, first, sizes, steps)


def _natural(value: object) -> int:
    """Return a size of a tensor; refuse anything but a whole number from 0 to 2**48."""
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(
            f"a size in it is no whole number from 0 to 2**48 ({type(value).__name__})"
        )
    return value


_PASSED_OVER = _Name(lambda _: None)
"""Devices and the numbers of numpy in nnU-Net's logs, which nothing reads."""
_KNOWN: dict[str, object] = {
    "collections OrderedDict": _Name(lambda _: {}),
    "torch._utils _rebuild_tensor_v2": _Name(_rebuild_tensor),
    "torch._utils _rebuild_parameter": _Name(partial(_same, StoredTensor)),
    "torch Size": _Name(partial(_same, tuple)),
    "torch device": _PASSED_OVER,
    "_codecs encode": _PASSED_OVER,
    "numpy dtype": _PASSED_OVER,
    "numpy.core.multiarray scalar": _PASSED_OVER,
    "numpy._core.multiarray scalar": _PASSED_OVER,
    **_DTYPES,
    **{str(dtype).replace(".", " "): dtype for dtype in _DTYPES.values()},
}
