"""Random folder trees for tests: a data set as people have it, with random faults in it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from hilum.examples.dicom import SeriesTags, write_dicom_series
from hilum.volume import Geometry, Volume

SHAPE = (3, 8, 6)  # (Z, Y, X)
CASES = ("anna", "bert", "cleo", "dora")


def _nifti(array: np.ndarray) -> bytes:
    image = nib.Nifti1Image(
        array.T, np.array([[-1.1, 0, 0, 4], [0, 1.2, 0, -7], [0, 0, 2.5, 9], [0, 0, 0, 1.0]])
    )
    return image.to_bytes()


@lru_cache
def payloads() -> dict[str, bytes]:
    """Contents of files by kind, made once."""
    import gzip

    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:5, 1:4] = 1
    image = (rng.normal(0, 20, SHAPE) + 100 * labels).astype(np.int16)
    picture, mask = io.BytesIO(), io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 6), dtype=np.uint8)).save(picture, "PNG")
    Image.fromarray(labels[1]).save(mask, "PNG")
    made = {
        "image": gzip.compress(_nifti(image)),
        "labels": gzip.compress(_nifti(labels)),
        "picture": picture.getvalue(),
        "mask": mask.getvalue(),
    }
    with TemporaryDirectory() as folder:
        geometry = Geometry(
            SHAPE, np.array([[0, 0, 1.1, 4], [0, 1.2, 0, -7], [2.5, 0, 0, 9], [0, 0, 0, 1.0]])
        )
        files = write_dicom_series(Volume(image[None], geometry), Path(folder))
        made |= {f"slice {n}": file.read_bytes() for n, file in enumerate(sorted(files))}
        sharp = SeriesTags(series_number=3, attributes={"ConvolutionKernel": "B70f"})
        scout = SeriesTags(
            series_number=1, attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
        )
        for name, tags in (("sharp", sharp), ("scout", scout)):
            files = write_dicom_series(
                Volume(image[None], geometry), Path(folder) / name, tags=tags
            )
            made |= {f"{name} {n}": file.read_bytes() for n, file in enumerate(sorted(files))}
    return made


Files = dict[str, bytes]
"""Path below the tree's root to the file's bytes."""


def _nnunet() -> Files:
    p = payloads()
    facts = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1},
        "file_ending": ".nii.gz",
        "numTraining": 4,
    }
    files = {f"imagesTr/{case}_0000.nii.gz": p["image"] for case in CASES}
    files |= {f"labelsTr/{case}.nii.gz": p["labels"] for case in CASES}
    return files | {
        "dataset.json": json.dumps(facts).encode(),
        "imagesTs/emil_0000.nii.gz": p["image"],
    }


def _paired() -> Files:
    p = payloads()
    files = {f"images/{case}.nii.gz": p["image"] for case in CASES}
    return files | {f"masks/{case}.nii.gz": p["labels"] for case in CASES}


def _pictures() -> Files:
    p = payloads()
    files = {f"images/{case}.png": p["picture"] for case in CASES}
    return files | {f"masks/{case}.png": p["mask"] for case in CASES}


def _table() -> Files:
    p = payloads()
    rows = "".join(f"{case},P{n},{case}.nii.gz,{case}_seg.nii.gz\n" for n, case in enumerate(CASES))
    files = {f"{case}.nii.gz": p["image"] for case in CASES} | {
        f"{case}_seg.nii.gz": p["labels"] for case in CASES
    }
    return files | {"cases.csv": ("case,patient,image,mask\n" + rows).encode()}


def _plain() -> Files:
    return {f"{case}.nii.gz": payloads()["image"] for case in CASES}


def _brats() -> Files:
    p = payloads()
    files = {
        f"BraTS_{n:03}/BraTS_{n:03}_{word}.nii.gz": p["image"]
        for n in range(4)
        for word in ("t1", "flair")
    }
    return files | {f"BraTS_{n:03}/BraTS_{n:03}_seg.nii.gz": p["labels"] for n in range(4)}


def _total() -> Files:
    p = payloads()
    files = {f"s{n:04}/ct.nii.gz": p["image"] for n in range(4)}
    return files | {
        f"s{n:04}/segmentations/{word}.nii.gz": p["labels"]
        for n in range(4)
        for word in ("liver", "spleen")
    }


def _bids() -> Files:
    p = payloads()
    files = {f"sub-{n:02}/anat/sub-{n:02}_T1w.nii.gz": p["image"] for n in range(4)}
    files |= {
        f"derivatives/manual/sub-{n:02}/anat/sub-{n:02}_dseg.nii.gz": p["labels"] for n in range(4)
    }
    return files | {"dataset_description.json": b'{"Name": "toy", "BIDSVersion": "1.8.0"}'}


def _classes() -> Files:
    p = payloads()
    return {
        f"{name}/{case}{n}.png": p["picture"]
        for name in ("ill", "well")
        for case in CASES
        for n in range(2)
    }


def _dicom() -> Files:
    p = payloads()
    return {
        f"P{n}/ST1/SE1/IM{k:04}": p[f"slice {k}"] for n in range(1) for k in range(SHAPE[0])
    } | {f"series/{k}.dcm": p[f"slice {k}"] for k in range(SHAPE[0])}


def _study() -> Files:
    """A study of several series, each in its folder, and one of two series in one folder."""
    p = payloads()
    return {
        f"{place.format(name)}/{name}{k}.dcm": p[f"{name} {k}"]
        for place in ("study/{}", "flat")
        for name in ("slice", "sharp", "scout")
        for k in range(SHAPE[0])
    }


LAYOUTS = (
    _nnunet,
    _paired,
    _pictures,
    _table,
    _plain,
    _brats,
    _total,
    _bids,
    _classes,
    _dicom,
    _study,
)
_NAMES = (
    ".DS_Store", "notes.txt", "preview.jpg", "README", "x.nii.gz", "x_0000.nii.gz",
    "labels.json", "cases.csv", "1.2.840.113", "a b.nii", "Scan.NII.GZ", "run.json",
    "predictions.csv", "anna.json", "anna.nrrd", "anna.nii.gz", "sub/deep/er.nii.gz",
    "summary.json", "plan.json", "seg.nii.gz", ".hidden/x.nii.gz", "ünï.nii.gz",
    "pictures/anna.png", "x.dcm", "model.json", "weights.safetensors", "training/plan.json",
    "b\udce9d.nii.gz", "patients.csv", "dataset.json", "case.hdr",
)  # fmt: skip
_CONTENTS = (
    "image",
    "labels",
    "picture",
    "slice 0",
    "empty",
    "text",
    "json",
    "csv",
    "lfs",
    "cut",
    "bytes",
    "dicm",
)
_CHANGES = ("add", "remove", "replace", "move", "upper", "dangling", "link", "copy")


@dataclass(frozen=True)
class Fault:
    """One change of a tree.

    `where` and `other` choose files by their position in the sorted list.
    """

    change: str
    where: int
    other: int
    name: str
    content: str


def faults() -> st.SearchStrategy[tuple[Fault, ...]]:
    """Up to six random changes."""
    one = st.builds(
        Fault,
        st.sampled_from(_CHANGES),
        st.integers(0, 40),
        st.integers(0, 40),
        st.sampled_from(_NAMES),
        st.sampled_from(_CONTENTS),
    )
    return st.lists(one, max_size=6).map(tuple)


def _content(kind: str) -> bytes:
    other = {
        "empty": b"",
        "text": b"hello",
        "json": b'{"labels": {"0": "background"}}',
        "csv": b"case,patient,image\nq,1,nowhere.nii.gz\n",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "bytes": bytes(range(256)),
        "dicm": b"\0" * 128 + b"DICM",
    }
    if kind == "cut":
        return payloads()["image"][:-40]
    return other[kind] if kind in other else payloads()[kind]


def build(root: Path, layout: int, changes: tuple[Fault, ...]) -> None:
    """Write the tree of a layout with the changes in it."""
    for name, data in LAYOUTS[layout % len(LAYOUTS)]().items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for fault in changes:
        _apply(root, fault)


def _apply(root: Path, fault: Fault) -> None:
    files = all_files(root)
    target = root / fault.name
    if fault.change == "add" or not files:
        if not os.path.lexists(target) and not any(parent.is_file() for parent in target.parents):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_content(fault.content))
        return
    chosen = root / files[fault.where % len(files)]
    other = root / files[fault.other % len(files)]
    if fault.change == "remove":
        chosen.unlink()
    elif fault.change == "replace":
        chosen.unlink()
        chosen.write_bytes(_content(fault.content))
    elif fault.change == "dangling":
        chosen.unlink()
        chosen.symlink_to(Path(".git/annex/objects/xx/yy") / chosen.name)
    else:
        new = {
            "move": chosen.parent / "more" / chosen.name,
            "upper": chosen.with_name(chosen.name.upper()),
            "link": chosen.with_name("link_" + chosen.name),
            "copy": chosen.with_name("copy_" + chosen.name),
        }[fault.change]
        if new.exists() or new.is_symlink():
            return
        new.parent.mkdir(parents=True, exist_ok=True)
        if fault.change in {"move", "upper"}:
            chosen.rename(new)
        elif fault.change == "link":
            new.symlink_to(other)
        elif chosen.exists():
            new.write_bytes(chosen.read_bytes())


def all_files(root: Path) -> list[str]:
    """Every file and link below a folder, as its path from there."""
    found = []
    for folder, _, names in root.walk() if hasattr(root, "walk") else _walk(root):
        found += [str((Path(folder) / name).relative_to(root)) for name in names]
    return sorted(found)


def _walk(root: Path):  # Path.walk is new in Python 3.12
    import os

    return os.walk(root)


def snapshot(root: Path) -> dict[str, bytes | str]:
    """Bytes of every file below a folder; of a dangling link its target."""
    return {
        name: (
            (root / name).read_bytes() if (root / name).exists() else str((root / name).readlink())
        )
        for name in all_files(root)
    }
