"""Synthetic, anatomically plausible data from a seed, for demo, documentation and tests."""

from hilum.examples.abdomen import ABDOMEN_LABELS as ABDOMEN_LABELS
from hilum.examples.abdomen import SyntheticCase as SyntheticCase
from hilum.examples.abdomen import make_abdomen_ct as make_abdomen_ct
from hilum.examples.chest import NODULE_LABELS as NODULE_LABELS
from hilum.examples.chest import make_nodule_ct as make_nodule_ct
from hilum.examples.datasets import make_abdomen_dataset as make_abdomen_dataset
from hilum.examples.datasets import make_nodule_dataset as make_nodule_dataset
from hilum.examples.dicom import SeriesTags as SeriesTags
from hilum.examples.dicom import write_dicom_series as write_dicom_series
