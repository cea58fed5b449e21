"""Folders that hilum writes to: what it wrote there, and that one command at a time writes.

::

    .hilum.json      what hilum wrote into this folder: name -> SHA-256, verb, what it was made
                     from; and who writes now
    .hilum.journal   entries since .hilum.json was written, one JSON object a line; a command moves
                     them there when it ends, so that a file costs one line and not the whole record
    .hilum.lock      held while a command writes; the system frees it when the process ends, so one
                     that is left is no lock
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

from filelock import FileLock, SoftFileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from hilum.errors import DataError, ResourceError, UsageError
from hilum.files.atomic import atomic_write_text, before_naming, disk_errors, sha256
from hilum.files.names import Readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from filelock import BaseFileLock

    _State = tuple[tuple[int, int, int] | None, ...]
    _Contents = tuple["dict[str, Written]", "_Holder | None"]

_log = logging.getLogger("hilum")
LEDGER, JOURNAL, LOCK = ".hilum.json", ".hilum.journal", ".hilum.lock"
_WAIT_SECONDS = 1.0
_TRIES = 20
"""Times that a folder is made which goes before its lock is taken."""
_NAMED = 10
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_updating = RLock()
"""Threads of one command update a ledger one after the other."""


_parsed: dict[Path, tuple[_State, _Contents]] = {}
"""Ledgers by their folders, each with the state that its files were read or written in."""
_journals: set[Path] = set()
"""Folders (resolved) whose entries lie in a journal until the command ends."""


class Written(BaseModel):
    """One entry of a ledger.

    Args:
        sha256: of the file's bytes; "" for a folder.
        verb: the command that wrote it.
        made_from: hashes of what it was made from, by name (the model, its options, each input
            file).
        replaces: SHA-256 of hilum's file that is there until this one takes its name: a process may
            end just before.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str
    verb: str
    made_from: dict[Readable, Readable] = {}
    replaces: str = ""


class _Holder(BaseModel):
    """The process that writes now."""

    verb: str
    host: str
    pid: int
    since: str


class _Ledger(BaseModel):
    """Contents of `.hilum.json`, and one line of `.hilum.journal`, where None drops a file."""

    files: dict[Readable, Written | None] = {}
    held_by: _Holder | None = None


class OutputFolder:
    """A folder that a command writes to.

    Entering it takes its lock and makes it where it is missing.

    A folder into which nothing was written is left as it was found. A command may enter a folder
    again that it holds already, in the same thread; the files are then recorded as those of the
    outer command.

    Args:
        path: the folder.
        verb: the command, for the record and for messages.
        inputs: files and folders that the command reads: never replaced, whoever wrote them.

    Raises:
        UsageError: `path` is a file.
        ResourceError: another process writes to the folder, or the folder cannot be written.
    """

    def __init__(self, path: Path | str, verb: str, *, inputs: Iterable[Path | str] = ()) -> None:
        self.path, self.verb = Path(path), verb
        self._inputs = {identity for one in inputs for identity in _identities(Path(one))}
        self._lock: BaseFileLock = FileLock(
            self.path.resolve() / LOCK,
            timeout=_WAIT_SECONDS,
            is_singleton=True,
            fallback_to_soft=False,
        )
        self._made: list[Path] = []
        self._awaited: set[Path] = set()
        self._outer = False

    def __enter__(self) -> Self:
        """Make the folder, and hold it for this command alone."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(
                f"{self.path} is a file", needed="a folder to write to", cure="name another output"
            )
        with disk_errors(self.path):
            self._made = [one for one in (self.path, *self.path.parents) if not one.exists()]
            try:
                self._make_and_acquire()
                self._enter_ledger()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    @property
    def files(self) -> dict[str, Written]:
        """Records of the folder's files, by name."""
        return dict(_read(self.path)[0])

    @property
    def ignores_letter_case(self) -> bool:
        """Return True if the folder's file system ignores letter case; the folder must be held."""
        return (self.path / LOCK.upper()).exists()

    def entry(self, path: Path | str) -> Written | None:
        """Return the record of a file, by its path or its name in the folder.

        None where there is none.
        """
        return _read(self._at(path).parent)[0].get(self._at(path).name)

    def owned(self, path: Path | str) -> bool:
        """Return True if a file or folder is what an earlier run recorded, its bytes unchanged."""
        place, entry = self._at(path), self.entry(path)
        if entry is None or place.is_symlink():
            return False
        if not entry.sha256:
            return place.is_dir()
        return place.is_file() and sha256(place) in {entry.sha256, entry.replaces}

    def refuse_foreign(self, names: Iterable[Path | str]) -> None:
        """Refuse names that other programs' files, changed files or inputs have.

        From now on each of these files is recorded before it takes its name, so that a process that
        is killed leaves none of its own that is taken for the user's.

        Args:
            names: what will be written, as paths or as names in the folder.

        Raises:
            UsageError: naming the files, and why each group of them may not be replaced.
        """
        reasons: dict[str, list[str]] = {}
        places = list(dict.fromkeys(map(self._at, names)))
        for name in places:
            if os.path.lexists(name) and (reason := self._hindrance(name)):
                reasons.setdefault(reason, []).append(os.path.relpath(name, self.path))
        if reasons:
            listed = "; ".join(
                f"{', '.join(held[:_NAMED])}"
                f"{f' and {len(held) - _NAMED} more' if len(held) > _NAMED else ''} ({reason})"
                for reason, held in reasons.items()
            )
            raise UsageError(
                f"files are in the way in {self.path}: {listed}",
                needed=(
                    f"an output folder without them: only what hilum {self.verb} wrote, unchanged"
                    " since, is replaced"
                ),
                cure="choose another output folder, or move these files",
            )
        awaited = {place.absolute() for place in places}
        self._awaited |= awaited
        before_naming.update(dict.fromkeys(awaited, self._announce))

    def refuse_among(self, inputs: Iterable[Path]) -> None:
        """Refuse to write into a folder in which inputs lie, also where no names collide.

        Args:
            inputs: files, and folders that hold the files of one input.

        Raises:
            UsageError: this is such a folder.
        """
        if self.holds_any(inputs):
            here = self.path.resolve()
            other = here.with_name(f"{here.name}_{self.verb}")
            raise UsageError(
                f"the output folder {self.path} is the one that inputs of hilum {self.verb} lie in",
                needed="a folder of its own, so that outputs and inputs are not mixed",
                cure=f"choose another output folder, such as {other}",
            )

    def holds_any(self, inputs: Iterable[Path]) -> bool:
        """Return whether an input lies in this folder: a file, or the files of a folder."""
        here = self.path.resolve()
        return any((one if one.is_dir() else one.parent).resolve() == here for one in inputs)

    def record(self, *files: Path | str, made_from: Mapping[str, str] | None = None) -> None:
        """Record files, or folders with all in them, as written by this command.

        Args:
            files: paths, or names in the folder.
            made_from: hashes of what they were made from, by name.
        """
        places: dict[Path, dict[str, Written | None]] = {}
        for place in map(self._at, files):
            digest = sha256(place) if place.is_file() else ""
            places.setdefault(place.parent, {})[place.name] = Written(
                sha256=digest, verb=self.verb, made_from=dict(made_from or {})
            )
        for folder, entries in places.items():
            _update(folder, entries)

    def write(
        self, texts: Mapping[str, str], *, made_from: Mapping[str, str] | None = None
    ) -> None:
        """Write texts by name, and record them.

        Raises:
            UsageError: see `refuse_foreign`; nothing was written.
        """
        self.refuse_foreign(texts)
        for name, text in texts.items():
            atomic_write_text(self.path / name, text)
            self.record(name, made_from=made_from)

    def remove(self, path: Path | str) -> bool:
        """Remove a file if it is owned; gives whether it was."""
        place = self._at(path)
        if not self.owned(place) or place.is_dir() or _identities(place) & self._inputs:
            return False
        place.unlink()
        self.forget(place)
        return True

    def forget(self, path: Path | str) -> None:
        """Drop what is recorded of a file that is there no longer."""
        _update(self._at(path).parent, {self._at(path).name: None})

    def _at(self, path: Path | str) -> Path:
        """Return a path as it is, and the place in the folder of a name (a text)."""
        return path if isinstance(path, Path) else self.path / path

    def _announce(self, place: Path, bytes_: Path) -> None:
        """Record a file that is about to take its name."""
        earlier = self.entry(place)
        replaces = earlier.sha256 if earlier is not None and self.owned(place) else ""
        if bytes_.is_file():
            entry = Written(sha256=sha256(bytes_), verb=self.verb, replaces=replaces)
            _update(place.parent, {place.name: entry})

    def _hindrance(self, place: Path) -> str:
        """Find the reason for which a file may not be replaced; "" where it may."""
        entry = self.entry(place)
        if _identities(place) & self._inputs:
            return "an input of this command"
        if entry is None:
            return "not written by hilum"
        if entry.verb != self.verb:
            return f"written by hilum {entry.verb}"
        return "" if self.owned(place) else "changed since hilum wrote it"

    def _make_and_acquire(self) -> None:
        """Make the folder and take its lock, again where another command just removed it."""
        for _ in range(_TRIES):
            self.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                return self._acquire()
        raise ResourceError(
            f"{self.path} was removed while hilum made it",
            cure="end what removes it, or choose another output folder",
        )

    def _acquire(self) -> None:
        """Take the lock.

        Where the file system has none, the lock file's being there is the lock.
        """
        try:
            try:
                self._lock.acquire()
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
                self._lock = SoftFileLock(
                    self.path.resolve() / LOCK, timeout=_WAIT_SECONDS, is_singleton=True
                )
                self._lock.acquire()
        except Timeout:
            one, by = _read(self.path)[1], "another process"
            if one is not None:
                by = f"hilum {one.verb} on {one.host}, process {one.pid}, since {one.since}"
            cure = "wait until it has ended, or choose another output folder"
            if isinstance(self._lock, SoftFileLock):
                cure += f"; if that computer broke down, remove {self.path / LOCK}"
            raise ResourceError(
                f"{self.path} is in use by {by}",
                needed="one command at a time in an output folder",
                cure=cure,
            ) from None

    def _enter_ledger(self) -> None:
        """Enter who writes; within a command that holds the folder already take its name."""
        self._outer = self._lock.lock_counter <= 1
        files, holder = _read(self.path)
        if not self._outer:
            self.verb = holder.verb if holder is not None else self.verb
            return
        files = {name: entry for name, entry in files.items() if (self.path / name).exists()}
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = _Holder(verb=self.verb, host=platform.node(), pid=os.getpid(), since=since)
        _save(self.path, files, holder)

    def _leave(self) -> None:
        """Give the lock back; what entering made goes where nothing was written."""
        for place in self._awaited:
            before_naming.pop(place, None)
        if self._outer:
            with _updating:
                _save(self.path, _read(self.path)[0], None)
                root = self.path.resolve()
                for folder in [one for one in _journals if root in one.parents]:
                    _save(folder, *_read(folder))
            if isinstance(self._lock, FileLock):
                with suppress(OSError):  # Windows removes no open file
                    (self.path / LOCK).unlink(missing_ok=True)
        if self._lock.is_locked:
            self._lock.release()
        for folder in self._made:
            with suppress(OSError):  # it holds something by now
                folder.rmdir()


def holds_files(folder: Path) -> bool:
    """Return True if a folder, or a file in its place, holds anything that is not hidden."""
    return folder.is_file() or (
        folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())
    )


def is_output(path: Path | str) -> bool:
    """Return True for a file or folder recorded as hilum's: it is never taken as input.

    Only the record of the folder that it lies in counts: a link elsewhere, or a copy, is a file of
    the user.
    """
    return Path(path).name in _read(Path(path).parent)[0]


def _read(folder: Path) -> _Contents:
    """Read the entries of a folder's ledger and journal, and who writes now.

    They are parsed once as long as times, sizes and inodes of the files stay.
    """
    state = _state(folder)
    if not any(state):
        return {}, None
    if folder not in _parsed or _parsed[folder][0] != state:
        try:
            ledger = _Ledger.model_validate_json((folder / LEDGER).read_bytes())
            files = ledger.files
            with suppress(FileNotFoundError):  # complete lines of the journal
                for line in (folder / JOURNAL).read_bytes().split(b"\n")[:-1]:
                    files |= _Ledger.model_validate_json(line).files
        except (OSError, ValidationError) as error:
            if not (folder / LEDGER).is_file():
                return {}, None
            raise DataError(
                f"{folder / LEDGER}, the record of what hilum wrote into this folder, is damaged",
                needed="the file as hilum wrote it",
                cure="remove it: every file in the folder then counts as yours",
            ) from error
        _parsed[folder] = state, (_drop_unrecorded(files), ledger.held_by)
    return _parsed[folder][1]


def _drop_unrecorded(files: Mapping[str, Written | None]) -> dict[str, Written]:
    """Leave out the files whose record was dropped."""
    return {name: entry for name, entry in files.items() if entry is not None}


def _state(folder: Path) -> _State:
    """Return time, size and inode of a ledger and its journal, None for a missing one."""
    states: list[tuple[int, int, int] | None] = []
    for name in (LEDGER, JOURNAL):
        try:
            facts = (folder / name).stat()
            states.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
        except OSError:
            states.append(None)
    return tuple(states)


def _update(folder: Path, entries: dict[str, Written | None]) -> None:
    """Enter files into a folder's ledger: the first in the file itself, others in its journal."""
    with _updating:
        (files, holder), journal = _read(folder), folder / JOURNAL
        files = _drop_unrecorded(files | entries)
        left = journal.exists() and folder.resolve() not in _journals  # its last line may be torn
        if left or not (folder / LEDGER).exists():
            _save(folder, files, holder)
            return
        with disk_errors(journal), journal.open("ab") as stream:
            line = _Ledger(files=entries).model_dump_json(exclude={"held_by"})
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        _parsed[folder] = _state(folder), (files, holder)
        _journals.add(folder.resolve())


def _save(folder: Path, files: dict[str, Written], holder: _Holder | None) -> None:
    """Write a ledger, its journal's entries included; one that holds nothing is removed."""
    if files or holder is not None:
        ledger = _Ledger(files={**files}, held_by=holder)
        atomic_write_text(folder / LEDGER, ledger.model_dump_json(indent=1) + "\n")
    else:
        (folder / LEDGER).unlink(missing_ok=True)
    (folder / JOURNAL).unlink(missing_ok=True)
    _parsed[folder] = _state(folder), (files, holder)
    _journals.discard(folder.resolve())


def _identities(path: Path) -> set[tuple[int, int]]:
    """Return the system's identity of a file, whatever its names.

    Of a folder those of its files that hilum did not write.
    """
    files = [path]
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file() and not is_output(file)]
    found = set()
    for file in files:
        with suppress(OSError):
            facts = file.stat()
            found.add((facts.st_dev, facts.st_ino))
    return found
