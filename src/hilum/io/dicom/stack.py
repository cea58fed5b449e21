"""From a DICOM source to the frames of one volume: the door for all that works on series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.errors import FormatError, counted
from hilum.io.dicom.frames import frames_of
from hilum.io.dicom.grid import stack
from hilum.io.dicom.header import keep_quiet
from hilum.io.dicom.sources import image_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from hilum.io.dicom.frames import Frame, ImageFile
    from hilum.volume import Geometry


@dataclass(frozen=True)
class OpenedStack:
    """The frames of one volume.

    Args:
        source: what was opened.
        frames: in the order of the Z axis.
        geometry: the grid of the volume that `read_volume(source)` gives.
        notes: what had to be assumed or mended, one sentence each.
    """

    source: Path
    frames: tuple[Frame, ...]
    geometry: Geometry
    notes: tuple[str, ...]

    def to_frames(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Bring a label map (Z, Y, X) of the volume's grid onto the source's own frames.

        Returns:
            (N, rows, columns), in the order of `frames`.
        """
        return labels

    def from_frames(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Bring labels (N, rows, columns) on the source's own frames onto the volume's grid.

        Returns:
            (Z, Y, X).
        """
        return labels


def open_stack(source: Path) -> OpenedStack:
    """Read the headers of a series and build its grid.

    Args:
        source: a folder of one series, a file, or "folder#series/UID".

    Raises:
        FormatError: no DICOM image, several series, or images that are no slices.
        GeometryError: the slices form no even, perpendicular grid.
    """
    with keep_quiet():
        images, notes = image_files(source)
        _refuse_several_series(images, source)
        frames = [frame for image in images for frame in frames_of(image)]
        _refuse_partial_rescaling(frames, source)
        if any(image.header.get("PhotometricInterpretation") == "MONOCHROME1" for image in images):
            shown = "low numbers are to be shown white (MONOCHROME1), which concerns display only"
            notes += (f"{shown}; they are read as stored",)
    built = stack(frames, source)
    return OpenedStack(source, built.frames, built.geometry, notes + built.notes)


def _refuse_several_series(images: Sequence[ImageFile], source: Path) -> None:
    """Raise where images belong to more than one series, naming each."""
    series: dict[str, list[ImageFile]] = {}
    for image in images:
        series.setdefault(image.series, []).append(image)
    if len(series) == 1:
        return
    listed = "\n".join(
        f"  {files[0].modality or '?'} {files[0].description or 'without description'}:"
        f" {counted(len(files), 'file')}, e.g. {files[0].path.name} (series {uid})"
        for uid, files in series.items()
    )
    raise FormatError(
        f"{source}: {len(series)} series in one folder\n{listed}",
        needed="one series",
        cure="put each series into a folder of its own",
    )


def _refuse_partial_rescaling(frames: Sequence[Frame], source: Path) -> None:
    """Raise where only some slices are rescaled: the others would be off by the intercept."""
    silent = [frame for frame in frames if frame.intercept is None]
    rescaled = any(frame.rescale != (1, 0) for frame in frames)
    if silent and rescaled and len(silent) < len(frames):
        raise FormatError(
            f"{source}: {len(silent)} of {len(frames)} slices without RescaleIntercept, the first"
            f" {silent[0].path.name}",
            needed="RescaleSlope and RescaleIntercept in every slice, or in none",
            cure="export the series again from the source",
        )
