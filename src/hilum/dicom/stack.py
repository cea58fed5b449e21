"""Frames of one volume of a DICOM source: the door for all that works on series."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hilum.dicom.frames import frames_of
from hilum.dicom.grid import stack
from hilum.dicom.header import keep_quiet
from hilum.dicom.shear import lay_straight, tilt_back
from hilum.dicom.sources import image_files, parts_of
from hilum.dicom.split import kind_of, mixture_notes, split
from hilum.dicom.suv import suv_factors
from hilum.errors import FormatError, counted, some
from hilum.files.names import SERIES_MARK
from hilum.files.record import damage_refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from hilum.dicom.frames import Frame, ImageFile
    from hilum.volume import Geometry


@dataclass(frozen=True)
class OpenedStack:
    """The frames of one volume, or the one of a picture.

    Args:
        source: what was opened.
        frames: in the order of the Z axis.
        geometry: the grid of the volume that `read_volume(source)` gives.
        notes: what had to be assumed or mended, one sentence each.
        offsets: of a tilted gantry: (N, 2) rows and columns of the grid at which each frame's first
            pixel lies, with fractions; None where the frames lie on the grid as they are.
    """

    source: Path
    frames: tuple[Frame, ...]
    geometry: Geometry
    notes: tuple[str, ...]
    offsets: NDArray[np.float64] | None = None

    def to_frames(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Bring a label map (Z, Y, X) of the volume's grid onto the source's own frames.

        Returns:
            (N, rows, columns), in the order of `frames`; the map itself unless the gantry was
            tilted.
        """
        if self.offsets is None:
            return labels
        return tilt_back(labels, self.offsets, self.frames[0].shape)

    def from_frames(self, labels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Bring labels (N, rows, columns) on the source's own frames onto the volume's grid.

        Returns:
            (Z, Y, X); 0 where the grid reaches beyond the frames of a tilted gantry.
        """
        if self.offsets is None:
            return labels
        _, rows, columns = self.geometry.shape
        return lay_straight(labels, self.offsets, (rows, columns))


def open_stack(source: Path) -> OpenedStack:
    """Read the headers of a series and build its grid.

    Args:
        source: a folder of one series, a file, "folder#series/UID", or "folder#series/UID/KEY" with
            the key of one of several volumes in a series.

    Raises:
        FormatError: no DICOM image, several series or volumes, or images that are not read.
        GeometryError: the slices form no even grid.
    """
    with keep_quiet():
        images, notes = image_files(source)
        _refuse_several_series(images, source)
        frames = [frame for image in images for frame in frames_of(image)]
        group, aside = _choose_group(frames, source)
    opened = stack_frames(group, source)
    return replace(opened, notes=(*notes, *aside, *opened.notes))


def stack_frames(frames: Sequence[Frame], source: Path) -> OpenedStack:
    """Build the grid of the frames of one volume.

    Args:
        frames: of one series, as `split` groups them.
        source: what they are read from.

    Raises:
        FormatError: only some are rescaled, or PET lacks what SUV needs.
        GeometryError: they form no even grid.
    """
    with keep_quiet():
        image = frames[0].file
        number = f"series {image.series_number}" if image.series_number else "series"
        words = " ".join(word for word in (image.modality, number, image.description) if word)
        where = f"{source} ({words})"
        _refuse_partial_rescaling(frames, where)
        with damage_refused(frames[0].path, "PET in DICOM"):
            frames, uptake = _as_uptake(frames, where)
    built = stack(frames, where)
    shown = [note for frame in frames for note in frame.notes]
    mixed = mixture_notes(frames)
    every = (*dict.fromkeys(shown), *_pixel_notes(frames), *uptake, *mixed, *built.notes)
    return OpenedStack(source, built.frames, built.geometry, every, built.offsets)


def _choose_group(frames: Sequence[Frame], source: Path) -> tuple[Sequence[Frame], tuple[str, ...]]:
    """Return the frames of the one volume that a source names, and notes on those left out."""
    place, _, key = parts_of(source)
    placed = [frame for frame in frames if frame.placed]
    if not placed:
        _refuse_several_pictures(frames, source)
        return frames, ()
    found = split(placed)
    reasons = [reason for _, reason in found.aside]
    reasons += ["a picture without a place in the patient"] * (len(frames) - len(placed))
    named = [group for group in found.groups if key in {"", group.key}]
    if not found.groups:
        raise FormatError(
            f"{source}: {reasons[0]}, which is no slice of a volume",
            needed="slices of CT, MR or PET",
            cure="name another series of the study; `hilum series FOLDER` lists them",
        )
    if len(named) != 1:
        words = f"no volume {key!r} among" if key else "several volumes in one series,"
        file = frames[0].file
        listed = "\n".join(
            f"  {'/'.join(filter(None, (file.series_number, group.key)))}:"
            f" {counted(len(group.frames), 'slice')}, {group.label or 'the only one'}"
            for group in found.groups
        )
        uid = file.series
        raise FormatError(
            f"{source}: {words} {len(found.groups)}\n{listed}",
            needed="the key of one of them",
            cure=(
                f"name it, e.g. {place}{SERIES_MARK}{uid}/{found.groups[0].key};"
                " `hilum series FOLDER` lists them"
            ),
        )
    kinds = Counter(map(kind_of, reasons))
    aside = tuple(f"{counted(n, 'image')} left out: {kind}" for kind, n in kinds.items())
    return named[0].frames, aside


def _refuse_several_pictures(frames: Sequence[Frame], source: Path) -> None:
    """Raise at more pictures than one."""
    if len(frames) > 1:
        names = some(frame.path.name for frame in frames)
        raise FormatError(
            f"{source}: it holds {len(frames)} pictures in one series ({names})",
            needed="one picture, or slices of a volume",
            cure="name one of the files",
        )


def _as_uptake(frames: Sequence[Frame], where: str) -> tuple[Sequence[Frame], tuple[str, ...]]:
    """Turn the rescaling of PET frames into that to SUV; others as they are."""
    if not frames[0].placed or frames[0].file.modality != "PT":
        return frames, ()
    factors, note = suv_factors([frame.file for frame in frames], where)
    scaled = [
        replace(frame, slope=frame.rescale[0] * factor, intercept=frame.rescale[1] * factor)
        for frame, factor in zip(frames, factors, strict=True)
    ]
    return scaled, (note,) if note else ()


def _pixel_notes(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Note what the pixels' headers say that concerns their numbers."""
    notes = []
    if frames[0].placed and any(frame.file.inverted for frame in frames):
        shown = "low numbers are to be shown white (MONOCHROME1), which concerns display only"
        notes.append(f"{shown}; they are read as stored")
    paddings = [frame.file.padding for frame in frames if frame.file.padding is not None]
    if paddings:
        low, high = min(paddings)
        numbers = f"{low}" if low == high else f"{low} to {high}"
        empty = f"stored numbers {numbers} stand for no measurement (padding)"
        notes.append(f"{empty}; they get the lowest value of the others")
    elif any("PixelPaddingValue" in frame.file.header for frame in frames):
        kept = "pixels that stand for no measurement (padding) are read as stored"
        notes.append(f"{kept}: lossy compression has mixed them with their neighbours")
    return tuple(notes)


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
        f"{source}: it holds {len(series)} series\n{listed}",
        needed="one series",
        cure="put each series into a folder of its own",
    )


def _refuse_partial_rescaling(frames: Sequence[Frame], source: str) -> None:
    """Raise where only some slices are rescaled: the others would be off by the intercept."""
    silent = [frame for frame in frames if frame.intercept is None]
    rescaled = any(frame.rescale != (1, 0) for frame in frames)
    if silent and rescaled and len(silent) < len(frames):
        raise FormatError(
            f"{source}: {len(silent)} of {len(frames)} slices have no RescaleIntercept, the first"
            f" {silent[0].path.name}",
            needed="RescaleSlope and RescaleIntercept in every slice, or in none",
            cure="export the series again from the source",
        )
