"""Small files of every format, and a process that reads damaged copies under limits.

`python io_mutants.py FOLDER FORMAT,... FIRST LAST` prints the number of each mutant before it is
read, then what went wrong with it.
"""

import faulthandler
import gzip
import logging
import resource
import sys
import warnings
import zlib
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import SimpleITK
import tifffile
from io_support import rotation, write_series

from hilum.errors import HilumError
from hilum.files import record
from hilum.io import inspect_file, read_labels, read_volume, write_volume
from hilum.volume import Geometry, Volume

MEMORY = (
    1 << 28
)  # bytes that this machine is said to have, and that reading a file of a few KB may take
ADDRESSES = (
    5 << 30
)  # bytes of addresses: a field of 4 bytes may claim 4 GiB, which are asked for and never touched
SECONDS = 20
SHAPE = (4, 5, 7)
EDGES = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"-", b"9", b" ", b"\n")
WORDS = tuple(
    n.to_bytes(4, order, signed=True)
    for n in (0, 1, -1, 1 << 16, 2**31 - 1, -(2**31))
    for order in ("little", "big")
)
REALS = tuple(np.array(v, "<f4").tobytes() for v in (np.nan, np.inf, -1.0, 0.0, 1e30, 1e-30))


def _volume(channels: int = 1) -> Volume:
    geometry = Geometry.from_spacing(
        SHAPE, (2.5, 0.7, 0.9), origin=(-31.25, 5.5, 100.75), directions=rotation(3)[:, [2, 1, 0]]
    )
    return Volume(np.arange(140 * channels, dtype=np.int16).reshape(channels, *SHAPE) * 7, geometry)


def _by_itk(path: Path, *, compressed: bool = False) -> None:
    image = SimpleITK.GetImageFromArray(_volume().array[0])
    image.SetSpacing((0.9, 0.7, 2.5))
    SimpleITK.WriteImage(image, str(path), compressed)


def _by_nibabel(path: Path, kind: type) -> None:
    nibabel.save(kind(_volume().array[0].T, np.diag([0.9, 0.7, 2.5, 1])), path)


def _scaled(path: Path) -> None:
    image = nibabel.Nifti1Image(_volume().array[0].T.astype(np.float32) / 3, np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, path)


def _by_tifffile(path: Path, **options: object) -> None:
    tifffile.imwrite(
        path, _volume().array[0].astype(np.uint16), photometric="minisblack", **options
    )


def _by_pillow(path: Path, mode: str, **options: object) -> None:
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    picture = PIL.Image.fromarray(np.stack([pixels, pixels.T.reshape(5, 7), pixels // 2], axis=-1))
    picture.convert(mode).save(path, dpi=(300, 300), **options)


def _deep_png(path: Path, bands: int) -> None:
    pixels = np.arange(35 * bands, dtype=np.uint16).reshape(5, 7, bands) * 300
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=bands > 1), str(path))


def _dicom(path: Path, syntax: str | None = None) -> None:
    one = Volume(
        np.arange(1536, dtype=np.int16).reshape(1, 1, 32, 48),
        Geometry.from_spacing((1, 32, 48), (2.5, 0.7, 0.9)),
    )
    (file,) = write_series(path.parent / "series", one, syntax=syntax)
    file.rename(path)
    path.with_name("series").rmdir()


def _archive(path: Path) -> None:
    np.savez_compressed(
        path, train_images=_volume().array[0].astype(np.uint8), train_labels=np.arange(4)
    )


FORMATS = {
    "nifti": ("a.nii", lambda p: write_volume(_volume(), p)),
    "nifti_channels": ("a.nii", lambda p: write_volume(_volume(2), p)),
    "nifti_scaled": ("a.nii", _scaled),
    "nifti_gzip": ("a.nii.gz", lambda p: write_volume(_volume(), p)),
    "nifti2": ("a.nii", lambda p: _by_nibabel(p, nibabel.Nifti2Image)),
    "nifti_pair": ("a.hdr", lambda p: _by_nibabel(p, nibabel.Nifti1Pair)),
    "analyze": ("a.hdr", lambda p: _by_nibabel(p, nibabel.AnalyzeImage)),
    "mgh": ("a.mgh", lambda p: _by_nibabel(p, nibabel.MGHImage)),
    "mgz": ("a.mgz", lambda p: _by_nibabel(p, nibabel.MGHImage)),
    "nrrd": ("a.nrrd", lambda p: write_volume(_volume(), p)),
    "nrrd_channels": ("a.nrrd", lambda p: write_volume(_volume(2), p)),
    "nrrd_raw": ("a.nrrd", _by_itk),
    "nhdr": ("a.nhdr", _by_itk),
    "nhdr_gzip": ("a.nhdr", lambda p: _by_itk(p, compressed=True)),
    "mha": ("a.mha", lambda p: write_volume(_volume(), p)),
    "mha_raw": ("a.mha", _by_itk),
    "mhd": ("a.mhd", _by_itk),
    "mhd_zlib": ("a.mhd", lambda p: _by_itk(p, compressed=True)),
    "tiff": ("a.tif", lambda p: write_volume(_volume(), p)),
    "tiff_raw": ("a.tif", _by_tifffile),
    "tiff_tiles": (
        "a.tif",
        lambda p: _by_tifffile(p, tile=(16, 16), predictor=2, compression="zlib"),
    ),
    "tiff_ome": (
        "a.ome.tif",
        lambda p: _by_tifffile(
            p, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.7}
        ),
    ),
    "tiff_imagej": ("a.tif", lambda p: _by_tifffile(p, imagej=True)),
    "tiff_lzw": ("a.tif", lambda p: _by_pillow(p, "RGB", compression="tiff_lzw")),
    "tiff_jpeg": ("a.tif", lambda p: _by_pillow(p, "RGB", compression="jpeg")),
    "tiff_fax": ("a.tif", lambda p: _by_pillow(p, "1", compression="group4")),
    "tiff_palette": ("a.tif", lambda p: _by_pillow(p, "P")),
    "png_grey": ("a.png", lambda p: _by_pillow(p, "L")),
    "png_colour": ("a.png", lambda p: _by_pillow(p, "RGB")),
    "png_palette": ("a.png", lambda p: _by_pillow(p, "P")),
    "png_deep": ("a.png", lambda p: _deep_png(p, 1)),
    "png_deep_colour": ("a.png", lambda p: _deep_png(p, 3)),
    "jpeg": ("a.jpg", lambda p: _by_pillow(p, "RGB")),
    "bmp": ("a.bmp", lambda p: _by_pillow(p, "RGB")),
    "dicom": ("a.dcm", _dicom),
    "dicom_rle": ("a.dcm", lambda p: _dicom(p, "1.2.840.10008.1.2.5")),
    "dicom_jpeg2000": ("a.dcm", lambda p: _dicom(p, "1.2.840.10008.1.2.4.90")),
    "medmnist": ("a.npz", _archive),
}


def mutant_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one to three places of a file's bytes, more often near its beginning.

    A sixth of the files are cut or longer.
    """
    changed = bytearray(data)
    kind = rng.integers(12)
    if kind == 0:
        return bytes(changed[: rng.integers(len(changed))])
    if kind == 1:
        return bytes(changed) + rng.bytes(rng.integers(1, 5000))
    for _ in range(rng.integers(1, 4)):
        reach = rng.choice([64, 400, 4000, len(changed)])
        at = int(rng.integers(max(1, min(reach, len(changed)))))
        match rng.integers(7):
            case 0:
                changed[at : at + 1] = rng.bytes(1)
            case 1:
                changed[at : at + 1] = EDGES[rng.integers(len(EDGES))]
            case 2:
                at &= ~1  # numbers of a header lie at even places
                changed[at : at + 4] = WORDS[rng.integers(len(WORDS))]
            case 3:
                at &= ~3
                changed[at : at + 4] = REALS[rng.integers(len(REALS))]
            case 4:
                del changed[at : at + int(rng.integers(1, 9))]
            case 5:
                changed[at:at] = changed[at : at + int(rng.integers(1, 9))]
            case _:
                changed[at : at + 1] = (
                    bytes([changed[at] ^ (1 << int(rng.integers(8)))]) if at < len(changed) else b""
                )
    return bytes(changed)


def sound_files(folder: Path, name: str) -> dict[str, bytes]:
    """Write the files of a format; return their bytes, the file to be read first."""
    folder.mkdir()
    path = folder / FORMATS[name][0]
    FORMATS[name][1](path)
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file != path)
    }


def write_mutant(folder: Path, sound: dict[str, bytes], seed: list[int]) -> tuple[Path, bool]:
    """Write the files, one of them damaged.

    Return what is to be read, and whether the damage is only a missing end.
    """
    rng = np.random.default_rng(seed)
    first, *others = sound
    target = rng.choice(others) if others and rng.random() < 0.2 else first
    data, inner = (
        sound[target],
        rng.random() < 0.7,
    )  # without the inner damage only checksums would ever be met
    unzipped = inner and data[:2] == b"\x1f\x8b"
    before = gzip.decompress(data) if unzipped else data
    after = mutant_of(before, rng)
    stored = (
        gzip.compress(after)
        if unzipped
        else _with_checksums(after)
        if inner and after[:4] == b"\x89PNG"
        else after
    )
    for name, content in {**sound, target: stored}.items():
        (folder / name).write_bytes(content)
    return to_read(folder, sound), before.startswith(after)


def to_read(folder: Path, sound: dict[str, bytes]) -> Path:
    """Return what is to be read of a format's files: the first, or an image in it."""
    path = folder / next(iter(sound))
    return Path(f"{path}#train/1") if path.suffix == ".npz" else path


def _with_checksums(data: bytes) -> bytes:
    """Put the right checksums into the chunks of a PNG."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        length = int.from_bytes(mended[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


def fault_of(path: Path, complete: Volume | None = None) -> str:
    """Read a file in every way.

    Return what is wrong with that, "" where it is read or refused as it should be.

    Where the file lacks its end, what is read must be the `complete` volume.
    """
    facts = None
    try:
        facts = inspect_file(path)
    except HilumError:
        pass
    except BaseException as error:  # noqa: BLE001 (any other error is what is looked for)
        return f"inspect_file: {type(error).__name__}: {error}"
    for read in (read_labels, read_volume):
        try:
            volume = read(path)
        except HilumError:
            continue
        except BaseException as error:  # noqa: BLE001
            return f"{read.__name__}: {type(error).__name__}: {error}"
        if facts is None and read is read_volume:  # labels need no palette
            return "read_volume: it is read, though inspect_file refuses it"
        if facts is not None and (
            volume.array.shape[1:] != facts.geometry.shape or volume.geometry != facts.geometry
        ):
            return (
                f"{read.__name__}: {volume.array.shape} on {volume.geometry}, the header says"
                f" {facts.geometry}"
            )
        if (
            read is read_volume
            and complete is not None
            and not np.array_equal(volume.array, complete.array)
        ):
            return "read_volume: a file without its end is read as something else"
    return ""


def limit_memory(more: int) -> None:
    """Allow this process some bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY)
    )


def main(folder: Path, names: list[str], first: int, last: int) -> None:
    """Read the mutants of some formats."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sound = {name: sound_files(folder / name, name) for name in names}
    volumes = {name: read_volume(to_read(folder / name, stored)) for name, stored in sound.items()}
    record.psutil.virtual_memory = lambda: type("Memory", (), {"total": MEMORY})
    limit_memory(ADDRESSES)
    for name, stored in sound.items():
        for number in range(first, last):
            print(f"{name} {number}", flush=True)  # noqa: T201
            path, cut = write_mutant(folder / name, stored, [number, *name.encode()])
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            fault = fault_of(path, volumes[name] if cut else None)
            faulthandler.cancel_dump_traceback_later()
            taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            if fault or taken > MEMORY:
                found = fault or f"{taken} bytes of memory"
                print(f"FAULT {name} {number}: {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2].split(",") if sys.argv[2] else list(FORMATS),
        int(sys.argv[3]),
        int(sys.argv[4]),
    )
