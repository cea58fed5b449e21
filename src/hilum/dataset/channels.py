"""Channels are matched by name: those of a case or data set with those of a plan or model.

Case, blanks, underscores and hyphens of names do not count, nor does their order. "image", "channel
1", a bare number and nnU-Net's "rgb_to_0_1" name nothing: where one side has only such names,
channels go by their numbers, or else by their order.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from hilum.errors import DataError, counted
from hilum.files.text import name_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.dataset.case import Case, Dataset

Kind = Literal["ct", "mr", "pet", "us", "xray", "rgb", "picture", "unknown"]

_NAMED_KINDS: tuple[tuple[Kind, str], ...] = (
    ("ct", "ct cbct cta ncct ldct"),
    ("pet", "pet suv fdg spect"),
    ("mr", "mr mri mra t1 t1w t1c t1ce t1gd t1n t2 t2w t2f flair adc dwi swi pd"),
    ("us", "us ultrasound echo sonography"),
    ("xray", "xray cr dx radiograph mammography mg"),
    ("rgb", "red green blue rgb r g b"),
)
"""Words in the names of channels, by the kind of image."""
_IGNORED = re.compile(r"[\s_]+|(?<=\w)-|-(?!\d)")  # the sign of a number stays
_NO_NAME = re.compile(r"(?:image|channel|modality|rgbto01)?(\d*)")
_COLOURS = {"r": "red", "g": "green", "b": "blue"}


def _describe(names: Sequence[str]) -> str:
    """Count channels, and name those that have names: "2 channels (CT, PET)"."""
    named = not all(_NO_NAME.fullmatch(plain_name(name)) for name in names)
    return counted(len(names), "channel") + (f" ({', '.join(names)})" if named else "")


def match_channels(
    wanted: Sequence[str], found: Sequence[str], *, where: str, holder: str = "the model"
) -> tuple[int, ...]:
    """Find the position in `found` of each channel of `wanted`.

    Args:
        wanted: channel names of a plan or model, in its order.
        found: channel names of a case or data set.
        where: whose channels `found` are, for the error.
        holder: whose channels `wanted` are, for the error.

    Raises:
        DataError: a name is missing, unknown or ambiguous, or the numbers of channels differ; both
            sides are listed.
    """
    ours, theirs = [plain_name(name) for name in wanted], [plain_name(name) for name in found]
    if list(wanted) == list(found):
        return tuple(range(len(found)))
    if sorted(ours) == sorted(theirs) and len(set(ours)) == len(ours):
        return tuple(theirs.index(name) for name in ours)
    sides = f"{where} has {_describe(found)}, {holder} {_describe(wanted)}"
    if not any(all(map(_NO_NAME.fullmatch, keys)) for keys in (ours, theirs)):
        unknown = [name for name, key in zip(found, theirs, strict=True) if key not in ours]
        missing = [name for name, key in zip(wanted, ours, strict=True) if key not in theirs]
        parts = [f"unknown: {', '.join(unknown)}"] if unknown else []
        parts += [f"missing: {', '.join(missing)}"] if missing else []
        raise DataError(
            f"{sides} ({'; '.join(parts) or 'names that cannot be told apart'})",
            needed="the same channels on both sides, each under its own name, in any order",
            cure=(
                'where they are the same images, give them the same names ("channel_names" in'
                " dataset.json, columns image_NAME of a table); files that are given without a data"
                " set (CASE_0000.nii.gz, CASE_0001.nii.gz) go by number"
            ),
        )
    numbers, others = _numbers(ours), _numbers(theirs)
    first = min(others, default=0)
    if len(ours) != len(theirs) or sorted(others) != list(range(first, first + len(others))):
        raise DataError(
            sides,
            needed=f"one image for each of {', '.join(wanted)}",
            cure=(
                "give one file a channel, named CASE_0000.nii.gz, CASE_0001.nii.gz, ... in this"
                " order"
            ),
        )
    ranks = sorted(range(len(numbers)), key=numbers.__getitem__)
    return tuple(others.index(first + ranks.index(place)) for place in range(len(numbers)))


def arrange_channels(
    case: Case, wanted: Sequence[str], *, where: str = "", holder: str = "the model"
) -> Case:
    """Return the case with the channels of a plan or model, under its names and in its order.

    Raises:
        DataError: as `match_channels`, or the fault of the case.
    """
    if case.fault is not None:
        raise case.fault
    names = list(case.images)
    order = match_channels(wanted, names, where=where or f"case {case.id}", holder=holder)
    if names == list(wanted):
        return case
    files = list(case.images.values())
    positions = case.positions or [files[:place].count(file) for place, file in enumerate(files)]
    images = {name: files[position] for name, position in zip(wanted, order, strict=True)}
    return replace(case, images=images, positions=tuple(positions[position] for position in order))


def arrange_dataset(
    dataset: Dataset, wanted: Sequence[str], *, holder: str = "the model"
) -> Dataset:
    """Return the data set with the channels of a plan or model, under its names and in its order.

    Raises:
        DataError: as `match_channels`.
    """
    match_channels(wanted, dataset.channels, where=str(dataset.root), holder=holder)
    cases = [arrange_channels(case, wanted, holder=holder) for case in dataset.every]
    return replace(dataset.with_cases(cases), channels=tuple(wanted))


def plain_name(name: str) -> str:
    """Return a name without what does not count in it."""
    plain = _IGNORED.sub("", name_key(name))
    return _COLOURS.get(plain, plain)


def _numbers(keys: Sequence[str]) -> list[int]:
    """The numbers that stand for names; the positions where there are names, or no numbers."""
    found = [_NO_NAME.fullmatch(key) for key in keys]
    numbers = [int(one[1]) for one in found if one and one[1]]
    return numbers if len(numbers) == len(keys) else list(range(len(keys)))


def named_kind(channel: str) -> Kind | None:
    """Return the kind that a channel's name says; None where it says none."""
    words = set(re.split(r"[^a-z0-9]+", channel.lower().replace("x-ray", "xray")))
    return next((kind for kind, names in _NAMED_KINDS if words & {*names.split()}), None)
