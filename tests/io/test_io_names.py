"""Names that are no UTF-8, homes that are not there, and the mode of what is written."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from hilum.dataset.doctor.finding import Finding
from hilum.errors import DataError, readable
from hilum.files import atomic_path, atomic_write_text, image_stem
from hilum.inference import find_cases
from hilum.inference.run_report import CaseOutcome
from hilum.io import inspect_file, read_volume, write_volume
from hilum.volume import Geometry, Volume

CAFE = os.fsdecode(b"caf\xe9")
needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="only here a name is any bytes")


def test_bytes_that_are_no_utf_8_become_readable():
    assert readable(f"/x/{CAFE}.nii") == "/x/caf%E9.nii"
    assert readable("é, 50 %, 肝") == "é, 50 %, 肝"
    assert image_stem(f"{CAFE}.nii.gz") == "caf%E9"


@needs_bytes
@pytest.mark.parametrize("place", [f"{CAFE}/a", CAFE, f"{CAFE}/{CAFE}"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif"])
def test_every_format_takes_any_name(tmp_path, place, ending):
    volume = Volume(
        np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4), Geometry.from_spacing((1, 3, 4))
    )
    path = tmp_path / f"{place}{ending}"
    write_volume(volume, path)
    np.testing.assert_array_equal(read_volume(path).array, volume.array)
    assert inspect_file(path).channels == 1


@needs_bytes
def test_a_detached_header_of_any_name_finds_its_data(tmp_path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(1, 2, 3)),
        str(tmp_path / "a.mhd"),
    )
    (tmp_path / "a.mhd").rename(tmp_path / f"{CAFE}.mhd")
    assert read_volume(tmp_path / f"{CAFE}.mhd").array.sum() == 15


@needs_bytes
def test_sixteen_bit_colours_of_any_name(tmp_path):
    array = np.arange(36, dtype=np.uint16).reshape(3, 4, 3) * 999
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    (tmp_path / "a.png").rename(tmp_path / f"{CAFE}.png")
    np.testing.assert_array_equal(
        read_volume(tmp_path / f"{CAFE}.png").array[:, 0], np.moveaxis(array, -1, 0)
    )


@needs_bytes
def test_case_ids_errors_and_records_can_be_written(tmp_path):
    (tmp_path / f"{CAFE}.nii.gz").write_bytes(b"no image at all, of more than some bytes")
    (case,) = find_cases([tmp_path], ["CT"])
    assert case.id == "caf%E9"
    with pytest.raises(DataError, match=r"caf%E9\.nii\.gz") as caught:
        read_volume(tmp_path / f"{CAFE}.nii.gz")
    outcome = CaseOutcome(
        case=case.id, status="failed", error=f"{CAFE}: {caught.value}", files=(f"{CAFE}.nii.gz",)
    )
    assert CaseOutcome.model_validate_json(outcome.model_dump_json()) == outcome
    finding = Finding(case=case.id, kind="unreadable", severity="error", found=CAFE, cure=CAFE)
    assert "caf%E9" in finding.model_dump_json()
    atomic_write_text(tmp_path / "a.txt", f"{CAFE}\n")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf%E9\n"


@needs_bytes
def test_the_command_line_prints_any_name(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / CAFE / part).mkdir(parents=True)
        volume = Volume(
            np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4) // 6, Geometry.from_spacing((1, 3, 4))
        )
        write_volume(volume, tmp_path / CAFE / part / f"{CAFE}.png")
    run = [
        sys.executable,
        "-c",
        "from hilum.cli import main; main()",
        "check",
        os.fsencode(tmp_path / CAFE),
    ]
    done = subprocess.run(
        run,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert b"Traceback" not in done.stderr
    assert b"errors, " in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="modes are those of Unix")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_written_has_the_mode_that_umask_asks_for(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / "weights.bin") as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as a library does
        with atomic_path(tmp_path / "model") as folder:
            (folder / "inner").mkdir(parents=True, mode=0o700)
            os.close(os.open(folder / "inner" / "a", os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic_path(tmp_path / "copy") as temporary:
            temporary.touch(mode=0o444)
    finally:
        os.umask(before)
    for name in ("weights.bin", "model/inner/a", "copy"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask, name
    for name in ("model", "model/inner"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o777 & ~mask, name
