"""Readers of DICOM Segmentations that hilum has no part in: what viewers show.

Each gives labels by place, {label: voxel centres (n, 3) in LPS mm}, or on the source's own frames.
"""

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import SegmentationStorage
from scipy.spatial import cKDTree

from programs import leave_out, require

REPOSITORY = Path(__file__).resolve().parents[2]
NODE_MODULES = REPOSITORY / ".venv" / "viewers" / "node_modules"
SCRIPT = Path(__file__).with_name("viewers") / "read_seg.mjs"
TOLERANCE_MM = 0.01
"""Readers compute places in single precision; voxels are 50 times as far apart."""


def places(labels, world):
    """Label -> places (n, 3) of its voxels."""
    flat, where = labels.reshape(-1), world.reshape(-1, 3)
    return {int(n): where[flat == n] for n in np.unique(flat) if n}


def assert_same_places(found, expected):
    """The same voxels of the same labels, wherever the grid of the reader begins."""
    assert found.keys() == expected.keys()
    for label, where in expected.items():
        assert len(found[label]) == len(where), label
        assert cKDTree(where).query(found[label])[0].max() <= TOLERANCE_MM, label


def by_highdicom(path, source):
    """Labels on the source's frames (N, rows, columns), by the frames that the SEG refers to."""
    seg = hd.seg.segread(path)
    uids = [uid for uid, _ in source.frames]
    if len(set(uids)) == len(uids):
        return seg.get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
    return seg.get_pixels_by_source_frame(
        uids[0],
        [frame for _, frame in source.frames],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )


def by_highdicom_volume(path):
    """Labels by place, from the SEG's own geometry alone."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    indices = np.moveaxis(np.indices(volume.spatial_shape), 0, -1)
    world = indices @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return places(volume.array, world)


@dataclass(frozen=True)
class DcmqiSegments:
    """Output of dcmqi: labels by place, and its description of each segment."""

    places: dict[int, np.ndarray]
    segments: dict[int, dict]


def by_dcmqi(path, out):
    """Read by segimage2itkimage, the reader of 3D Slicer."""
    program = require_python_program("segimage2itkimage")
    out.mkdir(parents=True)
    done = subprocess.run(
        [program, "--inputDICOM", path, "--outputDirectory", out, "-t", "nrrd", "--mergeSegments"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    meta = json.loads(next(out.glob("*meta.json")).read_text())
    segments = {one["labelID"]: one for group in meta["segmentAttributes"] for one in group}
    found = {}
    for file in sorted(out.glob("*.nrrd")):
        image = sitk.ReadImage(str(file))
        labels = sitk.GetArrayFromImage(image)
        affine = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        indices = np.moveaxis(np.indices(labels.shape), 0, -1)[..., ::-1]  # x, y, z
        world = indices @ affine.T + image.GetOrigin()
        for label, held in places(labels, world).items():
            found[label] = np.concatenate([found.get(label, np.empty((0, 3))), held])
    return DcmqiSegments(found, segments)


def require_python_program(name):
    """A program that a Python package brought into the environment."""
    place = Path(sys.executable).with_name(name)
    assert place.is_file(), f"{name}: scripts/setup installs it"
    return str(place)


@dataclass(frozen=True)
class OhifLabels:
    """Output of OHIF's reader: labels on the source's frames, their names, its complaints."""

    labels: np.ndarray
    names: dict[int, str]
    warnings: list[str]


def by_cornerstone(path, source):
    """Read by @cornerstonejs/adapters in node, as OHIF does."""
    node = require("node")
    if not (NODE_MODULES / "@cornerstonejs" / "adapters").is_dir():
        leave_out("@cornerstonejs/adapters is missing; scripts/viewers installs it")
    done = subprocess.run(
        [node, SCRIPT, NODE_MODULES, path, *source.files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    shape = source.world.shape[1:3]
    (layer,) = read["layers"]  # several would mean that segments overlap
    by_frame = {
        (uid, frame): np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)
        for (uid, frame), text in zip(map(tuple, read["images"]), layer, strict=True)
    }
    labels = np.stack([by_frame[frame] for frame in source.frames])
    names = {int(number): name for number, name in read["segments"].items()}
    return OhifLabels(labels, names, read["warnings"])


def dciodvfy(path):
    """Errors that dciodvfy finds.

    Debian's of 2022 does not know DICOM Label Map Segmentation (Supplement 243 of 2024): a label
    map is checked as the fractional Segmentation that it nearly is; what differs is put in here.
    """
    data = pydicom.dcmread(path)
    if data.SegmentationType == "LABELMAP":
        identification = pydicom.Dataset()
        identification.ReferencedSegmentNumber = data.SegmentSequence[0].SegmentNumber
        shared = data.SharedFunctionalGroupsSequence[0]
        shared.SegmentIdentificationSequence = [identification]
        data.SegmentationType, data.SegmentationFractionalType = "FRACTIONAL", "OCCUPANCY"
        data.MaximumFractionalValue = 255
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SegmentationStorage
        path = path.with_suffix(".fractional.dcm")
        data.save_as(path)
    done = subprocess.run(
        [require("dciodvfy"), "-new", path], capture_output=True, text=True, check=False
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def refuse_what_ohif_does(path, source):
    """OHIF's conditions on a SEG (its getSopClassHandlerModule and adapters), on the tags alone."""
    seg = pydicom.dcmread(path)
    (series,) = seg.ReferencedSeriesSequence
    first = pydicom.dcmread(source.files[0], stop_before_pixels=True)
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert seg.StudyInstanceUID == first.StudyInstanceUID
    assert seg.FrameOfReferenceUID == first.get("FrameOfReferenceUID", seg.FrameOfReferenceUID)
    assert (seg.Rows, seg.Columns) == source.world.shape[1:3]
    assert not seg.file_meta.TransferSyntaxUID.is_compressed
    referenced = {str(i.ReferencedSOPInstanceUID) for i in series.ReferencedInstanceSequence}
    assert referenced == {uid for uid, _ in source.frames}
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
    for group in seg.PerFrameFunctionalGroupsSequence:
        (derivation,) = group.DerivationImageSequence
        (image,) = derivation.SourceImageSequence
        frame = str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber", 1))
        world = source.world[source.frames.index(frame)]
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(position, world[0, 0], atol=1e-3)
        np.testing.assert_allclose(
            orientation[:3] * spacing[1], world[0, 1] - world[0, 0], atol=1e-3
        )
        np.testing.assert_allclose(
            orientation[3:] * spacing[0], world[1, 0] - world[0, 0], atol=1e-3
        )
