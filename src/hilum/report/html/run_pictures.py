"""Pictures of some cases of a prediction run: outlines on their images, or maps that were drawn."""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING

from hilum.errors import HilumError
from hilum.inference.prediction_writer import PICTURES
from hilum.io import read_volume
from hilum.report.html.document import Picture, Section
from hilum.report.html.gallery import GalleryCase, make_viewer
from hilum.report.html.predicted import PredictedCases, PredictedLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hilum.inference.run_report import RunReport
    from hilum.report.html.document import Block, Viewer

_log = logging.getLogger("hilum")
_DOUBTFUL, _EACH = 3, 2
"""Cases that are shown: doubtful ones, and the first, middle and last by what is predicted. A case
takes up to a megabyte of the page."""
_MOST_BYTES = 4_000_000
"""Bytes of the pictures of a run, all together."""


def picture_section(
    folder: Path, run: RunReport, predicted: PredictedCases, images: Mapping[str, Path]
) -> Section:
    """Show cases on their images, else the pictures that the run drew itself."""
    title = "Pictures"
    chosen = choose(run, predicted)
    blocks: list[Block] = []
    if isinstance(predicted, PredictedLabels) and images:
        for case, reason in chosen.items():
            blocks += _viewers(case, reason, predicted, images)
        text = (
            "Left of the patient is on the right of axial and coronal slices. The sliders move"
            " through the slices, by mouse or by the arrow keys."
        )
    else:
        blocks += _pictures(folder / PICTURES, chosen)
        text = "As `hilum predict --pictures` drew them."
    if not blocks:
        none = (
            "None: give the images (`hilum report FOLDER --images IMAGES`), or predict with"
            " --pictures."
        )
        return Section(title, (none,))
    return Section(title, (text,), tuple(blocks))


def choose(run: RunReport, predicted: PredictedCases) -> dict[str, str]:
    """Choose cases to be shown: doubtful ones, and those of least, middle and most prediction.

    That is by volume of labels, or by how certain a class is.

    Returns:
        The reason for which each case is shown.
    """
    labels = isinstance(predicted, PredictedLabels)
    ranked = predicted.ranked
    doubtful = [one.case for one in run.cases if one.unlike and one.status != "failed"]
    middle = max(0, (len(ranked) - _EACH) // 2)
    groups: Sequence[tuple[str, Sequence[str]]] = (
        ("warned of or refused", [*doubtful, *predicted.refused][:_DOUBTFUL]),
        ("among the smallest" if labels else "among the least certain", ranked[:_EACH]),
        ("in the middle", ranked[middle : middle + _EACH]),
        ("among the largest" if labels else "among the most certain", ranked[::-1][:_EACH]),
    )
    chosen: dict[str, str] = {}
    for reason, cases in groups:
        for case in cases:
            chosen.setdefault(case, reason)
    return chosen


def _viewers(
    case: str, reason: str, predicted: PredictedLabels, images: Mapping[str, Path]
) -> list[Viewer]:
    """Return the viewer of a case; none where its files cannot be shown, which is logged."""
    file = images.get(case)
    if file is None or case not in predicted.maps:
        return []
    try:
        labels, image = predicted.read(case), read_volume(file)
    except HilumError as error:
        _log.warning("case %s is not in the report's pictures: %s", case, error)
        return []
    if not image.geometry.is_close(labels.geometry):
        _log.warning("case %s is not in the report's pictures: %s lies on another grid", case, file)
        return []
    shown = image if image.channels == 3 else image.with_array(image.array[:1])
    cells = zip(predicted.head, predicted.cells(case), strict=True)
    text = "; ".join(f"{name}: {cell}" for name, cell in cells)
    return [make_viewer(GalleryCase(f"{case}, {reason}", f"{text}.", shown, labels, None))]


def _pictures(folder: Path, chosen: Mapping[str, str]) -> list[Picture]:
    """Return the pictures of the chosen cases that are there, as far as the page's size allows."""
    found: list[Picture] = []
    left = _MOST_BYTES
    for case, reason in chosen.items():
        file = folder / f"{case}.png"
        if not file.is_file() or file.stat().st_size > left:
            continue
        content = file.read_bytes()
        left -= len(content)
        uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        found.append(Picture(f"{case}, {reason}", uri, "Drawn by the run."))
    return found
