"""Model card and data card in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import plain_digits
from hilum.report.html.document import Section, Table
from hilum.report.html.prose import prose
from hilum.report.html.scope import UNKNOWN, column_in_words
from hilum.report.html.values import along_axes, kind_of_image, sentence, spread

if TYPE_CHECKING:
    from hilum.inference.manifest import Facts
    from hilum.plan.data_card import DataCard, Measurements
    from hilum.report.html.document import Block


def model_card_section(text: str) -> Section:
    """Show MODEL_CARD.md."""
    return Section("Model card", ("As it stands in MODEL_CARD.md.",), (prose(text),))


def data_card_section(card: DataCard | None, facts: Facts | None) -> Section:
    """Show the data set of the training in numbers, and how many cases it used."""
    title = "Data card"
    if card is None:
        unknown = (
            "Unknown: the model has no data card, as it was made by an older version, an import or"
            " by hand."
        )
        return Section(title, (unknown,))
    blocks: list[Block] = [
        Table("The data set", ("what", "value"), _overview(card, facts), wrap=True)
    ]
    if card.labels:
        columns = ("name", "cases", "share", "volume, ml")
        blocks.append(Table("How often labels occur", columns, _labels(card)))
    if card.columns:
        blocks.append(_columns(card))
    if card.measured is not None:
        blocks.append(_channels(card.measured))
    notes = tuple(map(sentence, card.notes))
    source = (
        "Made by hilum from the data set of the training (data_card.json)."
        " Where the data come from, their licence, consent and who annotated them only their owner"
        " can add."
    )
    return Section(title, (source, *notes), tuple(blocks))


def _overview(card: DataCard, facts: Facts | None) -> tuple[tuple[str, str], ...]:
    """List numbers, layout and what was left out."""
    validated = 0 if facts is None else len(facts.cases_for("validation"))
    rows = [
        ("name", card.name),
        ("layout on the disk", card.layout.replace("-", " ")),
        ("cases for training and validation", str(card.cases)),
        ("of these, learnt from", UNKNOWN if facts is None else str(facts.cases)),
        ("of these, held out for validation by a fold", str(validated) if validated else UNKNOWN),
        (
            "patients",
            f"{UNKNOWN}: each case counts as one" if card.patients is None else str(card.patients),
        ),
        ("cases kept for testing", str(card.tests)),
        ("cases without annotation or label, not used", str(card.unlabelled)),
    ]
    groups = () if card.files is None else (*card.files.left_out, *card.files.unreadable)
    left_out = "; ".join(f"{one.count} ({one.reason}), such as {one.names[0]}" for one in groups)
    rows.append(("files left out", left_out or ("none" if card.files else UNKNOWN)))
    if card.measured is None:
        rows.append(("sizes and intensities", "not measured: the training followed a given plan"))
        return tuple(rows)
    measured = card.measured
    rows += [
        ("cases measured for the plan", str(measured.cases)),
        ("voxels", along_axes(measured.shape, "")),
        ("voxel size", along_axes(measured.spacing_mm, "mm")),
        ("stored orientation", ", ".join(f"{code} ({n})" for code, n in measured.orientations)),
    ]
    return tuple(rows)


def _labels(card: DataCard) -> tuple[tuple[str, ...], ...]:
    """Return a row for each label or class: its cases, their share, and volumes of labels."""
    measured = card.measured
    cases = card.cases if card.classes or measured is None else measured.cases
    return tuple(
        (
            one.name,
            f"{one.cases} of {cases}",
            f"{one.cases / max(1, cases):.0%}",
            "–" if one.volume_ml is None else spread(one.volume_ml),
        )
        for one in card.labels
    )


def _columns(card: DataCard) -> Table:
    """List what tables say of the cases."""
    rows = tuple(
        (one.name, f"{one.known} of {card.cases}", column_in_words(one)) for one in card.columns
    )
    head = ("column", "known", "values and cases")
    return Table("Who was examined, where and how", head, rows, wrap=True)


def _channels(measured: Measurements) -> Table:
    """List the channels with their kind and intensities."""
    rows = tuple(
        (
            one.name,
            kind_of_image(one.kind),
            one.kind_because,
            f"{plain_digits(one.whole.p00_5)} to {plain_digits(one.whole.p99_5)}",
        )
        for one in measured.channels
    )
    head = ("channel", "kind", "because", "0.5 to 99.5 % of values")
    return Table("Channels", head, rows, wrap=True)
