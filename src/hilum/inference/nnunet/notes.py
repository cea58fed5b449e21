"""The description of a checkpoint: a pickle, read as data, without running anything in it.

A pickle is a program for a machine with a stack. This machine has only the instructions of protocol
2 that torch.save uses, and a few names, each of which takes notes; every other instruction or name
ends the reading. A few bytes must not fill memory either: what the instructions make is counted,
and what it would be if written out in full is bounded, for shared parts may be nested.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from hilum.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_STEPS = 10_000_000
_MOST_MADE = 2**21
"""Lists, dictionaries and results of names. 4000 epochs of 118 labels are 1 million, by 6 million
steps."""
_MOST_WRITTEN = 2**28
_MOST_DEPTH = 64
_MOST_AXES = 16
_MOST_NAME = 64
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
_NUMPY = frozenset({"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


@dataclass(frozen=True, slots=True)
class Storage:
    """An entry of the archive: numbers of one type."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Position of a tensor in a storage, in elements; nothing is read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_notes(data: bytes, source: str) -> Any:
    """Read a checkpoint's pickle as data, tensors as `StoredTensor`.

    Args:
        data: the pickle.
        source: names the file in errors.

    Raises:
        ModelError: it names anything but tensors, plain containers and numbers; nothing of it was
            run.
        ValueError: an instruction that torch.save does not write, or more than an honest
            description can be.
        IndexError, KeyError, struct.error, UnicodeError: it is damaged.
    """
    return _Machine(data, source).run()


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of the table that may be called."""

    make: Callable[..., Any]


class _Machine:
    """Reads one pickle."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data, self.source = data, source
        self.place = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.made = 0

    def run(self) -> Any:
        for _ in range(_MOST_STEPS):
            code = self.data[self.place]
            self.place += 1
            if code == _STOP:
                _written(self.stack[-1], {})
                return self.stack.pop()
            step = self.steps.get(code)
            if step is None:
                raise ValueError(f"the instruction {code:#04x}, which torch.save does not write")
            step(self)
        raise ValueError(f"a description of more than {_MOST_STEPS} steps")

    def take(self, count: int) -> bytes:
        taken = self.data[self.place : self.place + count]
        if len(taken) != count:
            raise ValueError("a description that is cut off")
        self.place += count
        return taken

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.index(b"\n", self.place, self.place + 2 * _MOST_NAME)
        return self.take(end + 1 - self.place)[:-1].decode()

    def count(self) -> None:
        self.made += 1
        if self.made > _MOST_MADE:
            raise ValueError(f"a description of more than {_MOST_MADE} parts")

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # One method for each instruction, named as in pickletools.

    def proto(self) -> None:
        if self.take(1) != b"\x02":
            raise ValueError("another protocol than 2, which torch.save writes")

    def mark(self) -> None:
        self.count()
        if len(self.marks) == _MOST_DEPTH * 2:
            raise ValueError(f"parts nested more than {_MOST_DEPTH} deep")
        self.marks.append(len(self.stack))

    def empty_dict(self) -> None:
        self.count()
        self.stack.append({})

    def empty_list(self) -> None:
        self.count()
        self.stack.append([])

    def tuple_of(self, size: int) -> None:
        items = tuple(self.stack[-size:])
        if len(items) != size:
            raise ValueError("a tuple of too few parts")
        self.stack[-size:] = [items]

    def tuple_since_mark(self) -> None:
        self.stack.append(tuple(self.since_mark()))

    def append(self) -> None:
        self.extend([self.stack.pop()])

    def appends(self) -> None:
        self.extend(self.since_mark())

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("parts for a list that is none")
        self.stack[-1].extend(items)

    def setitem(self) -> None:
        value = self.stack.pop()
        self.update([self.stack.pop(), value])

    def setitems(self) -> None:
        self.update(self.since_mark())

    def update(self, items: list[Any]) -> None:
        owner = self.stack[-1]
        if type(owner) not in {dict, OrderedDict} or len(items) % 2:
            raise ValueError("entries for a dictionary that is none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (
                type(key) is int and abs(key) < 2**31
            ):  # others' hashes can be made to hang or crash
                raise ValueError(f"a dictionary's key that is a {type(key).__name__}")
            owner[key] = value

    def string(self) -> None:
        self.stack.append(str(self.take(self.number("<I")), "utf-8"))

    def integer(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def get(self, form: str) -> None:
        self.stack.append(self.memo[self.number(form)])

    def name(self) -> None:
        module, name = self.line(), self.line()
        known = _KNOWN.get((module, name))
        if known is None:
            raise ModelError(
                f"{self.source}: wants {module}.{name}, which is no part of a tensor or a number;"
                " nothing of the file was run",
                needed="a checkpoint that holds tensors, plain containers and numbers only",
                cure="do not load it with torch.load either, unless you know who made it",
            )
        self.stack.append(known)

    def reduce(self) -> None:
        self.count()
        given, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Name or type(given) is not tuple:
            raise ValueError("a call of something that is no name")
        try:
            self.stack.append(name.make(*given))
        except TypeError as error:
            raise ValueError("a call with other arguments than torch.save writes") from error

    def build(self) -> None:
        """Set the state of the last object: a numpy type's is read, a dictionary's is dropped."""
        state, owner = self.stack.pop(), self.stack[-1]
        if type(owner) is _Dtype:
            owner.set_state(state)
        elif type(owner) is not OrderedDict:
            raise ValueError(f"a state for a {type(owner).__name__}")

    def storage(self) -> None:
        """By what torch writes: ("storage", type, entry, device, elements)."""
        said = self.stack.pop()
        if type(said) is not tuple or len(said) != 5:
            raise ValueError("a storage that is none")
        kind, dtype, key, _, count = said
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or type(key) is not str
            or len(key) > _MOST_NAME
        ):
            raise ValueError("a storage without a type or a name")
        self.stack.append(Storage(key, dtype, _natural(count)))

    steps: ClassVar[dict[int, Callable[[_Machine], None]]] = {}


_STOP = ord(".")
_Machine.steps = {
    0x80: _Machine.proto,
    ord("("): _Machine.mark,
    ord("}"): _Machine.empty_dict,
    ord("]"): _Machine.empty_list,
    ord(")"): lambda machine: machine.stack.append(()),
    0x85: lambda machine: machine.tuple_of(1),
    0x86: lambda machine: machine.tuple_of(2),
    0x87: lambda machine: machine.tuple_of(3),
    ord("t"): _Machine.tuple_since_mark,
    ord("a"): _Machine.append,
    ord("e"): _Machine.appends,
    ord("s"): _Machine.setitem,
    ord("u"): _Machine.setitems,
    ord("N"): lambda machine: machine.stack.append(None),
    0x88: lambda machine: machine.stack.append(True),
    0x89: lambda machine: machine.stack.append(False),
    ord("J"): lambda machine: machine.stack.append(machine.number("<i")),
    ord("K"): lambda machine: machine.stack.append(machine.number("<B")),
    ord("M"): lambda machine: machine.stack.append(machine.number("<H")),
    ord("G"): lambda machine: machine.stack.append(machine.number(">d")),
    0x8A: _Machine.integer,
    ord("X"): _Machine.string,
    ord("q"): lambda machine: machine.put("<B"),
    ord("r"): lambda machine: machine.put("<I"),
    ord("h"): lambda machine: machine.get("<B"),
    ord("j"): lambda machine: machine.get("<I"),
    ord("c"): _Machine.name,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.storage,
}


def _written(value: Any, known: dict[int, tuple[int, int]], above: int = 0) -> tuple[int, int]:
    """Return the depth and full length of a value.

    Refused where either is more than an honest checkpoint has.

    Each part is looked at once, for a part may stand in itself, or in two that both stand in two
    others, and so on.
    """
    if type(value) is str:
        return 0, len(value)
    if type(value) not in {dict, OrderedDict, list, tuple}:
        return 0, 8
    if above > _MOST_DEPTH:
        raise ValueError(f"parts nested more than {_MOST_DEPTH} deep")
    if id(value) not in known:
        depth, length = 0, 8
        for part in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            within, long = _written(part, known, above + 1)
            depth, length = max(depth, within), length + long
        known[id(value)] = depth + 1, length
    depth, length = known[id(value)]
    if above + depth > _MOST_DEPTH + 1 or length > _MOST_WRITTEN:
        raise ValueError(
            f"parts nested more than {_MOST_DEPTH} deep, or more than {_MOST_WRITTEN} bytes when"
            " written out"
        )
    return depth, length


class _Dtype:
    """The type of a numpy scalar, by its name; plain numbers only."""

    __slots__ = ("name", "order")

    def __init__(self, name: object, *_: object) -> None:
        if type(name) is not str or name not in _NUMPY:
            raise ValueError("numbers of a type that is none")
        self.name: str = name
        self.order = "<"

    def set_state(self, state: Any) -> None:
        if (
            type(state) is not tuple
            or len(state) < 2
            or type(state[1]) is not str
            or state[1] not in ("<", ">", "|", "=")
        ):
            raise ValueError("a byte order that is none")
        self.order = state[1]


def _ordered() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _same(kind: type, value: Any, *_: object) -> Any:
    """The object itself: a copy could be asked for a million times."""
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} instead of a {kind.__name__}")
    return value


def _scalar(dtype: Any, data: Any) -> float | int | bool:
    """A numpy scalar as a number of Python."""
    if type(dtype) is not _Dtype or type(data) is not bytes:
        raise ValueError("a number without a type")
    value: float | int | bool = np.frombuffer(
        data, np.dtype(dtype.name).newbyteorder(">" if dtype.order == ">" else "<"), count=1
    )[0].item()
    return value


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or len(kind) > _MOST_NAME or not (index is None or type(index) is int):
        raise ValueError("a device that is none")
    return kind if index is None else f"{kind}:{_natural(index)}"


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes, as pickles of protocol 2 write them; here only those of a number."""
    if (
        type(text) is not str
        or len(text) > _MOST_NAME
        or type(encoding) is not str
        or encoding != "latin1"
    ):
        raise ValueError("bytes that are no number's")
    return text.encode("latin1")


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: object
) -> StoredTensor:
    """A view of a storage; refused where it reaches beyond it, or says elements more than once."""
    if type(storage) is not Storage or any(
        type(one) is not tuple or len(one) > _MOST_AXES for one in (shape, strides)
    ):
        raise ValueError("a tensor without a storage or a shape")
    sizes, steps = tuple(_natural(n) for n in shape), tuple(_natural(n) for n in strides)
    if len(sizes) != len(steps):
        raise ValueError(f"a tensor of shape {sizes} with strides {steps}")
    last = _natural(offset) + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) and (last >= storage.count or math.prod(sizes) > storage.count):
        raise ValueError(f"a tensor of shape {sizes} in a storage of {storage.count} elements")
    return StoredTensor(storage, offset, sizes, steps)


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"a {type(value).__name__} that is no size")
    return value


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Name(_ordered),
    ("torch._utils", "_rebuild_tensor_v2"): _Name(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Name(partial(_same, StoredTensor)),
    ("torch", "Size"): _Name(partial(_same, tuple)),
    ("torch", "device"): _Name(_device),
    ("_codecs", "encode"): _Name(_encode),
    ("numpy", "dtype"): _Name(_Dtype),
    ("numpy.core.multiarray", "scalar"): _Name(_scalar),
    ("numpy._core.multiarray", "scalar"): _Name(_scalar),
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES.values()},
}
