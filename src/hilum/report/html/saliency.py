"""The gallery of a classification: images with the saved maps of what speaks for a class."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset import open_dataset, read_case
from hilum.errors import HilumError, counted
from hilum.io import read_volume
from hilum.report.heat import strongest_slice
from hilum.report.html.document import Section, Viewer
from hilum.report.html.gallery import case_anchor, grey_range, make_view, planes
from hilum.report.mesh import linear_weights
from hilum.targets.predictions import in_file_names, predictions_file
from hilum.volume import reorient

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from hilum.dataset import Case
    from hilum.evaluation import ClassEvaluation

    Colour = tuple[int, int, int, int]

_log = logging.getLogger("hilum")
_LEVELS = 15
"""Steps of a map's colours."""
_FAINTEST = 0.15
"""Share of the map's largest value; what is below is not coloured."""
_OPACITY = 140
_EACH = 4
"""Cases that are shown of the most wrong, and of the most right."""


def saliency_section(evaluation: ClassEvaluation, images: Mapping[str, Path]) -> Section:
    """Show the cases with maps whose predictions are most wrong and most right.

    Args:
        evaluation: its cases, and the folder of the predictions in which maps were saved.
        images: image of each case, where the reference is a table that knows none.

    Returns:
        A section without content where no maps were saved.
    """
    name, folder = "Maps", predictions_file(Path(evaluation.record.predictions)).parent
    maps = _saved_maps(evaluation, folder)
    if not maps:
        return Section(name)
    known = {**_images_of(evaluation), **images}
    viewers: list[Viewer] = []
    unknown = 0
    for case, reason in _chosen(evaluation, maps).items():
        if case not in known:
            unknown += 1
            continue
        try:
            viewers += _viewers(evaluation, case, reason, known[case], maps[case])
        except HilumError as error:
            _log.warning("case %s is not in the report's gallery: %s", case, error)
    text = (
        "Colours show how much a place speaks for a class, from little (dark) to the most of its"
        " map (yellow). Each view begins with the slice where the map is strongest. A map says"
        " where the model looks, and not whether it is right."
    )
    more = f" Of {counted(unknown, 'case')} with maps no image is known." if unknown else ""
    return Section(name, (text + more,), tuple(viewers))


def _saved_maps(evaluation: ClassEvaluation, folder: Path) -> dict[str, dict[str, Path]]:
    """Find the maps that `hilum predict` saved, by case and class."""
    parts = in_file_names(evaluation.classes)
    there = {file.name: file for file in folder.glob("*_map.nii.gz")}
    found = {
        score.case: {
            name: there[file]
            for name, part in parts.items()
            if (file := f"{score.case}_{part}_map.nii.gz") in there
        }
        for score in evaluation.scores
    }
    return {case: maps for case, maps in found.items() if maps}


def _images_of(evaluation: ClassEvaluation) -> dict[str, Case | Path]:
    """Find the image of each case in the data set of the references; none where it is a table."""
    try:
        return {case.id: case for case in open_dataset(evaluation.record.reference).cases}
    except HilumError as error:
        _log.warning("no images in the report: %s", error)
        return {}


def _chosen(evaluation: ClassEvaluation, cases: Collection[str]) -> dict[str, str]:
    """Choose the cases with the highest and the lowest Brier score, with the reason."""
    values = [one for one in evaluation.case_values if one.metric == "brier" and not one.part]
    ranked = sorted((one for one in values if one.case in cases), key=lambda one: -one.value)
    most_right = {one.case: "among the most right" for one in ranked[-_EACH:]}
    return {**{one.case: "among the most wrong" for one in ranked[:_EACH]}, **most_right}


def _viewers(
    evaluation: ClassEvaluation,
    case: str,
    reason: str,
    source: Case | Path,
    maps: Mapping[str, Path],
) -> list[Viewer]:
    """Show a case, once for each class that a map was saved of."""
    image = read_volume(source) if isinstance(source, Path) else read_case(source)
    score = next(one for one in evaluation.scores if one.case == case)
    shares = zip(evaluation.classes.names, score.best, strict=True)
    text = f"It is {score.reference}; " + ", ".join(f"{name} {share:.2f}" for name, share in shares)
    grey = grey_range(image)
    viewers = []
    for number, (name, file) in enumerate(maps.items()):
        views = []
        for plane, code in planes(image).items():
            heat = reorient(read_volume(file), code).array[0]
            parts = heat / max(float(heat.max()), 1e-6)
            shown = np.ones(heat.shape, np.bool_) if plane == "picture" else parts > _FAINTEST
            turned, first = reorient(image, code), strongest_slice(heat)
            views.append(make_view(plane, turned, shown, first, _Heat(parts), grey))
        viewers.append(
            Viewer(
                f"{case}, {reason}: what speaks for {name}",
                f"{text}.",
                (),
                tuple(views),
                grey.windows,
                anchor="" if number else case_anchor(case),
                layer="colours",
            )
        )
    return viewers


class _Heat:
    """Colours of a map (Z, Y, X), 0..1."""

    def __init__(self, parts: NDArray[np.floating]) -> None:
        from matplotlib import colormaps

        steps = (np.arange(_LEVELS) + 1) / _LEVELS
        colours = (255 * colormaps["inferno"](steps)[:, :3]).round().astype(int).tolist()
        self.palette: list[Colour] = [(0, 0, 0, 0), *((*colour, _OPACITY) for colour in colours)]
        self._parts = parts

    def paint(
        self, place: int, rows: slice, columns: slice, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return the steps (height, width) of a part of a slice; 0 where it is faint."""
        part = self._parts[place, rows, columns]
        down, across = (
            linear_weights(old, new) for old, new in zip(part.shape, size[::-1], strict=True)
        )
        share = down @ part @ across.T
        steps = np.ceil(np.clip(share, 0, 1) * _LEVELS)
        return np.where(share > _FAINTEST, steps, 0).astype(np.uint8)
