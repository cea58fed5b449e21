"""DICOM as a format of images: one series, or one file, to a volume."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from hilum.io.dicom.frames import COMPANIONS
from hilum.io.dicom.header import keep_quiet, read_file, text_of
from hilum.io.dicom.pixels import dtype_of, fill
from hilum.io.dicom.sources import files_of
from hilum.io.dicom.stack import open_stack
from hilum.io.record import Decoded, FileFacts, Format, refuse_size
from hilum.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path


def modality(path: Path) -> str:
    """Return the modality ("CT", "MR") of the first header that states one; "" where none does.

    Raises nothing.
    """
    with keep_quiet():
        for file in files_of(path):
            found = ""
            with suppress(Exception):  # the next file may say it
                found = text_of(read_file(file, tags=["Modality"]), "Modality")
            if found not in {"", *COMPANIONS}:
                return found
    return ""


def read(path: Path) -> Decoded:
    """Read a folder that holds one series, or a single file as one slice.

    Numbers are multiplied by RescaleSlope and shifted by RescaleIntercept, slice by slice (CT:
    Hounsfield units); they stay integers where both are whole in every slice, else become float32.

    Raises:
        FormatError: no DICOM image, several series, multi-frame, localizer, another modality, or
            undecodable pixels.
        GeometryError: the slices form no even, perpendicular grid.
    """
    opened = open_stack(path)
    dtype = dtype_of(opened.frames)
    refuse_size(path, math.prod(opened.geometry.shape) * dtype.itemsize, stored=None)
    array = np.empty((1, *opened.geometry.shape), dtype=dtype)
    with keep_quiet():
        for index, frame in enumerate(opened.frames):
            fill(array[0, index], frame)
    return Decoded(Volume(array, opened.geometry), opened.notes)


def inspect(path: Path) -> FileFacts:
    """Read the headers only."""
    opened = open_stack(path)
    return FileFacts(opened.geometry, 1, dtype_of(opened.frames), opened.notes)


FORMAT = Format(name="DICOM", read=read, inspect=inspect)
