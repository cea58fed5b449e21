"""A process that reads damaged DICOM files under limits of time and memory.

`python dicom_mutants.py FOLDER FIRST LAST [BASE,...]` prints the number of each mutant before it is
read, what went wrong with it, and at the end the counts and costs as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import resource
import shutil
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from dicom_bases import BASES, Base
from dicom_damage import Sound, damaged, read_sound
from dicom_oracle import image_fault, label_fault
from io_mutants import ADDRESSES, MEMORY, limit_memory

from hilum.dicom.annotation import read_annotation
from hilum.dicom.study import read_studies
from hilum.errors import HilumError
from hilum.files import record
from hilum.io import inspect_file, read_labels, read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.volume import Volume

T = TypeVar("T")
SECONDS = 60  # of the clock: other programs may run
OTHER_FILE = 0.15  # of the mutants of an annotation damage an image that it was drawn on


@dataclass(frozen=True)
class Source:
    """An undamaged source with its volume.

    Args:
        base: its kind.
        files: bytes by path below the folder.
        sound: the same files with their elements.
        volume: that is read of it.
    """

    base: Base
    files: dict[str, bytes]
    sound: dict[str, Sound]
    volume: Volume


def make_source(folder: Path, name: str) -> Source:
    """Write the files of a kind, and read them."""
    base = BASES[name]
    folder.mkdir(parents=True)
    base.make(folder)
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    read = read_labels if base.labels else read_volume
    sound = {name: read_sound(data) for name, data in files.items()}
    return Source(base, files, sound, read(folder / base.source))


def write_mutant(folder: Path, source: Source, seed: list[int]) -> tuple[Path, str, bool]:
    """Write the files, one of them damaged.

    Returns:
        The damaged file, how, and whether the damage is only a missing end.
    """
    rng = np.random.default_rng(seed)
    names = list(source.files)
    target = names[int(rng.integers(len(names)))]
    if source.base.labels and rng.random() > OTHER_FILE:
        target = source.base.source
    data, way = damaged(source.sound[target], rng)
    for name, content in {**source.files, target: data}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / target, way, source.files[target].startswith(data)


def outcome(folder: Path, source: Source, *, cut: bool) -> tuple[str, str]:
    """Read a damaged source in every way.

    Returns:
        "equal", "other" (as the file's own header says), "refused" or "fault", and the fault.
    """
    place = folder / source.base.source
    _, fault = _tried(read_studies, folder)
    facts, first = _tried(inspect_file, place)
    volume, second = _tried(read_labels if source.base.labels else read_volume, place)
    fault = fault or first or second
    if fault or volume is None:
        return ("fault", fault) if fault else ("refused", "")
    if facts is None:
        fault = "it is read, though inspect_file refuses it"
    elif volume.geometry != facts.geometry or volume.array.shape[1:] != facts.geometry.shape:
        fault = f"{volume.array.shape} on {volume.geometry}, where inspect has {facts.geometry}"
    elif volume.geometry == source.volume.geometry and np.array_equal(
        volume.array, source.volume.array
    ):
        return "equal", ""
    elif cut:
        fault = "a file without its end is read as something else"
    else:
        fault = _oracle_fault(folder, source, volume, facts.notes)
    return ("fault", fault) if fault else ("other", "")


def _tried(read: Callable[[Path], T], place: Path) -> tuple[T | None, str]:
    """Read; None where that is refused, and any error that is no refusal in words."""
    try:
        return read(place), ""
    except HilumError:
        return None, ""
    except BaseException as error:  # noqa: BLE001 (any other error is what is looked for)
        return None, f"{read.__name__}: {type(error).__name__}: {error}"


def _oracle_fault(folder: Path, source: Source, volume: Volume, notes: tuple[str, ...]) -> str:
    """Compare with what the files say by pydicom alone."""
    place = folder / source.base.source
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    try:
        if source.base.labels:
            told = (*notes, *read_annotation(place).notes)  # some is told when contours are filled
            return label_fault(volume, told, place)
        if any("gantry was tilted" in note for note in notes):
            return ""  # each slice is resampled: only equal volumes are judged
        return image_fault(volume, notes, files)
    except Exception as error:  # noqa: BLE001 (what pydicom cannot read is no volume)
        return f"it is read, where pydicom fails: {type(error).__name__}: {error}"


def main(folder: Path, first: int, last: int, names: list[str]) -> None:
    """Read the mutants of some kinds of sources."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sources = {name: make_source(folder / name, name) for name in names}
    record.psutil.virtual_memory = lambda: type("Memory", (), {"total": MEMORY})
    limit_memory(ADDRESSES)
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest = (0.0, "")
    for name, source in sources.items():
        for number in range(first, last):
            own = folder / f"{name}_{number}"  # what is cached by path and time is never met again
            damaged_file, way, cut = write_mutant(own, source, [number, *name.encode()])
            print(f"{name} {number} {damaged_file.name} {way}", flush=True)  # noqa: T201
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            began = time.process_time()
            kind, fault = outcome(own, source, cut=cut)
            passed = time.process_time() - began
            faulthandler.cancel_dump_traceback_later()
            taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            if taken > MEMORY:
                kind, fault = "fault", f"{taken} bytes of memory"
            if fault:
                print(f"FAULT {name} {number} {way}: {fault}", flush=True)  # noqa: T201
            counts[name][kind] += 1
            slowest = max(slowest, (passed, f"{name} {number}"))
            shutil.rmtree(own)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
    costs = {"slowest": slowest, "memory": peak}
    print(json.dumps({"counts": counts, **costs}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4].split(",") if len(sys.argv) > 4 else list(BASES),
    )
