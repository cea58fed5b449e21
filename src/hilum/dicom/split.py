"""Division of the frames of one series into groups that can be one volume each.

A series often holds several volumes: acquisitions, time points, cardiac phases, echoes, b-values,
magnitude and phase, orientations, two thicknesses. They are told apart by what the headers state,
never by the order of files. A series that lies evenly as a whole is divided only where its slices
take turns in what makes an image another one (echo, b-value, kernel, time point, ...).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from hilum.dicom.header import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import FileDataset

    from hilum.dicom.frames import Frame

_SAME_DIRECTION = 1e-3  # largest difference of a cosine
_SAME_PLACE_MM = 0.01
_UNEVEN = 0.1  # part of the slice distance that a slice may lie off its even place
_THICKER = 1.1  # times the thinnest slice, from which thicknesses differ
_FEWEST = 3  # slices of a part where slices are uneven: two are always even
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and with further digits its multi-frame kinds
_GREY = {"CT", "MR", "PT", "NM"}
_PLANES = ("sagittal", "coronal", "axial")  # by the axis of LPS that the normal follows
_STRAIGHT = 0.8  # cosine from which a plane is called axial and not oblique


@dataclass(frozen=True)
class Group:
    """Frames of one series that can be one volume.

    Args:
        key: tells the group among others of its series, "" where it is the only one.
        frames: in the order in which they were given.
        label: what is special about it, in words: "b-value 1000"; "" for an only group.
    """

    key: str
    frames: tuple[Frame, ...]
    label: str = ""


@dataclass(frozen=True)
class Split:
    """The groups of a series, and the frames that belong to none with the reason."""

    groups: tuple[Group, ...]
    aside: tuple[tuple[Frame, str], ...] = ()


@dataclass(frozen=True)
class _Fact:
    """A fact by which groups of one series may differ.

    Args:
        of: its value for a frame; None where the frame does not state it.
        key: the beginning of its part of a group's key.
        words: the same for people.
        ranked: whether only the order of its values counts, as they differ from slice to slice.
        makes: whether another value makes an image of other numbers, so that slices that differ in
            it are of several volumes, or are said to be mixed.
    """

    of: Callable[[Frame], Hashable]
    key: str
    words: str
    ranked: bool = False
    makes: bool = False


_FACTS: tuple[_Fact, ...] = (
    _Fact(lambda f: f.acquisition.stack or None, "stack", "stack"),
    _Fact(lambda f: f.acquisition.echo_number, "echo", "echo", makes=True),
    _Fact(lambda f: f.acquisition.echo_time, "te", "echo time", makes=True),
    _Fact(lambda f: f.acquisition.b_value, "b", "b-value", makes=True),
    _Fact(lambda f: f.acquisition.inversion_time, "ti", "inversion time", makes=True),
    _Fact(lambda f: f.acquisition.kernel or None, "kernel-", "kernel", makes=True),
    _Fact(lambda f: f.acquisition.kvp, "kvp", "kVp", makes=True),
    _Fact(lambda f: f.acquisition.contrast or None, "contrast-", "contrast", makes=True),
    _Fact(lambda f: f.thickness, "thick", "thickness"),
    _Fact(lambda f: "-".join(f.acquisition.image_type) or None, "", "image type", makes=True),
    _Fact(lambda f: f.acquisition.number or None, "acq", "acquisition"),
    _Fact(lambda f: f.acquisition.temporal_position, "t", "time point", makes=True),
    _Fact(lambda f: f.acquisition.gradient or None, "dir", "diffusion direction", ranked=True),
    _Fact(lambda f: f.acquisition.trigger_time, "phase", "phase of the heart", ranked=True),
    _Fact(
        lambda f: f.acquisition.acquisition_time or None, "time", "time of acquisition", ranked=True
    ),
)
"""In the order in which they are tried."""


def split(frames: Sequence[Frame]) -> Split:
    """Divide the frames of one series into groups that can be one volume each.

    Args:
        frames: of one series, in any order.

    Returns:
        The groups, the largest first, and those set apart: scouts, screens, copies. A group that
        still is no even grid was not to be divided by what its headers state; its geometry says
        what is wrong.
    """
    aside = [(frame, reason) for frame in frames if (reason := _set_apart(frame))]
    kept = [frame for frame in frames if not _set_apart(frame)]
    copies = _copies(kept)
    kept = [frame for frame in kept if id(frame) not in copies]
    aside += [(frame, reason) for frame, reason in copies.values()]
    parts = [part for one in _by_grid(kept) for part in _divide(one)]
    parts.sort(key=len, reverse=True)
    return Split(_named(parts), tuple(aside))


def kind_of(reason: str) -> str:
    """Return the reason of a frame that is set apart without the name of the other file in it."""
    return reason.partition(" as ")[0]


def mixture_notes(frames: Sequence[Frame]) -> tuple[str, ...]:
    """Note in what the slices of one volume differ although it makes an image another one.

    What differs from slice to slice, as an echo time that is measured, is none of it.
    """
    notes = []
    for fact in _FACTS if len(frames) > 1 else ():
        counts = Counter(fact.of(frame) for frame in frames) if fact.makes else Counter()
        if len(counts) > 1 and len(counts) <= len(frames) / 2:
            listed = ", ".join(
                f"{'not stated' if value is None else _in_words(value)} ({count})"
                for value, count in counts.items()
            )
            notes.append(f"slices of one volume differ in {fact.words}: {listed}")
    return tuple(notes)


def plane_of(frame: Frame) -> str:
    """Name the plane of a frame: axial, coronal, sagittal, or oblique."""
    normal = np.abs(frame.normal)
    axis = int(normal.argmax())
    return _PLANES[axis] if normal[axis] >= _STRAIGHT else "oblique"


def _set_apart(frame: Frame) -> str:
    """Say why a frame is no slice of a volume; "" where it may be one."""
    if "LOCALIZER" in frame.acquisition.image_type:
        return "a localizer (scout)"
    is_capture = frame.file.sop_class.startswith(_SECONDARY_CAPTURE)
    if is_capture or (frame.acquisition.samples > 1 and frame.file.modality in _GREY):
        return "a picture of a screen (secondary capture)"
    return ""


def _copies(frames: Sequence[Frame]) -> dict[int, tuple[Frame, str]]:
    """Find frames that are there twice: in the same place, made alike, with the same pixels."""
    alike: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        place = tuple(np.rint(frame.position / _SAME_PLACE_MM).astype(int).tolist())
        turned = tuple(np.rint(frame.orientation.ravel() / _SAME_DIRECTION).astype(int).tolist())
        # the number and the time of a copy may be its own
        made = vars(frame.acquisition) | {"instance_number": None, "content_time": ""}
        alike[place, turned, frame.shape, tuple(made.values())].append(frame)
    found: dict[int, tuple[Frame, str]] = {}
    read = lru_cache(maxsize=1)(read_file)  # a file may hold many frames
    for held in alike.values():
        first_by_pixels: dict[bytes, Frame] = {}
        for frame in held if len(held) > 1 else ():
            digest = _pixel_digest(frame, read)
            first = first_by_pixels.setdefault(digest, frame) if digest else frame
            if first is not frame:
                same = "the same image" if frame.instance == first.instance else "the same pixels"
                reason = f"a copy: {same} as {first.path.name}"
                found[id(frame)] = (frame, reason)
    return found


def _pixel_digest(frame: Frame, read: Callable[[Path], FileDataset]) -> bytes:
    """Compute a hash of a frame's decoded pixels; b"" where they cannot be decoded."""
    import hashlib

    from hilum.dicom.codecs import decoder_of

    with suppress(Exception):  # reading the volume says what is wrong with it
        data = read(frame.path)
        decoder = decoder_of(data.file_meta.TransferSyntaxUID)
        pixels, _ = decoder.as_array(data, index=frame.index, raw=True)
        return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()
    return b""


def _by_grid(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Divide frames by what one grid has only once: direction, size, frame of reference."""
    directions: list[NDArray[np.float64]] = []
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        near = (
            number
            for number, known in enumerate(directions)
            if np.abs(known - frame.orientation).max() <= _SAME_DIRECTION
        )
        number = next(near, len(directions))
        if number == len(directions):
            directions.append(frame.orientation)
        spacing = tuple(round(value, 4) for value in frame.pixel_spacing)
        parts[number, frame.shape, spacing, frame.frame_of_reference].append(frame)
    return list(parts.values())


def _divide(frames: list[Frame]) -> list[list[Frame]]:
    """Divide frames of one direction and size into even stacks by what their headers state.

    Where only a part becomes even (a phase lacks a slice), places are taken once in each.
    """
    most = _most_at_one_place(frames)
    if _is_even(frames):
        turns = _by_turns(frames)
        return [part for one in turns for part in _divide(one)] if turns else [frames]
    facts = [fact for fact in _FACTS if len({fact.of(frame) for frame in frames}) > 1]
    sets = list(chain.from_iterable(combinations(facts, count) for count in (1, 2, 3)))
    distinct: list[list[Frame]] | None = None
    for chosen in sets:
        for parts in (_by_value(frames, chosen), _by_rank(frames, chosen, most)):
            if len(parts) < 2 or (most == 1 and min(map(len, parts)) < _FEWEST):
                continue
            if all(map(_is_even, parts)) and _is_plausible(parts, most):
                return parts
            if distinct is None and most > 1 and _is_plausible(parts, most):
                distinct = parts if all(_most_at_one_place(p) == 1 for p in parts) else None
    return distinct or _by_sweep(frames, most) or _by_step(frames, most) or [frames]


def _by_turns(frames: list[Frame]) -> list[list[Frame]]:
    """Divide even slices that take turns in a fact which makes an image another one.

    Along the slices its values repeat in one order, each as often as there are values, at least:
    b-values 0, 1000, 0, 1000, ... [] where those of no fact do so.
    """
    ordered = [frames[index] for index in np.argsort(_depths(frames))]
    for fact in _FACTS:
        values = [fact.of(frame) for frame in ordered] if fact.makes else []
        period = len({*values})
        if 2 <= period <= len(values) // period and values[period:] == values[:-period]:
            return _by_value(frames, [fact])
    return []


def _is_plausible(parts: Sequence[Sequence[Frame]], most: int) -> bool:
    """Return True unless there are many parts of few slices, as of a fact of single slices."""
    return len(parts) <= most or min(map(len, parts)) >= _FEWEST


def _by_value(frames: Sequence[Frame], facts: Iterable[_Fact]) -> list[list[Frame]]:
    """Divide frames by the values of facts."""
    chosen = list(facts)
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[tuple(fact.of(frame) for fact in chosen)].append(frame)
    return list(parts.values())


def _by_rank(frames: Sequence[Frame], facts: Sequence[_Fact], most: int) -> list[list[Frame]]:
    """Divide frames by the rank of one fact among those of their place.

    Values of a trigger or a time differ from slice to slice; [] where a frame does not state it,
    two of one place state the same, or places have different numbers of frames.
    """
    if len(facts) != 1 or not facts[0].ranked or most < 2:
        return []
    value_of = facts[0].of
    places: dict[int, list[Frame]] = defaultdict(list)
    for frame, place in zip(frames, _places(frames), strict=True):
        places[place].append(frame)
    if {len(held) for held in places.values()} != {most}:
        return []
    parts: list[list[Frame]] = [[] for _ in range(most)]
    for held in places.values():
        if len({value_of(frame) for frame in held} - {None}) != most:
            return []
        ordered = sorted(held, key=lambda frame: _sortable(value_of(frame)))
        for part, frame in zip(parts, ordered, strict=True):
            part.append(frame)
    return parts


def _sortable(value: Hashable) -> tuple[float, ...]:
    """Make a tuple of numbers of a fact's value."""
    return value if isinstance(value, tuple) else (float(str(value)),)


def _by_sweep(frames: Sequence[Frame], most: int) -> list[list[Frame]]:
    """Divide frames where their numbers run through all places several times, one after another.

    [] where they do not, or do not state numbers.
    """
    numbered = [frame for frame in frames if frame.acquisition.instance_number is not None]
    count = len(frames) // most
    if most < 2 or len(numbered) < len(frames) or len(frames) != most * count:
        return []
    ordered = sorted(numbered, key=lambda frame: frame.acquisition.instance_number or 0)
    sweeps = [ordered[first : first + count] for first in range(0, len(ordered), count)]
    for sweep in sweeps:
        steps = np.sign(np.diff(_depths(sweep)))
        if not (_is_even(sweep) and len({*steps.tolist()}) == 1):
            return []
    return sweeps


def _by_step(frames: Sequence[Frame], most: int) -> list[list[Frame]]:
    """Divide slices whose distance changes once or more, each run of one distance on its own.

    [] where a run has few slices or a distance is a multiple of another: slices are missing there.
    """
    if most > 1 or len(frames) < 2 * _FEWEST:
        return []
    order = np.argsort(_depths(frames))
    steps = np.diff(_depths(frames)[order])
    runs: list[list[int]] = [[int(order[0])]]
    last = float(steps[0])
    for at, step in enumerate(steps.tolist(), start=1):
        if abs(step - last) > _UNEVEN * last and len(runs[-1]) > 1:
            runs.append([])
        last = step
        runs[-1].append(int(order[at]))
    parts = [[frames[index] for index in run] for run in runs]
    if len(parts) < 2 or min(map(len, parts)) < _FEWEST or not all(map(_is_even, parts)):
        return []
    widths = [float(np.diff(np.sort(_depths(part))).mean()) for part in parts]
    for one, other in pairwise(widths):
        ratio = max(one, other) / min(one, other)
        if abs(ratio - round(ratio)) <= _UNEVEN:
            return []
    return parts


def _depths(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Return the places of frames along their normal, mm."""
    normal = frames[0].normal
    return np.array([float(frame.position @ normal) for frame in frames])


def _places(frames: Sequence[Frame]) -> list[int]:
    """Number the places of frames along their normal; what rounding parts is one place."""
    depths = _depths(frames)
    order = np.argsort(depths)
    numbers = np.empty(len(frames), dtype=int)
    numbers[order] = np.cumsum(np.diff(depths[order], prepend=depths[order[0]]) > _SAME_PLACE_MM)
    return [int(number) for number in numbers]


def _most_at_one_place(frames: Sequence[Frame]) -> int:
    return max(Counter(_places(frames)).values())


def _is_even(frames: Sequence[Frame]) -> bool:
    """Return True if slices of one thickness lie evenly along their normal, each place once."""
    thick = [frame.thickness for frame in frames if frame.thickness]
    if thick and max(thick) > _THICKER * min(thick):
        return False
    depths = np.sort(_depths(frames))
    if len(depths) < 3:
        return len(depths) < 2 or depths[1] - depths[0] > _SAME_PLACE_MM
    spacing = (depths[-1] - depths[0]) / (len(depths) - 1)
    off = np.abs(depths - depths[0] - spacing * np.arange(len(depths))).max()
    return bool(spacing > _SAME_PLACE_MM and off <= _UNEVEN * spacing)


# --- names


def _named(parts: Sequence[Sequence[Frame]]) -> tuple[Group, ...]:
    """Name each group by the first facts that are one within it and differ between groups."""
    if len(parts) == 1:
        return (Group("", tuple(parts[0])),)
    keys, labels = [""] * len(parts), [""] * len(parts)
    for fact in (*_GRID_FACTS, *_FACTS):
        values = [{fact.of(frame) for frame in part} for part in parts]
        if any(len(one) > 1 for one in values) or len(set(map(frozenset, values))) < 2:
            continue
        stated = [next(iter(one)) for one in values]
        if len(set(keys)) == len(keys):
            break
        labels = [
            f"{label}, {fact.words} {_in_words(value)}".lstrip(", ") if value is not None else label
            for label, value in zip(labels, stated, strict=True)
        ]
        slugs = _slugs(fact, stated)
        keys = [f"{key}-{slug}".strip("-") for key, slug in zip(keys, slugs, strict=True)]
    return _numbered(parts, keys, labels)


def _numbered(
    parts: Sequence[Sequence[Frame]], keys: Sequence[str], labels: Sequence[str]
) -> tuple[Group, ...]:
    """Number groups whose keys are the same or empty, in the order of their images' numbers."""
    firsts = [min(frame.acquisition.instance_number or 0 for frame in part) for part in parts]
    groups: dict[int, Group] = {}
    for key in dict.fromkeys(keys):
        same = [index for index, one in enumerate(keys) if one == key]
        for count, index in enumerate(sorted(same, key=firsts.__getitem__), start=1):
            number = "" if len(same) == 1 and key else str(count)
            own = f"{key}-part{number}".strip("-") if number else key
            words = f"{labels[index]}, part {number}".lstrip(", ") if number else labels[index]
            groups[index] = Group(own, tuple(parts[index]), words)
    return tuple(groups[index] for index in range(len(parts)))


_GRID_FACTS: tuple[_Fact, ...] = (
    _Fact(plane_of, "", "plane"),
    _Fact(lambda f: f"{f.shape[0]}x{f.shape[1]}", "", "pixels"),
    _Fact(lambda f: round(f.pixel_spacing[0], 3), "px", "pixel spacing"),
)


def _slugs(fact: _Fact, values: Sequence[Hashable]) -> list[str]:
    """Write values of a fact as parts of keys; of image types only the words that differ."""
    if fact.words == "image type":
        held = [str(value).split("-") if value is not None else [] for value in values]
        shared = set.intersection(*map(set, held))
        return [
            _slug("-".join(word for word in words if word not in shared)) or "plain"
            for words in held
        ]
    if fact.words == "diffusion direction":
        order = sorted({_sortable(value) for value in values if value is not None})
        return ["" if v is None else f"dir{order.index(_sortable(v)) + 1}" for v in values]
    return ["" if value is None else fact.key + _slug(_in_words(value)) for value in values]


def _slug(text: str) -> str:
    """Write a text in small letters, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


def _in_words(value: Hashable) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{one:g}" for one in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
