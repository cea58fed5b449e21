"""PNG, JPEG, BMP and TIFF: colours, depth, palettes, orientation, spacing."""

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hilum.errors import FormatError, LabelError
from hilum.files.record import NO_SPACING
from hilum.io import inspect_file, read_labels, read_volume, tiff, write_labels, write_volume
from hilum.volume import Geometry, Volume

GREY = (np.arange(35).reshape(5, 7) * 7).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], GREY + 3], axis=-1)


def store(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    image.save(path, **options)
    return path


def facts_agree(path):
    """The header and the pixels agree."""
    facts, volume = inspect_file(path), read_volume(path)
    assert (facts.geometry, facts.channels, facts.dtype) == (
        volume.geometry,
        volume.channels,
        volume.array.dtype,
    )
    return volume, facts.notes


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
def test_grey_and_colour(tmp_path, suffix):
    volume, notes = facts_agree(store(tmp_path / f"g.{suffix}", GREY))
    np.testing.assert_array_equal(volume.array, GREY[None, None])
    assert volume.geometry == Geometry.from_spacing((1, 5, 7))
    assert any(NO_SPACING in note for note in notes) or suffix == "bmp"
    volume, _ = facts_agree(store(tmp_path / f"c.{suffix}", RGB))
    np.testing.assert_array_equal(volume.array[:, 0], np.moveaxis(RGB, -1, 0))


def test_jpeg(tmp_path):
    smooth = np.full((16, 24), 90, np.uint8)
    volume, notes = facts_agree(store(tmp_path / "a.jpg", smooth, quality=95))
    assert volume.array.shape == (1, 1, 16, 24)
    assert abs(int(volume.array.mean()) - 90) <= 1
    assert NO_SPACING in notes[0]
    assert (
        facts_agree(store(tmp_path / "b.jpeg", np.dstack([smooth, smooth, smooth + 99])))[
            0
        ].channels
        == 3
    )


def test_sixteen_bits(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    volume, _ = facts_agree(store(tmp_path / "g.png", deep))
    np.testing.assert_array_equal(volume.array[0, 0], deep)
    tifffile.imwrite(tmp_path / "g.tif", deep)
    np.testing.assert_array_equal(facts_agree(tmp_path / "g.tif")[0].array[0, 0], deep)


def test_sixteen_bits_a_colour_are_not_cut_to_eight(tmp_path):
    import SimpleITK as sitk

    deep = RGB.astype(np.uint16) * 257 + 1
    sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(tmp_path / "c.png"))
    volume, _ = facts_agree(tmp_path / "c.png")
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array[:, 0], np.moveaxis(deep, -1, 0))


def test_one_bit_is_zero_and_one(tmp_path):
    for suffix in ("png", "tif"):
        path = store(
            tmp_path / f"a.{suffix}", GREY > 100, compression="group4" if suffix == "tif" else None
        )
        np.testing.assert_array_equal(read_volume(path).array[0, 0], GREY > 100)
        assert read_volume(path).array.dtype == np.uint8
        np.testing.assert_array_equal(read_labels(path).array[0, 0], GREY > 100)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_palette_is_colour_for_images_and_index_for_labels(tmp_path, suffix):
    image = Image.fromarray(GREY % 3, mode=None).convert("P")
    image.putdata((GREY % 3).ravel().tolist())
    image.putpalette([10, 0, 0, 0, 200, 0, 0, 0, 255] + [0] * 759)
    image.save(tmp_path / f"a.{suffix}")
    volume, _ = facts_agree(tmp_path / f"a.{suffix}")
    assert volume.channels == 3
    assert volume.array[:, 0, 0, 0].tolist() == [10, 0, 0]
    np.testing.assert_array_equal(read_labels(tmp_path / f"a.{suffix}").array[0, 0], GREY % 3)


def test_palette_of_greys_is_grey(tmp_path):
    image = Image.fromarray(GREY).convert("P")
    image.putpalette([n for n in range(256) for _ in range(3)])
    image.putdata(GREY.ravel().tolist())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(facts_agree(tmp_path / "a.png")[0].array[:, 0], GREY[None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bands", [2, 4])
def test_opaque_alpha_is_dropped_and_real_alpha_refused(tmp_path, suffix, bands):
    base = GREY[..., None] if bands == 2 else RGB
    path = store(
        tmp_path / f"a.{suffix}", np.concatenate([base, np.full((5, 7, 1), 255, np.uint8)], axis=-1)
    )
    np.testing.assert_array_equal(facts_agree(path)[0].array[:, 0], np.moveaxis(base, -1, 0))
    path = store(tmp_path / f"b.{suffix}", np.concatenate([base, GREY[..., None]], axis=-1))
    with pytest.raises(FormatError, match="transparency"):
        read_volume(path)


def test_transparent_colour_of_a_png(tmp_path):
    path = store(tmp_path / "a.png", RGB, transparency=(1, 2, 3))  # no pixel has it
    np.testing.assert_array_equal(facts_agree(path)[0].array[:, 0], np.moveaxis(RGB, -1, 0))


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(tmp_path, turn):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    big = np.kron(GREY, np.ones((8, 8), np.uint8))
    path = store(tmp_path / "a.jpg", big, quality=100, exif=exif, dpi=(254, 127))
    volume, notes = facts_agree(path)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(volume.array[0, 0], upright)
    assert volume.geometry.spacing == pytest.approx((1, 0.2, 0.1) if turn < 5 else (1, 0.1, 0.2))
    assert any("turned upright" in note for note in notes) == (turn != 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_resolution_is_spacing(tmp_path, suffix):
    volume, notes = facts_agree(store(tmp_path / f"a.{suffix}", GREY, dpi=(508, 254)))
    assert volume.geometry.spacing == pytest.approx((1, 0.1, 0.05))
    assert notes == ()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("dpi", [72, 96])
def test_screen_resolution_is_none(tmp_path, suffix, dpi, caplog):
    path = store(tmp_path / f"a.{suffix}", GREY, dpi=(dpi, dpi))
    with caplog.at_level(logging.WARNING, logger="hilum"):
        assert read_volume(path).geometry.spacing == (1, 1, 1)
    assert f"{dpi} dots per inch is a program's default" in caplog.text


def test_grey_stored_as_rgb_is_labels_but_colour_is_not(tmp_path):
    labels = read_labels(store(tmp_path / "a.png", np.dstack([GREY] * 3)))
    np.testing.assert_array_equal(labels.array, GREY[None, None])
    with pytest.raises(LabelError, match="3 channels that differ"):
        read_labels(store(tmp_path / "b.png", RGB))


def test_refused_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes(
        store(
            tmp_path / "b.png", np.random.default_rng(0).integers(0, 255, (90, 90)).astype("u1")
        ).read_bytes()[:3000]
    )
    with pytest.raises(FormatError, match=r"a\.png: the file cannot be read as PNG"):
        read_volume(tmp_path / "a.png")
    with pytest.raises(FormatError, match=r"cut\.png: the file cannot be read as PNG"):
        read_volume(tmp_path / "cut.png")
    with pytest.raises(FormatError, match=r"cut\.png: the file cannot be read as PNG"):
        read_labels(tmp_path / "cut.png")
    with pytest.raises(FormatError, match="CMYK"):
        read_volume(store(tmp_path / "c.jpg", RGB, "CMYK"))
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(tmp_path / "d.png", save_all=True, append_images=frames[1:])
    with pytest.raises(FormatError, match="animated"):
        read_volume(tmp_path / "d.png")


def test_pages_are_slices(tmp_path):
    pages = np.stack([GREY, GREY[::-1], GREY + 1])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
    np.testing.assert_array_equal(facts_agree(tmp_path / "a.tif")[0].array, pages[None])
    tifffile.imwrite(tmp_path / "b.tif", np.stack([RGB, RGB[::-1]]), photometric="rgb")
    np.testing.assert_array_equal(
        facts_agree(tmp_path / "b.tif")[0].array, np.moveaxis(np.stack([RGB, RGB[::-1]]), -1, 0)
    )
    frames = [Image.fromarray(page) for page in pages]
    frames[0].save(
        tmp_path / "c.tif", save_all=True, append_images=frames[1:], compression="tiff_lzw"
    )
    np.testing.assert_array_equal(facts_agree(tmp_path / "c.tif")[0].array, pages[None])
    tifffile.imwrite(
        tmp_path / "d.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(
        facts_agree(tmp_path / "d.tif")[0].array[:, 0], np.moveaxis(RGB, -1, 0)
    )


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_any_compression(tmp_path, compression):
    flat = np.full((16, 16), 120, np.uint8)
    assert (
        np.ptp(
            read_volume(store(tmp_path / "a.tif", flat, compression=compression)).array.astype(int)
            - 120
        )
        == 0
    )


def test_white_as_zero_is_inverted_for_images(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    volume, notes = facts_agree(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array[0, 0], 255 - GREY)
    assert any("zero is white" in note for note in notes)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array[0, 0], GREY)


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4"]
)
def test_white_as_zero_is_inverted_once_by_any_compression(tmp_path, compression):
    grey = np.repeat(
        np.repeat(np.array([[0, 40, 255], [90, 200, 10]], np.uint8), 16, axis=0), 16, axis=1
    )
    shown = grey > 100 if compression.startswith("group") else grey
    for zero_is_white in (False, True):
        options = {"compression": compression, "tiffinfo": {262: 0 if zero_is_white else 1}}
        Image.fromarray(shown).save(tmp_path / "a.tif", **options)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert (int(file.pages[0].photometric) == 0) == zero_is_white
        volume, notes = facts_agree(tmp_path / "a.tif")
        stored = (
            (shown.max() - shown if shown.dtype != bool else ~shown) if zero_is_white else shown
        )
        gap = 0 if compression != "jpeg" else 4
        assert np.abs(volume.array[0, 0].astype(int) - shown).max() <= gap
        labels = read_labels(tmp_path / "a.tif")
        assert np.abs(labels.array[0, 0].astype(int) - stored).max() <= gap
        assert any("inverted" in note for note in notes) == zero_is_white


def test_a_note_on_inverted_numbers_is_not_given_for_labels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    assert not any("inverted" in note for note in tiff.read_indices(tmp_path / "a.tif").notes)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32"])
def test_white_as_zero_without_a_largest_number_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", (GREY // 2).astype(dtype), photometric="miniswhite")
    for read in (read_volume, inspect_file):
        with pytest.raises(
            FormatError,
            match=rf"{dtype} numbers of which zero is white(?s:.*)set tag 262 of a copy to 1",
        ):
            read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array[0, 0], GREY // 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_white_as_zero_of_unsigned_numbers_is_inverted(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype), photometric="miniswhite")
    np.testing.assert_array_equal(
        facts_agree(tmp_path / "a.tif")[0].array[0, 0], np.iinfo(dtype).max - GREY.astype(dtype)
    )


def test_imagej_units_and_slice_distance(tmp_path):
    pages = np.stack([GREY] * 3)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pages,
        imagej=True,
        resolution=(2.0, 4.0),
        metadata={"spacing": 1500, "unit": "um", "axes": "ZYX"},
    )
    spacing = read_volume(tmp_path / "a.tif").geometry.spacing
    assert spacing == pytest.approx((1.5, 0.00025, 0.0005))


def test_refused_tiffs(tmp_path):
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(GREY)
        writer.write(GREY[:3])
    with pytest.raises(FormatError, match="2 images of different size"):
        read_volume(tmp_path / "two.tif")
    tifffile.imwrite(
        tmp_path / "time.tif",
        np.zeros((2, 3, 5, 7), np.uint8),
        imagej=True,
        metadata={"axes": "TZYX"},
    )
    with pytest.raises(FormatError, match="one stack of pages"):
        read_volume(tmp_path / "time.tif")
    tifffile.imwrite(
        tmp_path / "both.tif",
        np.zeros((2, 5, 7, 3), np.uint8),
        imagej=True,
        metadata={"axes": "CYXS"},
    )
    with pytest.raises(FormatError, match="a TIFF with axes CYXS"):
        read_volume(tmp_path / "both.tif")
    (tmp_path / "text.tif").write_bytes(b"no TIFF")
    with pytest.raises(FormatError, match=r"text\.tif: the file cannot be read as TIFF"):
        read_volume(tmp_path / "text.tif")
    tifffile.imwrite(tmp_path / "cut.tif", np.zeros((100, 100), np.uint8), compression="zlib")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "cut.tif").read_bytes()[:-20])
    with pytest.raises(FormatError, match=r"cut\.tif: the file cannot be read as TIFF"):
        read_volume(tmp_path / "cut.tif")
    tifffile.imwrite(
        tmp_path / "many.tif", np.zeros((5, 5, 7), np.uint8), imagej=True, metadata={"axes": "CYX"}
    )
    with pytest.raises(FormatError, match=r"5 channels|axes"):
        write_volume(read_volume(tmp_path / "many.tif"), tmp_path / "again.tif")


@pytest.mark.parametrize(
    ("suffix", "spacing"), [("png", (1.0, 0.25, 0.5)), ("tif", (1.0, 0.7, 0.3))]
)
@pytest.mark.parametrize("bands", [1, 3])
def test_written_pictures_come_back(tmp_path, suffix, spacing, bands, caplog):
    array = GREY[None, None] if bands == 1 else np.moveaxis(RGB, -1, 0)[:, None]
    volume = Volume(np.ascontiguousarray(array), Geometry.from_spacing((1, 5, 7), spacing))
    write_volume(volume, tmp_path / f"a.{suffix}")
    again = read_volume(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry.is_close(volume.geometry, tolerance_voxels=1e-6)
    assert caplog.records == []


def test_written_stack_keeps_the_slice_distance(tmp_path):
    volume = Volume(
        np.stack([GREY, GREY + 1])[None].astype(np.float32),
        Geometry.from_spacing((2, 5, 7), (4.5, 25.4 / 72, 25.4 / 72)),
    )
    write_volume(volume, tmp_path / "a.tif")
    again = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(again.array, volume.array)
    assert again.geometry.is_close(volume.geometry, tolerance_voxels=1e-6)


def test_what_a_picture_cannot_hold(tmp_path, volume, caplog):
    with pytest.raises(FormatError, match="4 slices of 1 channel"):
        write_volume(volume, tmp_path / "a.png")
    flat = Geometry.from_spacing((1, 5, 7), (1, 2, 2), origin=(5, 6, 7))
    with pytest.raises(FormatError, match="float32 numbers"):
        write_volume(Volume(GREY[None, None].astype(np.float32), flat), tmp_path / "a.png")
    with pytest.raises(FormatError, match="int16 numbers from -1"):
        write_labels(Volume(GREY[None, None].astype(np.int16) - 1, flat), tmp_path / "a.png")
    with pytest.raises(FormatError, match="2 channels"):
        write_volume(Volume(np.stack([GREY, GREY])[:, None], flat), tmp_path / "a.tif")
    assert list(tmp_path.iterdir()) == []
    write_labels(Volume(GREY[None, None].astype(np.int64) * 9, flat), tmp_path / "a.png")
    assert "holds no origin" in caplog.text
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").array[0, 0], GREY.astype(int) * 9)


def test_text_chunks_do_not_disturb(tmp_path):
    info = PngInfo()
    info.add_text("Comment", "x")
    assert read_volume(store(tmp_path / "a.png", GREY, pnginfo=info)).array.shape == (1, 1, 5, 7)


def test_broken_exif(tmp_path, monkeypatch):
    path = store(tmp_path / "a.png", GREY, exif=b"Exif\x00\x00no TIFF header")
    with pytest.raises(FormatError, match=r"a\.png: the file cannot be read as PNG"):
        read_volume(path)

    def refuse(_):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", refuse)
    with pytest.raises(FormatError, match="not a TIFF file"):
        read_volume(store(tmp_path / "b.bmp", GREY))
