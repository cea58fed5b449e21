"""Images and patients that a model is for, as far as its training tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.report.html.document import Section, Table
from hilum.report.html.values import along_axes, kind_of_image, spread

if TYPE_CHECKING:
    from hilum.plan.data_card import ColumnSummary, DataCard
    from hilum.report.html.model_folder import ModelFolder

_ADULT = 18.0
"""Years from which a patient is no child."""
_UNITS = {"month": "months", "week": "weeks", "day": "days", "year": "years", "yr": "years"}
"""Units of ages by words in the names of columns."""
UNKNOWN = "unknown"
SEXES = ("sex", "gender")
SITES = ("site", "centre", "center", "hospital", "institution")
SCANNERS = ("scanner", "vendor", "manufacturer", "device")
"""Words in the names of columns that tell sexes, sites and scanners."""


def scope_section(folder: ModelFolder) -> Section:
    """Say what the model learnt from, and what that means for other images and patients."""
    asked = Table(
        "May it be used on ...",
        ("question", "what this report can say"),
        _questions(folder),
        wrap=True,
    )
    learnt = Table(
        "What it learnt from", ("what", "training data"), _learnt_from(folder), wrap=True
    )
    text = (
        "A model is tested on what it was evaluated on, and on nothing else. Where a row says"
        " unknown, the training data did not tell, and nothing may be presumed."
    )
    return Section("What it is for", (text,), (asked, learnt))


def intended_images(folder: ModelFolder) -> str:
    """Say in one sentence on whom the model may not be presumed to work."""
    kinds = _kinds(folder)
    other = (
        f"Nothing here shows that it works on images other than {kinds}"
        if kinds
        else "What kind of images it learnt from is unknown"
    )
    return f"{other}; patients' ages: {ages(folder.data_card)}; for more see “What it is for”."


def _kinds(folder: ModelFolder) -> str:
    """Name the kinds of image that it learnt from; "" where none is known."""
    more = ("images of an unknown kind",) if folder.kinds and not _all_known(folder) else ()
    return " and ".join((*folder.kinds, *more))


def _all_known(folder: ModelFolder) -> bool:
    """Return True where the kind of image of every channel is known."""
    ranges = folder.plan.seen
    return ranges is not None and all(one.kind != UNKNOWN for one in ranges.channels)


def ages(card: DataCard | None) -> str:
    """Say how old the patients of the training were."""
    found = _ages(card)
    if found is None or found.numbers is None:
        return _ages_in_words(card) or UNKNOWN
    unit = _time_scale(found) or "(unit not told)"
    return f"{spread(found.numbers)} {unit}, known of {found.known} cases"


def _ages(card: DataCard | None) -> ColumnSummary | None:
    """Return the column of ages that are numbers; None where there is none."""
    columns = () if card is None else card.columns_about("age")
    return next((one for one in columns if one.numbers is not None), None)


def _ages_in_words(card: DataCard | None) -> str:
    """Quote the columns of ages that are no numbers, as "004Y"; "" where there are none."""
    columns = () if card is None else card.columns_about("age")
    told = (one for one in columns if one.numbers is None and one.known)
    return "; ".join(f"{one.name}: {column_in_words(one)}" for one in told)


def _time_scale(column: ColumnSummary) -> str:
    """Return the unit that the name of a column of ages tells; "" where it tells none."""
    name = column.name.lower()
    return next((unit for word, unit in _UNITS.items() if word in name), "")


def _questions(folder: ModelFolder) -> tuple[tuple[str, str], ...]:
    """Answer what a reader asks first."""
    kinds, card = _kinds(folder), folder.data_card
    only = " only" if _all_known(folder) else ""
    images = (
        f"No evidence: it learnt from {kinds}{only}. `hilum predict` warns where it notices another"
        " kind, and cannot notice all."
        if kinds
        else "Unknown: neither the channels' names nor the values told the kind of image. Look at"
        " “What it learnt from” and ask its maker."
    )
    title = f"another kind of image than {kinds}?" if kinds else "my kind of image?"
    return (
        (title, images),
        ("a child's image?", _children(card)),
        ("women and men alike?", _groups(card, "sexes", *SEXES)),
        (
            "another hospital or scanner?",
            _groups(card, "sites and scanners", *SITES, *SCANNERS),
        ),
        ("a decision about a patient?", "No. Research software, not a medical device."),
    )


def _children(card: DataCard | None) -> str:
    """Say whether children were among the patients."""
    found = _ages(card)
    if found is None or found.numbers is None:
        if told := _ages_in_words(card):
            return (
                f"Ages are told, but not as numbers: {told}. Look whether children are among them."
            )
        return "Unknown: the training data name no ages. Do not presume that it works on children."
    unit, numbers = _time_scale(found), found.numbers
    if not unit:
        return (
            f"Ages are told, but not their unit: {found.name} {spread(numbers)}. Look whether"
            " children are among them."
        )
    if unit != "years":
        return f"Ages are given in {unit}: {spread(numbers)}."
    if numbers.low >= _ADULT:
        return (
            f"No evidence: the youngest patient was {numbers.low:.4g} years old (of {found.known}"
            " cases whose age is known)."
        )
    return (
        f"There were children or young people among the patients, from {numbers.low:.4g} years on;"
        " how good it is on them alone is not said unless a subgroup below says so."
    )


def _groups(card: DataCard | None, what: str, *words: str) -> str:
    """Say which groups of patients the training data name."""
    columns = () if card is None else card.columns_about(*words)
    if not columns:
        return f"Unknown: the training data name no {what}."
    told = "; ".join(f"{one.name}: {column_in_words(one)}" for one in columns)
    return f"The training data had {told}. Figures of a group stand here only under “Subgroups”."


def column_in_words(column: ColumnSummary) -> str:
    """Summarise a column: a range of numbers, or how many cases have each value."""
    if column.numbers is not None:
        return spread(column.numbers)
    if not column.known:
        return UNKNOWN
    if not column.counts:
        return f"{column.values} different values"
    return ", ".join(f"{value} ({count})" for value, count in column.counts)


def _learnt_from(folder: ModelFolder) -> tuple[tuple[str, str], ...]:
    """List the ranges of the training images."""
    ranges, card, facts = folder.plan.seen, folder.data_card, folder.manifest.facts
    rows = [
        ("kind of image, by channel", _channels(folder)),
        ("part of the body", UNKNOWN + ": hilum does not record it; see the data set's name"),
        ("data set", UNKNOWN if facts is None else facts.dataset),
        ("patients' ages", ages(card)),
    ]
    for what, words in (("sexes", SEXES), ("sites", SITES), ("scanners", SCANNERS)):
        columns = () if card is None else card.columns_about(*words)
        rows.append((what, "; ".join(map(column_in_words, columns)) or UNKNOWN))
    if ranges is not None:
        stored = "as stored" if ranges.orientation == "source" else ranges.orientation
        rows.append(("single pictures or volumes", "pictures" if ranges.pictures else "volumes"))
        if ranges.spacing is not None:
            rows.append((f"voxel size, axes {stored}", along_axes(ranges.spacing, "mm")))
        if ranges.extent_mm is not None:
            rows.append(("field of view", along_axes(ranges.extent_mm, "mm")))
    return tuple(rows)


def _channels(folder: ModelFolder) -> str:
    """Say the kind of image of each channel."""
    ranges = folder.plan.seen
    if ranges is None:
        return f"{UNKNOWN}; the channels are named {', '.join(folder.plan.channels)}"
    parts = []
    for channel in ranges.channels:
        least = ""
        if channel.minimum is not None:
            least = f", least values {channel.minimum[0]:g} to {channel.minimum[1]:g}"
        parts.append(f"{channel.name}: {kind_of_image(channel.kind)}{least}")
    return "; ".join(parts)
