"""The affine of files that nibabel opens, in RAS: NIfTI, Analyze 7.5 pairs, FreeSurfer's MGH.

Of the two transforms of a NIfTI file the sform is used where its code is above 0, else the qform,
else the voxel sizes alone (methods 3, 2 and 1 of the standard, https://nifti.nimh.nih.gov/nifti-1).
A header keeps 32-bit numbers: 0.9 is stored as 0.89999998; the shortest decimal that gives the
stored number is taken, so that a grid that was written comes back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hilum.errors import FormatError
from hilum.files.record import shortest
from hilum.io.opened import raw_header

if TYPE_CHECKING:
    from nibabel.freesurfer.mghformat import MGHImage
    from nibabel.nifti1 import Nifti1Header
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

_DISAGREE_VOXELS = 0.05  # below this the difference of sform and qform is how they are stored
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # xyzt_units: 1 metre, 2 millimetre, 3 micrometre
# the field hist.orient: transverse, coronal, sagittal; then flipped
_ORIENT = ("LAS", "LSA", "ASL", "LPS", "LIA", "AIL")
_RAS = {"L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
_NAMES = {"L": "Left", "A": "Anterior", "P": "Posterior", "S": "Superior", "I": "Inferior"}
# bytes: version, four sizes, type and degrees of freedom, of 4 bytes each, come before goodRASFlag
_FLAG_AT = 28


def affine_of(path: Path, image: SpatialImage) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Compute the (4, 4) from (i, j, k) to RAS millimetres, and notes on what was assumed.

    Raises:
        FormatError: the header states no valid orientation.
    """
    import nibabel

    if isinstance(image, nibabel.MGHImage):
        return _mgh(image)
    if not isinstance(image, nibabel.Nifti1Pair):
        return _analyze(path, image)
    return _nifti(path, cast("Nifti1Header", raw_header(image)), image.header, image.shape)


def _nifti(
    path: Path, header: Nifti1Header, mended: Nifti1Header, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Compute the affine from the stored header, and note what nibabel changed in it."""
    stored = shortest(header["pixdim"][1:4])
    is_flat = len(shape) == 2 or shape[2] == 1
    sizes = np.where(stored == 0, 1.0, np.abs(stored))
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    notes = _mended_notes(header, mended)
    sform = _sform(header, sizes[2] if is_flat else None) if sform_code > 0 else None
    if sform is not None and qform_code > 0:
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        if not (np.isfinite(sform).all() and lengths.min() > 1e-6):
            notes.append(
                "the sform is no grid (a number that is not finite, or an axis of length 0); the"
                " qform is used"
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


def _analyze(path: Path, image: SpatialImage) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Compute the (4, 4) from (i, j, k) to RAS millimetres, by SPM's .mat or hist.orient.

    Raises:
        FormatError: the orientation is none that the format knows.
    """
    mat = image.file_map["mat"].filename if "mat" in image.file_map else None
    if mat is not None and Path(mat).is_file():  # of SPM
        return np.asarray(image.affine, dtype=np.float64), (
            "an Analyze file; its orientation is that of the .mat file beside it",
        )
    header = raw_header(image)
    number = header["orient"].tobytes()[0] if header["orient"].tobytes() else 0
    if number >= len(_ORIENT):
        raise FormatError(
            f"{path} is an Analyze file of the orientation {number}",
            needed="an orientation from 0 to 5 (field hist.orient)",
            cure="convert it to NIfTI with the program that wrote it, which knows where left is",
        )
    letters = _ORIENT[number]
    stored = shortest(header["pixdim"][1:4])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([_RAS[letter] for letter in letters]).T * np.where(
        stored == 0, 1.0, np.abs(stored)
    )
    axes = ", ".join(_NAMES[letter] for letter in letters)
    unsure = "an Analyze file has no origin and no certain left"
    notes: tuple[str, ...] = (f"{unsure}; axes are taken to run to {axes} (hist.orient {number})",)
    if (stored <= 0).any():
        sizes = " x ".join(f"{size:g}" for size in stored)
        mended = "1 mm is assumed for 0, and the sign is dropped"
        notes += (f"voxel sizes of the header are {sizes}; {mended}",)
    return matrix, notes


def _mgh(image: MGHImage) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Compute the (4, 4) from (i, j, k) to RAS millimetres, and a note on a missing one."""
    header = image.header
    steps = shortest(header["Mdc"]).T * shortest(header["delta"])
    matrix = np.eye(4)
    matrix[:3, :3] = steps
    matrix[:3, 3] = shortest(header["Pxyz_c"]) - steps @ (header["dims"][:3] / 2)
    with image.file_map["image"].get_prepare_fileobj() as stream:
        stream.seek(_FLAG_AT)
        says = int.from_bytes(stream.read(2), "big")
    if says:
        return matrix, ()
    note = (
        "no spacing and orientation in the header (goodRASFlag 0); 1 mm and axes to Left, Inferior"
        " and Anterior are assumed"
    )
    return matrix, (note,)
