"""The surfaces of a case of the gallery, seen in three dimensions."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

import numpy as np

from hilum.report.html.document import Scene, Surface
from hilum.report.mesh import coarse_shape, mask_mesh
from hilum.volume import Box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from hilum.volume import Volume

_STEPS = 65535  # of a coordinate, over the longest side


def make_scene(
    prediction: Volume, reference: Volume | None, names: Mapping[int, str]
) -> Scene | None:
    """Make the surfaces of every label of a prediction and its reference.

    Args:
        prediction: (1, Z, Y, X).
        reference: the same on the same grid; None where there is none.
        names: of the labels that are shown.

    Returns:
        None of a picture, and where neither holds any of the labels.
    """
    volumes = {"reference": reference, "prediction": prediction}
    sides = {side: one.array[0] for side, one in volumes.items() if one is not None}
    shown = np.asarray(np.isin([*sides.values()], [*names]).any(axis=0))  # (Z, Y, X)
    box = Box.around(shown)
    if prediction.geometry.is_2d or box is None:
        return None
    cells = coarse_shape(box.shape, prediction.geometry.spacing)
    meshes = [
        (side, name, mesh)
        for number, name in names.items()
        for side, labels in sides.items()
        if (mesh := mask_mesh(labels[box.slices] == number, cells)) is not None
    ]
    world = [  # (V, 3) in x, y, z
        prediction.geometry.index_to_world(mesh.vertices + box.start) for *_, mesh in meshes
    ]
    every = np.concatenate(world)
    low, size_mm = every.min(axis=0), np.ptp(every, axis=0)
    step_mm = float(size_mm.max()) / _STEPS
    return Scene(
        surfaces=tuple(
            Surface(name, side, _coded((vertices - low) / step_mm), _coded(mesh.triangles))
            for (side, name, mesh), vertices in zip(meshes, world, strict=True)
        ),
        step_mm=step_mm,
        size_mm=(float(size_mm[0]), float(size_mm[1]), float(size_mm[2])),
        cell_mm=prediction.geometry.spacing[0] * box.shape[0] / cells[0],
    )


def _coded(values: NDArray[np.generic]) -> str:
    """Code rows (N, 3) of whole numbers 0 to 65535, which resemble the rows before them.

    Differences to the row before, modulo 2 ** 16, low byte first, by deflate and base64.
    """
    steps = np.diff(values.round().astype("<u2"), axis=0, prepend=np.zeros((1, 3), "<u2"))
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii")
