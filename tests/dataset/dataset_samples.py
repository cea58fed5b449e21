"""Small data sets on oblique, anisotropic, off-origin grids with asymmetric labels."""

import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from hilum.io import write_labels, write_volume
from hilum.volume import Geometry, Volume

SHAPE = (4, 7, 9)


def oblique(
    shape=SHAPE, spacing=(3.0, 0.8, 1.3), origin=(-21.0, 33.5, 7.25), angle=0.2
) -> Geometry:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return Geometry.from_spacing(
        shape, spacing, origin=origin, directions=turn @ np.eye(3)[:, ::-1]
    )


def image(seed, geometry=None, channels=1, dtype=np.int16) -> Volume:
    geometry = geometry or oblique()
    values = np.random.default_rng(seed).integers(0, 200, (channels, *geometry.shape))
    return Volume(values.astype(dtype), geometry)


def labels(geometry=None, values=(1, 2), dtype=np.uint8) -> Volume:
    geometry = geometry or oblique()
    array = np.zeros((1, *geometry.shape), dtype)
    z, y, x = geometry.shape
    array[0, : max(1, z // 2), 1 : y - 3, 2 : x - 1] = values[0]
    if len(values) > 1:
        array[0, :1, 1:3, 2:4] = values[1]
    return Volume(array, geometry)


def facts(root: Path, *, channels=("CT",), names=None, **more) -> None:
    document = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": names or {"background": 0, "liver": 1, "tumour": 2},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(document | more))


def nnunet(root: Path, ids=("a", "b", "c", "d", "e", "f"), *, channels=("CT",), **more) -> Path:
    """An nnU-Net raw folder without fault."""
    for seed, case in enumerate(ids):
        for number in range(len(channels)):
            write_volume(
                image(10 * seed + number), root / "imagesTr" / f"{case}_{number:04d}.nii.gz"
            )
        write_labels(labels(), root / "labelsTr" / f"{case}.nii.gz")
    facts(root, channels=channels, **more)
    return root


def decathlon(root: Path, ids=("a_001", "b_002", "c_003"), *, channels=("MRI",)) -> Path:
    for seed, case in enumerate(ids):
        write_volume(image(seed, channels=len(channels)), root / "imagesTr" / f"{case}.nii.gz")
        write_labels(labels(), root / "labelsTr" / f"{case}.nii.gz")
    document = {
        "modality": {str(n): c for n, c in enumerate(channels)},
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
    }
    (root / "dataset.json").write_text(json.dumps(document))
    return root


def picture(seed, shape=(12, 17), channels=1) -> Volume:
    return image(seed, Geometry.from_spacing((1, *shape)), channels, np.uint8)


def picture_mask(shape=(12, 17), value=1) -> Volume:
    return labels(Geometry.from_spacing((1, *shape)), (value,))


def pictures(root: Path, ids=("p1", "p2", "p3"), *, channels=1, value=1, masks="masks") -> Path:
    for seed, case in enumerate(ids):
        write_volume(picture(seed, channels=channels), root / "images" / f"{case}.png")
        write_labels(picture_mask(value=value), root / masks / f"{case}.png")
    return root


def tissue(seed, shape=(96, 112), coarse=6.0) -> np.ndarray:
    """A picture (Y, X) of random structures of several sizes, 0 to 255: no two seeds are alike."""
    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.normal(size=shape), coarse / scale) for scale in (1, 2, 4)]
    field = sum(field / field.std() for field in fields)
    return np.interp(field, (field.min(), field.max()), (0, 255)).astype(np.uint8)


def block(seed, shape=(20, 36, 40)) -> np.ndarray:
    """The same as a volume (Z, Y, X), -1000 to 400."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 2.5) + 0.1 * gaussian_filter(
        rng.normal(size=shape), 1.0
    )
    return np.interp(field, (field.min(), field.max()), (-1000, 400)).astype(np.int16)


def as_picture(array) -> Volume:
    """A picture of (Y, X) or (C, Y, X) values."""
    stacked = array[None, None] if array.ndim == 2 else array[:, None]
    return Volume(np.ascontiguousarray(stacked), Geometry.from_spacing(stacked.shape[1:]))


def kinds(findings) -> list[tuple[str, str]]:
    return [
        (finding.case, finding.kind)
        for finding in findings
        if finding.kind not in {"assumption", "header"}
    ]
