"""Data sets whose cases have their images under the same words: t1, flair; ct; T1w."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hilum.dataset.case import Dataset
from hilum.dataset.layouts.listing import guess_channels
from hilum.errors import some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case, Orphan
    from hilum.volume import LabelTable


def common_words(files: Collection[Mapping[str, Path]]) -> tuple[str, ...]:
    """List the words that more than half of the cases have an image of, sorted."""
    counts = Counter(word for words in files for word in words)
    return tuple(sorted(word for word, count in counts.items() if 2 * count > len(files)))


def complete_cases(
    words: Sequence[str], files: Mapping[str, Mapping[str, Path]]
) -> tuple[tuple[str, ...], dict[str, dict[str, Path]], str]:
    """Name the channels, give each complete case its image by channel, and note the others.

    Args:
        words: of the images that a complete case has; of a single image of several channels their
            own names are taken.
        files: case to image by word.
    """
    whole = {case: held for case, held in files.items() if words and {*words} <= {*held}}
    lacking = some(sorted(set(files) - set(whole)))
    note = f"{lacking} lack one of {', '.join(words)}: left out" if lacking else ""
    guessed = guess_channels(held[words[0]] for held in whole.values()) if len(words) == 1 else ()
    if len(guessed) > 1:
        return (
            guessed,
            {c: dict.fromkeys(guessed, held[words[0]]) for c, held in whole.items()},
            note,
        )
    images = {case: {word: held[word] for word in words} for case, held in whole.items()}
    return tuple(words), images, note


def dataset_of(
    path: Path,
    layout: str,
    cases: Iterable[Case],
    *,
    channels: tuple[str, ...],
    labels: LabelTable | None,
    notes: Iterable[str] = (),
    orphans: tuple[Orphan, ...] = (),
    name: object = None,
) -> Dataset:
    """Make a data set of cases by id, those without an annotation as unlabelled.

    Args:
        path: its folder.
        layout: a key of `LAYOUTS`.
        cases: in any order.
        channels: in order.
        labels: what the integers mean; None where classes are wanted.
        notes: what had to be assumed; "" is none.
        orphans: files without a partner.
        name: for people; None takes the folder's.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    return Dataset(
        name=str(name or path.absolute().name),
        root=path,
        layout=layout,
        cases=tuple(case for case in ordered if case.annotation is not None),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in ordered if case.annotation is None),
        notes=tuple(filter(None, notes)),
        orphans=orphans,
    )
