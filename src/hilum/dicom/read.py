"""DICOM as a format of images: one series, or one file, to a volume."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.frames import COMPANIONS
from hilum.dicom.header import keep_quiet, read_file, text_of
from hilum.dicom.picture import header_is_coloured
from hilum.dicom.pixels import dtype_of, read_colours, read_grey
from hilum.dicom.shear import straighten
from hilum.dicom.sources import files_of
from hilum.dicom.stack import open_stack
from hilum.files.record import Decoded, FileFacts, Format, as_grey
from hilum.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path


def modality(path: Path) -> str:
    """Return the modality ("CT", "MR") of the first image; "" where no header states one.

    Annotations, reports and other companions of images are passed over.

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
    """Read one volume of a series, or a picture.

    Numbers are multiplied by RescaleSlope and shifted by RescaleIntercept, frame by frame (CT:
    Hounsfield units; PET: SUV by body weight); they stay integers where both are whole in every
    frame, else become float32. Slices of a tilted gantry are moved straight.

    Raises:
        FormatError: no DICOM image, several series or volumes, images that are not read, or
            undecodable pixels.
        GeometryError: the slices form no even grid.
    """
    opened = open_stack(path)
    first = opened.frames[0]
    with keep_quiet():
        if header_is_coloured(first.file.header):
            pixels, grey = as_grey(np.moveaxis(read_colours(first), -1, 0)[:, np.newaxis])
            return Decoded(Volume(pixels, opened.geometry), opened.notes + grey)
        array = read_grey(opened.frames)
    if opened.offsets is not None:
        array = straighten(array, opened.offsets, opened.geometry.shape[1:])
    return Decoded(Volume(array[np.newaxis], opened.geometry), opened.notes)


def inspect(path: Path) -> FileFacts:
    """Read the headers only; a picture with colours is decoded, as it may be grey."""
    opened = open_stack(path)
    if header_is_coloured(opened.frames[0].file.header):
        decoded = read(path)
        volume = decoded.volume
        return FileFacts(volume.geometry, volume.channels, volume.array.dtype, decoded.notes)
    return FileFacts(opened.geometry, 1, dtype_of(opened.frames), opened.notes)


FORMAT = Format(name="DICOM", read=read, inspect=inspect)
