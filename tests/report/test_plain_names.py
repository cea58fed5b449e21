"""Names with dollar signs are drawn as they are: none is read as a formula."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "evaluation"))

from class_samples import made_up

from hilum.dataset import ClassTable
from hilum.report import plot_confusion, plot_curves, plot_maps, plot_overlay
from hilum.report.html.plots import box_plot, difference_plot, forest_plot
from hilum.report.html.ranking import rank_plot, run_plot
from hilum.volume import Geometry, LabelTable, Volume

NAME = "$T_{$1"
GRID = Geometry.from_spacing((3, 8, 9))
IMAGE = Volume(np.zeros((1, 3, 8, 9), np.float32), GRID)


def plots():
    """Every plot of a report that shows users' names."""
    interval = SimpleNamespace(
        value=0.5, low=0.4, high=0.6, n=8, difference=0.5, better="a", margin=None
    )
    of = {"model": NAME, "part": NAME, "metric": "dice"}
    rank = SimpleNamespace(**of, mean_rank=1.0, low=1, high=2, first=0.9)
    spread = SimpleNamespace(**of, values=(0.8, 0.9), error=0.1)
    ranking = SimpleNamespace(scaled=None, level=0.95, spreads=[spread])
    return {
        "box": box_plot({NAME: np.array([0.1, 0.5])}, f"Dice of {NAME}"),
        "forest": forest_plot([(NAME, interval)], "Sites", f"Dice of {NAME}"),
        "difference": difference_plot([(NAME, interval)]),
        "rank": rank_plot([rank], ranking),
        "run": run_plot(ranking),
    }


@pytest.mark.parametrize("name", ["box", "forest", "difference", "rank", "run"])
def test_plots_show_dollars(name):
    assert plots()[name].image.startswith("data:image/svg+xml")


@pytest.mark.parametrize("names", [("no", NAME), ("a", "b", NAME)])
def test_curves_and_confusion_show_dollars(names, tmp_path):
    table = ClassTable(names=names)
    scores = made_up(table, 60)
    plot_curves(scores, table, tmp_path / "curves.png")
    plot_confusion(scores, table, tmp_path / "confusion.png")
    assert len([*tmp_path.iterdir()]) == 2


def test_outlines_and_maps_show_dollars(tmp_path):
    labels = Volume(np.ones((1, 3, 8, 9), np.uint8), GRID)
    plot_overlay(IMAGE, labels, LabelTable.from_names({1: NAME}), tmp_path / "outlines.png")
    table = ClassTable(names=("no", NAME))
    plot_maps(IMAGE, [(NAME, IMAGE)], table, tmp_path / f"{NAME}.png")
    assert len([*tmp_path.iterdir()]) == 2
