"""Damaged DICOM files are read as they say, or refused: no crash, no hang, no other volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_bases import BASES
from dicom_damage import PIXEL_DATA, damaged, read_sound
from dicom_mutants import make_source
from dicom_oracle import image_fault, label_fault

from hilum.volume import Geometry

pytest.importorskip("resource", reason="memory is limited by POSIX's setrlimit")


def outcomes(folder: Path, first: int, last: int) -> tuple[str, dict[str, int]]:
    """Read mutants of every kind in a process of its own: faults, and counts of outcomes."""
    script = Path(__file__).with_name("dicom_mutants.py")
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", script, folder, str(first), str(last)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )
    lines = done.stdout.splitlines()
    if done.returncode:
        return f"exit code {done.returncode} after {lines[-1:]}: {done.stderr[-3000:]}", {}
    found = json.loads(lines[-1])["counts"].values()
    kinds = ("equal", "other", "refused", "fault")
    counts = {kind: sum(one.get(kind, 0) for one in found) for kind in kinds}
    return "\n".join(line for line in lines if line.startswith("FAULT")), counts


def test_hundreds_of_damaged_files_are_read_as_they_say_or_refused(tmp_path: Path) -> None:
    faults, counts = outcomes(tmp_path, 0, 16)
    assert faults == ""
    assert sum(counts.values()) == 16 * len(BASES)
    assert min(counts["equal"], counts["other"], counts["refused"]) > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_10000_damaged_files_are_read_as_they_say_or_refused(tmp_path: Path) -> None:
    faults, counts = outcomes(tmp_path, 1000, 1400)
    assert faults == ""
    assert sum(counts.values()) == 10_000


@pytest.mark.parametrize("name", BASES)
def test_elements_are_found_to_the_end_of_every_file(tmp_path: Path, name: str) -> None:
    """The damage reaches every element: the walk through each file ends where the file does."""
    source = make_source(tmp_path / name, name)
    for sound in source.sound.values():
        assert sound.elements[-1].end == len(sound.data)
        tags = {one.tag for one in sound.elements}
        assert (PIXEL_DATA in tags) != (0x30060039 in tags)


@pytest.mark.filterwarnings("ignore:.*compressed pixel data matches")  # pydicom, of small images
@pytest.mark.parametrize("name", [name for name in BASES if name != "ct_tilted"])
def test_the_oracle_agrees_with_sound_files_and_with_no_other_volume(
    tmp_path: Path, name: str
) -> None:
    source = make_source(tmp_path / name, name)
    volume, place = source.volume, tmp_path / name / source.base.source
    files = [tmp_path / name / file for file in source.files]

    def fault(changed):
        if source.base.labels:
            return label_fault(changed, (), place)
        return image_fault(changed, (), files)

    assert fault(volume) == ""
    other = volume.array.copy()
    other.flat[int(np.flatnonzero(other)[7])] += 1
    assert fault(volume.with_array(other)) != ""
    moved = volume.geometry.affine.copy()
    moved[:3, 3] += moved[:3, 1] * (0.8 if not volume.geometry.is_2d else 0.0)
    moved[:3, :3] *= 1.5 if volume.geometry.is_2d else 1.0
    shifted = Geometry(volume.geometry.shape, moved, volume.geometry.frame_of_reference)
    assert fault(type(volume)(volume.array, shifted)) != ""


def test_damage_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    sound = [
        next(iter(make_source(tmp_path / place, "ct").sound.values())) for place in ("a", "b")
    ]  # fmt: skip
    assert sound[0].data == sound[1].data
    first, second = (
        [damaged(one, np.random.default_rng(seed)) for seed in range(50)] for one in sound
    )
    assert first == second
    assert len({way for _, way in first}) > 20
    assert read_sound(sound[0].data) == sound[0]
