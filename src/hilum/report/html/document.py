"""One HTML file from sections of text, tables, plots and image viewers; nothing is fetched."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, ClassVar

from jinja2 import Environment, FunctionLoader, StrictUndefined

from hilum.report.canvas import svg_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

_PACKAGE = "hilum.report.html"


@dataclass(frozen=True)
class Table:
    """A table with a caption, one header row, and the first column naming its rows.

    Args:
        caption: what it shows.
        head: names of its columns.
        rows: cells of each row.
        links: anchor in the page by text of a row's first cell.
        wrap: whether cells are sentences, which may take several lines.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    links: Mapping[str, str] = field(default_factory=dict)
    wrap: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """A plot.

    Args:
        title: short, above it.
        canvas: the figure, which stands in the page as SVG.
        text: what it shows, in words, for who does not see it and beneath it.
        data: its numbers, shown on request; None where the text or another table has them.
    """

    kind: ClassVar[str] = "plot"
    title: str
    canvas: Figure
    text: str
    data: Table | None = None

    @property
    def image(self) -> str:
        """Data URI of the picture."""
        coded = base64.b64encode(svg_text(self.canvas).encode()).decode("ascii")
        return f"data:image/svg+xml;base64,{coded}"


@dataclass(frozen=True)
class Picture:
    """A picture that is there already.

    Args:
        title: short, above it.
        image: data URI.
        text: what it shows, in words.
    """

    kind: ClassVar[str] = "picture"
    title: str
    image: str
    text: str


@dataclass(frozen=True)
class Drawing:
    """A drawing in the page itself, in the page's colours.

    Args:
        title: short, above it.
        svg: an element whose texts are escaped, with a label for who does not see it.
        text: what it shows, in words.
    """

    kind: ClassVar[str] = "drawing"
    title: str
    svg: str
    text: str


@dataclass(frozen=True)
class Prose:
    """Text with headings, lists and tables, as HTML that is safe to show."""

    kind: ClassVar[str] = "prose"
    html: str


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
class Surface:
    """The surface of one structure of a reference or a prediction.

    Args:
        name: of the structure.
        side: "reference" or "prediction".
        vertices: (V, 3) numbers of 16 bits: x to the left, y to the back, z to the head; coded as
            differences to the row before, deflate and base64.
        triangles: (T, 3) such numbers: the vertices of each face; coded alike.
    """

    name: str
    side: str
    vertices: str
    triangles: str


@dataclass(frozen=True)
class Scene:
    """Surfaces to be turned.

    Args:
        surfaces: at least one.
        step_mm: length of a step of the coordinates.
        size_mm: extent along x, y, z.
        cell_mm: side of the cells that the surfaces were made on.
    """

    surfaces: tuple[Surface, ...]
    step_mm: float
    size_mm: tuple[float, float, float]
    cell_mm: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its structures, each once."""
        return tuple(dict.fromkeys(one.name for one in self.surfaces))

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides that have a surface: "reference", "prediction" or both."""
        return tuple(dict.fromkeys(one.side for one in self.surfaces))

    @property
    def text(self) -> str:
        """Say what it shows, for who does not see it."""
        shown = [
            f"{name}{'' if len(of) == 2 else f' (only of the {of[0]})'}"
            for name in self.names
            if (of := [one.side for one in self.surfaces if one.name == name])
        ]
        size = " x ".join(f"{mm:.0f}" for mm in self.size_mm)
        return f"surfaces of {', '.join(shown)}, {size} mm from right to left, front to back, up"


@dataclass(frozen=True)
class Viewer:
    """A case of the gallery: up to three views with a slider each, and its surfaces.

    Args:
        title: case and why it is shown.
        text: its metrics in words.
        legend: (colour, text) of the outlines.
        views: at least one.
        windows: presets, the first one is used first.
        scene: its surfaces; None of a picture.
        anchor: name of the case in the page's address; "" where nothing leads to it.
        layer: name of what lies over the slices.
    """

    kind: ClassVar[str] = "viewer"
    title: str
    text: str
    legend: tuple[tuple[str, str], ...]
    views: tuple[View, ...]
    windows: tuple[Window, ...]
    scene: Scene | None = None
    anchor: str = ""
    layer: str = "outlines"


Block = Table | Plot | Picture | Drawing | Prose | Viewer


@dataclass(frozen=True)
class Section:
    """A section of the page: paragraphs, then blocks."""

    title: str
    paragraphs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def anchor(self) -> str:
        """Name of the section in the page's address."""
        return slug(self.title)


def slug(text: str) -> str:
    """Return a text as a name of lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class KeyNumber:
    """One of the numbers that matter: value with its interval, and what it is."""

    value: str
    interval: str
    name: str


@dataclass(frozen=True)
class Document:
    """A report.

    Args:
        title: of the page.
        summary: sentences in plain words.
        numbers: the numbers that matter, shown large.
        sections: the rest, in order; each is in the table of contents, and empty ones are left out.
    """

    title: str
    summary: tuple[str, ...]
    numbers: tuple[KeyNumber, ...]
    sections: tuple[Section, ...]


def render(document: Document) -> str:
    """Return the page."""

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
        document=document,
        sections=[one for one in document.sections if one.paragraphs or one.blocks],
        style=load("page.css"),
        script=load("page.js") + load("scene.js"),
    )
