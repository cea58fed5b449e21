"""Explanation maps of a classifier, drawn in colours over the image."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from hilum.dataset.classes import SEPARATOR
from hilum.dataset.reading import read_region
from hilum.errors import HilumError
from hilum.report.canvas import new_canvas, plain, save_png
from hilum.report.overlay import display_orientation, grey_or_colour, height_of, slice_title
from hilum.volume import reorient

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.dataset.classes import ClassTable
    from hilum.volume import Volume

_FAINTEST = 0.15
"""Share of the map's largest value; what is below is not coloured."""
_STRENGTH = 0.55
_MARK = "#00e5ff"
"""Colour of the outline and the cross: neither grey nor a colour of the map."""
_LEGEND = "colours: how much a place speaks for the class"


class Coverage(BaseModel):
    """The coverage that a prediction set guarantees."""

    coverage: float


class PredictedClasses(BaseModel):
    """The prediction of a case, as far as its picture shows it; `<case>.json` can be read as one.

    Args:
        predicted: the classes that are called, joined by "|".
        probabilities: of each class.
        calibrated: the same, calibrated; None where nothing was calibrated.
        prediction_set: the classes that the case may have; None where there are no sets.
        promise: the coverage of the set.
        refuse: whether the image is unlike the training images.
    """

    predicted: str
    probabilities: dict[str, float]
    calibrated: dict[str, float] | None = None
    prediction_set: tuple[str, ...] | None = None
    promise: Coverage | None = None
    refuse: bool | None = None


def plot_maps(
    image: Volume,
    maps: Sequence[tuple[str, Volume]],
    table: ClassTable,
    path: Path,
    *,
    prediction: PredictedClasses | None = None,
    case: Case | None = None,
) -> None:
    """Draw the maps of a case, a row a class: one slice with and without the map.

    The slice is the one where the case's mask is largest, or its point lies, which are marked;
    without them the one where the map is strongest. The title says which it is. Where these differ,
    it also names the slice where the map is strongest.

    Args:
        image: (C, Z, Y, X); the first channel is drawn, or all three of a colour picture.
        maps: of each class, by its name ("": not known), (1, Z, Y, X) on the image's grid.
        table: names of the classes.
        path: of the PNG; not written where there is no map.
        prediction: the prediction that the heading states; None: the case's name alone.
        case: what may hold a mask or a point; a mask that cannot be laid on the image is not drawn.
    """
    if not maps:
        return
    code = display_orientation(image.geometry)
    shown = reorient(image, code)
    figure = new_canvas(8.6, (4.0 * height_of(shown) + 0.4) * len(maps) + 1.0)
    rows = np.atleast_2d(figure.subplots(len(maps), 2))
    _, y, x = shown.geometry.spacing
    marked = _Marks.of(case, shown, code)
    for (bare, coloured), (name, volume) in zip(rows, maps, strict=True):
        heat = reorient(volume, code).array[0]
        strongest = strongest_slice(heat) if heat.any() else None
        z, why = marked.slice_of(strongest, len(heat))
        for axes in (bare, coloured):
            grey = grey_or_colour(shown.array[:, z])
            axes.imshow(grey, cmap="gray", aspect=y / x, interpolation="nearest")
            axes.set_axis_off()
        colours = coloured.imshow(
            heat[z],
            cmap="inferno",
            vmin=0,
            vmax=1,
            alpha=np.where(heat[z] > _FAINTEST * max(float(heat.max()), 1e-6), _STRENGTH, 0.0),
            aspect=y / x,
            interpolation="bilinear",
        )
        for axes in (bare, coloured):
            marked.mark(axes, z)
        bar = figure.colorbar(colours, ax=coloured, shrink=0.7, ticks=[0, 1])
        bar.ax.set_yticklabels(["nothing", "most"])
        coloured.set_title(f"what speaks for {plain(name)}" if name else "")
        place = slice_title(code, z, len(heat))
        lines = [f"{place}, {why}" if place else ""]
        if strongest is None:
            lines.append("the map is empty: nothing speaks for it")
        elif strongest != z:
            lines.append(f"the map is strongest in slice {strongest + 1}")
        bare.set_title("\n".join(filter(None, lines)), fontsize=10)
    figure.suptitle(plain(_heading(path.stem, prediction, table)), fontsize=11)
    figure.supxlabel(_LEGEND + marked.legend, fontsize=9)
    save_png(figure, path, dpi=80)


def strongest_slice(heat: NDArray[np.floating]) -> int:
    """Return the slice of a map (Z, Y, X) with its largest value; of several the one with most."""
    return max(range(len(heat)), key=lambda z: (float(heat[z].max()), float(heat[z].sum())))


@dataclass(frozen=True)
class _Marks:
    """Marks of a case's region or point on the image as it is drawn.

    Args:
        mask: (Z, Y, X) bool; None where there is none.
        point: (z, y, x) in voxels; None where there is none.
    """

    mask: NDArray[np.bool_] | None = None
    point: tuple[float, ...] | None = None

    @classmethod
    def of(cls, case: Case | None, shown: Volume, code: str) -> _Marks:
        """Choose what is shown of a case, whose image is plotted as `shown`, turned to `code`."""
        if case is None:
            return cls()
        if case.region is not None:
            # the model need not have looked at it; what it cannot do without it has refused
            with suppress(HilumError):
                region = reorient(read_region(case), code).array
                if region.shape[1:] == shown.array.shape[1:] and region.any():
                    return cls(mask=region[0] != 0)
        if case.centre_mm is None:
            return cls()
        return cls(point=tuple(shown.geometry.world_to_index(case.centre_mm).tolist()))

    @property
    def legend(self) -> str:
        """Legend texts of the marks."""
        if self.mask is not None:
            return "; outlined: the mask"
        return "" if self.point is None else "; cross: the point"

    def slice_of(self, strongest: int | None, slices: int) -> tuple[int, str]:
        """Return the slice to draw and why: of the mask, point or map, else the middle one."""
        if self.mask is not None:
            return int(self.mask.sum(axis=(1, 2)).argmax()), "where the mask is largest"
        if self.point is not None and -0.5 <= self.point[0] < slices - 0.5:
            return round(self.point[0]), "where the point lies"
        if strongest is None:
            return slices // 2, "in the middle"
        return strongest, "where the map is strongest"

    def mark(self, axes: Axes, z: int) -> None:
        """Mark it on a slice."""
        if self.mask is not None and self.mask[z].any():
            axes.contour(self.mask[z].astype(float), levels=[0.5], colors=[_MARK], linewidths=1.4)
        if self.point is not None:
            _, y, x = self.point
            axes.plot(x, y, "+", color=_MARK, markersize=14, markeredgewidth=1.4)


def _heading(case: str, prediction: PredictedClasses | None, table: ClassTable) -> str:
    """Return the case and its prediction, in words."""
    if prediction is None:
        return case
    probabilities = prediction.calibrated or prediction.probabilities
    findings = table.kind == "multilabel"
    parts = prediction.predicted.split(SEPARATOR)
    called = ", ".join(f"{name}: {p:.2f}" for name, p in probabilities.items() if name in parts)
    called = called or prediction.predicted or "none of the findings"
    lines = [f"{case}   {'class ' if prediction.predicted and not findings else ''}{called}"]
    if prediction.prediction_set is not None:
        names = (", " if findings else " or ").join(prediction.prediction_set) or "none"
        sure = f" ({100 * prediction.promise.coverage:.0f} %)" if prediction.promise else ""
        lines.append(f"may be: {names}{sure}")
    if prediction.refuse:
        lines.append("unlike the training images: not to be used")
    return "\n".join(lines)
