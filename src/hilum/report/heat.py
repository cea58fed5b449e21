"""Explanation maps of a classifier, drawn in colours over the image."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.classes import SEPARATOR
from hilum.dataset.regions import read_region
from hilum.errors import HilumError
from hilum.io import atomic_path, read_volume
from hilum.report.overlay import drawn_code, grey_or_colour, height_of, slice_title
from hilum.tasks.predictions import in_file_names
from hilum.volume import reorient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.dataset.classes import ClassTable
    from hilum.volume import Volume

_FAINTEST = 0.15
"""Of the map's largest value; what is below is not coloured."""
_STRENGTH = 0.55
_MARK = "#00e5ff"
"""Of the outline and the cross: neither grey nor a colour of the map."""
_LEGEND = "colours: how much a place speaks for the class"


def draw_heat(
    image: Volume, files: Sequence[Path], table: ClassTable, path: Path, *, case: Case | None = None
) -> None:
    """Draw the maps of a case, a row a class: one slice with and without the map.

    And what was answered.

    The slice is the one where the case's mask is largest, or its point lies, which are marked;
    without them the one where the map is strongest. Where these differ, it is said where the map is
    strongest.

    Args:
        image: (C, Z, Y, X); the first channel is drawn, or all three of a colour picture.
        files: what was written for the case; those named `..._<class>_map.nii.gz` are drawn. Where
            the answer is among them as JSON its class, probability and set are said too.
        table: names of the classes.
        path: of the PNG; not written where there is no map.
        case: what may hold a mask or a point; a mask that cannot be laid on the image is not drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = [file for file in files if file.name.endswith("_map.nii.gz")]
    if not maps:
        return
    code = drawn_code(image.geometry)
    shown = reorient(image, code)
    figure = Figure(
        figsize=(8.6, (4.0 * height_of(shown) + 0.4) * len(maps) + 1.0), layout="constrained"
    )
    FigureCanvasAgg(figure)
    rows = np.atleast_2d(figure.subplots(len(maps), 2))
    _, y, x = shown.geometry.spacing
    parts, said, marked = in_file_names(table), _said(files), _Marked.of(case, shown, code)
    for (plain, coloured), file in zip(rows, maps, strict=True):
        heat = reorient(read_volume(file), code).array[0]
        strongest = int(heat.sum(axis=(1, 2)).argmax()) if heat.any() else None
        z = marked.slice_of(strongest, len(heat))
        strength = np.where(heat[z] > _FAINTEST * max(float(heat.max()), 1e-6), _STRENGTH, 0.0)
        for place in (plain, coloured):
            place.imshow(
                grey_or_colour(shown.array[:, z]),
                cmap="gray",
                aspect=y / x,
                interpolation="nearest",
            )
            place.set_axis_off()
        colours = coloured.imshow(
            heat[z],
            cmap="inferno",
            vmin=0,
            vmax=1,
            alpha=strength,
            aspect=y / x,
            interpolation="bilinear",
        )
        for place in (plain, coloured):
            marked.draw(place, z)
        bar = figure.colorbar(colours, ax=coloured, shrink=0.7, ticks=[0, 1])
        bar.ax.set_yticklabels(["nothing", "most"])
        name = next(
            (one for one, part in parts.items() if file.name.endswith(f"_{part}_map.nii.gz")), ""
        )
        coloured.set_title(f"what speaks for {name}" if name else "")
        plain.set_title(_which_slice(z, strongest, slice_title(code, z, len(heat))), fontsize=10)
    figure.suptitle(_answer(path.stem, said, table), fontsize=11)
    figure.supxlabel(_LEGEND + marked.legend, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)


@dataclass(frozen=True)
class _Marked:
    """Marks of a case's region or point on the image as it is drawn.

    Args:
        mask: (Z, Y, X) bool; None where there is none.
        point: (z, y, x) in voxels; None where there is none.
    """

    mask: NDArray[np.bool_] | None = None
    point: tuple[float, ...] | None = None

    @classmethod
    def of(cls, case: Case | None, shown: Volume, code: str) -> _Marked:
        """Of a case, whose image is drawn as `shown`, turned to `code`."""
        if case is None:
            return cls()
        mask = None
        if case.region is not None:
            with suppress(
                HilumError
            ):  # the model need not have looked at it; what it cannot do without it has refused
                region = reorient(read_region(case), code)
                mask = (
                    region.array[0] != 0
                    if region.array.shape[1:] == shown.array.shape[1:] and region.array.any()
                    else None
                )
        point = None
        if mask is None and case.centre_mm is not None:
            point = tuple(shown.geometry.world_to_index(case.centre_mm).tolist())
        return cls(mask, point)

    @property
    def legend(self) -> str:
        """Legend texts of the marks."""
        return (
            "; outlined: the mask"
            if self.mask is not None
            else "; cross: the point"
            if self.point is not None
            else ""
        )

    def slice_of(self, strongest: int | None, slices: int) -> int:
        """The slice to draw: of the mask, point or map, else the middle one."""
        if self.mask is not None:
            return int(self.mask.sum(axis=(1, 2)).argmax())
        if self.point is not None and -0.5 <= self.point[0] < slices - 0.5:
            return round(self.point[0])
        return slices // 2 if strongest is None else strongest

    def draw(self, place: Any, z: int) -> None:
        """Mark it on a slice."""
        if self.mask is not None and self.mask[z].any():
            place.contour(self.mask[z].astype(float), levels=[0.5], colors=[_MARK], linewidths=1.4)
        if self.point is not None:
            place.plot(
                self.point[2], self.point[1], "+", color=_MARK, markersize=14, markeredgewidth=1.4
            )


def _which_slice(z: int, strongest: int | None, title: str) -> str:
    """Of the slice that is drawn."""
    lines = [title] if title else []
    if strongest is None:
        lines.append("the map is empty: nothing speaks for it")
    elif strongest != z:
        lines.append(f"the map is strongest in slice {strongest + 1}")
    return "\n".join(lines)


def _said(files: Sequence[Path]) -> dict[str, Any] | None:
    """Read the prediction that lies beside the maps."""
    written = next((file for file in files if file.suffix == ".json" and file.is_file()), None)
    found: dict[str, Any] | None = (
        None if written is None else json.loads(written.read_text(encoding="utf-8"))
    )
    return found


def _answer(case: str, said: dict[str, Any] | None, table: ClassTable) -> str:
    """The case, and what was answered, in words."""
    if said is None:
        return case
    probabilities = said["calibrated"] or said["probabilities"]
    findings = table.kind == "multilabel"
    named = [name for name in probabilities if name in said["predicted"].split(SEPARATOR)] or [
        said["predicted"]
    ]
    called = ", ".join(
        f"{name}: {probabilities[name]:.2f}" if name in probabilities else name for name in named
    )
    lines = [
        f"{case}   {'' if findings or not called else 'class '}{called or 'none of the findings'}"
    ]
    if said["prediction_set"] is not None:
        promise = said.get("promise")
        sure = f" ({promise['coverage']:.0%})".replace("%", " %") if promise else ""
        lines.append(
            f"may be: {(', ' if findings else ' or ').join(said['prediction_set']) or 'none'}{sure}"
        )
    if said["refuse"]:
        lines.append("unlike the training images: not to be used")
    return "\n".join(lines)
