"""Decoded numbers are those of the header: any bit depth and compression, exactly, or an error."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from hilum.dataset import open_dataset
from hilum.errors import FormatError
from hilum.io import inspect_file, read_channels, read_labels, read_volume

ROWS, COLUMNS = 21, 37
RNG = np.random.default_rng(3)


def lzw(data: bytes) -> bytes:
    """The simplest LZW stream of TIFF: a clear code before every 200 literals of 9 bits."""
    codes = [code for n in range(0, len(data), 200) for code in (256, *data[n : n + 200])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


COMPRESSIONS = {1: lambda data: data, 5: lzw, 8: zlib.compress}


def predicted(array: np.ndarray, predictor: int, order: str) -> bytes:
    """The bytes of one strip (rows, columns, samples) before compression."""
    if predictor == 3:
        size = array.dtype.itemsize
        big = np.ascontiguousarray(array.astype(array.dtype.newbyteorder(">")))
        rows, columns, samples = array.shape
        planes = (
            big.view(np.uint8)
            .reshape(rows, columns * samples, size)
            .transpose(0, 2, 1)
            .reshape(rows, size * columns, samples)
        )
        return (
            np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).astype(np.uint8).tobytes()
        )
    if predictor == 2:
        unsigned = array.view(f"u{array.dtype.itemsize}")
        array = np.diff(unsigned, axis=1, prepend=np.zeros_like(unsigned[:, :1])).view(array.dtype)
    return array.astype(array.dtype.newbyteorder(order)).tobytes()


def packed(array: np.ndarray, bits: int) -> bytes:
    """Numbers of odd bits, each row from a whole byte."""
    places = (array.reshape(len(array), -1, 1) >> np.arange(bits)[::-1]) & 1
    return np.packbits(places.reshape(len(array), -1).astype(np.uint8), axis=1).tobytes()


def write_tiff(
    path,
    array,
    *,
    compression=5,
    predictor=1,
    order="<",
    bits=0,
    rows=8,
    tile=0,
    planar=1,
    extra=(),
    **tags,
):
    """A TIFF by the book, as no library here writes all of these.

    `array` is (rows, columns, samples).
    """
    samples = array.shape[2]
    encode = COMPRESSIONS[compression]
    blocks = []
    for plane in np.moveaxis(array, 2, 0)[..., None] if planar == 2 else [array]:
        if tile:
            down, across = -(-len(plane) // tile), -(-plane.shape[1] // tile)
            full = np.zeros((down * tile, across * tile, plane.shape[2]), plane.dtype)
            full[: len(plane), : plane.shape[1]] = plane
            parts = [
                full[r * tile :][:tile, c * tile : (c + 1) * tile]
                for r in range(down)
                for c in range(across)
            ]
        else:
            parts = [plane[n : n + rows] for n in range(0, len(plane), rows)]
        blocks += [
            encode(
                packed(part, bits)
                if bits
                else predicted(np.ascontiguousarray(part), predictor, order)
            )
            for part in parts
        ]
    width = bits or array.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    entries = {
        256: [array.shape[1]],
        257: [len(array)],
        258: [width] * samples,
        259: [compression],
        277: [samples],
        284: [planar],
    }
    entries |= {
        262: [tags.get("photometric", 2 if samples >= 3 else 1)],
        317: [predictor],
        339: [kind] * samples,
    }
    entries |= {338: list(extra)} if extra else {}
    entries |= (
        {322: [tile], 323: [tile], 324: blocks, 325: blocks}
        if tile
        else {273: blocks, 278: [rows], 279: blocks}
    )
    head, at = 8 + 2 + 12 * len(entries) + 4, 0
    offsets = []
    for block in blocks:
        offsets.append(head + at)
        at += len(block)
    extra_bytes, directory = b"", b""
    for tag, values in sorted(entries.items()):
        whole = (
            values
            if values is not blocks
            else offsets
            if tag in {273, 324}
            else [len(block) for block in blocks]
        )
        data = struct.pack(f"{order}{len(whole)}L", *whole)
        if len(data) > 4:
            data, extra_bytes = (
                struct.pack(f"{order}L", head + at + len(extra_bytes)),
                extra_bytes + data,
            )
        directory += struct.pack(f"{order}HHL", tag, 4, len(whole)) + data
    mark = b"II*\0" if order == "<" else b"MM\0*"
    start = struct.pack(f"{order}LH", 8, len(entries))
    path.write_bytes(mark + start + directory + bytes(4) + b"".join(blocks) + extra_bytes)
    return path


def numbers(dtype, samples):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RNG.normal(0, 1e4, (ROWS, COLUMNS, samples)).astype(dtype)
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, (ROWS, COLUMNS, samples), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"predictor": 2},
        {"predictor": 3},
        {"predictor": 3, "compression": 8},
        {"order": ">"},
        {"order": ">", "predictor": 2},
        {"order": ">", "predictor": 3},
        {"tile": 16},
        {"tile": 16, "predictor": 2},
        {"planar": 2},
        {"planar": 2, "tile": 16, "predictor": 2},
        {"rows": 100},
        {"compression": 1, "order": ">"},
        {"compression": 8, "predictor": 2},
    ],
)
def test_every_type_by_lzw_gives_the_stored_numbers(tmp_path, dtype, samples, options):
    if options.get("predictor") == 3 and not dtype.startswith("f"):
        pytest.skip("the predictor for real numbers")
    if options.get("predictor") == 2 and dtype.startswith("f"):
        pytest.skip("the predictor for integers")
    array = numbers(dtype, samples)
    path = write_tiff(tmp_path / "a.tif", array, **options)
    found = read_volume(path)
    assert found.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.array[:, 0], np.moveaxis(array, 2, 0))
    facts = inspect_file(path)
    assert (facts.geometry, facts.channels, facts.dtype) == (
        found.geometry,
        samples,
        found.array.dtype,
    )


@pytest.mark.parametrize("compression", [1, 5, 8])
@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14])
def test_odd_bits_are_unpacked(tmp_path, bits, compression):
    array = RNG.integers(0, 1 << bits, (ROWS, COLUMNS, 1), np.uint16)
    path = write_tiff(tmp_path / "a.tif", array, bits=bits, compression=compression)
    np.testing.assert_array_equal(read_volume(path).array[0, 0], array[..., 0])
    np.testing.assert_array_equal(read_labels(path).array[0, 0], array[..., 0])


@pytest.mark.parametrize("bits", [1, 4, 8, 12])
def test_white_as_zero_is_inverted_within_its_bits(tmp_path, bits):
    array = RNG.integers(0, 1 << bits, (ROWS, COLUMNS, 1), np.uint16).astype(
        np.uint8 if bits <= 8 else np.uint16
    )
    path = write_tiff(tmp_path / "a.tif", array, bits=bits % 8 and bits, photometric=0)
    np.testing.assert_array_equal(
        read_volume(path).array[0, 0], (1 << bits) - 1 - array[..., 0].astype(int)
    )


def test_what_pillow_would_cut_is_refused(tmp_path, monkeypatch):
    path = write_tiff(tmp_path / "a.tif", numbers("u2", 3))
    monkeypatch.setattr(
        "hilum.io.tiff.decode_pages", lambda *_: np.zeros((ROWS, COLUMNS, 3), np.uint8)
    )
    with pytest.raises(
        FormatError, match=r"decoding gives uint8 numbers .* the header says uint16"
    ):
        read_volume(path)


@pytest.mark.parametrize(
    ("tag", "value", "says"),
    [
        (259, 34887, "compressed by LERC"),
        (259, 6, "compressed by OJPEG"),
        (266, 2, "reversed bits"),
    ],
)
def test_other_encodings_are_refused_by_name(tmp_path, tag, value, says):
    array = numbers("u2", 1)
    path = write_tiff(tmp_path / "a.tif", array)
    data = bytearray(path.read_bytes())
    at = data.find(struct.pack("<HHL", 259 if tag == 259 else 284, 4, 1))
    data[at : at + 12] = struct.pack("<HHLL", tag, 4, 1, value)
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match=says):
        read_volume(path)


def test_a_cut_strip_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", numbers("u2", 1), rows=100)
    data = path.read_bytes()
    at = data.find(struct.pack("<HHL", 279, 4, 1)) + 8
    (count,) = struct.unpack_from("<L", data, at)
    path.write_bytes(data[:at] + struct.pack("<L", count // 2) + data[at + 4 :])
    with pytest.raises(FormatError, match=r"a\.tif: the file cannot be read as TIFF"):
        read_volume(path)


@pytest.mark.parametrize(("photometric", "name"), [(5, "SEPARATED"), (8, "CIELAB"), (6, "YCBCR")])
def test_other_colour_spaces_are_refused(tmp_path, photometric, name):
    with pytest.raises(FormatError, match=f"colour space {name}"):
        read_volume(
            write_tiff(
                tmp_path / "a.tif",
                numbers("u1", 4 if photometric == 5 else 3),
                photometric=photometric,
            )
        )


# --- channels that are no transparency
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["ome.tif", "tif"])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_channels_of_ome_and_imagej_are_channels(tmp_path, ending, channels):
    array = numbers("u2", channels).transpose(2, 0, 1)
    path = tmp_path / f"a.{ending}"
    options = {"ome": True} if ending == "ome.tif" else {"imagej": True}
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "CYX"}, **options)
    np.testing.assert_array_equal(read_volume(path).array[:, 0], array)
    assert inspect_file(path).channels == channels


def test_a_stack_of_channels_keeps_both(tmp_path):
    array = np.stack([numbers("u2", 2).transpose(2, 0, 1)] * 3)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", array, photometric="minisblack", metadata={"axes": "ZCYX"}, ome=True
    )
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.ome.tif").array, array.transpose(1, 0, 2, 3)
    )


@pytest.mark.parametrize("samples", [2, 4])
def test_only_what_is_marked_as_alpha_is_transparency(tmp_path, samples):
    array = numbers("u1", samples)
    found = read_volume(write_tiff(tmp_path / "a.tif", array, extra=(0,)))
    np.testing.assert_array_equal(found.array[:, 0], np.moveaxis(array, 2, 0))
    with pytest.raises(FormatError, match="transparency"):
        read_volume(write_tiff(tmp_path / "b.tif", array, extra=(2,)))
    array[..., -1] = 255
    assert read_volume(write_tiff(tmp_path / "c.tif", array, extra=(2,))).channels == samples - 1


# --- grey and labels in pictures
# ----------------------------------------------------------------------------------------


def write_png(path, array, bits, colour_type=0, *chunks):
    """A PNG of 1, 2 or 4 bits a pixel; Pillow writes none of grey."""

    def chunk(name, data):
        return (
            struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        )

    body = b"".join(b"\0" + packed(row[None], bits) for row in array)
    header = struct.pack(">LLBBBBB", array.shape[1], len(array), bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour_type", [0, 3])
def test_label_pngs_of_few_bits_give_their_numbers(tmp_path, bits, colour_type):
    array = RNG.integers(0, 1 << bits, (ROWS, COLUMNS))
    palette = [(b"PLTE", bytes(range(3 * (1 << bits))))] if colour_type == 3 else []
    path = write_png(tmp_path / "a.png", array, bits, colour_type, *palette)
    np.testing.assert_array_equal(read_labels(path).array[0, 0], array)
    if colour_type == 0:
        np.testing.assert_array_equal(read_volume(path).array[0, 0], array)
        assert inspect_file(path).dtype == np.uint8


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_background_is_a_label(tmp_path, bits):
    array = RNG.integers(0, 1 << bits, (ROWS, COLUMNS))
    path = write_png(tmp_path / "a.png", array, bits, 0, (b"tRNS", b"\0\0"))
    np.testing.assert_array_equal(read_labels(path).array[0, 0], array)
    with pytest.raises(FormatError, match="transparency"):
        read_volume(path)


GREY = RNG.integers(0, 256, (ROWS, COLUMNS), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_grey_stored_as_colours_is_one_channel(tmp_path, name, mode):
    if mode == "RGBA" and name.endswith(("jpg", "bmp")):
        pytest.skip("no alpha")
    grey = np.full_like(GREY, 77) if name == "a.jpg" else GREY
    Image.fromarray(grey).convert(mode).save(tmp_path / name)
    facts, found = inspect_file(tmp_path / name), read_volume(tmp_path / name)
    np.testing.assert_array_equal(found.array[0, 0], grey)
    assert facts.channels == found.channels == 1
    assert "red, green and blue are equal" in facts.notes[-1]


def test_sixteen_bit_grey_stored_as_colours(tmp_path):
    array = np.repeat(numbers("u2", 1), 3, axis=2)
    found = read_volume(write_tiff(tmp_path / "a.tif", array))
    np.testing.assert_array_equal(found.array, array[None, None, ..., 0])


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_pictures_fit_among_coloured_ones(tmp_path, first):
    rgb = RNG.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    kinds = ["grey", "colour"] if first == "grey" else ["colour", "grey"]
    for name, kind in zip("abc", [*kinds, "rgb-grey"], strict=True):
        picture = Image.fromarray(rgb if kind == "colour" else GREY)
        (picture.convert("RGB") if kind == "rgb-grey" else picture).save(
            tmp_path / "images" / f"{name}.png"
        )
        Image.fromarray((GREY > 90).astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    dataset = open_dataset(tmp_path)
    assert dataset.channels == ("red", "green", "blue")
    for case in dataset.cases:
        assert read_channels(case.images).channels == 3
    (tmp_path / "images" / f"{'a' if first == 'colour' else 'b'}.png").unlink()
    assert open_dataset(tmp_path).channels == ("image",)
