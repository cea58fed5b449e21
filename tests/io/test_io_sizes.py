"""Sizes stated in headers are checked against file and machine before memory is allocated."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import tifffile
from io_support import write_series

from hilum.errors import FormatError, ResourceError
from hilum.files import record
from hilum.io import dispatch, inspect_file, read_volume, write_volume
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
    with pytest.raises(
        FormatError, match=r"the voxels cannot be read .its header claims 5\.03e\+04 GiB"
    ):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_an_nrrd_header_that_claims_too_much(tmp_path, encoding):
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 30000 30000 30000\nencoding:"
        f" {encoding}\nendian: little\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(65536))
    with pytest.raises(FormatError, match="its header claims"):
        read_volume(tmp_path / "a.nrrd")


def test_more_voxels_than_memory(tmp_path, monkeypatch):
    write_volume(
        Volume(np.zeros((1, 4, 50, 60), np.int16), Geometry.from_spacing((4, 50, 60))),
        tmp_path / "a.nii",
    )
    monkeypatch.setattr(
        record.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 20_000})
    )
    with pytest.raises(ResourceError, match=r"its header claims 2\.24e-05 GiB of voxels"):
        read_volume(tmp_path / "a.nii")


def test_an_npz_header_that_claims_too_much(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (2_000_000, 300, 300)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", head.getvalue() + bytes(1000))
    with pytest.raises(FormatError, match="its header claims 168 GiB"):
        read_volume(f"{tmp_path / 'a.npz'}#train/0")


def test_a_tiff_that_claims_too_much(tmp_path):
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((8, 8), np.uint8), compression="zlib")
    data = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as opened:
        places = [opened.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        struct.pack_into("<I", data, place, 2_000_000)
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"its header claims 3\.73e\+03 GiB"):
        read_volume(file)


def test_a_dicom_series_of_more_than_memory(tmp_path, monkeypatch, volume):
    write_series(tmp_path / "series", volume)
    monkeypatch.setattr(record.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 10}))
    with pytest.raises(ResourceError, match="its header claims"):
        read_volume(tmp_path / "series")


def test_more_pixels_than_pillow_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name in ("a.png", "a.bmp", "a.tif"):
        PIL.Image.fromarray(array).save(tmp_path / name, compression="tiff_lzw")
        assert np.array_equal(read_volume(tmp_path / name).array[0, 0], array)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("syntax", [None, "1.2.840.10008.1.2.5"])
def test_a_slice_that_claims_too_much(tmp_path, syntax):
    volume = Volume(np.zeros((1, 1, 64, 64), np.int16), Geometry.from_spacing((1, 64, 64)))
    (file,) = write_series(tmp_path / "series", volume, syntax=syntax, Rows=65535, Columns=65535)
    with pytest.raises(FormatError, match=r"header claims 8 GiB|pixel data is less than expected"):
        read_volume(file)


@pytest.mark.parametrize(
    "name", ["a.nii.gz", "a.nii", "twice.nii.gz", "a.mgz", "a.img.gz", "a.nrrd", "a.nhdr"]
)
def test_a_stream_far_beyond_its_header_is_not_unpacked(tmp_path, name):
    array = np.arange(8 * 10 * 12, dtype=np.int16).reshape(8, 10, 12)
    path, zeros = tmp_path / name, bytes(1 << 24)
    if name.endswith(("rd", "hdr")):
        held = array.tobytes() + 64 * zeros
        head = (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 12 10 8\nencoding: gzip\nendian: little\n"
        )
        detached = path.with_suffix(".raw.gz") if name == "a.nhdr" else None
        path.write_bytes((head + (f"data file: {detached.name}\n" if detached else "\n")).encode())
        with (detached or path).open("ab") as stream:
            stream.write(gzip.compress(held, 1))
        del held
    else:
        kind = {"a.mgz": nib.MGHImage, "a.img.gz": nib.Nifti1Pair}.get(name, nib.Nifti1Image)
        saved = path.with_suffix(".nii.gz") if name == "a.nii" else path
        nib.save(kind(array.T, np.eye(4)), saved)
        data = saved.read_bytes() + 64 * gzip.compress(zeros, 1)  # 1 GiB
        path.write_bytes(gzip.compress(data, 1) if name == "twice.nii.gz" else data)
    tracemalloc.start()
    decoded = dispatch._decode(path, labels=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(decoded.volume.array[0], array)
    assert any("more than 1 MiB beyond what its header says" in note for note in decoded.notes)
    assert peak < 50e6


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_bytes_behind_the_voxels_are_noted(tmp_path, name, volume):
    write_volume(volume, tmp_path / name)
    assert not dispatch._decode(tmp_path / name, labels=False).notes
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(
        data + (gzip.compress(bytes(100)) if name.endswith("gz") else bytes(100))
    )
    assert dispatch._decode(tmp_path / name, labels=False).notes == (
        "the file holds 100 bytes more than its header says; they were left aside",
    )
