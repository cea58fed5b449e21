"""The grid of Analyze 7.5 pairs (.hdr, .img without NIfTI's mark): spacing and orientation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import FormatError
from hilum.io.opened import raw_header
from hilum.io.record import shortest

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import NDArray

# the field hist.orient: transverse, coronal, sagittal; then flipped
_ORIENT = ("LAS", "LSA", "ASL", "LPS", "LIA", "AIL")
_RAS = {"L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
_NAMES = {"L": "Left", "A": "Anterior", "P": "Posterior", "S": "Superior", "I": "Inferior"}


def affine(path: Path, image: SpatialImage) -> tuple[NDArray[np.float64], tuple[str, ...]]:
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
            f"{path}: an Analyze file of the orientation {number}",
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
