"""A PyTorch checkpoint read as what it says, never as a program.

A `.pth` file is a zip archive: one pickle that describes, and one entry a storage of numbers. A pickle may name any function and
have it called. This reader knows a few names, each stands for a function of this file that only takes notes, and every other name
is refused before anything is done with it; numbers are read only of those tensors that are asked for, after their sizes are
checked.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch

from hilum.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

MOST_PICKLE_BYTES = 256 * 2**20
"""A checkpoint's description is far smaller; what is larger is not read."""

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()}
_MOST_AXES = 16
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    NotImplementedError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    UnicodeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class _Storage:
    """An entry of the archive: numbers of one type."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in a storage, in elements; nothing is read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_checkpoint(path: Path | str, wanted: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint that `torch.save` wrote (zip format: torch 1.6 and later). No code in it is run.

    Args:
        path: the file.
        wanted: the entry of the outermost dictionary whose tensors are read.

    Returns:
        The dictionary without that entry (tensors in it are `StoredTensor`s: their numbers are not read), and the entry's tensors
        by name, on the CPU.

    Raises:
        ModelError: there is no such file, it is not a zip checkpoint, is damaged, or names anything but tensors, plain containers
            and numbers.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(_checked(path)) as archive:
            entries = _entries(archive, path)
            notes = _Notes(path, BytesIO(archive.read(entries["data.pkl"]))).load()
            if not isinstance(notes, dict) or not isinstance(notes.get(wanted), dict):
                raise ModelError(f"{path}: a checkpoint without {wanted!r}", needed="a checkpoint that nnU-Net v2 wrote")
            rest = {key: value for key, value in notes.items() if key != wanted}
            return rest, _tensors(archive, entries, notes[wanted], path)
    except _DAMAGE as error:
        raise ModelError(
            f"{path}: damaged, or no checkpoint ({type(error).__name__}: {error})",
            cure="copy the file again from where it was made",
        ) from error


def _checked(path: Path) -> Path:
    """The path, if a zip archive lies there."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}", needed="a checkpoint of nnU-Net v2") from error
    if start != b"PK\x03\x04":
        raise ModelError(
            f"{path}: not in the zip format of torch.save (torch 1.6 and later write it)",
            needed="a checkpoint in zip format; older ones cannot be read without running what is in them",
            cure="where you trust the file, write it anew with the torch it was made with: torch.save(torch.load(FILE), FILE)",
        )
    return path


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by their name within its one folder."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    size = path.stat().st_size
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        folders.add(folder)
        if name in entries or info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size > size:
            raise ModelError(
                f"{path}: entry {info.filename!r} is there twice, compressed, encrypted or larger than the file",
                needed="an archive as torch.save writes it",
            )
        entries[name] = info
    if len(folders) != 1 or "data.pkl" not in entries:
        raise ModelError(f"{path}: a zip file without a checkpoint in it", needed="an archive as torch.save writes it")
    if entries["data.pkl"].file_size > MOST_PICKLE_BYTES:
        raise ModelError(f"{path}: a description of {entries['data.pkl'].file_size} bytes", needed=f"at most {MOST_PICKLE_BYTES}")
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise ModelError(f"{path}: not in little-endian byte order", cure="write it anew on a little-endian machine")
    return entries


class _Notes(pickle._Unpickler):  # noqa: SLF001  (typeshed knows it too)
    """Reads a pickle with a table of names; what they call takes notes. In Python, whose memo cannot be made to fill memory."""

    def __init__(self, path: Path, file: BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
            ("torch", "Size"): tuple,
            ("torch", "device"): _device,
            ("_codecs", "encode"): _encode,
            ("numpy", "dtype"): _Dtype,
            ("numpy.core.multiarray", "scalar"): _scalar,
            ("numpy._core.multiarray", "scalar"): _scalar,
        }
        self._known |= {("torch", name): dtype for name, dtype in (_DTYPES | _NAMES).items()}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for here."""
        known = self._known.get((module, name))
        if known is None:
            self._refuse(f"{module}.{name}")
        return known

    def get_extension(self, code: int) -> NoReturn:
        """Numbers that stand for names in a process's own registry."""
        self._refuse(f"extension {code}")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, by what torch writes: ("storage", type, entry, device, elements)."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError(f"a persistent id {pid!r}")
        return _Storage(key, dtype, _natural(count))

    def load_build(self) -> None:
        """A state for the last object: a numpy type's is read, a dictionary's is dropped, nothing else has one."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]  # typeshed leaves it out
        state, owner = stack.pop(), stack[-1]
        if isinstance(owner, _Dtype):
            owner.__setstate__(state)
        elif type(owner) is not OrderedDict:
            raise ValueError(f"a state for a {type(owner).__name__}")

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}  # noqa: SLF001  (the table that it works by)

    def _refuse(self, name: str) -> NoReturn:
        raise ModelError(
            f"{self._path}: wants {name}, which is no part of a tensor or a number; nothing of the file was run",
            needed="a checkpoint that holds tensors, plain containers and numbers only",
            cure="do not load it with torch.load either, unless you know who made it",
        )


class _Dtype:
    """The type of a numpy scalar, by its name; plain numbers only."""

    __slots__ = ("name", "order")

    def __init__(self, name: str, *_: object) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in "biuf":
            raise ValueError(f"numbers of type {name!r}")
        self.name = name
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {state[1]!r}")
        self.order = state[1]


def _scalar(dtype: _Dtype, data: bytes) -> float | int | bool:
    """A numpy scalar as a number of Python."""
    value: float | int | bool = np.frombuffer(
        data, np.dtype(dtype.name).newbyteorder(">" if dtype.order == ">" else "<"), count=1
    )[0].item()
    return value


def _device(*names: object) -> str:
    return ":".join(str(name) for name in names)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as pickles of protocol 2 write them."""
    if encoding != "latin1":
        raise ValueError(f"bytes in {encoding!r}")
    return text.encode("latin1")


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object) -> StoredTensor:
    """A view of a storage; refused where it reaches beyond it, or says elements more than once."""
    sizes, steps = tuple(_natural(n) for n in shape), tuple(_natural(n) for n in strides)
    if not isinstance(storage, _Storage) or len(sizes) != len(steps) or len(sizes) > _MOST_AXES:
        raise ValueError(f"a tensor of shape {sizes} with strides {steps}")
    last = _natural(offset) + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) and (last >= storage.count or math.prod(sizes) > storage.count):
        raise ValueError(f"a tensor of shape {sizes} in a storage of {storage.count} elements")
    return StoredTensor(storage, offset, sizes, steps)


def _rebuild_parameter(data: StoredTensor, *_: object) -> StoredTensor:
    return data


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**48:
        raise ValueError(f"{value!r} instead of a size")
    return value


def _tensors(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], stored: Mapping[Any, Any], path: Path
) -> dict[str, Tensor]:
    """Read the numbers of these tensors, each storage once."""
    storages: dict[_Storage, Tensor] = {}
    tensors = {}
    for name, one in stored.items():
        if not isinstance(name, str) or not isinstance(one, StoredTensor):
            raise ModelError(f"{path}: weights {name!r} that are no tensor but a {type(one).__name__}", needed="tensors by name")
        if one.storage not in storages:
            storages[one.storage] = _read(archive, entries, one.storage, path)
        tensors[name] = storages[one.storage].as_strided(one.shape, one.strides, one.offset).clone()
    return tensors


def _read(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], storage: _Storage, path: Path) -> Tensor:
    info = entries.get(f"data/{storage.key}")
    needed = storage.count * torch.empty((), dtype=storage.dtype).element_size()
    if info is None or info.file_size != needed:
        found = "missing" if info is None else f"{info.file_size} bytes long"
        raise ModelError(f"{path}: storage {storage.key} is {found}", needed=f"{needed} bytes, as its description says")
    if storage.count == 0:
        return torch.empty(0, dtype=storage.dtype)
    read: Callable[..., Tensor] = torch.frombuffer
    return read(bytearray(archive.read(info)), dtype=storage.dtype)
