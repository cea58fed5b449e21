"""DICOM instances on the node's disk: received as they are, whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from hilum.files.atomic import names_to_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hilum.dicom.network import InstanceKey

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
OTHER_INSTANCE = 0xA900
"""Data set does not match SOP class: here, it is of another instance than the command says."""
NOT_UNDERSTOOD = 0xC000

_BUFFER = 2**18


class IncomingFile(BytesIO):
    """A data set that goes to a temporary file while it arrives, so that none is held in memory.

    An error of the disk is kept in `error`, and the rest is dropped: the sender is told by the
    status of its request when it has sent all.

    Args:
        folder: of the temporary file.
        header: stands before the data set in the file.
        has_space: whether the disk may take an instance.
    """

    def __init__(self, folder: Path, header: bytes, has_space: Callable[[], bool]) -> None:
        super().__init__()
        self._header, self._has_space = header, has_space
        self.path = folder / f"{secrets.token_hex(12)}.part"
        self.error: OSError | None = None
        self.bytes = 0
        self._stream: BinaryIO | None = None

    # BytesIO takes any buffer; pynetdicom gives bytes
    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write a fragment."""
        self.bytes += len(data)
        if self._stream is None and not self._has_space():
            self.error = OSError(errno.ENOSPC, "less free space than the reserve")
        if self.error is None:
            try:
                self._open().write(data)
            except OSError as error:
                self.error = error
                self.discard()
        return len(data)

    def _open(self) -> BinaryIO:
        if self._stream is None:
            self._stream = self.path.open("xb", buffering=_BUFFER)
            self._stream.write(self._header)
        return self._stream

    def to_disk(self) -> OSError | None:
        """Flush, sync and close the file; return the first error since it began.

        After an error the file is gone.
        """
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()
            except OSError as error:
                self.error = error
                self.discard()
        return self.error

    def discard(self) -> None:
        """Close and remove the file; what is written to it from now on is dropped."""
        self.error = self.error or OSError(errno.ECONNABORTED, "the transfer ended early")
        stream, self._stream = self._stream, None
        if stream is not None:
            # closing writes what is left in the buffer, and fails again on a full disk
            with suppress(OSError):
                stream.close()
        self.path.unlink(missing_ok=True)


class InstanceFolder:
    """The instances of a node, as `studies/<study>/<instance>.dcm`.

    Args:
        root: the node's folder.
        reserve: free bytes below which nothing is accepted.
    """

    def __init__(self, root: Path, reserve: int) -> None:
        """Make the folders, and remove files that had not arrived completely."""
        self.incoming, self.studies = root / "incoming", root / "studies"
        self._reserve = reserve
        self._lock, self._arriving = threading.Lock(), Counter[str]()
        self._named = set[str]()  # studies whose folder's name is on the disk for certain
        shutil.rmtree(self.incoming, ignore_errors=True)  # never acknowledged
        for folder in (self.incoming, self.studies):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (root, root.absolute().parent):
            names_to_disk(folder)

    def has_space(self) -> bool:
        """Return whether the free space is more than the reserve."""
        return shutil.disk_usage(self.studies).free >= self._reserve

    def path(self, study: str, instance: str) -> Path:
        """Name the file of an instance."""
        return self.studies / study / f"{instance}.dcm"

    def holds_same(self, incoming: IncomingFile, key: InstanceKey) -> bool:
        """Return whether the very bytes of a file that is on the disk are kept already."""
        return _same_bytes(incoming.path, self.path(key.study, key.instance))

    def keep(self, incoming: IncomingFile, key: InstanceKey) -> bool:
        """Give a file that is on the disk its name; return whether it is new or has other bytes.

        Raises:
            OSError: the disk fails.
        """
        target = self.path(key.study, key.instance)
        if self.holds_same(incoming, key):
            incoming.path.unlink()
            return False
        target.parent.mkdir(exist_ok=True)
        if key.study not in self._named:  # by its being there one cannot tell
            names_to_disk(self.studies)
            self._named.add(key.study)
        incoming.path.replace(target)
        names_to_disk(target.parent)
        return True

    def all(self) -> Iterator[Path]:
        """List the files of all instances."""
        return self.studies.glob("*/*.dcm")

    def link_into(self, folder: Path, study: str, instances: tuple[str, ...]) -> None:
        """Fill a new folder with links to instances, so that later ones do not get in between."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for instance in instances:
            os.link(self.path(study, instance), folder / f"{instance}.dcm")

    @contextmanager
    def arriving(self, study: str) -> Iterator[None]:
        """Hold a study while one of its instances is kept and entered into the queue."""
        with self._lock:
            self._arriving[study] += 1
        try:
            yield
        finally:
            with self._lock:
                self._arriving[study] -= 1
                self._arriving += Counter()  # drops what is at 0

    def remove(self, study: str, forget: Callable[[], bool]) -> bool:
        """Remove the files of a study, unless one of its instances is arriving.

        Args:
            study: its UID.
            forget: takes it out of the queue; False where it has to stay.

        Returns:
            Whether it was removed.
        """
        gone = self.incoming / secrets.token_hex(12)
        with self._lock:
            if self._arriving[study] or not forget():
                return False
            self._named.discard(study)
            if (self.studies / study).is_dir():
                (self.studies / study).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True


def _same_bytes(first: Path, second: Path) -> bool:
    """Compare two files; the second may not exist."""
    try:
        if first.stat().st_size != second.stat().st_size:
            return False
    except FileNotFoundError:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while part := one.read(_BUFFER):
            if part != other.read(_BUFFER):
                return False
    return True
