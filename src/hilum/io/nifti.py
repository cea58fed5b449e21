"""NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr with .img).

The voxels of Analyze pairs and of MGH too, whose grids have own files.

The world of NIfTI is RAS; ours is LPS. Of its two transforms the sform is used where its code is
above 0, else the qform, else the voxel sizes alone (methods 3, 2 and 1 of the standard,
https://nifti.nimh.nih.gov/nifti-1). A header keeps 32-bit numbers: 0.9 is stored as 0.89999998; the
shortest decimal that gives the stored number is taken, so that a grid that was written comes back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hilum.errors import FormatError
from hilum.io import analyze, mgh
from hilum.io.files import atomic_path
from hilum.io.opened import open_image, raw_header
from hilum.io.record import (
    MOST_SURPLUS,
    Decoded,
    FileFacts,
    Format,
    make_geometry,
    plain_array,
    refuse_size,
    shortest,
    surplus_note,
)
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Header
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DISAGREE_VOXELS = 0.05  # below this the difference of sform and qform is how they are stored
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # xyzt_units: 1 metre, 2 millimetre, 3 micrometre
_BLOCK = 1 << 16  # bytes read at a time


@dataclass(frozen=True)
class _Header:
    """A NIfTI header in our terms.

    `layout` is (C, Z, Y, X); `source_shape` the shape on disk, X first.
    """

    geometry: Geometry
    layout: tuple[int, int, int, int]
    notes: tuple[str, ...]


def read(path: Path) -> Decoded:
    """Read a NIfTI file.

    A fourth (or, as ITK writes it, fifth) dimension is the channels, RGB24 gives three.

    Raises:
        FormatError: not a NIfTI file, truncated, or of a type that is no image.
        GeometryError: sheared or degenerate axes.
    """
    import nibabel

    image, opened = open_image(path)
    header = _parse(path, image)
    stored = image.file_map["image"].filename  # None where the file was unpacked in memory
    size = math.prod(image.shape) * _proxy(image).dtype.itemsize
    refuse_size(path, size, stored=None if stored is None else Path(stored))
    raw, surplus = _voxels(image)
    array, notes = _channels_first(path, raw, header.layout)
    # FreeSurfer's tags lie behind the voxels
    if not isinstance(image, nibabel.MGHImage) or surplus > MOST_SURPLUS:
        notes += surplus_note(surplus)
    return Decoded(Volume(plain_array(path, array), header.geometry), opened + header.notes + notes)


def inspect(path: Path) -> FileFacts:
    """Read the header only.

    Whether an alpha channel is opaque is not known from it: RGBA counts as three channels.
    """
    image, opened = open_image(path)
    header = _parse(path, image)
    dtype = image.header.get_data_dtype()
    notes = opened + header.notes
    if dtype.names:
        return FileFacts(header.geometry, 3, np.dtype(np.uint8), notes)
    if _is_scaled(image):
        dtype = np.dtype(np.float32)
    return FileFacts(
        header.geometry, header.layout[0], plain_array(path, np.empty(0, dtype)).dtype, notes
    )


def write(volume: Volume, path: Path) -> None:
    """Write NIfTI-1 (NIfTI-2 beyond 32767 voxels) with sform and qform (code 1).

    Channels become the fourth dimension.
    """
    import nibabel

    array = plain_array(path, volume.array)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        narrow = np.min_scalar_type(array.max(initial=0)), np.min_scalar_type(array.min(initial=0))
        fits = np.can_cast(np.result_type(*narrow), np.int32)
        array = array.astype(np.int32) if fits else array
    data = array.transpose(3, 2, 1, 0)  # (X, Y, Z, C)
    if volume.channels == 1:
        data = data[..., 0]
    affine = _RAS_TO_LPS @ volume.geometry.affine[:, [2, 1, 0, 3]]
    create: Any = nibabel.Nifti1Image if max(data.shape) < 32768 else nibabel.Nifti2Image
    image = create(data, None, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


FORMAT = Format(name="NIfTI", read=read, inspect=inspect, write=write)
PAIR = Format(name="NIfTI or Analyze pair", read=read, inspect=inspect)
MGH = Format(name="MGH", read=read, inspect=inspect)


def _proxy(image: SpatialImage) -> ArrayProxy:
    """Give nibabel's access to the voxels on disk."""
    return cast("ArrayProxy", image.dataobj)


def _is_scaled(image: SpatialImage) -> bool:
    """Return True if stored numbers must be scaled or shifted.

    A slope of 0 or NaN means no scaling (NIfTI-1).
    """
    return (_proxy(image).slope, _proxy(image).inter) != (1, 0)


def _voxels(image: SpatialImage) -> tuple[NDArray[np.generic], int]:
    """Read stored numbers, or float32 where the header scales them, in on-disk shape.

    Count the bytes behind them.

    A compressed file is read to its end, where its checksum stands: nibabel stops at the last voxel
    and never compares it. One that has far more bytes than its header says is not: a few of its MB
    may unpack to many GB.
    """
    from nibabel.arrayproxy import ArrayProxy

    make: Any = ArrayProxy  # nibabel's annotations are partial
    place = _proxy(image)
    with image.file_map["image"].get_prepare_fileobj("rb") as stream:
        stored = make(
            stream, (place.shape, place.dtype, place.offset, place.slope, place.inter), mmap=False
        )
        scaled = _is_scaled(image)
        raw = np.asarray(stored, np.float32) if scaled else np.asanyarray(stored.get_unscaled())
        surplus = 0
        while surplus <= MOST_SURPLUS and (block := stream.read(_BLOCK)):
            surplus += len(block)
    return raw, surplus


def _parse(path: Path, image: SpatialImage) -> _Header:
    """Work out shape, channels and grid."""
    import nibabel

    shape = tuple(int(n) for n in image.shape)
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(
            f"{path}: an array of shape {shape}",
            needed="two, three or four dimensions, none of size 0",
            cure="save it as one image in space",
        )
    x, y, z, *rest = (*shape, 1) if len(shape) == 2 else shape
    channels = [n for n in rest if n > 1]
    if len(channels) > 1:
        raise FormatError(
            f"{path}: an array of shape {shape}, which has both a time and a channel dimension",
            needed="at most one dimension beyond space",
            cure="write one file for each point in time",
        )
    if isinstance(image, nibabel.MGHImage):
        ras, notes = mgh.affine(image)
    elif not isinstance(image, nibabel.Nifti1Pair):
        ras, notes = analyze.affine(path, image)
    else:
        ras, notes = _affine(path, cast("Nifti1Header", raw_header(image)), image.header, shape)
    lps = _RAS_TO_LPS @ ras
    geometry, snapped = make_geometry(path, (z, y, x), lps[:, [2, 1, 0, 3]])
    return _Header(geometry, (channels[0] if channels else 1, z, y, x), notes + snapped)


def _affine(
    path: Path, header: Nifti1Header, mended: Nifti1Header, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Compute the affine from the stored header, and note what nibabel changed in it."""
    stored = shortest(header["pixdim"][1:4])
    is_flat = len(shape) == 2 or shape[2] == 1
    sizes = np.where(stored == 0, 1.0, np.abs(stored))
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    notes = _mended_notes(header, mended)
    sform = _sform(header, sizes[2] if is_flat else None) if sform_code > 0 else None
    if sform is not None and qform_code > 0 and not _is_grid(sform):
        notes.append(
            "the sform is no grid (a number that is not finite, or an axis of length 0); the qform"
            " is used"
        )
        sform = None
    used = stored[:2] if is_flat else stored
    odd = not (np.isfinite(used).all() and (used > 0).all())
    if odd:
        mending = "1 mm is assumed for 0, and the sign is dropped"
        if sform is not None:
            mending = "those of the sform are used"
        words = " x ".join(f"{size:g}" for size in used)
        notes.append(f"voxel sizes (pixdim) of the header are {words}; {mending}")
    if sform is not None:
        affine = sform
        if qform_code > 0 and not odd:
            notes += _disagreement(path, affine, header, sizes, shape)
    elif qform_code > 0:
        affine = _qform(path, header, sizes)
        qfac = float(header["pixdim"][0])
        if abs(qfac) != 1:
            notes.append(f"qfac (pixdim[0]) is {qfac:g}; {-1 if qfac < 0 else 1} is taken")
    else:
        affine = np.diag([*sizes, 1.0])
        notes.append(
            "the header says nothing of orientation (sform and qform code 0): axes are taken to run"
            " to Right, Anterior and Superior (method 1 of the NIfTI standard); left and right are"
            " not certain"
        )
    unit = int(header["xyzt_units"]) & 7
    if unit in _MM_PER_UNIT:
        affine[:3] *= _MM_PER_UNIT[unit]
        notes.append(
            f"lengths are stored in {'metres' if unit == 1 else 'micrometres'} and were converted"
            " to millimetres"
        )
    return affine, tuple(notes)


def _is_grid(affine: NDArray[np.float64]) -> bool:
    """Return True if an affine is finite and none of its axes has length 0."""
    return bool(np.isfinite(affine).all() and np.linalg.norm(affine[:3, :3], axis=0).min() > 1e-6)


def _mended_notes(header: Nifti1Header, mended: Nifti1Header) -> list[str]:
    """List fields that nibabel mends silently, and a slope that is none."""
    import nibabel

    notes = []
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    no_slope = slope == 0 or np.isnan(slope)  # usual with an intercept of 0 or nan
    if np.isinf(slope) or (no_slope and intercept != 0 and not np.isnan(intercept)):
        notes.append(
            f"scl_slope is {slope:g} and scl_inter {intercept:g}, which means no scaling (NIfTI"
            " standard): the stored numbers are taken, nothing is added"
        )
    notes += [
        f"{name} is {int(header[name])}, which the NIfTI standard does not know; "
        f"it is taken as {'known' if header[name] > 0 else 'not set'}"
        for name in ("sform_code", "qform_code")
        if header[name] != mended[name]
    ]
    if header["bitpix"] != mended["bitpix"]:
        dtype = nibabel.nifti1.data_type_codes.dtype[int(mended["datatype"])]
        notes.append(
            f"bitpix is {int(header['bitpix'])}, but the data type {dtype} has"
            f" {int(mended['bitpix'])} bits; the data type is taken"
        )
    return notes


def _sform(header: Nifti1Header, thickness: float | None) -> NDArray[np.float64]:
    """Read the sform.

    Where a single slice of that thickness has no third axis, one perpendicular to the others is put
    in.
    """
    affine = np.eye(4)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        affine[row] = shortest(header[name])
    if thickness is not None and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        length = float(np.linalg.norm(normal))
        if length > 0:
            affine[:3, 2] = normal / length * thickness
    return affine


def _qform(path: Path, header: Nifti1Header, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the qform from quaternion, voxel sizes, a flip of the third axis, and an offset.

    Raises:
        FormatError: the quaternion is none.
    """
    from nibabel.quaternions import quat2mat

    to_rotation: Any = quat2mat  # nibabel's annotations are partial
    untyped: Any = header
    try:
        rotation = np.asarray(to_rotation(untyped.get_qform_quaternion()), dtype=np.float64)
    except ValueError as error:
        raise FormatError(
            f"{path}: the qform is not valid ({error}), and there is no valid sform",
            needed="an orientation",
            cure="correct the header, or convert the image again from its source",
        ) from error
    rotation[np.abs(rotation) < 1e-7] = 0.0  # the quaternion is stored in 32 bits
    flip = -1.0 if float(header["pixdim"][0]) < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (sizes * (1.0, 1.0, flip))
    affine[:3, 3] = [float(shortest(np.asarray(header[f"qoffset_{axis}"]))) for axis in "xyz"]
    return affine


def _disagreement(
    path: Path,
    sform: NDArray[np.float64],
    header: Nifti1Header,
    sizes: NDArray[np.float64],
    shape: tuple[int, ...],
) -> list[str]:
    """Note that sform and qform put a corner of the image at different places."""
    try:
        qform = _qform(path, header, sizes)
    except FormatError:
        return ["the qform is not valid; the sform is used"]
    x, y, z = (*shape, 1)[:3]
    corners = np.array(np.meshgrid((0, x - 1), (0, y - 1), (0, z - 1), [1], indexing="ij")).reshape(
        4, 8
    )
    gap = float(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max())
    if gap <= _DISAGREE_VOXELS * np.linalg.norm(sform[:3, :3], axis=0).min():
        return []
    disagree = f"sform and qform disagree by up to {gap:.3g} mm"
    return [f"{disagree}; the sform is used, as the NIfTI standard prefers it (method 3)"]


def _channels_first(
    path: Path, raw: NDArray[np.generic], layout: tuple[int, int, int, int]
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Bring the stored (X, Y, Z, ...) to (C, Z, Y, X); colours become channels."""
    channels, z, y, x = layout
    if not raw.dtype.names:
        return raw.reshape(x, y, z, channels, order="F").transpose(3, 2, 1, 0), ()
    if channels > 1:
        raise FormatError(
            f"{path}: {channels} colour images in one file",
            needed="one colour image, or grey channels",
            cure="write one file for each",
        )
    colours = cast("NDArray[np.void]", raw)
    planes = np.stack(
        [colours[name].reshape(x, y, z, order="F").T for name in raw.dtype.names]
    )  # (3 or 4, Z, Y, X)
    if len(planes) == 3:
        return planes, ()
    if (planes[3] == planes[3].flat[0]).all():
        return planes[:3], ("a uniform alpha channel was dropped",)
    raise FormatError(
        f"{path}: a colour image with transparency",
        needed="opaque colours",
        cure="flatten the image, then save it as RGB",
    )
