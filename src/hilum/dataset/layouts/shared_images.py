"""Images that most cases of a data set have under the same words, and data sets made of cases."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hilum.dataset.case import Dataset
from hilum.dataset.layouts.listing import channels_of_word, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from hilum.dataset.case import Case
    from hilum.volume import LabelTable


def common_words(files: Collection[Mapping[str, Path]]) -> tuple[str, ...]:
    """List the words that more than half of the cases have an image of, sorted."""
    counts = Counter(word for words in files for word in words)
    return tuple(sorted(word for word, count in counts.items() if 2 * count > len(files)))


def channel_images(
    names: Sequence[str], files: Mapping[str, Mapping[str, Path]]
) -> tuple[tuple[str, ...], dict[str, dict[str, Path]]]:
    """Name the channels, and give each complete case its image by channel.

    Args:
        names: words of the images that a complete case has; of a single image of several channels
            their own names are taken.
        files: case to image by word.
    """
    whole = {case: words for case, words in files.items() if names and set(names) <= set(words)}
    if len(names) != 1:
        return tuple(names), {
            case: {name: words[name] for name in names} for case, words in whole.items()
        }
    channels = channels_of_word(names[0], [words[names[0]] for words in whole.values()])
    return channels, {
        case: dict.fromkeys(channels, words[names[0]]) for case, words in whole.items()
    }


def incomplete_note(cases: Iterable[str], names: Sequence[str]) -> tuple[str, ...]:
    """Note the cases that lack one of the images; () where there are none."""
    lacking = list(cases)
    return (f"{some(lacking)} lack one of {', '.join(names)}: left out",) if lacking else ()


def dataset_of(
    path: Path,
    layout: str,
    cases: Sequence[Case],
    *,
    channels: tuple[str, ...],
    labels: LabelTable | None,
    notes: tuple[str, ...],
) -> Dataset:
    """Make a data set of cases by id, those without an annotation as unlabelled."""
    ordered = sorted(cases, key=lambda case: case.id)
    return Dataset(
        name=path.absolute().name,
        root=path,
        layout=layout,
        cases=tuple(case for case in ordered if case.annotation is not None),
        channels=channels,
        labels=labels,
        unlabelled=tuple(case for case in ordered if case.annotation is None),
        notes=notes,
    )
