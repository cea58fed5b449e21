"""Studies that the verbs get from a DICOMweb service, and results that they bring back."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hilum.dicom.network import read_key
from hilum.dicom.web import WebService, is_web_address
from hilum.errors import UsageError, shown_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hilum.inference import RunReport


@contextmanager
def local_sources(
    sources: Sequence[Path | str], study: str | None, *, store: bool
) -> Iterator[Sequence[Path | str]]:
    """Give sources as files: a DICOMweb service stands for the study, fetched while this lasts.

    Raises:
        UsageError: a service without a study, or a study or `store` without a service.
        ResourceError: the service cannot be reached.
    """
    if not any(map(is_web_address, sources)):
        wrong = "store=True" if store else "" if study is None else f"study={study!r}"
        if wrong:
            raise UsageError(
                f"{wrong} was given for files",
                needed="the address of a DICOMweb service, dicomweb://HOST:PORT/PATH",
                cure=f"leave out {wrong}, or name the service instead of the files",
            )
        yield sources
        return
    service = _service_of(sources, study)
    with TemporaryDirectory(prefix="hilum-") as temporary:
        folder = Path(temporary) / str(study)
        with shown_as(folder, f"{service.address}/studies/{study}"):
            service.retrieve(str(study), folder)
            yield [folder]


def _service_of(sources: Sequence[Path | str], study: str | None) -> WebService:
    """Return the DICOMweb service that was named; refuse other inputs beside it, or no study."""
    if len(sources) > 1 or study is None:
        raise UsageError(
            "a DICOMweb service was given"
            f" {'among other inputs' if len(sources) > 1 else 'without a study'}",
            needed="one address and the UID of one study",
            cure="study='1.2.840...', and one service alone",
        )
    return WebService(str(sources[0]))


def store_results(sources: Sequence[Path | str], out: Path, report: RunReport) -> None:
    """Send the DICOM files that were written to the service where the study came from.

    Raises:
        UsageError: no DICOM file was written.
        ResourceError: the service cannot be reached, or refuses a file.
    """
    written = [out / name for one in report.cases if one.status == "done" for name in one.files]
    results = [path for path in written if path.is_file() and read_key(path) is not None]
    if written and not results:
        raise UsageError(
            "no DICOM file among the results to be stored",
            needed="a DICOM format",
            cure="formats='dicom-seg'",
        )
    WebService(str(sources[0])).store(results)
