"""The grid of FreeSurfer's MGH files (.mgz, .mgh): spacing, directions, centre, in RAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.io.record import shortest

if TYPE_CHECKING:
    from nibabel.freesurfer.mghformat import MGHImage
    from numpy.typing import NDArray

# bytes: version, four sizes, type and degrees of freedom, of 4 bytes each, come before goodRASFlag
_FLAG_AT = 28


def affine(image: MGHImage) -> tuple[NDArray[np.float64], tuple[str, ...]]:
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
