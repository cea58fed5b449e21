"""Where in an image an answer comes from: a map in colours over it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.classes import SEPARATOR
from hilum.io import atomic_path, read_volume
from hilum.report.overlay import draw_overlay, grey_or_colour, height_of
from hilum.tasks.predictions import in_file_names
from hilum.volume import reorient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hilum.dataset.classes import ClassTable
    from hilum.volume import Volume

_FAINTEST = 0.15
"""Of the map's largest value; what is below is not coloured."""
_STRENGTH = 0.55


def draw_heat(image: Volume, files: Sequence[Path], table: ClassTable, path: Path) -> None:
    """Draw the maps of a case, a row a class: the slice where the map is strongest, with and without it; and what was answered.

    Args:
        image: (C, Z, Y, X); the first channel is drawn, or all three of a colour picture.
        files: what was written for the case; those named `..._<class>_map.nii.gz` are drawn. Where the answer is among them as
            JSON its class, probability and set are said too.
        table: names of the classes.
        path: of the PNG; not written where there is no map.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = [file for file in files if file.name.endswith("_map.nii.gz")]
    if not maps:
        return
    flat = image.geometry.is_2d
    shown = image if flat else reorient(image)
    figure = Figure(figsize=(8.0, (4.0 * height_of(shown) + 0.4) * len(maps) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    rows = np.atleast_2d(figure.subplots(len(maps), 2))
    _, y, x = shown.geometry.spacing
    parts, said = in_file_names(table), _said(files)
    for (plain, coloured), file in zip(rows, maps, strict=True):
        volume = read_volume(file)
        heat = (volume if flat else reorient(volume)).array[0]
        z = int(heat.sum(axis=(1, 2)).argmax())
        strength = np.where(heat[z] > _FAINTEST * max(float(heat.max()), 1e-6), _STRENGTH, 0.0)
        for place in (plain, coloured):
            place.imshow(grey_or_colour(shown.array[:, z]), cmap="gray", aspect=y / x, interpolation="nearest")
            place.set_axis_off()
        coloured.imshow(heat[z], cmap="inferno", vmin=0, vmax=1, alpha=strength, aspect=y / x, interpolation="bilinear")
        name = next((one for one, part in parts.items() if file.name.endswith(f"_{part}_map.nii.gz")), "")
        coloured.set_title(_title(name, said))
        plain.set_title("" if flat else f"slice {z + 1} of {shown.geometry.shape[0]}")
    figure.suptitle(_answer(path.stem, said), fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=80)


def _said(files: Sequence[Path]) -> dict[str, Any] | None:
    """What was answered, where that lies beside the maps."""
    written = next((file for file in files if file.suffix == ".json" and file.is_file()), None)
    found: dict[str, Any] | None = None if written is None else json.loads(written.read_text(encoding="utf-8"))
    return found


def _title(name: str, said: dict[str, Any] | None) -> str:
    """Of the map of a class; with how far it can be believed where that was checked."""
    check = ((said or {}).get("map_checks") or {}).get(name)
    if check is None:
        return f"what speaks for {name}" if name else ""
    agreed = "cannot be compared" if check["agreement"] is None else f"agrees {check['agreement']:.2f}"
    return f"what speaks for {name}\n{agreed} with {check['beside']}, {check['random_weights']:.2f} with random weights"


def _answer(case: str, said: dict[str, Any] | None) -> str:
    """The case, and what was answered."""
    if said is None:
        return case
    probabilities = said["calibrated"] or said["probabilities"]
    named = [name for name in probabilities if name in said["predicted"].split(SEPARATOR)] or [said["predicted"]]
    called = ", ".join(f"{name} {probabilities[name]:.2f}" if name in probabilities else name for name in named)
    lines = [f"{case}: {called or 'none of the findings'}"]
    if said["prediction_set"] is not None:
        lines.append(f"may be: {', '.join(said['prediction_set']) or 'none'}")
    if said["refuse"]:
        lines.append("unlike the training images: not to be used")
    return "\n".join(lines)


DRAWINGS: dict[str, Callable[..., None]] = {"segmentation": draw_overlay, "classification": draw_heat}
"""What is drawn of an answer, by task: called as draw(image, files, table, path)."""
