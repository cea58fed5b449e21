"""Labels to RTSTRUCT and back: Dice, shift and distance of hilum, and of rt-utils where it is."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from _common import DATA, write_result

from hilum.dicom_results.producer import Producer
from hilum.dicom_results.rtstruct import write_rtstruct
from hilum.examples import write_dicom_series
from hilum.examples.dicom import SeriesTags
from hilum.io import read_geometry, read_labels, read_volume
from hilum.metrics.overlap import dice
from hilum.metrics.surface import hd95
from hilum.volume import LabelTable, Volume, reorient

if TYPE_CHECKING:
    from collections.abc import Iterator

SETS = {
    "hippocampus": LabelTable.from_names({1: "anterior", 2: "posterior"}),
    "liver_ct": LabelTable.from_names({1: "liver", 2: "tumour"}),
}
PRODUCER = Producer("benchmark", "0")


@dataclass(frozen=True)
class Trip:
    """One label of one case, there and back."""

    set: str
    case: str
    label: str
    writer: str
    reader: str
    dice: float
    shift_mm: float
    hd95_mm: float
    voxels: int


@dataclass
class Seconds:
    """Time and size of one case's file."""

    case: str
    writer: str
    write_s: float
    read_s: float
    megabytes: float


def main() -> None:
    """Measure both sets and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20, help="of hippocampus")
    options = parser.parse_args()
    trips: list[Trip] = []
    seconds: list[Seconds] = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, count in (("hippocampus", options.cases), ("liver_ct", 1)):
            for case in sorted((DATA / name / "imagesTr").glob("[!.]*.nii.gz"))[:count]:
                folder = Path(temporary) / name / case.name.partition(".")[0]
                labels = write_series(name, case, folder / "ct")
                for writer in writers():
                    measure(name, folder, labels, writer, trips, seconds)
    for line in table(trips):
        print(line)
    for one in seconds[-2:]:
        print(one)
    rows = {"trips": [asdict(one) for one in trips], "files": [asdict(one) for one in seconds]}
    write_result("rtstruct", rows)


def writers() -> tuple[str, ...]:
    """hilum, and rt-utils where it is installed."""
    return ("hilum", "rt-utils") if find_spec("rt_utils") else ("hilum",)


def write_series(name: str, image: Path, folder: Path) -> Volume:
    """Write a case as a DICOM series; its labels on the grid of that."""
    volume = read_volume(image)
    largest = max(float(volume.array.max()), 1.0)
    if largest > 10_000:  # of an MR: what is in the pixels does not count here
        volume = volume.with_array(volume.array * (1000 / largest))
    volume = volume.with_array(np.rint(volume.array).clip(-1024, 30_000).astype(np.int16))
    write_dicom_series(volume, folder, tags=SeriesTags(patient_id=image.name, uid_seed=name))
    grid = read_geometry(folder)
    labels = reorient(read_labels(DATA / name / "labelsTr" / image.name), grid.orientation)
    if not labels.geometry.is_close(grid, tolerance_voxels=0.05):
        raise SystemExit(f"{image}: the series lies on another grid than the labels")
    return Volume(labels.array.astype(np.uint8), grid)


def measure(
    name: str,
    folder: Path,
    labels: Volume,
    writer: str,
    trips: list[Trip],
    seconds: list[Seconds],
) -> None:
    """Write labels with one program, and read them with each."""
    path = folder / f"{writer}.dcm"
    start = time.perf_counter()
    if writer == "hilum":
        write_rtstruct(labels, SETS[name], folder / "ct", path, producer=PRODUCER)
    else:
        write_with_rt_utils(labels, SETS[name], folder / "ct", path)
    written = time.perf_counter() - start
    for reader in writers():
        start = time.perf_counter()
        found = dict(read_masks(SETS[name], folder / "ct", path, reader, labels.array.shape[1:]))
        taken = time.perf_counter() - start
        if reader == writer:
            size = path.stat().st_size / 1e6
            seconds.append(Seconds(folder.name, writer, written, taken, size))
        for label, mask in found.items():
            reference = labels.array[0] == label
            if reference.any():
                own = SETS[name].labels[label].name
                trips.append(
                    compare(name, folder.name, own, writer, reader, mask, reference, labels)
                )
    path.unlink()


def compare(
    name: str,
    case: str,
    label: str,
    writer: str,
    reader: str,
    mask: np.ndarray,
    reference: np.ndarray,
    labels: Volume,
) -> Trip:
    """Compare what came back with what was written."""
    centres = [
        labels.geometry.index_to_world(np.argwhere(one).mean(axis=0)) if one.any() else np.nan
        for one in (mask, reference)
    ]
    return Trip(
        *(name, case, label, writer, reader),
        dice=float(dice(mask, reference)),
        shift_mm=float(np.linalg.norm(centres[0] - centres[1])),
        hd95_mm=float(hd95(mask, reference, labels.geometry.spacing)),
        voxels=int((mask != reference).sum()),
    )


def write_with_rt_utils(labels: Volume, names: LabelTable, series: Path, path: Path) -> None:
    """Write an RTSTRUCT by rt-utils, from masks (rows, columns, slices)."""
    from rt_utils import RTStructBuilder

    made = RTStructBuilder.create_new(dicom_series_path=str(series))
    for label in names.foreground:
        mask = np.moveaxis(labels.array[0] == label.id, 0, -1)
        if mask.any():
            made.add_roi(mask=mask, name=label.name)
    made.save(str(path))


def read_masks(
    names: LabelTable, series: Path, path: Path, reader: str, shape: tuple[int, ...]
) -> Iterator[tuple[int, np.ndarray]]:
    """Read the mask (Z, Y, X) of each label; one of another shape is left out, and said."""
    if reader == "hilum":
        array = read_labels(path).array[0]
        yield from ((label.id, array == label.id) for label in names.foreground)
        return
    from rt_utils import RTStructBuilder

    read = RTStructBuilder.create_from(dicom_series_path=str(series), rt_struct_path=str(path))
    for label in names.foreground:
        if label.name in read.get_roi_names():
            mask = np.moveaxis(read.get_roi_mask_by_name(label.name), -1, 0)
            if mask.shape == shape:
                yield label.id, mask
            else:
                print(f"rt-utils: {label.name} of {path.parent.name} has {mask.shape}, not {shape}")


def table(trips: list[Trip]) -> list[str]:
    """Rows of Markdown: the worst and the median of each set, writer and reader."""
    lines = ["| set | written by | read by | labels | Dice, median (least) | shift mm | HD95 mm |"]
    lines.append("|---|---|---|--:|--:|--:|--:|")
    for key in dict.fromkeys((one.set, one.writer, one.reader) for one in trips):
        own = [one for one in trips if (one.set, one.writer, one.reader) == key]
        values = sorted(one.dice for one in own)
        lines.append(
            f"| {' | '.join(key)} | {len(own)} | {np.median(values):.4f} ({values[0]:.4f}) |"
            f" {max(one.shift_mm for one in own):.3f} | {max(one.hd95_mm for one in own):.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
