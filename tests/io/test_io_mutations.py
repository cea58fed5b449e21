"""Damaged files of every format are read as their header says, or refused: no crash, no hang."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hilum.errors import FormatError, ResourceError
from hilum.io import inspect_file, picture, read_geometry, read_volume, write_volume
from hilum.volume import Geometry, Volume

pytest.importorskip("resource", reason="memory is limited by POSIX's setrlimit")

STACK = np.arange(4 * 5 * 7, dtype=np.uint16).reshape(4, 5, 7)


def faults(folder: Path, first: int, last: int) -> str:
    """Read the mutants of every format in a process of its own."""
    mutants = Path(__file__).with_name("io_mutants.py")
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        str(mutants),
        str(folder),
        "",
        str(first),
        str(last),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = done.stdout.splitlines()
    if done.returncode:
        return f"exit code {done.returncode} after {lines[-1:]}: {done.stderr[-3000:]}"
    return "\n".join(line for line in lines if line.startswith("FAULT"))


def test_200_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    assert faults(tmp_path, 0, 5) == ""


@pytest.mark.slow
def test_3000_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    assert faults(tmp_path, 1000, 1080) == ""


def test_a_decoder_that_fails_oddly_gives_a_format_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    write_volume(Volume(np.ones((1, 1, 5, 7), np.uint8), Geometry.from_spacing((1, 5, 7))), path)

    def fail(error: Exception) -> None:
        def raising(*_: object) -> None:
            raise error

        monkeypatch.setattr(picture, "_frame", raising)

    fail(ZeroDivisionError("by zero"))
    with pytest.raises(
        FormatError, match=r"a\.png: the file cannot be read as PNG .ZeroDivisionError: by zero"
    ):
        read_volume(path)
    with pytest.raises(FormatError, match="cannot be read as PNG"):
        inspect_file(path)
    fail(MemoryError())
    with pytest.raises(ResourceError, match="not enough memory"):
        read_volume(path)
    fail(ModuleNotFoundError("No module named 'pydicom'"))
    with pytest.raises(ModuleNotFoundError):  # which says what to install
        read_volume(path)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}])
def test_a_tiff_without_its_last_page_is_refused(
    tmp_path: Path, options: dict[str, object]
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib", **options)
    assert np.array_equal(read_volume(path).array[0], STACK)
    with tifffile.TiffFile(path) as file:
        ends = [page.offset for page in file.pages][1:]
    sound = path.read_bytes()
    for end in (*ends, ends[-1] + 1, ends[-1] + 20):
        path.write_bytes(sound[:end])
        with pytest.raises(FormatError, match="the file cannot be read as TIFF"):
            read_volume(path)


def test_a_tiff_whose_pages_form_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[-1].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, last + 2 + 12 * struct.unpack_from("<H", data, last)[0], first)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="breaks off after page 4"):
        read_volume(path)


def test_a_tiff_whose_bits_lie_beyond_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((5, 7, 3), np.uint8), photometric="rgb")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        entry = file.pages[0].tags["BitsPerSample"].offset
    struct.pack_into("<I", data, entry + 8, len(data))
    path.write_bytes(data)
    with pytest.raises(FormatError, match="the value of tag 258 is not in the file"):
        read_volume(path)


def test_an_ome_tiff_with_half_a_pixel_size_has_no_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, STACK, photometric="minisblack", metadata={"axes": "ZYX", "PhysicalSizeX": 0.5}
    )
    assert read_geometry(path).spacing == (1.0, 1.0, 1.0)
    assert any("no spacing is stored" in note for note in inspect_file(path).notes)
