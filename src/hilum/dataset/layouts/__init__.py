"""The layouts that people have, one file each, and the one dictionary of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from hilum.dataset.layouts import (
    bids,
    class_folders,
    dicom_studies,
    medmnist,
    nnunet,
    paired_folders,
    patient_folders,
    patient_masks,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hilum.dataset.case import Dataset


class Reader(Protocol):
    """Opens a data set of one layout."""

    def __call__(self, path: Path, *, values: bool = True) -> Dataset:
        """Open a data set of this layout.

        Args:
            path: the data set.
            values: whether annotations may be read where only their values can say what the labels
                are; False for a classification, whose `labels` are None.
        """
        ...


@dataclass(frozen=True)
class Layout:
    """One way in which a data set lies on disk.

    Args:
        looks_like: what a user would see, for messages.
        recognises: whether a path has this layout; cheap, reads no image.
        read: opens it; reads no image but where only the values can say what the labels are.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    read: Reader


_RAW = "imagesTr/{}.nii.gz, labelsTr/CASE.nii.gz, dataset.json"
_BIDS = (
    "a BIDS data set: sub-01/anat/sub-01_T1w.nii.gz,"
    " derivatives/NAME/sub-01/anat/sub-01_dseg.nii.gz"
)
_TABLE = "a CSV table with the columns case, patient, image, mask, label"
_MASKS = "PATIENT/ct.nii.gz, PATIENT/segmentations/LABEL.nii.gz"
_PATIENTS = "PATIENT/PATIENT_t1.nii.gz, PATIENT/PATIENT_seg.nii.gz"
_STUDIES = (
    "DICOM studies: STUDY/ct/*.dcm, STUDY/seg.dcm (SEG or RTSTRUCT that refers to the images)"
)
_PAIRS = "images/CASE.png, masks/CASE.png"

LAYOUTS: dict[str, Layout] = {
    "medmnist": Layout("a MedMNIST file SET.npz", medmnist.recognises, medmnist.read),
    "nnunet": Layout(
        _RAW.format("CASE_0000"), nnunet.recognises_nnunet, partial(nnunet.read, layout="nnunet")
    ),
    "decathlon": Layout(
        _RAW.format("CASE"), nnunet.recognises_decathlon, partial(nnunet.read, layout="decathlon")
    ),
    "table": Layout(_TABLE, table.recognises, table.read),
    "bids": Layout(_BIDS, bids.recognises, bids.read),
    "paired-folders": Layout(_PAIRS, paired_folders.recognises, paired_folders.read),
    "patient-masks": Layout(_MASKS, patient_masks.recognises, patient_masks.read),
    "patient-folders": Layout(_PATIENTS, patient_folders.recognises, patient_folders.read),
    "dicom-studies": Layout(_STUDIES, dicom_studies.recognises, dicom_studies.read),
    "class-folders": Layout("CLASS/CASE.png", class_folders.recognises, class_folders.read),
}
"""Every layout, in the order in which a path is tried."""
