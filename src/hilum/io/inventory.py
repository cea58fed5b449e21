"""Account of every file below a verb's inputs: taken, left out with a reason, or unreadable."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from hilum.dicom.series import series_header
from hilum.dicom.start import is_dicom_file
from hilum.errors import readable
from hilum.files.names import Readable, file_of, header_of, image_suffix
from hilum.files.output import JOURNAL, LEDGER, LOCK, is_output
from hilum.files.placeholder import is_unfetched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_log = logging.getLogger("hilum")
HIDDEN = "hidden"
UNFETCHED = "a link to a file that is not there: its content was not fetched"
EMPTY = "an empty file"
UNUSED = "an image that no case uses"
ANNOTATION = "an annotation"
TEST_STUDY = "a test study beside the training cases"
OUTPUT = "written by hilum"
_NAMED = 3
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx"}
_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".ods")
_TEXTS = (
    *(".txt", ".md", ".rst", ".json", ".pdf", ".html", ".htm", ".xml", ".log", ".yml", ".yaml"),
    *(".toml", ".ini", ".inf", ".cfg", ".doc", ".docx", ".py", ".sh", ".m", ".r", ".ipynb", ".bib"),
    *(".css", ".js", ".sha256", ".md5", ".gin"),
)
_TEXT_NAMES = {"readme", "license", "licence", "changes", "changelog", "notice", "version"}
_TEXT_NAMES |= {"authors", "checksums"}
_UNREAD_IMAGES = (
    *(".nii.bz2", ".nii.xz", ".nii.zip", ".mnc", ".mnc2", ".par", ".rec", ".gipl", ".gipl.gz"),
    *(".vtk", ".vti", ".mgh.gz", ".ima", ".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".gz"),
    *(".h5", ".hdf5", ".mat", ".npy", ".svs", ".ndpi", ".czi", ".lsm", ".webp", ".gif", ".heic"),
    *(".jp2", ".j2k", ".tga", ".raw", ".zraw", ".img"),
)


class FilesOfReason(BaseModel):
    """Files that are not taken for one and the same reason: how many, and the first few by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str
    count: int
    names: tuple[Readable, ...]


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
        path: the file; a folder that is hidden or written by hilum is not entered, and stands for
            its files.
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
        roots: the inputs.
        taken: number of files that are read.
        others: the files that are not, in order of their paths.
    """

    roots: tuple[Path, ...]
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
        """Return True if a file that is not taken is, or may be, an image."""
        return any(one.image or not one.readable for one in self.others)

    @property
    def leaves_out(self) -> bool:
        """Return True if a file is not taken, hidden ones aside."""
        return any(one.reason != HIDDEN for one in self.others)

    def log(self) -> None:
        """Log the sentence: a warning where an image is lost, or may be."""
        level = logging.WARNING if self.loses_images else logging.INFO
        _log.log(level, "%s", self, extra={"inventory": self})

    def record(self) -> InventoryRecord:
        """Return the inventory for run.json."""

        def by_reason(files: Iterable[NotTaken]) -> tuple[FilesOfReason, ...]:
            groups: dict[str, list[str]] = defaultdict(list)
            for one in files:
                groups[one.reason].append(self.name(one.path))
            return tuple(
                FilesOfReason(reason=reason, count=len(names), names=tuple(names[:_NAMED]))
                for reason, names in groups.items()
            )

        left_out, unreadable = by_reason(self.left_out), by_reason(self.unreadable)
        return InventoryRecord(taken=self.taken, left_out=left_out, unreadable=unreadable)

    def name(self, path: Path) -> str:
        """Return a file's path below its input.

        Characters that are no UTF-8 are written as their numbers.
        """
        roots = [root for root in self.roots if path.is_relative_to(root) and path != root]
        root = roots[0] if roots else path.parent
        name = str(path.relative_to(root.parent if len(self.roots) > 1 else root))
        return name.encode("utf-8", "backslashreplace").decode()

    def __str__(self) -> str:
        """Describe the inventory in one sentence."""
        record = self.record()
        parts = [f"{self.taken} taken"]
        for word, groups in (("left out", record.left_out), ("not readable", record.unreadable)):
            if groups:
                listed = "; ".join(
                    f"{one.reason}: {one.count} ({', '.join(one.names)}"
                    f"{', ...' if one.count > len(one.names) else ''})"
                    for one in groups
                )
                parts.append(f"{sum(group.count for group in groups)} {word}: {listed}")
        place = readable(self.roots[0]) if len(self.roots) == 1 else f"{len(self.roots)} inputs"
        return f"Files of {place}: {'. '.join(parts)}"


def take_inventory(
    roots: Iterable[Path], taken: Iterable[Path], *, reasons: Mapping[Path, str] | None = None
) -> Inventory:
    """Account for every file below the inputs.

    Names and, where they do not say enough, the first bytes decide; no voxel is read.

    Args:
        roots: what the user named: files and folders.
        taken: files that are read; a folder stands for the DICOM files in it, "set.npz#train/12"
            for the archive, "folder#series/UID" for the folder.
        reasons: why a file, or all below a folder, is left out, where the caller knows.

    Returns:
        Each file once, also where the roots overlap; taken files elsewhere (those that a table
        names) count too. A folder that is
        hidden or written by hilum is one entry.
    """
    places = [_plain(root) for root in roots]
    used = {_plain(file_of(path)) for path in taken}
    known = {_plain(path): reason for path, reason in (reasons or {}).items()}
    met = dict.fromkeys(file for root in places for file in _files_below(root))
    others = [one for path in met if (one := _not_taken(path, used, known)) is not None]
    elsewhere = sum(path not in met and Path(path).is_file() for path in used)
    others.sort(key=lambda one: one.path)
    counted = len(met) - len(others) + elsewhere
    return Inventory(tuple(map(Path, places)), counted, tuple(others))


def _plain(path: Path | str) -> str:
    """Return an absolute path without "..", links kept, so that a file has one name."""
    return os.path.normpath(Path(path).absolute())


def _files_below(root: str) -> Iterator[str]:
    """List every file below a folder, links followed, but no record of hilum's.

    A folder hidden, hilum's or closed itself.
    """
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
                    if entry.is_dir() and not is_hidden(entry.name) and not is_output(entry.path):
                        waiting.append(entry.path)
                    elif entry.name not in {JOURNAL, LEDGER, LOCK}:
                        yield entry.path
        except OSError:
            yield folder


def is_hidden(name: str) -> bool:
    """Return True for a name that systems hide, or write for themselves."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _not_taken(text: str, used: set[str], reasons: Mapping[str, str]) -> NotTaken | None:
    """Find the reason for which a file is not taken; None where it is."""
    path = Path(text)
    places = (text, *map(str, path.parents)) if reasons else ()
    reason = next((reasons[place] for place in places if place in reasons), None)
    series = reason is None and str(path.parent) in used
    if text in used or (series and is_dicom_file(path)) or str(header_of(path)) in used:
        return None
    if is_hidden(path.name) or (reason is None and is_output(path)):
        return NotTaken(path, HIDDEN if is_hidden(path.name) else OUTPUT)
    if is_unfetched(path):
        return NotTaken(path, UNFETCHED, image=True, readable=False)
    if reason is not None:
        lost = bool(image_suffix(path)) and reason not in {ANNOTATION, TEST_STUDY}
        return NotTaken(path, reason, image=lost)
    if path.is_dir():
        return NotTaken(path, "a folder that cannot be opened", image=True, readable=False)
    return _by_kind(path)


def is_text(path: Path) -> bool:
    """Return True for the name of a text, of a table, or of a file that a viewer brings along."""
    name = path.name.lower()
    return name.endswith((*_TEXTS, *_TABLES)) or path.stem.lower() in _TEXT_NAMES


def _by_kind(path: Path) -> NotTaken:
    """Judge by name and first bytes why a file that no case names is left out."""
    name = path.name.lower()
    header = series_header(path) if image_suffix(path) in {"", ".dcm"} else None
    if header is not None and header.modality and not header.image:
        return NotTaken(path, f"a DICOM object that is no image ({header.modality})")
    if image_suffix(path):
        empty = path.stat().st_size == 0
        return NotTaken(path, EMPTY if empty else UNUSED, image=True, readable=not empty)
    if name.endswith(_TABLES) or is_text(path):
        table = name.endswith(_TABLES)
        return NotTaken(path, "a table that is not used" if table else "text")
    if name.endswith(_UNREAD_IMAGES):
        return NotTaken(path, "a format that is not read", image=True)
    if is_dicom_file(path) and name != "dicomdir":
        return NotTaken(path, UNUSED, image=True)
    return NotTaken(path, "no image")
