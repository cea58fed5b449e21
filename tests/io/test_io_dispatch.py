"""The door: which format, labels, channels, archives."""

import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from hilum.errors import FormatError, GeometryError, LabelError, ResourceError, UsageError
from hilum.io import (
    archive_parts,
    inspect_file,
    read_channels,
    read_geometry,
    read_labels,
    read_volume,
    supported,
    write_labels,
    write_volume,
)
from hilum.volume import Geometry, Volume


def test_what_is_supported(tmp_path, volume):
    write_volume(volume, tmp_path / "a.nii.gz")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    np.savez(tmp_path / "s.npz", train_images=np.zeros((2, 4, 4), np.uint8))
    assert supported(tmp_path / "a.nii.gz")
    assert supported(f"{tmp_path}/s.npz#train/0")
    assert not supported(tmp_path / "missing.nii.gz")
    assert not supported(tmp_path / "notes.txt")
    assert not supported(tmp_path / "s.npz")


def test_unknown_files_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(FormatError, match="not an image that hilum reads"):
        read_volume(tmp_path / "notes.txt")
    with pytest.raises(FormatError, match="does not exist"):
        read_volume(tmp_path / "a.nii")
    np.savez(tmp_path / "s.npz", x=np.zeros(3))
    with pytest.raises(FormatError, match="an archive of many images"):
        read_volume(tmp_path / "s.npz")


@pytest.mark.parametrize("name", ["a.jpg", "a.mhd", "a.dcm", "a.txt", "a"])
def test_formats_that_are_not_written(tmp_path, volume, name):
    with pytest.raises(UsageError, match="no format that hilum writes"):
        write_volume(volume, tmp_path / name)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 1), np.uint8),
        ((0, 255), np.uint8),
        ((0, 256), np.int16),
        ((-1, 3), np.int16),
        ((0, 40000), np.int32),
        ((-(2**31), 5), np.int32),
    ],
)
@pytest.mark.parametrize("stored", [np.int64, np.float64])
def test_labels_take_the_smallest_dtype(tmp_path, oblique, values, dtype, stored):
    array = np.zeros((1, 4, 5, 7), stored)
    array[0, 0, 0, :2] = values
    write_labels(Volume(array, oblique), tmp_path / "a.nii.gz")
    labels = read_labels(tmp_path / "a.nii.gz")
    assert labels.array.dtype == read_volume(tmp_path / "a.nii.gz").array.dtype == dtype
    np.testing.assert_array_equal(labels.array, array)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 1e-6])
def test_fractions_are_no_labels(tmp_path, oblique, bad):
    array = np.zeros((1, 4, 5, 7), np.float32)
    array[0, 1, 2, 3] = bad
    write_volume(Volume(array, oblique), tmp_path / "a.nii.gz")
    with pytest.raises(
        LabelError,
        match=r"1 voxels hold no whole number, the first .* at \(z, y, x\) = \(1, 2, 3\)",
    ):
        read_labels(tmp_path / "a.nii.gz")


def test_labels_beyond_32_bits_and_several_channels(tmp_path, oblique):
    with pytest.raises(LabelError, match="labels from 0 to"):
        write_labels(Volume(np.full((1, 4, 5, 7), 2**40), oblique), tmp_path / "a.nii.gz")
    with pytest.raises(LabelError, match="labels in 2 channels"):
        write_labels(Volume(np.zeros((2, 4, 5, 7), np.uint8), oblique), tmp_path / "a.nii.gz")


def test_bool_labels(tmp_path, oblique):
    write_labels(Volume(np.ones((1, 4, 5, 7), bool), oblique), tmp_path / "a.nrrd")
    assert read_labels(tmp_path / "a.nrrd").array.dtype == np.uint8


def raising(error):
    """A function that takes anything and raises."""

    def function(*_, **__):
        raise error

    return function


class TestChannels:
    def test_one_file_each(self, tmp_path, volume):
        write_volume(volume, tmp_path / "pet.nii.gz")
        write_volume(volume.with_array(volume.array.astype(np.float32) / 4), tmp_path / "ct.nrrd")
        case = read_channels({"CT": tmp_path / "ct.nrrd", "PET": tmp_path / "pet.nii.gz"})
        assert case.array.dtype == np.float32
        np.testing.assert_array_equal(case.array[0], volume.array[0] / 4)
        np.testing.assert_array_equal(case.array[1], volume.array[0])
        assert case.geometry == read_geometry(tmp_path / "ct.nrrd")

    def test_all_in_one_file(self, tmp_path, volume):
        both = volume.with_array(np.concatenate([volume.array, volume.array + 1]))
        write_volume(both, tmp_path / "a.mha")
        assert read_channels({"a": tmp_path / "a.mha", "b": tmp_path / "a.mha"}) == read_volume(
            tmp_path / "a.mha"
        )
        write_volume(volume.with_array(volume.array + 2), tmp_path / "c.mha")
        case = read_channels(
            {"a": tmp_path / "a.mha", "c": tmp_path / "c.mha", "b": tmp_path / "a.mha"}
        )
        np.testing.assert_array_equal(case.array[:, 0, 0, 0] - volume.array[0, 0, 0, 0], [0, 2, 1])

    def test_another_number_of_channels(self, tmp_path, volume):
        write_volume(volume, tmp_path / "a.nii.gz")
        with pytest.raises(FormatError, match="1 channel, where 2 of"):
            read_channels({"a": tmp_path / "a.nii.gz", "b": tmp_path / "a.nii.gz"})

    def test_other_grids_are_refused_by_both_names(self, tmp_path, volume):
        write_volume(volume, tmp_path / "a.nii.gz")
        shifted = Volume(volume.array, volume.geometry.shifted((0, 0.5, 0), volume.geometry.shape))
        write_volume(shifted, tmp_path / "b.nii.gz")
        with pytest.raises(GeometryError, match=r"b\.nii\.gz .*a\.nii\.gz .*0\.5 voxels apart"):
            read_channels({"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nii.gz"})
        write_volume(
            Volume(volume.array[:, 1:], volume.geometry.shifted((1, 0, 0), (3, 5, 7))),
            tmp_path / "c.nii.gz",
        )
        with pytest.raises(GeometryError, match="of different shape"):
            read_channels({"a": tmp_path / "a.nii.gz", "c": tmp_path / "c.nii.gz"})

    def test_rounding_is_no_other_grid(self, tmp_path, volume):
        write_volume(volume, tmp_path / "a.nii.gz")
        write_volume(
            Volume(volume.array, volume.geometry.shifted((0, 1e-4, 0), volume.geometry.shape)),
            tmp_path / "b.nrrd",
        )
        assert read_channels({"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nrrd"}).channels == 2

    def test_none(self):
        with pytest.raises(UsageError, match="has no images"):
            read_channels({})


class TestItk:
    @pytest.mark.parametrize("suffix", ["nrrd", "mha"])
    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
    def test_types(self, tmp_path, oblique, suffix, dtype):
        volume = Volume(np.arange(140).reshape(1, 4, 5, 7).astype(dtype) % 100, oblique)
        write_volume(volume, tmp_path / f"a.{suffix}")
        again = read_volume(tmp_path / f"a.{suffix}")
        assert again.array.dtype == volume.array.dtype
        np.testing.assert_array_equal(again.array, volume.array)
        assert inspect_file(tmp_path / f"a.{suffix}").dtype == volume.array.dtype

    def test_header_and_raw_file(self, tmp_path, volume):
        image = sitk.GetImageFromArray(volume.array[0])
        image.SetSpacing((0.9, 0.7, 2.5))
        sitk.WriteImage(image, str(tmp_path / "a.mhd"))
        again = read_volume(tmp_path / "a.mhd")
        np.testing.assert_array_equal(again.array, volume.array)
        assert again.geometry.spacing == (2.5, 0.7, 0.9)

    def test_four_dimensions_and_two(self, tmp_path):
        data = np.arange(48, dtype=np.int16).reshape(2, 2, 3, 4)
        sitk.WriteImage(sitk.GetImageFromArray(data, isVector=False), str(tmp_path / "a.nrrd"))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array, data)
        sitk.WriteImage(sitk.GetImageFromArray(data[0, 0]), str(tmp_path / "b.mha"))
        assert read_volume(tmp_path / "b.mha").array.shape == (1, 1, 3, 4)
        joined = sitk.JoinSeries([sitk.GetImageFromArray(data, isVector=True)] * 2)
        sitk.WriteImage(joined, str(tmp_path / "c.mha"))
        with pytest.raises(FormatError, match="4 dimensions with 4 components"):
            read_volume(tmp_path / "c.mha")

    def test_space_that_is_not_stated_is_said(self, tmp_path):
        header = (
            "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nspacings: 0.5 0.7 2\nencoding:"
            " raw\nendian: little\n\n"
        )
        (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(24))
        facts = inspect_file(tmp_path / "a.nrrd")
        assert facts.geometry.spacing == (2.0, 0.7, 0.5)
        assert "LPS is assumed" in facts.notes[0]

    @pytest.mark.parametrize(
        ("space", "said"),
        [("scanner-xyz", 1), ("3D-right-handed", 1), ("left-anterior-superior", 0)],
    )
    def test_a_space_without_left_and_right_is_said(self, tmp_path, volume, space, said):
        write_volume(volume, tmp_path / "a.nrrd")
        text = (tmp_path / "a.nrrd").read_bytes()
        (tmp_path / "a.nrrd").write_bytes(text.replace(b"left-posterior-superior", space.encode()))
        notes = inspect_file(tmp_path / "a.nrrd").notes
        assert [f"names {space} for its axes" in note for note in notes] == [True] * said

    def test_ras_nrrd_is_turned(self, tmp_path):
        head = (
            "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 3"
            " 4\nspace origin: (1,2,3)\n"
        )
        head += (
            "space directions: (0.5,0,0) (0,0.7,0) (0,0,2)\nkinds: domain domain domain\nencoding:"
            " raw\nendian: little\n\n"
        )
        (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(24))
        geometry = read_geometry(tmp_path / "a.nrrd")
        assert geometry.orientation == "SAR"
        assert geometry.origin == (-1, -2, 3)

    def test_sheared_nrrd_is_refused(self, tmp_path):
        head = (
            "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 3"
            " 4\nspace origin: (1,2,3)\n"
        )
        head += (
            "space directions: (0.5,0,0) (0.2,0.7,0) (0,0,2)\nkinds: domain domain"
            " domain\nencoding: raw\nendian: little\n\n"
        )
        (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(24))
        with pytest.raises(GeometryError, match=r"a\.nrrd: the axes are not perpendicular"):
            read_volume(tmp_path / "a.nrrd")

    def test_damage_is_named(self, tmp_path, volume):
        (tmp_path / "a.nrrd").write_bytes(b"no image")
        with pytest.raises(FormatError, match=r"a\.nrrd: the file cannot be read"):
            read_volume(tmp_path / "a.nrrd")
        write_volume(volume, tmp_path / "b.mha")
        (tmp_path / "b.mha").write_bytes((tmp_path / "b.mha").read_bytes()[:-40])
        with pytest.raises(FormatError, match=r"b\.mha: the file cannot be read"):
            read_volume(tmp_path / "b.mha")
        sitk.WriteImage(sitk.Image((2, 3, 4), sitk.sitkComplexFloat32), str(tmp_path / "c.nrrd"))
        with pytest.raises(FormatError, match="voxels of type complex"):
            read_volume(tmp_path / "c.nrrd")

    def test_voxels_that_fail_after_the_header(self, tmp_path, volume, monkeypatch):
        write_volume(volume, tmp_path / "a.nrrd")
        monkeypatch.setattr(sitk, "ReadImage", raising(RuntimeError("truncated")))
        with pytest.raises(
            FormatError,
            match=r"a\.nrrd: the file cannot be read as NRRD \(RuntimeError: truncated\)",
        ):
            read_volume(tmp_path / "a.nrrd")

    def test_unwritable_place(self, tmp_path, volume, monkeypatch):
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        with pytest.raises(ResourceError, match=r"a\.mha cannot be written"):
            write_volume(volume, tmp_path / "file" / "a.mha")

        monkeypatch.setattr(
            sitk, "WriteImage", raising(RuntimeError("ITK says\nno space on device"))
        )
        with pytest.raises(ResourceError, match=r"b\.mha cannot be written: no space on device"):
            write_volume(volume, tmp_path / "b.mha")


class TestArchive:
    @pytest.fixture
    def archive(self, tmp_path):
        rng = np.random.default_rng(0)
        np.savez_compressed(
            tmp_path / "set.npz",
            train_images=rng.integers(0, 255, (3, 6, 5), dtype=np.uint8),
            train_labels=np.array([[0], [1], [1]]),
            val_images=rng.integers(0, 255, (2, 6, 5, 3), dtype=np.uint8),
            test_images=rng.integers(0, 255, (2, 4, 6, 5), dtype=np.uint8),
        )
        return tmp_path / "set.npz"

    @pytest.mark.parametrize(
        ("reference", "shape"),
        [("train/2", (1, 1, 6, 5)), ("val/1", (3, 1, 6, 5)), ("test/0", (1, 4, 6, 5))],
    )
    def test_images(self, archive, reference, shape):
        path = Path(f"{archive}#{reference}")
        volume = read_volume(path)
        assert volume.array.shape == shape
        part, index = reference.split("/")
        stored = np.load(archive)[f"{part}_images"][int(index)]
        np.testing.assert_array_equal(
            volume.array.squeeze(), np.moveaxis(stored, -1, 0) if part == "val" else stored
        )
        facts = inspect_file(path)
        assert (facts.geometry, facts.channels) == (volume.geometry, shape[0])
        volume.array[...] = 0  # the kept archive does not change
        np.testing.assert_array_equal(read_volume(path).array.max(), stored.max())

    def test_parts(self, archive):
        parts = archive_parts(archive)
        assert [(p.name, p.count) for p in parts] == [("train", 3), ("val", 2), ("test", 2)]
        assert parts[0].labels.ravel().tolist() == [0, 1, 1]
        assert parts[1].labels is None

    @pytest.mark.parametrize(
        ("reference", "text"),
        [
            ("train/3", "needed: an index of 0 to 2|index 3"),
            ("nope/0", "no array nope_images"),
            ("train", "names no image"),
            ("train/x", "names no image"),
        ],
    )
    def test_what_is_not_there(self, archive, reference, text):
        with pytest.raises(FormatError, match=rf"({text})"):
            read_volume(f"{archive}#{reference}")

    def test_what_is_no_archive(self, tmp_path):
        (tmp_path / "a.npz").write_bytes(b"no archive")
        with pytest.raises(FormatError, match=r"a\.npz.*: the file cannot be read as MedMNIST"):
            read_volume(f"{tmp_path}/a.npz#train/0")
        with zipfile.ZipFile(tmp_path / "e.npz", "w") as file:
            file.writestr("train_images.npy", b"no array")
        with pytest.raises(FormatError, match=r"e\.npz.*: the file cannot be read as MedMNIST"):
            archive_parts(tmp_path / "e.npz")
        np.savez(tmp_path / "b.npz", other=np.zeros(3))
        with pytest.raises(FormatError, match="arrays other"):
            archive_parts(tmp_path / "b.npz")
        np.savez(tmp_path / "c.npz", train_images=np.zeros(3))
        with pytest.raises(FormatError, match="an image of shape"):
            read_volume(f"{tmp_path}/c.npz#train/0")
        np.savez(tmp_path / "d.npz", train_images=np.array([{}], dtype=object))
        with pytest.raises(FormatError, match="cannot be read"):
            read_volume(f"{tmp_path}/d.npz#train/0")

    def test_a_changed_archive_is_read_anew(self, tmp_path):
        for value in (1, 2):
            np.savez(tmp_path / "a.npz", train_images=np.full((1, 2, 2), value, np.uint8))
            os.utime(tmp_path / "a.npz", ns=(value, value))
            assert read_volume(f"{tmp_path}/a.npz#train/0").array.max() == value


def test_each_remark_is_said_once(tmp_path, caplog):
    from PIL import Image

    for name in "ab":
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / f"{name}.png")
    with caplog.at_level(logging.DEBUG, logger="hilum"):
        read_volume(tmp_path / "a.png")
        read_volume(tmp_path / "b.png")
    assert [(r.levelname, r.name) for r in caplog.records if r.name == "hilum"] == [
        ("WARNING", "hilum"),
        ("DEBUG", "hilum"),
    ]
    assert inspect_file(tmp_path / "b.png").notes  # the doctor hears it of every file


def test_2d_volume_by_nifti(tmp_path):
    volume = Volume(
        np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4),
        Geometry.from_spacing((1, 3, 4), (1, 0.5, 0.25)),
    )
    write_volume(volume, tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz") == volume
