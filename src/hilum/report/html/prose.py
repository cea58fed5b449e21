"""Markdown as HTML: no picture is fetched, no markup of the text itself gets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.token import Token

from hilum.report.html.document import Prose

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOWER = 2
"""Levels by which headings stand below those of the page."""


def prose(markdown: str) -> Prose:
    """Render a text of Markdown: headings, lists, tables; links as their text and address."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, int(token.tag[1]) + _LOWER)}"
        token.children = _without_links(token.children or [])
    first, *rest = parser.renderer.render(tokens, parser.options, {}).split("<table>")
    html = first + "".join(
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table {number} of this text">'
        f'<table class="text">{part}'
        for number, part in enumerate(rest, start=1)
    )
    return Prose(html.replace("</table>", "</table></div>"))


def _without_links(tokens: Sequence[Token]) -> list[Token]:
    """Replace each link by its text and, in brackets, its address."""
    address, kept = "", []
    for token in tokens:
        if token.type == "link_open":
            address = str(token.attrs.get("href", ""))
        elif token.type == "link_close":
            kept.append(Token("text", "", 0, content=f" ({address})"))
        else:
            kept.append(token)
    return kept
