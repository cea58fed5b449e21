"""TIFF as other programs write it: orientation, planes, OME units, several images, compressions."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile

from hilum.errors import FormatError
from hilum.io import inspect_file, read_volume

RAMP = np.arange(48 * 32 * 3, dtype=np.uint32).reshape(48, 32, 3)


def turned(array, turn):
    """Stored pixels (Y, X, ...) upright, by the definitions of the TIFF standard."""
    across = array.swapaxes(0, 1)
    return {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: across,
        6: across[:, ::-1],
        7: across[::-1, ::-1],
        8: across[::-1],
    }[turn]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_a_tiff_is_turned_upright(tmp_path, turn, compression):
    rgb = (RAMP // 20).astype(np.uint8)
    path = tmp_path / "a.tif"
    PIL.Image.fromarray(rgb).save(
        path, compression=compression, tiffinfo={274: turn, 282: 2.0, 283: 4.0, 296: 3}
    )
    volume, facts = read_volume(path), inspect_file(path)
    expected = turned(rgb, turn) if compression != "jpeg" else turned(stored_jpeg(path), turn)
    assert np.array_equal(np.moveaxis(volume.array[:, 0], 0, -1), expected)
    assert volume.geometry.spacing == ((1.0, 2.5, 5.0) if turn < 5 else (1.0, 5.0, 2.5))
    assert (facts.geometry, facts.turned) == (volume.geometry, turn)
    assert any("TIFF orientation" in note for note in facts.notes) == (turn != 1)


def stored_jpeg(path):
    """The pixels of a JPEG TIFF as stored: its orientation is set to 1 before decoding."""
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HHL", 274, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", 1)
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]
)
def test_zstd_keeps_the_stored_numbers(tmp_path, bands, dtype):
    path = tmp_path / "a.tif"
    array = (RAMP[:, :, :bands] * 7919).astype(dtype)
    write_zstd(path, array)
    assert np.array_equal(read_volume(path).array, np.moveaxis(array, -1, 0)[:, np.newaxis])


def write_zstd(path, array):
    """Write big-endian numbers, one plane after the other, compressed by the zstd of Pillow."""
    strips = []
    for plane in np.moveaxis(array, -1, 0):
        raw = plane.astype(plane.dtype.newbyteorder(">")).tobytes()
        held = io.BytesIO()
        PIL.Image.frombytes("L", (len(raw), 1), raw).save(held, format="TIFF", compression="zstd")
        with tifffile.TiffFile(io.BytesIO(held.getvalue())) as file:
            page = file.pages[0]
            strips.append(held.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]])
    rows, columns, bands = array.shape
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    tags = {
        256: [columns],
        257: [rows],
        258: [8 * array.itemsize] * bands,
        259: [50000],
        262: [2 if bands == 3 else 1],
    }
    tags |= {
        277: [bands],
        278: [rows],
        284: [2 if bands == 3 else 1],
        339: [kind] * bands,
        279: [len(one) for one in strips],
    }
    tags[273] = [0] * bands
    beyond = 8 + 2 + 12 * len(tags) + 4
    at = beyond + sum(4 * len(values) for values in tags.values() if len(values) > 1)
    tags[273] = [at + sum(len(one) for one in strips[:n]) for n in range(bands)]
    entries, held = b"", b""
    for tag, values in sorted(tags.items()):
        body = struct.pack(f">{len(values)}L", *values)
        entries += struct.pack(">HHL", tag, 4, len(values)) + (
            body if len(values) == 1 else struct.pack(">L", beyond + len(held))
        )
        held += body if len(values) > 1 else b""
    path.write_bytes(
        b"MM\0*" + struct.pack(">LH", 8, len(tags)) + entries + bytes(4) + held + b"".join(strips)
    )


def test_other_compressions_are_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    data = path.read_bytes().replace(
        struct.pack("<HHLH", 259, 3, 1, 1), struct.pack("<HHLH", 259, 3, 1, 34712)
    )
    path.write_bytes(data)
    with pytest.raises(FormatError, match="a TIFF compressed by JPEG2000, which is not decoded"):
        read_volume(path)


@pytest.mark.parametrize(
    ("unit", "size"),
    [("mm", (2, 0.25, 0.5)), ("\u00b5m", (2000, 250, 500)), (None, (2000, 250, 500))],
)
def test_sizes_of_ome(tmp_path, unit, size):
    axes = dict(zip("ZYX", size, strict=True))
    metadata = {"axes": "ZYX"} | {f"PhysicalSize{axis}": value for axis, value in axes.items()}
    metadata |= {} if unit is None else {f"PhysicalSize{axis}Unit": unit for axis in axes}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint8), ome=True, metadata=metadata
    )
    facts = inspect_file(tmp_path / "a.ome.tif")
    assert facts.geometry.spacing == pytest.approx((2.0, 0.25, 0.5))
    assert not facts.notes


def test_images_of_one_size_are_slices(tmp_path):
    slices = RAMP[:3].astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for one in slices:
            file.write(
                one, compression="zlib", photometric="minisblack"
            )  # each is an image of its own for tifffile
    assert np.array_equal(read_volume(tmp_path / "a.tif").array[0], slices)
    assert inspect_file(tmp_path / "a.tif").geometry.shape == slices.shape


def test_thumbnails_are_left_aside(tmp_path):
    image = RAMP[:, :, 0].astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(image, metadata=None)
        file.write(np.zeros((4, 5, 3), np.uint8), subfiletype=1, photometric="rgb", metadata=None)
    assert np.array_equal(read_volume(tmp_path / "a.tif").array[0, 0], image)
    assert any(
        note.startswith("1 reduced copies or masks")
        for note in inspect_file(tmp_path / "a.tif").notes
    )


def test_one_strip_may_claim_all_rows(tmp_path):
    array = RAMP[:, :, 0].astype(np.uint8)
    path = tmp_path / "a.tif"
    PIL.Image.fromarray(array).save(path, compression="tiff_lzw", tiffinfo={278: 2**32 - 1})
    data = path.read_bytes()
    at = next(
        data.index(head)
        for head in (struct.pack("<HH", 278, kind) for kind in (3, 4))
        if head in data
    )
    path.write_bytes(data[:at] + struct.pack("<HHLL", 278, 4, 1, 2**32 - 1) + data[at + 12 :])
    assert np.array_equal(read_volume(path).array[0, 0], array)


@pytest.mark.parametrize("opaque", [True, False])
def test_grey_of_sixteen_bits_with_transparency(tmp_path, opaque):
    grey = RAMP[:, :, :2].astype(np.uint16) * 13
    grey[..., 1] = 65535 if opaque else grey[..., 1]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    chunks = (
        (b"IHDR", struct.pack(">LLBBBBB", 32, 48, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    if opaque:
        assert np.array_equal(read_volume(tmp_path / "a.png").array[0, 0], grey[..., 0])
    else:
        with pytest.raises(FormatError, match="a picture with transparency"):
            read_volume(tmp_path / "a.png")
