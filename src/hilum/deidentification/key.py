"""The key that a user holds: new UIDs, patient ids and date offsets follow from it alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.errors import DataError, UsageError
from hilum.files.atomic import disk_errors

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = "hilum de-identification key 1"
_TEXT = re.compile(rf"{_HEAD}\n([0-9a-f]{{64}})\n?")
_LEAST_DAYS, _DAYS = 366, 3287
"""Dates go back by 1 to 10 years."""
STANDARD_ROOT = "1.2.840.10008."
"""UIDs below it are the standard's own and name no instance."""


@dataclass(frozen=True)
class Key:
    """A secret of 32 bytes. Whoever has it can link new identifiers to the old ones.

    Args:
        secret: the bytes; not shown.
    """

    secret: bytes

    def __repr__(self) -> str:
        return "Key(...)"

    def uid(self, uid: str) -> str:
        """Return the new UID of a UID: the same in every file and run with this key.

        UIDs of the standard itself (SOP classes, transfer syntaxes) stay.
        """
        if not uid or uid.startswith(STANDARD_ROOT):
            return uid
        return f"2.25.{uuid.UUID(bytes=_as_uuid(self._digest('uid', uid))).int}"

    def patient(self, patient: str) -> str:
        """Return the new id of a patient: "P" and 12 letters and digits."""
        return "P" + self._name("patient", patient, 12)

    def days(self, patient: str) -> int:
        """Return the number of days, negative, by which all dates of a patient are moved."""
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        return -(_LEAST_DAYS + number % _DAYS)

    def file_name(self, uid: str) -> str:
        """Return a name of eight capitals and digits for what has a UID, as DICOM media ask for."""
        return self._name("name", uid, 8)

    def _name(self, purpose: str, value: str, length: int) -> str:
        return base64.b32encode(self._digest(purpose, value)).decode("ascii")[:length]

    def _digest(self, purpose: str, value: str) -> bytes:
        message = f"{purpose}\0{value}".encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, hashlib.sha256).digest()


def _as_uuid(digest: bytes) -> bytes:
    """Make 16 bytes a UUID of version 8, whose bits an application chooses (RFC 9562)."""
    raw = bytearray(digest[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def read_key(path: Path) -> Key:
    """Read a key file.

    Raises:
        UsageError: there is no such file.
        DataError: it is no key file of hilum.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise UsageError(
            f"there is no key file {path}",
            cure="name a file that can be made, or the key of an earlier run",
        ) from None
    found = _TEXT.fullmatch(text)
    if found is None:
        raise DataError(
            f"{path} is no key file",
            needed=f"a file that begins with {_HEAD!r} and holds 64 hexadecimal digits",
            cure="name another file; one that does not exist is made",
        )
    return Key(bytes.fromhex(found[1]))


def open_key(path: Path) -> tuple[Key, str]:
    """Read a key file, or make it, readable by its owner alone.

    Returns:
        The key, and a sentence that says what was done.
    """
    if path.exists():
        note = f"The key in {path} was used."
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            note += f" Other users of this machine can read it: run chmod 600 {path}."
        return read_key(path), note
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # exclusive: two commands at once must not make two keys
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{_HEAD}\n{secrets.token_hex(32)}\n")
            stream.flush()
            os.fsync(stream.fileno())
    return read_key(path), (
        f"The key {path} was made; only you can read it. Whoever has it can link the new"
        " identifiers to the old ones, and without it later studies of these patients get other"
        " identifiers: keep it safe, and apart from the output."
    )
