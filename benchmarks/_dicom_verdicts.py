"""Verdicts of hilum, SimpleITK and dcm2niix on odd DICOM files, and agreement of their grids."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK
from _common import DATA, provenance

from hilum.dicom.frames import frames_of, read_image_file
from hilum.dicom.header import keep_quiet
from hilum.dicom.split import split
from hilum.dicom.stack import open_stack
from hilum.dicom.start import is_dicom_file
from hilum.errors import HilumError, counted
from hilum.io import read_geometry, read_volume
from hilum.volume import Geometry
from hilum.volume.orient import reorient_geometry

_CLOSE = 0.05  # voxels by which corners of two grids may differ
_TEXT = 150  # characters of a refusal in the table

DIFFERENCES = {
    "examples_palette OBXXXX1A gdcm-US-ALOKA JPGLosslessP14SV1_1s_1f_8b": (
        "ultrasound has its scale in SequenceOfUltrasoundRegions (PS3.3 C.8.5.5), which the other"
        " two do not read: they say 1 mm. hilum takes it where all regions of tissue have one."
    ),
    "CR1 CR2 CR3": (
        "X-ray states ImagerPixelSpacing, which dcm2niix does not read; SimpleITK agrees."
    ),
    "MR2 MR700": (
        "scouts or single slices of several planes with one SeriesInstanceUID. SimpleITK makes one"
        " volume of them, the mean distance as its spacing; dcm2niix agrees with hilum."
    ),
    "ct_ge_tilt_two_thicknesses_one_folder": (
        "slices of 4 mm, then of 7 mm, all with a gantry tilted by 18.5 degrees. SimpleITK averages"
        " to 5.134 mm and ignores the tilt; dcm2niix separates them and writes grids whose axes are"
        " not perpendicular. hilum separates them and moves the slices straight (ADR 17)."
    ),
    "ct_not_a_volume": (
        "one slice taken four times, as a bolus arrives; SimpleITK stacks the images 1 mm apart,"
        " which no header says; dcm2niix keeps one place, as hilum does."
    ),
    "mr_mixed_orientation": (
        "two sagittal and two axial slices; SimpleITK stacks them 69 mm apart; dcm2niix agrees with"
        " hilum."
    ),
}
"""Why hilum's grid is not that of another reader, as headers show, by parts of rows' names."""


@dataclass(frozen=True)
class Item:
    """Files of one series that lie together."""

    name: str
    kind: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Verdict:
    """Result of a reader for a series: its grids, or words."""

    grids: tuple[Geometry, ...]
    words: str


def verdict_table() -> str:
    """Make the page: a summary, a row a series, and why grids differ."""
    rows, counts = [], defaultdict(int)
    for item in items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "series"
            folder.mkdir()
            for number, file in enumerate(item.files):
                shutil.copyfile(file, folder / f"{number:04}.dcm")
            ours, wrong = by_hilum(folder)
            others = (by_itk(folder), by_dcm2niix(folder))
        agree = [agreement(ours, other) for other in others]
        counts["series"] += 1
        counts["read"] += bool(ours.grids)
        counts["refused"] += not ours.grids
        counts["wrong"] += wrong
        counts["differ"] += "no" in agree
        if "no" in agree and not any(part in item.name for k in DIFFERENCES for part in k.split()):
            raise SystemExit(f"{item.name}: grids differ, and DIFFERENCES does not say why")
        cells = [item.name, f"{len(item.files)}", item.kind, ours.words]
        cells += [f"{other.words}; {word}" for other, word in zip(others, agree, strict=True)]
        rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return PAGE.format(
        **counts,
        rows="\n".join(rows),
        reasons="\n".join(
            f"- **{', '.join(names.split())}**: {why}" for names, why in DIFFERENCES.items()
        ),
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
    )


PAGE = """# Verdicts on odd DICOM files

Made by `scripts/bench dicom --table`; do not edit. Files: the public sets beside the checkout,
those inside pydicom, and the package `pydicom-data`. One row is one series; objects that are no
images (SEG, RTSTRUCT, SR, RTDOSE) are left out. {versions}.

{series} series: {read} read, {refused} refused with a reason. Of those read, a pixel of a frame
lies elsewhere than its own header says (ImagePositionPatient, ImageOrientationPatient,
PixelSpacing, read anew by pydicom; 0.05 voxels) in **{wrong}**. In {differ} another reader has
another grid; the reasons are below the table. "agrees" means that the eight corners of both grids
are the same to 0.05 voxels (of pictures without a place: shape and spacing).

| series | files | what it is | hilum | SimpleITK | dcm2niix |
|---|---|---|---|---|---|
{rows}

## Where grids differ

{reasons}
"""


def versions() -> dict[str, str]:
    """Return the versions of the readers."""
    found = subprocess.run(["dcm2niix", "--version"], capture_output=True, text=True, check=False)
    return {
        "hilum": provenance()["hilum"],
        "SimpleITK": SimpleITK.Version.VersionString(),
        "dcm2niix": found.stdout.split()[-1] if found.stdout else "unknown",
    }


def items() -> list[Item]:
    """Every series of images in the folders, by folder and SeriesInstanceUID."""
    folders = {"shared": DATA / "dicom", "torso_ct": DATA / "torso_ct" / "dicom"}
    folders["pydicom"] = Path(pydicom.__file__).parent / "data" / "test_files"
    store = importlib.util.find_spec("data_store")
    if store is not None and store.submodule_search_locations:
        folders["pydicom-data"] = Path(next(iter(store.submodule_search_locations)))
    found: dict[tuple[str, Path, str], list[Path]] = defaultdict(list)
    kinds: dict[tuple[str, Path, str], str] = {}
    for origin, root in folders.items():
        for file in sorted(root.rglob("*")):
            if not file.is_file() or not is_dicom_file(file):
                continue
            try:
                with keep_quiet():
                    image = read_image_file(file)
            except HilumError:
                image = None
            if image is None:
                continue
            lone = file.name if file.parent.name in {"test_files", "data"} else ""
            key = (origin, file.parent, lone or image.series)
            found[key].append(file)
            name = image.header.file_meta.TransferSyntaxUID.name.partition(",")[0]
            name = name.replace(" Image Compression", "")
            frames = f", {image.frames} frames" if image.frames > 1 else ""
            kinds[key] = f"{image.modality or 'no modality'}{frames}, {name}"
    return [
        Item(_name(key, files), kinds[key], tuple(files)) for key, files in sorted(found.items())
    ]


def _name(key: tuple[str, Path, str], files: list[Path]) -> str:
    origin, folder, lone = key
    inner = folder.name if folder.name not in {"test_files", "data"} else ""
    single = files[0].name if len(files) == 1 or lone == files[0].name else ""
    words = [origin, inner, single if not inner or len(files) == 1 else ""]
    return "/".join(word[:40] for word in words if word)


def by_hilum(folder: Path) -> tuple[Verdict, bool]:
    """Read every volume of a series; whether one lies elsewhere than its headers say."""
    try:
        keys = _keys(folder)
        volumes = [read_volume(_source(folder, key)) for key in keys]
    except HilumError as error:
        return Verdict((), f"refused: {_short(error.found, folder)}"), False
    wrong = any(_lies_elsewhere(_source(folder, key)) for key in keys)
    grids = tuple(volume.geometry for volume in volumes)
    words = _grids_in_words(grids)
    if len(keys) > 1:
        words = f"{len(keys)} volumes by key: {words}"
    elif volumes[0].channels == 3:
        words += ", 3 colours"
    stack = open_stack(folder) if len(keys) == 1 else None
    if stack is not None and stack.offsets is not None:
        words += ", tilt straightened"
    return Verdict(grids, words), wrong


def _keys(folder: Path) -> list[str]:
    """Keys of the volumes of a series; [""] of one."""
    with keep_quiet():
        images = [image for file in folder.iterdir() if (image := read_image_file(file))]
        frames = [frame for image in images for frame in frames_of(image) if frame.placed]
        groups = split(frames).groups if frames else ()
    return [group.key for group in groups] if len(groups) > 1 else [""]


def _source(folder: Path, key: str) -> Path:
    if not key:
        return folder
    uid = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).SeriesInstanceUID
    return Path(f"{folder}#series/{uid}/{key}")


def _lies_elsewhere(source: Path) -> bool:
    """Return True where a pixel lies elsewhere on the grid than its header says."""
    stack = open_stack(source)
    for number, frame in enumerate(stack.frames):
        if not frame.placed:
            return False
        position, along, steps = _stated(frame.path, frame.index)
        offset = np.zeros(2) if stack.offsets is None else stack.offsets[number]
        for row, column in ((0, 0), (frame.shape[0] - 1, frame.shape[1] - 1), (0, 5)):
            stated = position + row * steps[0] * along[1] + column * steps[1] * along[0]
            index = stack.geometry.world_to_index(stated)
            if np.abs(index - (number, row + offset[0], column + offset[1])).max() > _CLOSE:
                return True
    return False


def _stated(path: Path, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, directions and spacing of a frame as its header states, read by pydicom alone."""
    data = pydicom.dcmread(path, stop_before_pixels=True)
    if "PerFrameFunctionalGroupsSequence" in data:
        own = data.PerFrameFunctionalGroupsSequence[index]
        shared = data.SharedFunctionalGroupsSequence[0]

        def value(group: str, keyword: str) -> np.ndarray:
            holder = own if group in own else shared
            return np.array(holder[group][0][keyword].value, float)

        return (
            value("PlanePositionSequence", "ImagePositionPatient"),
            value("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3),
            value("PixelMeasuresSequence", "PixelSpacing"),
        )
    return (
        np.array(data.ImagePositionPatient, float),
        np.array(data.ImageOrientationPatient, float).reshape(2, 3),
        np.array(data.PixelSpacing, float),
    )


def by_itk(folder: Path) -> Verdict:
    """SimpleITK's series reader; a single file by its image reader."""
    try:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        image = SimpleITK.ReadImage(files if len(files) > 1 else str(next(folder.iterdir())))
    except RuntimeError as error:
        return Verdict((), f"refused: {_short(str(error).strip().splitlines()[-1], folder)}")
    if image.GetDimension() != 3:
        return Verdict((), f"{image.GetDimension()} dimensions")
    affine = np.eye(4)
    steps = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3], affine[:3, 3] = steps[:, ::-1], image.GetOrigin()
    return _verdict([(image.GetSize()[::-1], affine)])


def by_dcm2niix(folder: Path) -> Verdict:
    """Every NIfTI that dcm2niix writes."""
    out = folder.parent / "nifti"
    out.mkdir()
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "%s_%d", "-o", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    files = sorted(out.glob("*.nii"))
    if not files:
        said = [line for line in done.stdout.splitlines() if "Warning" in line or "Error" in line]
        return Verdict((), f"refused: {_short((said or ['no image written'])[-1], folder)}")
    grids, other = [], 0
    for file in files:
        try:
            grids.append(read_geometry(file))
        except HilumError:
            other += 1
    words = _grids_in_words(grids) + (
        f"; {counted(other, 'grid')} whose axes are not perpendicular" if other else ""
    )
    return Verdict(tuple(grids), words)


def _verdict(found: list[tuple[tuple[int, ...], np.ndarray]]) -> Verdict:
    try:
        grids = [Geometry((z, y, x), affine) for (z, y, x), affine in found]
    except HilumError as error:
        return Verdict((), f"no grid: {error.found[:60]}")
    return Verdict(tuple(grids), _grids_in_words(grids))


def agreement(ours: Verdict, other: Verdict) -> str:
    """Say how our grids agree with those of the other reader."""
    if not ours.grids or not other.grids:
        return "-"
    matched = all(any(_same(one, grid) for grid in other.grids) for one in ours.grids)
    return "agrees" if matched else "no"


def _same(one: Geometry, other: Geometry) -> bool:
    if one.is_2d and one.frame_of_reference is None and one.orientation == "SPL":  # a picture
        return one.shape == other.shape and np.allclose(
            one.spacing[1:], other.spacing[1:], rtol=1e-3
        )
    one, other = reorient_geometry(one), reorient_geometry(other)
    if one.is_2d and other.is_2d:  # the thickness of a single slice has no second opinion
        gap = one.index_to_world((0, 0, 0)) - other.index_to_world((0, 0, 0))
        return one.shape == other.shape and bool(np.linalg.norm(gap) < _CLOSE)
    return one.is_close(other, tolerance_voxels=_CLOSE)


def _grids_in_words(grids: list[Geometry] | tuple[Geometry, ...]) -> str:
    return "; ".join(
        " x ".join(map(str, grid.shape)) + " of " + " x ".join(f"{v:.4g}" for v in grid.spacing)
        for grid in list(grids)[:4]
    ) + (f" and {len(grids) - 4} more" if len(grids) > 4 else "")


def _short(text: str, folder: Path) -> str:
    plain = text.replace(f"{folder}/", "").replace(str(folder), "the folder").replace("\n", ";")
    return plain if len(plain) <= _TEXT else plain[:_TEXT] + "..."
