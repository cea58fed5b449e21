"""A DICOMDIR of the output, made anew: nothing of the source's is in it."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pydicom
from pydicom.fileset import FileSet

from hilum.files.atomic import atomic_write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "DICOMDIR"


def write_directory(folder: Path, files: Mapping[Path, str]) -> tuple[str, ...]:
    """Write a DICOMDIR for files of a folder whose names have eight characters each.

    Args:
        folder: of the DICOMDIR.
        files: SOP Instance UIDs by paths.

    Returns:
        What could not be entered, in words.
    """
    directory, remarks = FileSet(), []
    with warnings.catch_warnings(), _cleaned(directory):
        warnings.simplefilter("ignore")  # pydicom's remarks on values that it copies
        for path in files:
            try:
                directory.add(path)
            except (ValueError, AttributeError, NotImplementedError) as error:
                remarks.append(f"{path.relative_to(folder)} is not in the DICOMDIR: {error}")
        if not len(directory):
            return (*remarks, "no DICOMDIR was written: none of the files can be entered")
        with TemporaryDirectory() as copies:
            directory.write(copies)
            made = pydicom.dcmread(Path(copies) / NAME)
        places = {uid: path.relative_to(folder).parts for path, uid in files.items()}
        for record in made.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                # as long as pydicom's own names, so that offsets in the file stay right
                record.ReferencedFileID = list(places[record.ReferencedSOPInstanceUIDInFile])
        buffer = io.BytesIO()
        made.save_as(buffer, enforce_file_format=True)
    atomic_write_bytes(folder / NAME, buffer.getvalue())
    return tuple(remarks)


@contextmanager
def _cleaned(directory: FileSet) -> Iterator[None]:
    """Remove the temporary folder of a file set, which pydicom leaves to the garbage collector."""
    try:
        yield
    finally:
        directory._stage["t"].cleanup()  # noqa: SLF001  (there is no public way)
