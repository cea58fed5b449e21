"""The layouts that people have, one file each, and the one dictionary of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hilum.dataset.layouts import (
    bids,
    class_folders,
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
    from hilum.dataset.layouts.listing import Orphan


class Reader(Protocol):
    """Opens a data set of one layout."""

    def __call__(self, path: Path, *, values: bool = True) -> Dataset:
        """Open it.

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
        orphans: images without annotation and annotations without image.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    read: Reader
    orphans: Callable[[Path], tuple[Orphan, ...]]


LAYOUTS: dict[str, Layout] = {
    "medmnist": Layout(
        "a MedMNIST file SET.npz", medmnist.recognises, medmnist.read, medmnist.orphans
    ),
    "nnunet": Layout(
        "imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json",
        nnunet.recognises_nnunet,
        nnunet.read_nnunet,
        nnunet.orphans,
    ),
    "decathlon": Layout(
        "imagesTr/CASE.nii.gz, labelsTr/CASE.nii.gz, dataset.json",
        nnunet.recognises_decathlon,
        nnunet.read_decathlon,
        nnunet.orphans,
    ),
    "table": Layout(
        "a CSV table with the columns case, patient, image, mask, label",
        table.recognises,
        table.read,
        table.orphans,
    ),
    "bids": Layout(
        "a BIDS data set: sub-01/anat/sub-01_T1w.nii.gz,"
        " derivatives/NAME/sub-01/anat/sub-01_dseg.nii.gz",
        bids.recognises,
        bids.read,
        bids.orphans,
    ),
    "paired-folders": Layout(
        "images/CASE.png, masks/CASE.png",
        paired_folders.recognises,
        paired_folders.read,
        paired_folders.orphans,
    ),
    "patient-masks": Layout(
        "PATIENT/ct.nii.gz, PATIENT/segmentations/LABEL.nii.gz",
        patient_masks.recognises,
        patient_masks.read,
        patient_masks.orphans,
    ),
    "patient-folders": Layout(
        "PATIENT/PATIENT_t1.nii.gz, PATIENT/PATIENT_seg.nii.gz",
        patient_folders.recognises,
        patient_folders.read,
        patient_folders.orphans,
    ),
    "class-folders": Layout(
        "CLASS/CASE.png", class_folders.recognises, class_folders.read, class_folders.orphans
    ),
}
"""Every layout, in the order in which a path is tried."""
