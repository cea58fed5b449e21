"""Synthetic, anatomically plausible data from a seed, for demo, documentation and tests."""

from hilum.examples.abdomen import ABDOMEN_LABELS, SyntheticCase, make_abdomen_ct
from hilum.examples.chest import NODULE_LABELS, make_nodule_ct
from hilum.examples.datasets import make_abdomen_dataset, make_nodule_dataset
from hilum.examples.dicom import SeriesTags, write_dicom_series

__all__ = [
    "ABDOMEN_LABELS",
    "NODULE_LABELS",
    "SeriesTags",
    "SyntheticCase",
    "make_abdomen_ct",
    "make_abdomen_dataset",
    "make_nodule_ct",
    "make_nodule_dataset",
    "write_dicom_series",
]
