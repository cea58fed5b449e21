"""Search of a file as pydicom reads it: decoded texts, each with the place where it stands."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom
from pydicom.datadict import keyword_for_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydicom.dataset import Dataset

_WORD = re.compile(r"[0-9a-z]+")
_NUMBER = re.compile(r"[0-9.]+")
_HEAD = 1 << 14
_NOT_PLAIN = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2", b"ISO 2022", b"GB18030", b"GBK")
_SKIPPED = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"}


def texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and text of every element that holds one, file meta information first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are looked at, not judged
        whole = pydicom.dcmread(io.BytesIO(data), force=True)
        yield from _texts(whole.file_meta, "")
        yield from _texts(whole, "")


def _texts(dataset: Dataset, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of every element, those in sequences too."""
    for element in dataset:
        name = f"{path}{keyword_for_tag(element.tag) or element.tag}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value or ()):
                yield from _texts(item, f"{name}[{number}].")
        elif isinstance(element.value, bytes):
            if keyword_for_tag(element.tag) not in _SKIPPED:
                yield name, element.value.decode("latin-1")
        elif element.value is not None:
            parts = element.value if element.VM > 1 else [element.value]
            yield name, "\\".join(str(part) for part in parts)


@dataclass(frozen=True)
class Forms:
    """Texts to be found, by their first word.

    Args:
        by_word: forms and the numbers of the values that they stand for.
        others: forms that do not begin with an ASCII word; found anywhere.
    """

    by_word: Mapping[str, tuple[tuple[str, int], ...]]
    others: tuple[tuple[str, int], ...]

    @classmethod
    def build(cls, forms: Iterable[tuple[str, int]]) -> Forms:
        """Sort forms, in lower case, by their first word."""
        by_word: dict[str, list[tuple[str, int]]] = {}
        others = []
        for form, value in forms:
            word = _WORD.match(form)
            if word is None:
                others.append((form, value))
            else:
                by_word.setdefault(word[0], []).append((form, value))
        return cls({word: tuple(held) for word, held in by_word.items()}, tuple(others))


def find(data: bytes, forms: Forms) -> dict[int, list[str]]:
    """Return the places of the values that stand in a file's texts as whole words.

    Args:
        data: the file.
        forms: of all values.
    """
    found: dict[int, list[str]] = {}
    for path, text in texts(data):
        low = text.lower()
        for word in _WORD.finditer(low):
            for form, value in forms.by_word.get(word[0], ()):
                end = word.start() + len(form)
                if low.startswith(form, word.start()) and not _goes_on(
                    low, form, word.start(), end
                ):
                    found.setdefault(value, []).append(path)
        for form, value in forms.others:
            if form in low:
                found.setdefault(value, []).append(path)
    return found


def _goes_on(text: str, form: str, at: int, end: int) -> bool:
    """Return True if the word or number goes on before or after a form."""
    if at and text[at - 1] == "." and _NUMBER.fullmatch(form):
        return True
    if end >= len(text) or not text[end].isascii():
        return False
    return (text[end].isalnum() and form[-1].isalnum()) or (
        text[end] == "." and _NUMBER.fullmatch(form) is not None
    )


def is_plain(data: bytes) -> bool:
    """Return True if the bytes of all texts are their letters: nothing deflated or escaped."""
    return not any(mark in data[:_HEAD] for mark in _NOT_PLAIN)
