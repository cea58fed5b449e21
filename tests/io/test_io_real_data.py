"""Public files that break naive readers; what each is stands in SOURCE.txt beside it."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from hilum.errors import FormatError, GeometryError
from hilum.io import archive_parts, inspect_file, read_channels, read_labels, read_volume
from hilum.volume import CANONICAL

pytestmark = pytest.mark.real_data


@pytest.mark.parametrize(
    ("folder", "error", "text"),
    [
        (
            "ct_ge_tilt_two_thicknesses_one_folder",
            FormatError,
            r"(?s)several volumes in one series, 2.*thick4: 4 slices.*thick7: 4 slices",
        ),
        (
            "ct_irregular_increment_ge",
            GeometryError,
            "1 slice missing, first gap between IM-0001-0009",
        ),
        ("ct_not_a_volume", FormatError, "(?s)several volumes in one series, 4.*acq15: 1 slice"),
        ("ct_philips_localizer", FormatError, "a localizer"),
        (
            "mr_mixed_orientation",
            FormatError,
            "(?s)several volumes in one series, 2.*sagittal: 2 slices.*axial: 2 slices",
        ),
        ("seg_labelmap", FormatError, "no DICOM image"),
        ("highdicom_tests", FormatError, "(?s)holds 2 series.*CT .*DX CHEST"),
        ("seg_liver_ct_3slices", FormatError, "2 folders of DICOM files"),
    ],
)
def test_refused_series(real_data, folder, error, text):
    with pytest.raises(error, match=text) as caught:
        read_volume(real_data / "dicom" / folder)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("folder", "shape", "dtype", "spacing"),
    [
        ("mr_hitachi_numberofframes1", (4, 64, 64), np.int16, (4.0, 2.34375, 2.34375)),
        ("mr_implicit_vr", (4, 256, 256), np.uint16, (1, 1, 1)),
        ("mr_jpeg2000", (4, 256, 256), np.uint16, (1, 1, 1)),
        ("mr_jpeg_lossless", (4, 256, 256), np.uint16, (1, 1, 1)),
        ("mr_non_square_pixels", (4, 28, 64), np.float32, (0.5, 4.0, 6.39996)),
        ("mr_two_slices", (2, 256, 256), np.uint16, (1, 1, 1)),
        ("seg_liver_ct_3slices/ct", (3, 512, 512), np.int32, (1, 0.810547, 0.810547)),
    ],
)
def test_series_as_itk_reads_them(real_data, folder, shape, dtype, spacing):
    path = real_data / "dicom" / folder
    volume = read_volume(path)
    assert volume.array.shape == (1, *shape)
    assert volume.array.dtype == dtype
    assert volume.geometry.spacing == pytest.approx(spacing, rel=1e-5)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    first = np.rint(volume.geometry.world_to_index(image.TransformIndexToPhysicalPoint((0, 0, 0))))
    np.testing.assert_array_equal(first[1:], 0)
    ordered = array if first[0] == 0 else array[::-1]
    lowest = volume.array.min()  # padding (-2000 in a GE CT) gets the lowest value of the others
    np.testing.assert_allclose(volume.array[0], np.maximum(ordered, lowest), rtol=1e-5)


@pytest.mark.parametrize("folder", ["mr_enhanced_multiframe_philips", "mr_hyperfine_multiframe"])
def test_frames_of_one_file_as_itk_reads_them(real_data, folder):
    (file,) = (real_data / "dicom" / folder).iterdir()
    volume, image = read_volume(real_data / "dicom" / folder), sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    first = volume.geometry.world_to_index(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    np.testing.assert_allclose(first[1:], 0, atol=0.01)
    ordered = array if abs(first[0]) < 0.5 else array[::-1]
    np.testing.assert_allclose(volume.array[0], ordered, rtol=1e-5)


def test_compressed_series_are_the_same(real_data):
    """The same four slices in two transfer syntaxes."""
    lossless = read_volume(real_data / "dicom" / "mr_jpeg_lossless")
    assert read_volume(real_data / "dicom" / "mr_jpeg2000") == lossless


def test_single_slice_is_said(real_data):
    facts = inspect_file(real_data / "dicom" / "mr_single_slice")
    assert facts.geometry.shape[0] == 1
    assert "1 mm is assumed" in facts.notes[0]


def test_files_without_suffix_and_their_label(real_data):
    """The label's rows are stored the other way round: it fits by its affine, not by order."""
    folder = real_data / "torso_ct"
    volume = read_volume(folder / "dicom" / "ct_siemens_20slices")
    labels = read_labels(folder / "dicom_label" / "ct_siemens_20slices.nii.gz")
    assert volume.array.dtype == np.int16
    assert volume.array.min() == -1024
    assert volume.geometry.shape == labels.geometry.shape == (20, 512, 512)
    assert volume.geometry.orientation == CANONICAL
    assert labels.geometry.orientation != CANONICAL
    far = volume.geometry.index_to_world(volume.geometry.corner_indices())
    np.testing.assert_allclose(
        np.sort(far, axis=0),
        np.sort(labels.geometry.index_to_world(labels.geometry.corner_indices()), axis=0),
        atol=0.01,
    )
    indices = np.argwhere(labels.array[0] == 5)
    assert len(indices) == 366_708
    there = np.rint(
        volume.geometry.world_to_index(labels.geometry.index_to_world(indices[::50]))
    ).astype(int)
    assert 80 < np.median(volume.array[0][tuple(there.T)]) < 160  # the liver, enhanced


def test_rgb_data_type(real_data):
    volume = read_volume(real_data / "torso_ct" / "odd" / "rgb_dtype.nii.gz")
    assert volume.array.shape == (3, 1, 1244, 1201)
    assert volume.array.dtype == np.uint8


def test_hippocampus_dicom_against_itk(real_data):
    folder = real_data / "hippocampus" / "dicom_test"
    with pytest.raises(FormatError, match=r"3 folders of DICOM files \(11_HCropVolume"):
        read_volume(folder)
    volume = read_volume(folder / "14_HCropVolume")
    assert volume.array.shape == (1, 35, 48, 36)
    assert volume.geometry.origin == (0, 0, 1)
    z, y, x = 30, 20, 10
    slice_31 = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "14_HCropVolume" / "31.dcm")))
    assert volume.array[0, z, y, x] == slice_31[0, y, x]


def test_hippocampus_types(real_data):
    folder = real_data / "hippocampus"
    assert (
        read_volume(folder / "imagesTr" / "hippocampus_001.nii.gz").array.dtype == np.uint8
    )  # scl_slope is NaN
    label = read_labels(folder / "labelsTr" / "hippocampus_003.nii.gz")  # stored as float32
    assert label.array.dtype == np.uint8
    assert set(np.unique(label.array)) == {0, 1, 2}


def test_sarcoma_pet_is_scaled_and_ct_is_not(real_data):
    folder = real_data / "sarcoma_petct" / "imagesTr"
    pet, ct = folder / "STS_001_0000.nii.gz", folder / "STS_001_0001.nii.gz"
    volume = read_channels({"PET": pet, "CT": ct})
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0].T, nibabel.load(pet).get_fdata(), rtol=1e-5)
    np.testing.assert_array_equal(volume.array[1].T, nibabel.load(ct).get_fdata())
    assert inspect_file(ct).dtype == np.int16
    image = sitk.ReadImage(str(pet))
    for z, y, x in volume.geometry.corner_indices().astype(int):
        point = image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
        np.testing.assert_allclose(volume.geometry.index_to_world((z, y, x)), point, atol=1e-3)


def test_archives(real_data):
    path = real_data / "breastmnist" / "breastmnist.npz"
    assert [part.count for part in archive_parts(path)] == [546, 78]
    assert read_volume(f"{path}#val/77").array.shape == (1, 1, 28, 28)
    assert read_volume(
        f"{real_data / 'adrenalmnist3d' / 'adrenalmnist3d.npz'}#train/0"
    ).array.shape == (1, 28, 28, 28)
