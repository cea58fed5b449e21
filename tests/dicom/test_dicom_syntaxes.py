"""Transfer syntaxes: each gives the numbers that the uncompressed file gives."""

import base64
import struct
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from io_support import write_series
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from hilum.dicom.codecs import decode_frame, size_of
from hilum.errors import FormatError
from hilum.io import read_volume
from hilum.volume import Geometry, Volume
from programs import require

JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
HTJ2K = base64.b64decode(
    "/0//UQApQAAAAAAUAAAAGAAAAAAAAAAAAAAAFAAAABgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBE"
    "AB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAWYAAf+TwAAm0foF"
    "B3QAwAATQAATQAATAN74Awd0AAr5Awd0AMj4Awd0AMAAE8AAE0AAEgApn/4Bi3QAWUsAYjQA/gBjAMAAFVAABaEAAE"
    "j/H91/IgWYQrUA/3//f4tKXJ8KAAvMkPm4APmgcwDAABdFAABdFAABMP9//xek+P8/eHh4kK7h/3/gwYMHYmj9AH/B"
    "ezguMH8xuwD/f/9//3//f/9A74H4AYMHVB6Y+gAhmIIAMX/+suh/Mb4A5voAAnUAwAAvRYAAXosAAJj/fx8MMKj/fw"
    "8GOOT/fwcDLPr/fwMD+Aj/fx8YwED5/3/AAI7SYE716/WXnevX6y9L16/WXnevX6y8716/WXEFsxsxsAL/f/9//3//"
    "f/9//3//f38gGwgH0oF4QH5AYEBiQGRAZoDoYGARjABkIQAMfr9ev1l+v16/WX6/Xr9Zfr9ev1l5sxsxswL+/2AEVQ"
    "D/2Q=="
)
"""Made with OpenJPH from `numbers`, losslessly."""


def numbers():
    return (np.indices((24, 20)).sum(0) ** 2 * 2 + np.arange(20) * 3).astype(np.uint16)


@pytest.fixture
def smooth() -> Volume:
    """Three slices of 12 bits, smooth enough for lossy encoders."""
    z, y, x = np.indices((3, 48, 40))
    array = (200 + 9 * x + 11 * y + 150 * z - 1024).astype(np.int16)[np.newaxis]
    return Volume(array, Geometry.from_spacing((3, 48, 40), (2.5, 0.7, 0.9)))


def by_dcmtk(folder, program, *options):
    """Encode every file of a folder by a program of DCMTK."""
    found = require(program)
    for file in folder.iterdir():
        subprocess.run([found, *options, file, file], check=True, capture_output=True)
    return pydicom.dcmread(file).file_meta.TransferSyntaxUID


@pytest.mark.parametrize(
    ("program", "option", "syntax"),
    [
        ("dcmcjpeg", "+e1", "1.2.840.10008.1.2.4.70"),
        ("dcmcjpeg", "+el", "1.2.840.10008.1.2.4.57"),
        ("dcmcjpls", "+el", "1.2.840.10008.1.2.4.80"),
        ("dcmcrle", "-q", "1.2.840.10008.1.2.5"),
        ("dcmconv", "+ti", "1.2.840.10008.1.2"),
        ("dcmconv", "+tb", "1.2.840.10008.1.2.2"),
        ("dcmconv", "+td", "1.2.840.10008.1.2.1.99"),
    ],
)
def test_lossless_files_of_dcmtk_hold_the_same_numbers(tmp_path, smooth, program, option, syntax):
    write_series(tmp_path, smooth)
    assert by_dcmtk(tmp_path, program, option) == syntax
    np.testing.assert_array_equal(read_volume(tmp_path).array, smooth.array)


@pytest.mark.parametrize(
    ("program", "options", "syntax", "worst"),
    [
        ("dcmcjpeg", ["+ee", "+q", "95"], "1.2.840.10008.1.2.4.51", 40),
        ("dcmcjpls", ["+en", "+md", "3"], "1.2.840.10008.1.2.4.81", 3),
    ],
)
def test_lossy_files_are_decoded_as_gdcm_does(tmp_path, smooth, program, options, syntax, worst):
    files = write_series(tmp_path, smooth)
    assert by_dcmtk(tmp_path, program, *options) == syntax
    read = read_volume(tmp_path).array.astype(int)
    assert 0 < np.abs(read - smooth.array).max() <= worst
    for file in files:
        z = round(float(pydicom.dcmread(file).ImagePositionPatient[2]) / 2.5)
        other = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[0]
        assert np.abs(read[0, z] - other).max() <= 1


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"],
)
def test_signed_and_unsigned_numbers_survive_each_encoder(tmp_path, smooth, syntax, signed):
    write_series(tmp_path, smooth, syntax=syntax)
    np.testing.assert_array_equal(read_volume(tmp_path).array, smooth.array)
    files = write_series(tmp_path / "s", smooth)
    for file in files:
        data = pydicom.dcmread(file)
        data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, signed
        stored = data.pixel_array.astype(np.int32) - 1000 * signed
        data.PixelData = stored.astype(np.int16 if signed else np.uint16).tobytes()
        data.compress(syntax)
        data.save_as(file)
    read = read_volume(tmp_path / "s").array
    np.testing.assert_array_equal(read + 1000 * signed, smooth.array)


def with_frame(folder, pixels, frame, syntax, **tags):
    """Write pixels as a file of one slice, plain, then replace them by a compressed frame."""
    geometry = Geometry.from_spacing((1, *pixels.shape), (2.5, 0.7, 0.9))
    (file,) = write_series(folder, Volume(pixels[np.newaxis, np.newaxis], geometry), intercept=0)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([bytes(frame)])
    data["PixelData"].VR = "OB"
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(file)
    return file


def test_signed_jpeg_ls_may_be_of_more_bits_than_are_stored(tmp_path):
    pixels = np.random.default_rng(0).integers(-2048, 2048, (24, 20)).astype(np.int16)
    frame = bytes(imagecodecs.jpegls_encode((pixels & 0xFFF).astype(np.uint16)))
    assert frame[frame.index(b"\xff\xf7") + 4] == 16
    stored = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    file = with_frame(tmp_path, np.abs(pixels), frame, JPEG_LS, **stored)
    np.testing.assert_array_equal(read_volume(file).array[0, 0], pixels)


def test_near_lossless_jpeg_ls_is_decoded_as_libjpeg_does(tmp_path):
    pixels = numbers().astype(np.int16)
    frame = imagecodecs.jpegls_encode(pixels.astype(np.uint16), level=2)
    file = with_frame(tmp_path, pixels, frame, "1.2.840.10008.1.2.4.81")
    read = read_volume(file).array[0, 0].astype(int)
    other = pydicom.pixels.pixel_array(file, decoding_plugin="pylibjpeg")
    np.testing.assert_array_equal(read, other)
    assert 0 < np.abs(read - pixels).max() <= 2


@pytest.mark.parametrize("syntax", ["201", "202", "203"])
def test_high_throughput_jpeg_2000_is_decoded(tmp_path, syntax):
    pixels = numbers().astype(np.int16)
    file = with_frame(tmp_path, pixels, HTJ2K, f"1.2.840.10008.1.2.4.{syntax}")
    np.testing.assert_array_equal(read_volume(file).array[0, 0], pixels)


@pytest.mark.parametrize(
    ("encoded", "plain"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_pydicoms_files_hold_the_numbers_of_their_plain_twins(encoded, plain):
    files = [get_testdata_file(name, download=False) for name in (encoded, plain)]
    if None in files:
        pytest.skip("pydicom-data is not installed")
    one, other = (read_volume(Path(file)) for file in files)
    np.testing.assert_array_equal(one.array, other.array)
    assert one.geometry == other.geometry


def test_pixels_that_cannot_be_decoded_name_the_syntax_and_the_cure(tmp_path, smooth):
    files = write_series(tmp_path, smooth, syntax="1.2.840.10008.1.2.4.90")
    data = pydicom.dcmread(files[1])
    data.PixelData = encapsulate([b"no code stream"])
    data.save_as(files[1])
    with pytest.raises(FormatError, match=r"(?s)pixels in JPEG 2000.*export the series uncompr"):
        read_volume(tmp_path)


def test_frames_that_are_cut_short_are_refused(tmp_path, smooth):
    """JPEG-LS without its end keeps its decoder busy for ever; JPEG gives some image."""
    (file, *_) = write_series(tmp_path, smooth, syntax=JPEG_LS)
    data = pydicom.dcmread(file)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    assert frame.endswith((b"\xff\xd9", b"\xff\xd9\0"))
    data.PixelData = encapsulate([frame[: len(frame) // 2]])
    data.save_as(file)
    with pytest.raises(FormatError, match="cut short: it has no end of image"):
        read_volume(file)


def test_damage_within_a_frame_is_told_by_the_decoder(tmp_path, smooth):
    (file, *_) = write_series(tmp_path, smooth, syntax=JPEG_LS)
    data = pydicom.dcmread(file)
    (frame,) = generate_frames(data.PixelData, number_of_frames=1)
    data.PixelData = encapsulate([frame[:200] + frame[260:]])
    data.save_as(file)
    with pytest.raises(FormatError, match="pixels in JPEG-LS"):
        read_volume(file)


@pytest.mark.parametrize("syntax", [JPEG_LS, "1.2.840.10008.1.2.4.90"])
def test_frames_of_another_size_than_the_header_are_refused(tmp_path, smooth, syntax):
    (file, *_) = write_series(tmp_path, smooth, syntax=syntax)
    data = pydicom.dcmread(file)
    data.Rows, data.Columns = data.Columns, data.Rows
    data.save_as(file)
    with pytest.raises(FormatError, match="a compressed frame of 48 x 40 pixels"):
        read_volume(file)


@pytest.mark.parametrize(
    ("encode", "syntax"),
    [
        (imagecodecs.jpegls_encode, JPEG_LS),
        (partial(imagecodecs.jpeg8_encode, lossless=True, predictor=1), "1.2.840.10008.1.2.4.70"),
        (partial(imagecodecs.jpeg8_encode, lossless=True, predictor=6), "1.2.840.10008.1.2.4.57"),
        (partial(imagecodecs.jpeg2k_encode, reversible=True, codecformat="j2k"), JPEG_2000),
    ],
)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_each_number_of_bits_is_decoded(encode, syntax, bits):
    pixels = (np.indices((24, 20)).sum(0) ** 3 % (1 << bits)).astype(f"u{1 if bits == 8 else 2}")
    runner = SimpleNamespace(
        transfer_syntax=UID(syntax),
        rows=24,
        columns=20,
        samples_per_pixel=1,
        pixel_representation=0,
        set_option=Mock(),
    )
    options = {} if encode is imagecodecs.jpegls_encode else {"bitspersample": bits}
    decoded = decode_frame(bytes(encode(pixels, **options)), runner)
    np.testing.assert_array_equal(np.frombuffer(decoded, pixels.dtype), pixels.ravel())
    runner.set_option.assert_called_once_with("bits_allocated", 8 if bits == 8 else 16)


def damaged(frame, rng):
    """Cut a frame, or change, remove or insert bytes."""
    data, at = bytearray(frame), int(rng.integers(len(frame)))
    match rng.integers(5):
        case 0:
            return bytes(data[:at])
        case 1:  # in its header
            data[int(rng.integers(2, 80))] = int(rng.integers(256))
        case 2:
            for place in rng.integers(len(data), size=8):
                data[place] = int(rng.integers(256))
        case 3:
            del data[at : at + 50]
        case 4:
            data[at:at] = rng.bytes(20)
    return bytes(data)


@pytest.mark.timeout(120, method="thread")
@pytest.mark.parametrize(
    ("encode", "syntax"),
    [
        (imagecodecs.jpegls_encode, JPEG_LS),
        (partial(imagecodecs.jpeg8_encode, lossless=True), "1.2.840.10008.1.2.4.70"),
        (partial(imagecodecs.jpeg2k_encode, reversible=True, codecformat="j2k"), JPEG_2000),
    ],
)
def test_no_damaged_frame_keeps_its_decoder_busy(encode, syntax):
    pixels = (np.indices((24, 20)).sum(0) ** 3 % 4096).astype(np.uint16)
    frame, rng = bytes(encode(pixels)), np.random.default_rng(0)
    runner = Mock(transfer_syntax=UID(syntax), rows=24, columns=20, samples_per_pixel=1)
    runner.pixel_representation = 0
    for _ in range(300):
        decoded = b""
        with suppress(Exception):
            decoded = decode_frame(damaged(frame, rng), runner)
        assert len(decoded) in {0, 24 * 20, 24 * 20 * 2, 24 * 20 * 4}


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (b"\xff\xd8\xff\xe0\0\4ab\xff\xc3\0\x0b\x0c\1\2\3\4", (0x0102, 0x0304)),
        (b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">4L", 50, 70, 10, 20), (50, 40)),
        (b"\xff\xd8\xff\xe0", None),
        (b"\xff\xd8" + b"\xff\xe0\0\0" * 9, None),
        (b"", None),
        (b"no frame", None),
    ],
)
def test_a_frame_says_its_size(frame, size):
    assert size_of(frame) == size
