"""Sizes that headers state are held against what the file and the machine can hold, before memory is asked for."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from hilum.errors import FormatError, ResourceError
from hilum.io import files, inspect_file, read_volume, write_volume
from hilum.volume import Geometry, Volume


def claim(path, shape):
    """A NIfTI file whose header claims that shape, and which holds 64 KB."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["sform_code"], header["magic"] = 352, 1, b"n+1"
    header["srow_x"], header["srow_y"], header["srow_z"] = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)
    data = header.binaryblock + bytes(4) + bytes(65536)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_header_that_claims_too_much(tmp_path, name):
    claim(tmp_path / name, (30000, 30000, 30000))
    assert inspect_file(tmp_path / name).geometry.shape == (30000, 30000, 30000)
    with pytest.raises(FormatError, match=r"the voxels cannot be read .its header claims 5\.03e\+04 GiB"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_an_nrrd_header_that_claims_too_much(tmp_path, encoding):
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding: {encoding}\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(65536))
    with pytest.raises(FormatError, match="its header claims"):
        read_volume(tmp_path / "a.nrrd")


def test_more_voxels_than_memory(tmp_path, monkeypatch):
    write_volume(Volume(np.zeros((1, 4, 50, 60), np.int16), Geometry.from_spacing((4, 50, 60))), tmp_path / "a.nii")
    monkeypatch.setattr(files.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 20_000}))
    with pytest.raises(ResourceError, match=r"its header claims 2\.24e-05 GiB of voxels"):
        read_volume(tmp_path / "a.nii")
