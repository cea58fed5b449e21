"""DICOMweb services: studies retrieved by WADO-RS, results stored by STOW-RS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hilum.dicom.network import checked_uid
from hilum.errors import ResourceError, UsageError
from hilum.files.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

_SCHEMES = {"dicomweb": "http", "dicomwebs": "https", "http": "http", "https": "https"}
_AS_STORED = (("application/dicom", "*"),)
_CONNECT_SECONDS, _READ_SECONDS = 15, 300


def is_web_address(source: object) -> bool:
    """Return whether a source is the address of a DICOMweb service."""
    return re.match(rf"({'|'.join(_SCHEMES)})://", str(source)) is not None


def web_address(address: str) -> str:
    """Write an address as HTTP has it: dicomweb:// is http://, and dicomwebs:// is https://.

    Raises:
        UsageError: it is no address of a DICOMweb service.
    """
    found = re.fullmatch(rf"({'|'.join(_SCHEMES)})://([^/\s]+.*)", address)
    if found is None:
        raise UsageError(
            f"the address {address!r} is none of a DICOMweb service",
            needed="dicomweb://HOST:PORT/PATH, or dicomwebs:// where it is encrypted",
            cure="for Orthanc: dicomweb://127.0.0.1:8042/dicom-web",
        )
    return f"{_SCHEMES[found[1]]}://{found[2].rstrip('/')}"


class WebService:
    """Client of a DICOMweb service: retrieves a study and stores files.

    A user and password are taken from the address, or from the file .netrc in the home folder.

    Args:
        address: dicomweb:// and http:// are plain, dicomwebs:// and https:// encrypted.
        authority: certificates in PEM that the service must be signed by; None: those that the
            system trusts.

    Raises:
        UsageError: see `web_address`.
    """

    def __init__(self, address: str, *, authority: Path | None = None) -> None:
        from dicomweb_client import DICOMwebClient
        from requests import Session

        self.address = web_address(address)
        session = Session()
        if authority is not None:
            session.verify = str(authority)
        user = re.match(r"(https?://)([^/@]+)@(.*)", self.address)
        if user is not None:
            name, _, password = user[2].partition(":")
            session.auth = (name, password)
            self.address = user[1] + user[3]
        self._client = DICOMwebClient(
            self.address, session=session, timeout=(_CONNECT_SECONDS, _READ_SECONDS)
        )
        self._client.set_http_retry_params(retry=False)

    def retrieve(self, study: str, folder: Path) -> tuple[Path, ...]:
        """Write all instances of a study into a folder, in the transfer syntax they are stored in.

        The files are named by the instances' UIDs.

        Raises:
            ResourceError: the service cannot be reached, or refuses.
            UsageError: it has no such study.
        """
        files = []
        for number, data in enumerate(self._instances(study)):
            name = checked_uid(data.get("SOPInstanceUID")) or f"{number:06d}"
            path = folder / f"{name}.dcm"
            with atomic_path(path) as temporary:
                data.save_as(temporary, enforce_file_format=True)
            files.append(path)
        if not files:
            raise UsageError(
                f"no study {study} at {self.address}", cure="check the UID of the study"
            )
        return tuple(files)

    def _instances(self, study: str) -> Iterator[Dataset]:
        """Yield the instances of a study; none where the service has no such study."""
        from requests import HTTPError, RequestException

        try:
            yield from self._client.iter_study(study, media_types=_AS_STORED)
        except HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return
            raise self._failure("retrieve from", error) from error
        except RequestException as error:
            raise self._failure("retrieve from", error) from error

    def store(self, paths: Sequence[Path]) -> None:
        """Store files; returns when the service has acknowledged all.

        Raises:
            ResourceError: the service cannot be reached, or refuses a file.
        """
        from pydicom import dcmread
        from requests import RequestException

        for path in paths:
            try:
                reply = self._client.store_instances([dcmread(path)])
            except RequestException as error:
                raise self._failure("store at", error) from error
            failed = reply.get("FailedSOPSequence") or []
            if failed:
                code = failed[0].get("FailureReason", 0)
                raise ResourceError(
                    f"{self.address} refused {path.name} (reason 0x{code:04X})",
                    needed="a service that accepts it",
                    cure="look up the reason in the service's log",
                )

    def _failure(self, verb: str, error: Exception) -> ResourceError:
        """Say why a request failed, without what the service wrote about patients."""
        response = getattr(error, "response", None)
        status = "" if response is None else f": status {response.status_code}"
        return ResourceError(
            f"cannot {verb} {self.address} ({type(error).__name__}{status})",
            needed="a DICOMweb service that can be reached, and the right to use it",
            cure="check address, user and password, and the service's own log",
        )
