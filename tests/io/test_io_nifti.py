"""NIfTI: the world, both transforms, scaling, odd types, damage."""

import gzip
import logging

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from hilum.errors import FormatError, GeometryError
from hilum.io import inspect_file, read_geometry, read_labels, read_volume, write_volume
from hilum.volume import Geometry, Volume

AFFINE = np.array(
    [[0, 0, -2.5, 10], [0.75, 0, 0, -20], [0, 1.25, 0, 30], [0, 0, 0, 1.0]]
)  # RAS, of (i, j, k)


def save(path, data, affine=AFFINE, **header):
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def patch_header(path, **fields):
    """Change fields of a written file, as nibabel resets some of them when it writes."""
    data = bytearray(path.read_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]))
    for key, value in fields.items():
        header[key] = value
    data[:348] = header.binaryblock
    path.write_bytes(bytes(data))
    return path


def voxels(dtype=np.int16, shape=(3, 4, 5)):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_world_is_lps_and_axes_are_reversed(tmp_path):
    path = save(tmp_path / "a.nii", voxels())
    volume = read_volume(path)
    assert volume.array.shape == (1, 5, 4, 3)
    assert volume.array[0, 4, 3, 2] == voxels()[2, 3, 4]
    i, j, k = 2, 3, 4
    right, anterior, superior, _ = AFFINE @ (i, j, k, 1)
    np.testing.assert_allclose(
        volume.geometry.index_to_world((k, j, i)), (-right, -anterior, superior), atol=1e-9
    )
    itk = sitk.ReadImage(str(path))
    np.testing.assert_allclose(
        volume.geometry.index_to_world((k, j, i)),
        itk.TransformIndexToPhysicalPoint((i, j, k)),
        atol=1e-5,
    )


def test_spacing_is_the_decimal_that_was_meant(tmp_path):
    path = save(tmp_path / "a.nii.gz", voxels(), np.diag([0.9, 0.7, 3.3, 1.0]))
    assert read_geometry(path).spacing == (3.3, 0.7, 0.9)


@pytest.mark.parametrize(
    "dtype",
    [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64, ">i2", ">f4"],
)
def test_stored_dtype_is_kept_in_native_order(tmp_path, dtype):
    image = nibabel.Nifti1Image(voxels(dtype), AFFINE, dtype=np.dtype(dtype))
    if np.dtype(dtype).byteorder == ">":
        image = nibabel.Nifti1Image(voxels(dtype), AFFINE, image.header.as_byteswapped(">"))
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array[0].T, voxels())
    assert inspect_file(tmp_path / "a.nii").dtype == volume.array.dtype


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (0.5, -3, "scaled"),
        (1, 0, "kept"),
        (0, 5, "kept"),
        (np.nan, np.nan, "kept"),
        (2, 0, "scaled"),
        (1, 10, "scaled"),
    ],
)
def test_scaling(tmp_path, slope, intercept, expected):
    path = patch_header(save(tmp_path / "a.nii", voxels()), scl_slope=slope, scl_inter=intercept)
    volume = read_volume(path)
    if expected == "kept":
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array[0].T, voxels())
    else:
        assert volume.array.dtype == np.float32
        np.testing.assert_array_equal(volume.array[0].T, voxels() * slope + intercept)
    assert inspect_file(path).dtype == volume.array.dtype


def test_labels_with_a_whole_slope_are_labels(tmp_path):
    path = patch_header(save(tmp_path / "a.nii", voxels(np.uint8)), scl_slope=2, scl_inter=0)
    labels = read_labels(path)
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array[0].T, voxels() * 2)


def test_sform_wins_and_the_disagreement_is_said(tmp_path, caplog):
    path = save(tmp_path / "a.nii", voxels())
    image = nibabel.load(path)
    moved = AFFINE.copy()
    moved[0, 3] += 4
    image.set_qform(moved, code=1)
    nibabel.save(image, path)
    (note,) = inspect_file(path).notes
    assert "sform and qform disagree by up to 4 mm; the sform is used" in note
    np.testing.assert_allclose(read_geometry(path).origin, (-10, 20, 30))
    with caplog.at_level(logging.WARNING, logger="hilum"):
        read_volume(path)
        read_volume(path)
    assert [r.name for r in caplog.records] == ["hilum"]  # said once
    assert note in caplog.text


def test_qform_counts_where_there_is_no_sform(tmp_path):
    path = save(tmp_path / "a.nii", voxels())
    expected = read_geometry(path)
    patch_header(path, sform_code=0, srow_x=[9, 9, 9, 9])
    assert inspect_file(path).notes == ()
    assert read_geometry(path).is_close(expected, tolerance_voxels=1e-5)
    np.testing.assert_allclose(read_geometry(path).spacing, (2.5, 1.25, 0.75))


def test_oblique_qform_alone_agrees_with_itk(tmp_path, volume):
    write_volume(volume, tmp_path / "a.nii")
    patch_header(tmp_path / "a.nii", sform_code=0)
    assert read_geometry(tmp_path / "a.nii").is_close(volume.geometry, tolerance_voxels=1e-4)


def test_left_handed_qform(tmp_path):
    affine = np.diag([-0.75, 1.25, 2.5, 1.0])
    affine[:3, 3] = (5, 6, 7)
    path = save(tmp_path / "a.nii", voxels(), affine)
    by_sform = read_geometry(path)
    patch_header(path, sform_code=0)
    assert read_geometry(path).is_close(by_sform, tolerance_voxels=1e-5)


def test_without_either_transform_the_voxel_sizes_count(tmp_path):
    path = patch_header(save(tmp_path / "a.nii", voxels()), sform_code=0, qform_code=0)
    facts = inspect_file(path)
    assert facts.geometry.spacing == (2.5, 1.25, 0.75)
    assert facts.geometry.orientation == "SAR"
    assert "nothing of orientation" in facts.notes[0]


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres_become_millimetres(tmp_path, unit, factor):
    path = patch_header(save(tmp_path / "a.nii", voxels()), xyzt_units=unit)
    facts = inspect_file(path)
    np.testing.assert_allclose(facts.geometry.spacing, np.array((2.5, 1.25, 0.75)) * factor)
    assert "converted to millimetres" in facts.notes[0]


def test_rounded_cosines_are_snapped_and_said(tmp_path):
    affine = AFFINE.copy()
    affine[0, 0] = 0.75 * 4e-4
    path = save(tmp_path / "a.nii", voxels(shape=(30, 20, 40)), affine)
    facts = inspect_file(path)
    assert "made perpendicular" in facts.notes[0]
    directions = facts.geometry.directions
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)


def test_sheared_axes_are_refused_by_name(tmp_path):
    affine = AFFINE.copy()
    affine[0, 0] = 0.2
    path = save(tmp_path / "a.nii", voxels(), affine)
    with pytest.raises(GeometryError, match=r"a\.nii: the axes are not perpendicular") as caught:
        read_volume(path)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("bad", "text"), [(0.0, r"a\.nii: the spacing"), (np.nan, r"a\.nii: the affine")]
)
def test_degenerate_affines_are_refused(tmp_path, bad, text):
    path = patch_header(save(tmp_path / "a.nii", voxels()), srow_x=[0, 0, bad, 1], qform_code=0)
    with pytest.raises(GeometryError, match=text):
        read_volume(path)


def test_invalid_quaternion_counts_only_where_it_is_needed(tmp_path):
    path = patch_header(save(tmp_path / "a.nii", voxels()), quatern_b=3.0)
    assert "the qform is not valid" in inspect_file(path).notes[0]
    with pytest.raises(FormatError, match=r"qform is not valid .*, and there is no valid sform"):
        read_volume(patch_header(path, srow_x=[np.nan] * 4))
    with pytest.raises(FormatError, match="the file cannot be read as NIfTI"):
        read_volume(patch_header(path, sform_code=0))


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 4, 5, 1, 2), (3, 4, 5, 2, 1)])
def test_fourth_dimension_is_channels(tmp_path, shape):
    data = voxels(shape=shape)
    volume = read_volume(save(tmp_path / "a.nii.gz", data))
    assert volume.array.shape == (2, 5, 4, 3)
    assert volume.array[1, 4, 2, 0] == data.reshape(3, 4, 5, 2)[0, 2, 4, 1]


def test_time_and_channels_together_are_refused(tmp_path):
    with pytest.raises(FormatError, match="both a time and a channel"):
        read_volume(save(tmp_path / "a.nii.gz", voxels(shape=(3, 4, 5, 2, 2))))


def test_one_dimension_is_refused(tmp_path):
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(np.arange(4, dtype=np.int16), np.eye(4)), path)
    with pytest.raises(FormatError, match="an array of shape"):
        read_volume(path)


def test_two_dimensions_become_one_slice(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", voxels(shape=(3, 4)), np.diag([0.5, 0.7, 1, 1])))
    assert volume.array.shape == (1, 1, 4, 3)
    assert volume.geometry.spacing == (1.0, 0.7, 0.5)
    flat = np.diag([0.5, 0.7, 0.0, 1])
    path = patch_header(
        save(tmp_path / "b.nii", voxels(shape=(3, 4))),
        qform_code=0,
        **{f"srow_{a}": flat[n] for n, a in enumerate("xyz")},
    )
    patch_header(path, pixdim=[1, 0.5, 0.7, 0, 0, 0, 0, 0])
    assert read_geometry(path).spacing == (1.0, 0.7, 0.5)


def colour(alpha):
    names = "RGBA" if alpha is not None else "RGB"
    data = np.zeros((3, 4, 2), dtype=[(name, "u1") for name in names])
    for n, name in enumerate("RGB"):
        data[name] = voxels(np.uint8, (3, 4, 2)) + 50 * n
    if alpha is not None:
        data["A"] = alpha
    return data


def test_rgb_gives_three_channels(tmp_path):
    path = save(tmp_path / "a.nii", colour(None))
    volume = read_volume(path)
    assert volume.array.shape == (3, 2, 4, 3)
    assert volume.array[:, 1, 3, 2].tolist() == [23, 73, 123]
    assert inspect_file(path).channels == 3


def test_alpha_is_dropped_only_where_it_says_nothing(tmp_path):
    path = save(tmp_path / "a.nii", colour(255))
    assert read_volume(path).channels == 3
    with pytest.raises(FormatError, match="transparency"):
        read_volume(save(tmp_path / "b.nii", colour(voxels(np.uint8, (3, 4, 2)))))


def test_several_colour_images_are_refused(tmp_path):
    with pytest.raises(FormatError, match="2 colour images"):
        read_volume(save(tmp_path / "a.nii", np.stack([colour(None)] * 2, axis=-1)))


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(FormatError, match="complex64"):
        read_volume(save(tmp_path / "a.nii", voxels(np.complex64)))


def test_damaged_files_are_named(tmp_path):
    good = save(
        tmp_path / "good.nii.gz",
        np.random.default_rng(0).integers(0, 999, (30, 40, 50)).astype(np.int16),
    ).read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(good[: len(good) // 2])
    (tmp_path / "cut.nii").write_bytes(gzip.decompress(good)[:5000])
    (tmp_path / "text.nii.gz").write_bytes(b"not found")
    (tmp_path / "empty.nii").write_bytes(b"")
    for name, text in [
        ("short.nii.gz", "cannot be read as"),
        ("cut.nii", "cannot be read as"),
        ("text.nii.gz", "cannot be read as"),
        ("empty.nii", "an empty file"),
    ]:
        with pytest.raises(FormatError, match=rf"{name}: .*{text}"):
            read_volume(tmp_path / name)


def test_another_format_under_the_name_is_refused(tmp_path):
    nibabel.save(nibabel.MGHImage(voxels(np.float32), np.eye(4)), tmp_path / "a.mgz")
    (tmp_path / "a.mgz").rename(tmp_path / "a.nii.gz")
    with pytest.raises(FormatError, match=r"a\.nii\.gz"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    "dtype", [bool, np.uint8, np.int16, np.float16, np.float32, np.float64, np.int64, np.uint64]
)
def test_written_header_is_complete(tmp_path, oblique, dtype):
    array = (np.arange(140).reshape(1, 4, 5, 7) % (2 if dtype is bool else 128)).astype(dtype)
    write_volume(Volume(array, oblique), tmp_path / "a.nii.gz")
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert int(header["sform_code"]) == int(header["qform_code"]) == 1
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_sform(), header.get_qform(), atol=1e-5)
    np.testing.assert_allclose(header.get_zooms(), oblique.spacing[::-1], rtol=1e-6)
    volume = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, array)


def test_numbers_beyond_32_bits_stay(tmp_path, oblique):
    array = np.full((1, 4, 5, 7), 2**40, dtype=np.int64)
    write_volume(Volume(array, oblique), tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii") == Volume(array, read_geometry(tmp_path / "a.nii"))


def test_long_pictures_become_nifti_2(tmp_path):
    volume = Volume(
        np.zeros((1, 1, 2, 40000), np.uint8), Geometry.from_spacing((1, 2, 40000), (1, 0.3, 0.1))
    )
    write_volume(volume, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii") == volume


def test_flat_picture_without_directions_is_refused(tmp_path):
    path = patch_header(
        save(tmp_path / "a.nii", voxels(shape=(3, 4))),
        srow_x=[0] * 4,
        srow_y=[0] * 4,
        srow_z=[0] * 4,
    )
    patch_header(path, qform_code=0)
    with pytest.raises(GeometryError, match="spacing"):
        read_volume(path)


def test_cifti_is_no_image(tmp_path):
    from nibabel import cifti2

    surface = cifti2.BrainModelAxis.from_mask(np.ones(3), name="cortex_left")
    image = cifti2.Cifti2Image(np.zeros((1, 3), np.float32), (cifti2.ScalarAxis(["a"]), surface))
    nibabel.save(image, tmp_path / "a.dscalar.nii")
    with pytest.raises(FormatError, match="a file of type Cifti2Image"):
        read_volume(tmp_path / "a.dscalar.nii")
