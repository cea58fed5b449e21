"""Reading and writing by what a file is: the door of this room."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from hilum.dicom import annotation
from hilum.dicom import read as dicom
from hilum.dicom.sources import series_folder
from hilum.dicom.start import is_dicom_file
from hilum.errors import (
    FormatError,
    GeometryError,
    LabelError,
    UsageError,
    counted,
    readable,
)
from hilum.files.names import ARCHIVE_MARK, SERIES_MARK, header_of, image_suffix, nearest
from hilum.files.placeholder import is_unfetched, refuse_placeholder
from hilum.files.record import Decoded, damage_refused
from hilum.io import itk, medmnist, nifti, picture, tiff
from hilum.io.labels import as_labels
from hilum.volume import resample_onto

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hilum.files.record import FileFacts, Format, Segment
    from hilum.volume import Geometry, LabelTable, Volume

_LOGGER = logging.getLogger("hilum")
_FORMATS: dict[str, Format] = {
    ".nii": nifti.FORMAT,
    ".nii.gz": nifti.FORMAT,
    **dict.fromkeys((".hdr", ".img", ".hdr.gz", ".img.gz"), nifti.PAIR),
    **dict.fromkeys((".mgz", ".mgh"), nifti.MGH),
    **dict.fromkeys((".nrrd", ".seg.nrrd"), itk.NRRD),
    **dict.fromkeys((".nhdr", ".seg.nhdr"), itk.NRRD_HEADER),
    ".mha": itk.META,
    ".mhd": itk.META_HEADER,
    ".png": picture.PNG,
    ".jpg": picture.JPEG,
    ".jpeg": picture.JPEG,
    ".bmp": picture.BMP,
    ".tif": tiff.FORMAT,
    ".tiff": tiff.FORMAT,
    ".dcm": dicom.FORMAT,
}
_NAMED_FORMATS = {".nrrd", ".seg.nrrd", ".nhdr", ".seg.nhdr"}
_COLOURS = {("red", "green", "blue"), ("r", "g", "b")}
_SAID: set[str] = set()  # each kind of remark is logged once, not for every file of a data set


def read_volume(path: Path | str) -> Volume:
    """Read an image as it is stored: dtype kept, unless the file scales its numbers (then float32).

    Args:
        path: NIfTI, Analyze, MGH, NRRD, MetaImage, PNG, JPEG, BMP or TIFF file; a DICOM file or
            folder of one series; or "set.npz#train/12".

    Returns:
        Array (C, Z, Y, X) and its geometry; a picture has Z = 1, a colour picture three channels.

    Raises:
        FormatError: the file is missing, damaged, or of a kind that is not read.
        GeometryError: the grid is sheared, irregular or degenerate.
    """
    source = Path(path)
    return _log_notes(source, _decode(source, labels=False))


def read_labels(path: Path | str) -> Volume:
    """Read a label map of one channel, as the smallest of uint8, int16 and int32.

    Real numbers are accepted when all are whole; a colour picture when it is grey; a picture with a
    palette gives the indices. A DICOM SEG or RTSTRUCT gives labels on the grid of its images, which
    are looked for near the file.

    Raises:
        LabelError: the numbers are no labels.
        FormatError: the file is missing, damaged, or of a kind that is not read.
        GeometryError: the grid is sheared, irregular or degenerate.
    """
    source = Path(path)
    return as_labels(_log_notes(source, _decode(source, labels=True)), str(source))


def read_dicom_annotation(
    path: Path | str,
    *,
    ids: Mapping[int, int] | None = None,
    source: Path | None = None,
    grid: Geometry | None = None,
) -> Volume:
    """Read a DICOM SEG or RTSTRUCT as labels (1, Z, Y, X) on the grid of its images.

    Where structures overlap, a voxel belongs to the smaller one.

    Args:
        path: the file.
        ids: number of a segment or structure to the id of its label; the others are left out. None
            takes `Segment.value`.
        source: the images that it was drawn on; None looks for them near the file.
        grid: taken where no images are found. A SEG lies on the grid of its frames without both.

    Raises:
        FormatError: the file is damaged, or its images are not found and needed.
        GeometryError: the images form no grid, or the annotation does not lie on it.
        LabelError: frames of a segment that the file does not describe.
    """
    place = Path(path)
    refuse_placeholder(place)
    with damage_refused(place, annotation.FORMAT.name):
        decoded = annotation.read_annotation(place, ids=ids, source=source, grid=grid)
    return as_labels(_log_notes(place, decoded), str(place))


def is_dicom_annotation(path: Path | str) -> bool:
    """Recognise a DICOM SEG or RTSTRUCT file by its header."""
    return annotation.annotation_kind(Path(path)) is not None


def segments_of(path: Path | str) -> tuple[Segment, ...]:
    """Read the named segments of an annotation: NRRD of 3D Slicer, DICOM SEG or RTSTRUCT.

    () for other formats. No voxel is read.

    Raises:
        FormatError: the file is damaged.
    """
    source = Path(path)
    if image_suffix(source) in _NAMED_FORMATS:
        return inspect_file(source).segments
    return annotation.segments_in(source) if is_dicom_annotation(source) else ()


def read_geometry(path: Path | str) -> Geometry:
    """Read the grid of an image only; voxels are not read where the format allows that."""
    return inspect_file(path).geometry


def inspect_file(path: Path | str) -> FileFacts:
    """Read what a file says of itself: grid, channels, dtype and what has to be assumed or mended.

    Nothing is logged.
    """
    source = Path(path)
    form = _format_of(source)
    refuse_placeholder(source)
    with damage_refused(source, form.name):
        return form.inspect(source)


def read_modality(path: Path | str) -> str:
    """Read the modality that DICOM states ("CT", "MR").

    "" for other formats and where none is stated.
    """
    source = Path(path)
    return dicom.modality(source) if _format_of(source) is dicom.FORMAT else ""


def is_dicom(path: Path | str) -> bool:
    """Recognise a DICOM file or series; False where there is nothing that can be read."""
    with suppress(FormatError):
        return _format_of(Path(path)) is dicom.FORMAT
    return False


def write_volume(volume: Volume, path: Path | str) -> None:
    """Write an image, completely or not at all; the suffix decides the format.

    Raises:
        UsageError: the suffix is not one that is written.
        FormatError: the format cannot hold this image.
    """
    target = Path(path)
    form = _FORMATS.get(image_suffix(target))
    if form is None or form.write is None:
        raise UsageError(
            f"{target.name} names no format that hilum writes",
            needed="one of .nii.gz, .nii, .nrrd, .mha, .png, .tif",
            cure="give the file one of these suffixes",
        )
    form.write(volume, target)


def write_labels(volume: Volume, path: Path | str, *, table: LabelTable | None = None) -> None:
    """Write a label map atomically, as the smallest of uint8, int16 and int32.

    Args:
        volume: (1, Z, Y, X) integers.
        path: of the file; the suffix decides the format.
        table: gives a PNG a palette of its colours.

    Raises:
        LabelError: not one channel of integers.
        UsageError: the suffix is not one that is written.
        FormatError: the format cannot hold these labels.
    """
    if volume.channels != 1:
        raise LabelError(
            f"{path} holds labels in {counted(volume.channels, 'channel')}",
            needed="labels in one channel",
            cure="store one integer for each voxel",
        )
    labels = as_labels(volume, str(path))
    if table is not None and image_suffix(path) == ".png":
        picture.write_palette_png(labels, Path(path), table.colours)
    else:
        write_volume(labels, path)


def read_channels(images: Mapping[str, Path], positions: Sequence[int] = ()) -> Volume:
    """Read the channels of a case into one volume, in the mapping's order.

    Args:
        images: channel name to file. Channels that name the same file are that file's channels, in
            their order.
        positions: which channel of its file each channel is, where that is not so.

    Returns:
        Array (C, Z, Y, X) in the smallest dtype that holds every channel exactly (numpy's
        promotion), on the first file's grid. DICOM series of one frame of reference (PET and CT of
        one examination) are resampled onto it linearly, as float32; that is logged.

    Raises:
        UsageError: no channel is given.
        GeometryError: two files' grids differ by more than rounding, without such a common frame;
            or they share one, and hardly any place in it.
        FormatError: a file has another number of channels than name it.
    """
    if not images:
        raise UsageError("the case has no images", needed="at least one channel")
    users: dict[Path, list[int]] = {}
    for position, path in enumerate(images.values()):
        users.setdefault(Path(path), []).append(position)
    volumes = {path: read_volume(path) for path in users}
    if len(users) == 1:
        volumes = {path: in_colours(volume, tuple(images)) for path, volume in volumes.items()}
    first_path, first = next(iter(volumes.items()))
    volumes = {
        path: _on_shared_frame(path, volume, first_path, first) for path, volume in volumes.items()
    }
    for path, channels in users.items():
        _refuse_misfit(path, volumes[path], first_path, first, len(channels), list(images))
    if len(volumes) == 1 and list(positions) in ([], sorted(positions)):
        return first
    dtype = np.result_type(*(volume.array.dtype for volume in volumes.values()))
    array = np.empty((len(images), *first.geometry.shape), dtype=dtype)
    for path, channels in users.items():
        array[channels] = volumes[path].array[
            [positions[n] for n in channels] if positions else slice(None)
        ]
    return first.with_array(array)


def in_colours(volume: Volume, names: Sequence[str]) -> Volume:
    """Repeat the one channel of a grey picture where red, green and blue are wanted.

    Return any other volume as it is.
    """
    if volume.channels == 1 and tuple(name.lower() for name in names) in _COLOURS:
        return volume.with_array(np.repeat(volume.array, 3, axis=0))
    return volume


def _refuse_misfit(
    path: Path, volume: Volume, first_path: Path, first: Volume, wanted: int, names: list[str]
) -> None:
    """Raise where a file cannot be stacked with the first one."""
    if volume.channels != wanted:
        raise FormatError(
            f"{path} has {counted(volume.channels, 'channel')}, where {wanted} of {names} are"
            " taken from it",
            needed="as many channels in the file as name it",
            cure="name the channels in the data set's table, or split the file",
        )
    if not volume.geometry.is_close(first.geometry):
        gap = "of different shape"
        if volume.geometry.shape == first.geometry.shape:
            gap = f"{first.geometry.distance_voxels(volume.geometry):.3g} voxels apart"
        raise GeometryError(
            f"{path} ({_grid(volume.geometry)}) and {first_path} ({_grid(first.geometry)}) lie on"
            f" different grids, {gap}",
            needed="all channels of a case on one grid",
            cure="resample them onto one grid; of a data set `hilum check DATA --fix DIR` does it",
        )


def _on_shared_frame(path: Path, volume: Volume, first_path: Path, first: Volume) -> Volume:
    """Resample a volume onto the first one's grid, where DICOM states one frame of reference.

    Raises:
        GeometryError: see :func:`shares_frame`.
    """
    same = volume.geometry.is_close(first.geometry)
    if same or not shares_frame(path, volume.geometry, first_path, first.geometry):
        return volume
    note = "resampled onto the grid of the first channel, with which it shares a frame of reference"
    _log_notes(path, Decoded(volume, (note,)))
    return resample_onto(volume, first.geometry, order=1, fill=float(volume.array.min()))


def shares_frame(path: Path, own: Geometry, first_path: Path, first: Geometry) -> bool:
    """Return True for a channel that is resampled onto the first one's grid when they are read.

    Args:
        path: of the channel, for errors.
        own: its grid.
        first_path: of the first channel.
        first: the grid of that.

    Raises:
        GeometryError: it holds less than half of the first one's middle.
    """
    frame = first.frame_of_reference
    if frame is None or own.frame_of_reference != frame:
        return False
    thirds = np.linspace(0.25, 0.75, 3)
    points = [
        [share * (size - 1) for share, size in zip(shares, first.shape, strict=True)]
        for shares in product(thirds, repeat=3)
    ]
    places = np.array([own.world_to_index(first.index_to_world(one)) for one in points])
    inside = ((places > -1) & (places < np.array(own.shape))).all(axis=1)
    if inside.mean() < 0.5:
        raise GeometryError(
            f"{path} ({_grid(own)}) and {first_path} ({_grid(first)}) show different parts of one"
            " patient",
            needed="channels that show the same part",
            cure="choose other series of the study; `hilum series FOLDER` lists them",
        )
    return True


def _grid(geometry: Geometry) -> str:
    """Describe a grid for people."""
    return f"shape {geometry.shape}, spacing {' x '.join(f'{v:.4g}' for v in geometry.spacing)} mm"


def supported(path: Path | str) -> bool:
    """Recognise what :func:`read_volume` reads: a known kind of file, or a DICOM folder.

    A folder counts when DICOM files lie in it, or below it where each level has a single subfolder.
    A link whose content was not fetched counts by its name. The data file of a pair (.img beside
    its .hdr) is no image of its own. Whether the content is sound is not looked at.
    """
    with suppress(FormatError):
        return header_of(path) == Path(path) and bool(_format_of(Path(path)))
    return False


def _format_of(path: Path) -> Format:
    """Find the format of a file by its suffix, else by its content; a folder is DICOM."""
    if ARCHIVE_MARK in str(path).lower():
        return medmnist.FORMAT
    if SERIES_MARK in str(path):
        return dicom.FORMAT
    if not path.exists() and not is_unfetched(path):
        raise FormatError(
            f"{path} does not exist",
            needed="an existing file",
            cure=nearest(path) or "check the path",
        )
    if path.is_dir():
        if series_folder(path) is None:
            _refuse_folder(path)
        return dicom.FORMAT
    if annotation.annotation_kind(path) is not None:
        return annotation.FORMAT
    suffix = image_suffix(path)
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    if suffix == ".npz":
        raise FormatError(
            f"{path} is an archive of many images",
            needed="one of them",
            cure='write e.g. "set.npz#train/12"',
        )
    if is_dicom_file(path):
        return dicom.FORMAT
    raise FormatError(
        f"{path} is not an image that hilum reads",
        needed=f"one of {', '.join(_FORMATS)}, or DICOM",
        cure="convert it to .nii.gz",
    )


def _refuse_folder(path: Path) -> NoReturn:
    """Raise at a folder that is no DICOM series, naming those below it."""
    below = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.is_dir() and series_folder(entry) is not None
    )
    kind, cure = "it is a folder without DICOM files", "check the path"
    if below:
        listed = ", ".join(below[:8]) + (", ..." if len(below) > 8 else "")
        kind = f"it is a folder of {len(below)} folders of DICOM files ({listed})"
        cure = f"name one of them, e.g. {path / below[0]}"
    raise FormatError(
        f"{path}: {kind}", needed="a folder of one DICOM series, or an image file", cure=cure
    )


def _decode(path: Path, *, labels: bool) -> Decoded:
    """Read a file by its format."""
    form = _format_of(path)
    refuse_placeholder(path)
    read = form.read_indices if labels and form.read_indices is not None else form.read
    with damage_refused(path, form.name):
        return read(path)


def _log_notes(path: Path, decoded: Decoded) -> Volume:
    """Log what had to be assumed or mended, each kind of remark once, and hand over the volume."""
    for note in decoded.notes:
        if note in _SAID:
            _LOGGER.debug("%s: %s", readable(path), note)
        else:
            _SAID.add(note)
            _LOGGER.warning(
                "%s: %s (logged once; `hilum check` lists all such files of a data set)",
                readable(path),
                note,
            )
    return decoded.volume
