"""The account of every file below a verb's inputs: taken, left out with the reason, or not readable."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from hilum.io.dicom import is_dicom_file
from hilum.io.files import ARCHIVE_MARK, image_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HIDDEN = "hidden"
UNFETCHED = "a link to a file that is not there: its content was not fetched"
EMPTY = "an empty file"
UNUSED = "an image that no case uses"
_NAMED = 3
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".ods")
_TEXTS = (
    *(".txt", ".md", ".rst", ".json", ".pdf", ".html", ".htm", ".xml", ".log", ".yml", ".yaml", ".toml", ".ini", ".inf", ".cfg"),
    *(".doc", ".docx", ".py", ".sh", ".m", ".r", ".ipynb", ".bib", ".css", ".js", ".sha256", ".md5", ".gin"),
)
_TEXT_NAMES = {"readme", "license", "licence", "changes", "changelog", "notice", "version", "authors", "checksums"}
_UNREAD_IMAGES = (
    *(".nii.bz2", ".nii.xz", ".nii.zip", ".mnc", ".mnc2", ".par", ".rec", ".gipl", ".gipl.gz", ".vtk", ".vti", ".mgh.gz", ".ima"),
    *(".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".gz", ".h5", ".hdf5", ".mat", ".npy", ".svs", ".ndpi", ".czi", ".lsm"),
    *(".webp", ".gif", ".heic", ".jp2", ".j2k", ".tga", ".raw", ".zraw", ".img"),
)
_SIDE_FILES = {".raw": (".mhd", ".nhdr"), ".zraw": (".mhd",), ".raw.gz": (".nhdr",), ".img": (".hdr",), ".img.gz": (".hdr.gz",)}
"""Files that hold the voxels of a header of another suffix."""


class FilesOfReason(BaseModel):
    """Files that are not taken for one and the same reason: how many, and the first few by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    count: int
    names: tuple[str, ...]


class InventoryRecord(BaseModel):
    """An inventory as it stands in run.json: counts by reason with a few names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    taken: int
    left_out: tuple[FilesOfReason, ...] = ()
    unreadable: tuple[FilesOfReason, ...] = ()


@dataclass(frozen=True)
class NotTaken:
    """A file that is not taken.

    Args:
        path: the file; of a hidden folder the folder, which is not entered.
        reason: why, as a noun: "hidden", "text".
        image: whether it is an image, or may be one.
        readable: whether it is left out, and not just impossible to read.
    """

    path: Path
    reason: str
    image: bool = False
    readable: bool = True


@dataclass(frozen=True)
class Inventory:
    """Every file below the inputs of a verb.

    Args:
        taken: number of files that are read.
        others: the files that are not, in order of their paths.
    """

    taken: int
    others: tuple[NotTaken, ...]

    @property
    def left_out(self) -> tuple[NotTaken, ...]:
        """Files that could be read, and are not."""
        return tuple(one for one in self.others if one.readable)

    @property
    def unreadable(self) -> tuple[NotTaken, ...]:
        """Files that cannot be read."""
        return tuple(one for one in self.others if not one.readable)

    @property
    def loses_images(self) -> bool:
        """Whether a file is not taken that is an image, or may be one."""
        return any(one.image or not one.readable for one in self.others)

    def record(self) -> InventoryRecord:
        """The inventory for run.json."""
        return InventoryRecord(taken=self.taken, left_out=_by_reason(self.left_out), unreadable=_by_reason(self.unreadable))

    def __str__(self) -> str:
        """One sentence for people."""
        record = self.record()
        parts = [f"{self.taken} taken"]
        for word, groups in (("left out", record.left_out), ("not readable", record.unreadable)):
            if groups:
                listed = "; ".join(_in_words(group) for group in groups)
                parts.append(f"{sum(group.count for group in groups)} {word} ({listed})")
        return f"Files: {', '.join(parts)}"


def take_inventory(roots: Iterable[Path], taken: Iterable[Path], *, reasons: Mapping[Path, str] | None = None) -> Inventory:
    """Account for every file below the inputs. Names and, where they do not say enough, the first bytes decide; no voxel is read.

    Args:
        roots: what the user named: files and folders.
        taken: files that are read; a folder stands for the DICOM files in it, "set.npz#train/12" for the archive.
        reasons: why a file, or all below a folder, is left out, where the caller knows.

    Returns:
        Each file once, also where the roots overlap. A hidden folder is one entry.
    """
    used = {_plain(_file_of(path)) for path in taken}
    known = {_plain(path): reason for path, reason in (reasons or {}).items()}
    counted, others = 0, []
    for path in dict.fromkeys(file for root in roots for file in _files_below(_plain(root))):
        one = _not_taken(path, used, known)
        counted += one is None
        others += [one] if one is not None else []
    return Inventory(counted, tuple(sorted(others, key=lambda one: one.path)))


def _plain(path: Path | str) -> str:
    """An absolute path without "..", links kept, so that a file has one name."""
    return os.path.normpath(Path(path).absolute())


def _file_of(path: Path) -> str:
    """The file that a reference is in: set.npz of set.npz#train/12."""
    text = str(path)
    place = text.lower().find(ARCHIVE_MARK)
    return text if place < 0 else text[: place + len(ARCHIVE_MARK) - 1]


def _files_below(root: str) -> Iterator[str]:
    """Every file below a folder, links followed, each folder once; a hidden folder, or one that cannot be opened, itself."""
    if not Path(root).is_dir():
        yield root
        return
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            state = Path(folder).stat()
            if (state.st_dev, state.st_ino) in entered:
                continue
            entered.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir() and not _is_hidden(entry.name):
                        waiting.append(entry.path)
                    else:
                        yield entry.path
        except OSError:
            yield folder


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _not_taken(text: str, used: set[str], known: Mapping[str, str]) -> NotTaken | None:
    """Why a file is not taken; None where it is."""
    path = Path(text)
    reason = _known_reason(text, known)
    series = reason is None and str(path.parent) in used
    if text in used or (series and is_dicom_file(path)) or str(_header_of(path)) in used:
        return None
    if _is_hidden(path.name):
        return NotTaken(path, HIDDEN)
    if not path.exists():
        return NotTaken(path, UNFETCHED, image=True, readable=False)
    if path.is_dir():
        return NotTaken(path, "a folder that cannot be opened", image=True, readable=False)
    return NotTaken(path, reason, image=bool(image_suffix(path))) if reason is not None else _by_kind(path)


def _known_reason(text: str, known: Mapping[str, str]) -> str | None:
    """The reason that the caller gave for a file, or for a folder that it lies in."""
    if not known:
        return None
    return next((known[place] for place in (text, *map(str, Path(text).parents)) if place in known), None)


def _header_of(path: Path) -> Path | None:
    """The header whose voxels a file holds, where there is one beside it."""
    for suffix, headers in _SIDE_FILES.items():
        if path.name.lower().endswith(suffix):
            stem = path.name[: -len(suffix)]
            found = (path.with_name(stem + header) for header in headers)
            return next((header for header in found if header.exists()), None)
    return None


def _by_kind(path: Path) -> NotTaken:
    """Why a file that no case names is left out, by its name and its first bytes."""
    name = path.name.lower()
    if image_suffix(path):
        empty = path.stat().st_size == 0
        return NotTaken(path, EMPTY if empty else UNUSED, image=True, readable=not empty)
    if name.endswith(_TABLES):
        return NotTaken(path, "a table that is not used")
    if name.endswith(_TEXTS) or path.stem.lower() in _TEXT_NAMES:
        return NotTaken(path, "text")
    if name.endswith(_UNREAD_IMAGES):
        return NotTaken(path, "a format that is not read", image=True)
    if is_dicom_file(path) and name != "dicomdir":
        return NotTaken(path, UNUSED, image=True)
    return NotTaken(path, "no image")


def _by_reason(files: Iterable[NotTaken]) -> tuple[FilesOfReason, ...]:
    groups: dict[str, list[str]] = defaultdict(list)
    for one in files:
        groups[one.reason].append(one.path.name.encode("utf-8", "backslashreplace").decode())
    return tuple(FilesOfReason(reason=reason, count=len(names), names=tuple(names[:_NAMED])) for reason, names in groups.items())


def _in_words(group: FilesOfReason) -> str:
    more = ", ..." if group.count > len(group.names) else ""
    return f"{group.count} {group.reason}: {', '.join(group.names)}{more}"
