"""Images in space: geometry, volumes, label tables, and the operations that move voxels."""

from hilum.volume.crop import Box, crop, pad
from hilum.volume.geometry import CANONICAL, Geometry
from hilum.volume.labels import LARGEST_ID, MOST_LABELS, Label, LabelTable, Region
from hilum.volume.onto import resample_labels_onto, resample_onto
from hilum.volume.orient import reorient, reorient_geometry, snap
from hilum.volume.present import label_boxes, places_of
from hilum.volume.resample import (
    resample,
    resample_array,
    resample_labels,
    resample_labels_array,
)
from hilum.volume.volume import Volume

__all__ = [
    "CANONICAL",
    "LARGEST_ID",
    "MOST_LABELS",
    "Box",
    "Geometry",
    "Label",
    "LabelTable",
    "Region",
    "Volume",
    "crop",
    "label_boxes",
    "pad",
    "places_of",
    "reorient",
    "reorient_geometry",
    "resample",
    "resample_array",
    "resample_labels",
    "resample_labels_array",
    "resample_labels_onto",
    "resample_onto",
    "snap",
]
