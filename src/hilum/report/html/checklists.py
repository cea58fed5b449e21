"""Check lists for authors, filled with what a model folder proves.

The items stand in JSON files beside this one. Each names the proofs that speak for it; what no
proof speaks for is left to the author, and `whole` false says that the author must add to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from hilum.errors import counted
from hilum.report.html.document import Section, Table
from hilum.report.html.proofs import PROOFS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.report.html.model_folder import ModelFolder
    from hilum.report.html.proofs import Proof

ChecklistName = Literal["claim_2024", "tripod_ai"]
FOR_THE_AUTHOR = "for the author"
_PART = "in part, the rest for the author"


class Item(BaseModel):
    """One item of a check list.

    Args:
        number: as the list has it.
        part: of the manuscript.
        asks: in our own short words.
        proofs: names among `PROOFS`.
        whole: whether the proofs together are all that the item asks for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: str
    part: str
    asks: str
    proofs: tuple[str, ...] = ()
    whole: bool = True


class Checklist(BaseModel):
    """A check list and where it was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class CheckedItem:
    """An item with what is known of it.

    Args:
        item: of the list.
        status: "filled", "in part, ..." or "for the author".
        proofs: what is known, and where that stands.
    """

    item: Item
    status: str
    proofs: tuple[Proof, ...]


def load_checklist(name: ChecklistName) -> Checklist:
    """Read a list from the package."""
    file = resources.files("hilum.report.html").joinpath(f"{name}.json")
    return Checklist.model_validate_json(file.read_text(encoding="utf-8"))


def check(checklist: Checklist, folder: ModelFolder) -> tuple[CheckedItem, ...]:
    """Fill a list with what a model folder proves."""
    checked = []
    for item in checklist.items:
        found = [PROOFS[name](folder) for name in item.proofs]
        known = tuple(one for one in found if one is not None)
        filled = item.whole and len(known) == len(found)
        status = FOR_THE_AUTHOR if not known else "filled" if filled else _PART
        checked.append(CheckedItem(item, status, known))
    return tuple(checked)


def checklist_section(folder: ModelFolder, name: ChecklistName) -> Section:
    """Show a reporting check list, filled with what files of the model prove."""
    checklist = load_checklist(name)
    checked = check(checklist, folder)
    missing = sum(one.status == FOR_THE_AUTHOR for one in checked)
    part = sum(one.status == _PART for one in checked)
    text = (
        f"{checklist.source}. Of {counted(len(checked), 'item')} {len(checked) - missing - part}"
        f" are filled from the files of the model, {part} in part, and {missing} only the author"
        " knows."
    )
    if name == "tripod_ai" and not folder.classifies:
        text += " The list is made for models that predict an outcome; here that is a label map."
    head = ("item", "part", "asks for", "state", "what is known", "where it stands")
    return Section(
        f"{checklist.name} check list",
        (text,),
        (Table(f"{checklist.name}, item by item", head, _rows(checked), wrap=True),),
    )


def _rows(checked: Sequence[CheckedItem]) -> tuple[tuple[str, ...], ...]:
    """Return a row for each item."""
    return tuple(
        (
            one.item.number,
            one.item.part,
            one.item.asks,
            one.status,
            " ".join(proof.text for proof in one.proofs) or "–",
            "; ".join(proof.where for proof in one.proofs) or "–",
        )
        for one in checked
    )
