"""One HTML file from sections of text, tables, plots and image viewers; nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, ClassVar

from jinja2 import Environment, FunctionLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGE = "hilum.report.html"


@dataclass(frozen=True)
class Table:
    """A table with a caption, one header row, and the first column naming its rows."""

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        title: short, above it.
        image: data URI of the picture.
        text: what it shows, in words, for who does not see it and beneath it.
    """

    kind: ClassVar[str] = "plot"
    title: str
    image: str
    text: str


@dataclass(frozen=True)
class View:
    """Slices of one image across one axis, as tiles of one picture below each other.

    Args:
        name: "axial", "coronal", "sagittal", or "picture".
        image: data URI of the grey or colour tiles (slices * height, width).
        outlines: data URI of transparent tiles of the same size with the outlines.
        slices: number of tiles.
        width: of a tile in pixels.
        height: of a tile in pixels, as stored.
        shown_height: of a tile in pixels where voxels are not square.
        first: tile that is shown first.
        labels: text of each tile, such as "slice 12 of 40".
    """

    name: str
    image: str
    outlines: str
    slices: int
    width: int
    height: int
    shown_height: int
    first: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """A range of intensities to show, as parts 0..1 of what the tiles hold."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Viewer:
    """A case of the gallery: up to three views with a slider each.

    Args:
        title: case and why it is shown.
        text: its metrics in words.
        legend: (colour, text) of the outlines.
        views: at least one.
        windows: presets, the first one is used first.
    """

    kind: ClassVar[str] = "viewer"
    title: str
    text: str
    legend: tuple[tuple[str, str], ...]
    views: tuple[View, ...]
    windows: tuple[Window, ...]


Block = Table | Plot | Viewer


@dataclass(frozen=True)
class Section:
    """A section of the page: paragraphs, then blocks."""

    title: str
    paragraphs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def anchor(self) -> str:
        """Name of the section in the page's address."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class KeyNumber:
    """One of the numbers that matter: value with its interval, and what it is."""

    value: str
    interval: str
    name: str


def render(
    title: str, summary: Sequence[str], numbers: Sequence[KeyNumber], sections: Sequence[Section]
) -> str:
    """Return the page.

    Args:
        title: of the page.
        summary: sentences in plain words.
        numbers: the numbers that matter, shown large.
        sections: the rest, in order; each is in the table of contents.
    """

    def load(name: str) -> str:
        return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        summary=summary,
        numbers=numbers,
        sections=[section for section in sections if section.paragraphs or section.blocks],
        style=load("page.css"),
        script=load("page.js"),
    )
