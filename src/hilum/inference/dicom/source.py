"""The DICOM series that a case was predicted from, opened once for all that is written about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet, number_of
from hilum.dicom.picture import header_is_coloured
from hilum.dicom.pixels import read_colours, read_grey
from hilum.dicom.stack import open_stack
from hilum.dicom_results.display import DisplayFrame, grey_of
from hilum.dicom_results.repair import read_source_images
from hilum.errors import DataError
from hilum.io import is_dicom

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hilum.dicom.stack import OpenedStack
    from hilum.dicom_results.repair import SourceImages


@dataclass(frozen=True, eq=False)
class DicomSource:
    """A series as a volume was read from it, and as objects about it refer to it.

    Args:
        stack: its frames and grid.
        images: its headers, repaired.
    """

    stack: OpenedStack
    images: SourceImages

    @classmethod
    def open(cls, case: str, files: Sequence[Path]) -> DicomSource:
        """Open the series of a case's first channel.

        Raises:
            DataError: the case is no DICOM, or its series cannot be read.
        """
        refuse_other_than_dicom(case, files)
        stack = open_stack(files[0])
        spacing, *_ = stack.geometry.spacing
        return cls(stack, read_source_images(stack.frames, spacing_mm=spacing))

    def display(self, number: int) -> DisplayFrame:
        """Decode a frame and map its values to grey, by the window that its header states.

        Without one from the 1st to the 99th percentile. Colours stay as they are.
        """
        frame, header = self.stack.frames[number], self.images.planes[number].header
        with keep_quiet():
            if header_is_coloured(frame.file.header):
                return DisplayFrame(grey_of(read_colours(frame), (127.5, 255)), frame.pixel_spacing)
            pixels = read_grey([frame])[0]
        centre, width = (number_of(header, f"Window{name}") for name in ("Center", "Width"))
        window = (centre, width) if centre is not None and width else None
        if not frame.placed:  # a picture whose low numbers are white was inverted when it was read
            window = None if frame.file.inverted else window
            return DisplayFrame(grey_of(pixels, window), frame.pixel_spacing)
        grey = grey_of(pixels, window)
        grey = 1 - grey if frame.file.inverted else grey
        return DisplayFrame(grey, frame.pixel_spacing)


def refuse_other_than_dicom(case: str, files: Sequence[Path]) -> None:
    """Refuse a case whose first channel is no DICOM series.

    Args:
        case: its id.
        files: the file or DICOM folder of each channel; none where it was given as a volume.

    Raises:
        DataError: naming what it is.
    """
    if files and is_dicom(files[0]):
        return
    found = str(files[0]) if files else "a volume without a file"
    raise DataError(
        f"{case}: {found} is no DICOM",
        needed="a DICOM series, which SEG, SR, key images and PDF of a prediction refer to",
        cure="predict the DICOM series itself, or write formats='nifti'",
    )
