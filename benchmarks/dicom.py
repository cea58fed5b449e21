"""Time to read a DICOM series, beside SimpleITK; with --table the verdicts on odd files."""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from _common import DATA, REPOSITORY, write_result
from _dicom_verdicts import verdict_table
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from hilum.io import read_volume
from hilum.volume import Geometry, Volume

TABLE = REPOSITORY / "docs" / "explanation" / "dicom-verdicts.md"
DAMAGED = "## Damaged files"
CT = DATA / "liver_ct" / "imagesTr" / "ircadb_17.nii.gz"
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG 2000 lossless": "1.2.840.10008.1.2.4.90",
    "JPEG-LS lossless": "1.2.840.10008.1.2.4.80",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
}
_BY_DCMTK = "JPEG lossless"  # pydicom does not encode it


def main() -> None:
    """Time both readers in turn; or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="timed runs of each reader (9)")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE.name} instead")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.table:
        _, mark, damaged = TABLE.read_text(encoding="utf-8").partition(DAMAGED)  # measured apart
        TABLE.write_text(f"{verdict_table()}\n{mark}{damaged}", encoding="utf-8")
        print(TABLE.read_text(encoding="utf-8"))
        return
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, syntax in SYNTAXES.items():
            series = write_series(Path(folder) / "series", name, syntax)
            if series is not None:
                result[name] = compare(name, series, options.runs)
                shutil.rmtree(series)
    write_result("dicom", {"runs": options.runs, "slices": 119, "readers": result})


def scan() -> Volume:
    """The liver CT where it is there, else noise that compresses as badly."""
    if CT.is_file():
        volume = read_volume(CT)
        return volume.with_array(np.clip(volume.array, -1024, 3071).astype(np.int16))
    smooth = np.add.outer(np.arange(119), np.add.outer(np.arange(512), np.arange(512)))
    noise = np.random.default_rng(0).normal(0, 30, smooth.shape)
    array = (smooth + noise - 1000).astype(np.int16)[np.newaxis]
    return Volume(array, Geometry.from_spacing(array.shape[1:], (2.5, 0.8, 0.8)))


def write_series(folder: Path, name: str, syntax: str) -> Path | None:
    """Write the scan as a series of single-frame files; None where no program encodes it."""
    if name == _BY_DCMTK and shutil.which("dcmcjpeg") is None:
        return None
    folder.mkdir(parents=True)
    volume = scan()
    for index, pixels in enumerate(volume.array[0]):
        data = _slice(volume.geometry, index, (pixels + 1024).astype(np.uint16))
        if name not in {"uncompressed", _BY_DCMTK}:
            data.compress(syntax)
        file = folder / f"IM{index * 37 % 119:04}"
        data.save_as(file, enforce_file_format=True)
        if name == _BY_DCMTK:
            subprocess.run(["dcmcjpeg", "+e1", file, file], check=True)
    return folder


def _slice(geometry: Geometry, index: int, pixels: np.ndarray) -> pydicom.Dataset:
    """One slice as a scanner writes it."""
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    instance = generate_uid(entropy_srcs=["hilum", str(index)])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = instance
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2", "1.3", "1.4"
    data.Modality, data.PatientID, data.InstanceNumber = "CT", "p", index + 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    directions = geometry.directions
    position = geometry.index_to_world((index, 0, 0))
    data.ImagePositionPatient = [f"{v:.8g}" for v in position]
    data.ImageOrientationPatient = [f"{v:.8g}" for v in (*directions[:, 2], *directions[:, 1])]
    data.PixelSpacing = [f"{v:.8g}" for v in geometry.spacing[1:]]
    data.SliceThickness, data.RescaleSlope, data.RescaleIntercept = geometry.spacing[0], 1, -1024
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.Rows, data.Columns = pixels.shape
    data.PixelData = pixels.tobytes()
    return data


def by_itk(folder: Path) -> np.ndarray:
    """SimpleITK's usual way to a series."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute())


def compare(name: str, folder: Path, runs: int) -> dict[str, float]:
    """Read a series by both in turn, after one warm-up; print and return the medians."""
    if not np.array_equal(by_itk(folder), read_volume(folder).array[0]):
        raise SystemExit(f"{name}: the readers disagree about voxels")
    readers = {"hilum": read_volume, "SimpleITK": by_itk}
    wall: dict[str, list[float]] = {reader: [] for reader in readers}
    cpu: dict[str, list[float]] = {reader: [] for reader in readers}
    for _ in range(runs):
        for reader, read in readers.items():
            start, busy = time.perf_counter(), time.process_time()
            read(folder)
            wall[reader].append(time.perf_counter() - start)
            cpu[reader].append(time.process_time() - busy)
    figures = {f"{reader}_s": round(statistics.median(times), 3) for reader, times in wall.items()}
    figures |= {f"{reader}_cpu_s": round(statistics.median(t), 3) for reader, t in cpu.items()}
    pairs = [ours / theirs for ours, theirs in zip(*wall.values(), strict=True)]
    figures["ratio"] = round(statistics.median(pairs), 2)
    busy_pairs = [ours / theirs for ours, theirs in zip(*cpu.values(), strict=True)]
    figures["cpu_ratio"] = round(statistics.median(busy_pairs), 2)
    print(
        f"{name:20} hilum {figures['hilum_s']:.3f} s, SimpleITK {figures['SimpleITK_s']:.3f} s:"
        f" ratio {figures['ratio']:.2f} (processor time {figures['cpu_ratio']:.2f})"
    )
    return figures


if __name__ == "__main__":
    main()
