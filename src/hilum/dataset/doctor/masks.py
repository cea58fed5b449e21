"""Looking at an annotation that is stored as one mask a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import compose_masks
from hilum.dataset.doctor.finding import Finding
from hilum.dataset.leaks.thumbnail import voxel_digest
from hilum.errors import DataError

if TYPE_CHECKING:
    from hilum.dataset.annotation import MaskFiles
    from hilum.volume import Volume


def examine_masks(
    case: str, masks: MaskFiles
) -> tuple[Volume | None, str | None, frozenset[int], list[Finding]]:
    """Make one label map of the masks of a case.

    Returns:
        The label map and its digest, None where a mask cannot be read; the labels present; and what
        is wrong.
    """
    try:
        volume, overlapping = compose_masks(masks)
    except DataError as error:
        cure = error.cure or "restore the file from its origin, or leave the case out (--fix does)"
        wrong = Finding.error(case, "unreadable", error.found, cure, fixable=True)
        return None, None, frozenset(), [wrong]
    present = frozenset(np.unique(volume.array).tolist()) - {0}
    findings = []
    if overlapping:
        findings.append(
            Finding.note(
                case,
                "mask-overlap",
                (
                    f"{overlapping} voxels lie in several masks of {masks.name}: each belongs to"
                    " the smaller mask"
                ),
                "nothing if that is right",
            )
        )
    if not present:
        findings.append(
            Finding.warning(
                case,
                "empty-annotation",
                f"no mask of {masks.name} holds anything",
                "draw it, or remove the case",
            )
        )
    return volume, voxel_digest(volume.array), present, findings
