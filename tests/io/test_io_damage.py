"""A compressed file that was damaged on its way is refused, and never read as something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import SimpleITK

from hilum.errors import FormatError
from hilum.io import read_volume, write_volume
from hilum.volume import Geometry, Volume

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".nii.gz", ".img.gz", ".mgz", ".nrrd", ".nhdr", ".mha", ".mhd")


def _volume() -> Volume:
    """Noise, which deflate stores as it is: only the checksum tells a changed bit."""
    array = np.random.default_rng(0).integers(-1000, 1000, (1, 8, 10, 12)).astype(np.int16)
    return Volume(array, Geometry.from_spacing((8, 10, 12), (2.0, 1.0, 1.0)))


def _compressed(folder: Path, suffix: str) -> tuple[Path, Path]:
    """A file of the noise, and the file that holds its compressed voxels."""
    path, array = folder / f"noise{suffix}", _volume().array[0]
    if suffix in {".img.gz", ".mgz"}:
        kind = nibabel.Nifti1Pair if suffix == ".img.gz" else nibabel.MGHImage
        nibabel.save(kind(array.T, np.eye(4)), path)
    elif suffix in {".nhdr", ".mhd"}:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path), True)
    else:
        write_volume(_volume(), path)
    return path, path.with_suffix({".nhdr": ".raw.gz", ".mhd": ".zraw"}.get(suffix, path.suffix))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_changed_bit_of_compressed_voxels_is_refused(tmp_path: Path, suffix: str) -> None:
    path, stored = _compressed(tmp_path, suffix)
    assert np.array_equal(read_volume(path).array, _volume().array)
    sound = stored.read_bytes()
    for place in (len(sound) // 2, len(sound) - 6):  # a voxel, and the checksum itself
        damaged = bytearray(sound)
        damaged[place] ^= 0x10
        stored.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"the file cannot be read as"):
            read_volume(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_compressed_voxels_that_break_off_are_refused(tmp_path: Path, suffix: str) -> None:
    path, stored = _compressed(tmp_path, suffix)
    stored.write_bytes(stored.read_bytes()[:-3])  # every voxel is there, the checksum is not
    with pytest.raises(FormatError, match=r"the file cannot be read as"):
        read_volume(path)
