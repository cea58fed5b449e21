"""Ultrasound and X-ray: pictures with Z = 1, their scale, colours and inversion; padding."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_series import items
from io_support import write_series
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence

from hilum.errors import FormatError
from hilum.io import inspect_file, read_geometry, read_volume
from hilum.volume import Geometry, Volume

REGION = {
    "RegionSpatialFormat": 1,
    "RegionDataType": 1,
    "RegionLocationMinX0": 1,
    "RegionLocationMinY0": 0,
    "RegionLocationMaxX1": 5,
    "RegionLocationMaxY1": 4,
    "PhysicalUnitsXDirection": 3,
    "PhysicalUnitsYDirection": 3,
    "PhysicalDeltaX": 0.012,
    "PhysicalDeltaY": 0.015,
}


def write_picture(folder, pixels=None, **tags):
    """Write a grey picture as an X-ray or ultrasound device does; None takes a field away."""
    array = np.arange(35).reshape(5, 7) if pixels is None else pixels
    volume = Volume(
        array[np.newaxis, np.newaxis].astype(np.int16), Geometry.from_spacing((1, 5, 7))
    )
    own = {"Modality": "DX", "ImagePositionPatient": None, "ImageOrientationPatient": None}
    own |= {"PixelSpacing": None, "FrameOfReferenceUID": None, "SOPClassUID": "1.2.3"} | tags
    (file,) = write_series(folder, volume, intercept=0, **own)
    data = pydicom.dcmread(file)
    for keyword in [name for name, value in own.items() if value is None]:
        del data[keyword]
    data.save_as(file)
    return file


def colours(file, pixels, **tags):
    """Put colours (rows, columns, 3) of 8 bits into a file."""
    data = pydicom.dcmread(file)
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PlanarConfiguration = 8, 8, 7, 0
    raw = pixels.astype(np.uint8).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.save_as(file)
    return file


@pytest.mark.parametrize(
    ("tags", "spacing", "note"),
    [
        ({"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2), None),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.3, 0.2), "the spacing is that at the detector"),
        (
            {"ImagerPixelSpacing": [0.3, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25},
            (0.24, 0.16),
            "divided by the stated magnification 1.25",
        ),
        ({"NominalScannedPixelSpacing": [0.3, 0.2]}, (0.3, 0.2), "that of the scanned film"),
        ({}, (1, 1), "no spacing is stored in the picture; 1 mm is assumed"),
        (
            {"Modality": "US", "SequenceOfUltrasoundRegions": items(**REGION)},
            (0.15, 0.12),
            "covers 71% of the picture .columns 1 to 5, rows 0 to 4.; the rest is border",
        ),
        (
            {
                "Modality": "US",
                "SequenceOfUltrasoundRegions": Sequence(
                    [*items(**REGION), *items(**REGION | {"PhysicalDeltaX": 0.02})]
                ),
            },
            (1, 1),
            "ultrasound with regions of different scales",
        ),
        (
            {
                "Modality": "US",
                "SequenceOfUltrasoundRegions": items(**REGION | {"PhysicalUnitsXDirection": 4}),
            },
            (1, 1),
            "ultrasound with no region with a scale in cm",
        ),
        (
            {
                "Modality": "US",  # a spectrum: seconds beside centimetres
                "SequenceOfUltrasoundRegions": items(**REGION | {"PhysicalUnitsYDirection": 4}),
            },
            (1, 1),
            "ultrasound with no region with a scale in cm",
        ),
    ],
)
def test_the_scale_of_a_picture(tmp_path, tags, spacing, note):
    facts = inspect_file(write_picture(tmp_path, **tags))
    assert facts.geometry == Geometry.from_spacing((1, 5, 7), (1, *facts.geometry.spacing[1:]))
    assert facts.geometry.spacing[1:] == pytest.approx(spacing)
    if note is None:
        assert facts.notes == ()
    else:
        assert any(re.search(note, one) for one in facts.notes)


@pytest.mark.parametrize("modality", ["DX", "CR", "MG", "XA", "US"])
def test_low_numbers_to_be_shown_white_are_inverted(tmp_path, modality):
    pixels = np.arange(35).reshape(5, 7) * 100
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    for name, value in inverted.items():
        tags = {name: value, "Modality": modality, "BitsStored": 12}
        file = write_picture(tmp_path / name, pixels, **tags)
        read = read_volume(file)
        assert read.array.dtype == inspect_file(file).dtype == np.uint16
        np.testing.assert_array_equal(read.array[0, 0], 4095 - pixels)
        assert any("they were inverted, as an export to PNG" in n for n in inspect_file(file).notes)


def test_inverted_numbers_are_rescaled_from_the_other_end(tmp_path):
    pixels = np.arange(35).reshape(5, 7)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": -7}
    read = read_volume(write_picture(tmp_path, pixels, **tags))
    np.testing.assert_array_equal(read.array[0, 0], (4095 - pixels) * 2 - 7)


def test_colours_are_three_channels_and_grey_ones_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3))
    file = colours(write_picture(tmp_path / "c", Modality="US"), pixels)
    read, facts = read_volume(file), inspect_file(file)
    np.testing.assert_array_equal(read.array[:, 0], np.moveaxis(pixels, -1, 0))
    assert (facts.channels, facts.dtype) == (3, read.array.dtype == np.uint8 and np.dtype("u1"))
    grey = np.repeat(pixels[..., :1], 3, axis=-1)
    file = colours(write_picture(tmp_path / "g", Modality="US"), grey)
    np.testing.assert_array_equal(read_volume(file).array[0, 0], grey[..., 0])
    assert inspect_file(file).channels == 1
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_volume(tmp_path / "g.png").array, read_volume(file).array)


def test_a_palette_gives_its_colours(tmp_path):
    pixels = np.arange(35).reshape(5, 7)
    file = write_picture(tmp_path, pixels, Modality="US")
    data = pydicom.dcmread(file)
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PhotometricInterpretation = "PALETTE COLOR"
    data.PixelData = pixels.astype(np.uint8).tobytes() + b"\0"
    table = np.random.default_rng(1).integers(0, 255, (3, 256)).astype(np.uint8)
    for name, values in zip(("Red", "Green", "Blue"), table, strict=True):
        data.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        wide = values.astype(np.uint16) << 8
        setattr(data, f"{name}PaletteColorLookupTableData", wide.tobytes())
    data.save_as(file)
    np.testing.assert_array_equal(read_volume(file).array[:, 0], table[:, pixels])


@pytest.mark.parametrize("name", ["OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", "OBXXXX1A_rle.dcm"])
def test_a_palette_is_read_in_either_byte_order(name):
    file = get_testdata_file(name, download=False)
    if file is None:
        pytest.skip("pydicom-data is not installed")
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))  # (1, Y, X, 3)
    np.testing.assert_array_equal(np.moveaxis(read_volume(file).array, 0, -1), expected)


def test_padding_that_lossy_compression_has_mixed_is_read_as_stored(tmp_path, volume):
    tags = {"PixelPaddingValue": 524, "LossyImageCompression": "01"}
    write_series(tmp_path, volume, **tags)
    np.testing.assert_array_equal(read_volume(tmp_path).array, volume.array)
    assert any("lossy compression has mixed them" in n for n in inspect_file(tmp_path).notes)


def test_several_pictures_are_no_volume(tmp_path, volume):
    write_series(tmp_path, volume, Modality="MG")
    with pytest.raises(FormatError, match=r"4 pictures in one series \(IM000, IM001, IM002 and 1"):
        read_volume(tmp_path)


def test_a_screen_in_a_series_of_slices_is_left_aside(tmp_path, volume):
    write_series(tmp_path / "s", volume, SeriesInstanceUID="1.2.8")
    capture = "1.2.840.10008.5.1.4.1.1.7"
    write_picture(
        tmp_path / "p", Modality="CT", SOPClassUID=capture, SeriesInstanceUID="1.2.8"
    ).rename(tmp_path / "s" / "screen")
    np.testing.assert_array_equal(read_volume(tmp_path / "s").array, volume.array)
    notes = inspect_file(tmp_path / "s").notes
    assert notes == ("1 image left out: a picture without a place in the patient",)


@pytest.mark.parametrize("allocated", [63536, -2000])
def test_padding_gets_the_lowest_value_of_the_others(tmp_path, volume, allocated):
    signed = {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}
    stored = volume.array.copy()
    stored[0, :, :, 0] = -2000
    volume = volume.with_array(stored)

    write_series(tmp_path / "a", volume, intercept=0, **signed)
    for file in (tmp_path / "a").iterdir():
        data = pydicom.dcmread(file)
        data.RescaleIntercept = -24
        data.add_new("PixelPaddingValue", "US" if allocated > 0 else "SS", allocated)
        data.save_as(file)
    read = read_volume(tmp_path / "a").array.astype(int)
    lowest = stored[..., 1:].min() - 24
    np.testing.assert_array_equal(read[..., 1:], stored[..., 1:].astype(int) - 24)
    assert (read[..., 0] == lowest).all()
    assert any("-2000 stand for no measurement" in n for n in inspect_file(tmp_path / "a").notes)


@pytest.mark.parametrize(
    ("bits", "signed", "padding", "kind"),
    [(16, 0, -2000, "SS"), (12, 0, 63536, "US"), (12, 1, -3024, "SS")],
)
def test_padding_may_take_more_bits_than_are_stored(tmp_path, volume, bits, signed, padding, kind):
    stored = volume.array[0, 0] + 1024
    for file in write_series(tmp_path, volume, intercept=0):
        data = pydicom.dcmread(file)
        data.RescaleIntercept, data.PixelRepresentation = -24, signed
        data.BitsStored, data.HighBit = bits, bits - 1
        pixels = stored.copy()
        pixels[:, 0] = np.array(padding).astype(np.int16)
        data.PixelData = pixels.astype("<i2").tobytes()
        data.add_new("PixelPaddingValue", kind, padding)
        data.save_as(file)
    read = read_volume(tmp_path).array[0].astype(int)
    for one in read:
        np.testing.assert_array_equal(one[:, 1:], stored[:, 1:].astype(int) - 24)
    assert (read[..., 0] == stored[:, 1:].min() - 24).all()


def test_padding_may_be_a_range_and_all_there_is(tmp_path, volume):
    tags = {"PixelPaddingValue": 500, "PixelPaddingRangeLimit": 530}
    write_series(tmp_path / "a", volume, **tags)
    read, stored = read_volume(tmp_path / "a").array, volume.array + 1024
    empty = (stored >= 500) & (stored <= 530)
    np.testing.assert_array_equal(read[~empty], volume.array[~empty])
    assert (read[empty] == volume.array[~empty].min()).all()
    assert empty.any()
    tags = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}
    write_series(tmp_path / "b", volume, **tags)
    np.testing.assert_array_equal(read_volume(tmp_path / "b").array, volume.array)


def test_a_picture_with_a_place_keeps_to_the_axes_of_pictures(tmp_path, volume):
    files = write_series(tmp_path, volume, Modality="US")
    assert read_geometry(files[0]).orientation == "SPL"
