"""Frames of DICOM series without files, for tests of what is decided from headers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from hilum.dicom.frames import Acquisition, Frame, ImageFile

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def frame(
    depth, instance_number=None, *, plane=AXIAL, path=None, image=None, modality="MR", **facts
):
    """One frame at a depth along its normal; `facts` are fields of Frame or of Acquisition."""
    orientation = np.array(plane)
    own_number = round(depth) if instance_number is None else instance_number
    file = ImageFile(
        path=path or Path(f"{own_number:04}.dcm"),
        header=Dataset(),
        sop_class=facts.pop("sop_class", "1.2.840.10008.5.1.4.1.1.4"),
        instance=image or f"1.2.3.{own_number}",
        study="1.2",
        series="1.2.3",
        series_number="4",
        description="",
        modality=modality,
        bits=12,
        signed=False,
    )
    own = {name: facts.pop(name) for name in [*facts] if name in Frame.__dataclass_fields__}
    acquisition = {
        "number": "1",
        "image_type": ("ORIGINAL", "PRIMARY"),
        "instance_number": own_number,
        "temporal_position": None,
        "trigger_time": None,
        "echo_number": None,
        "echo_time": None,
        "b_value": None,
        "kernel": "",
        "contrast": "",
        "acquisition_time": "",
        "content_time": "",
    }
    return Frame(
        **{
            "file": file,
            "index": 0,
            "shape": (8, 6),
            "position": depth * np.cross(*orientation) + np.array([3.0, -7.0, 11.0]),
            "orientation": orientation,
            "pixel_spacing": (1.2, 1.1),
            "thickness": 4.0,
            "frame_of_reference": "1.2.9",
            "slope": None,
            "intercept": None,
            "acquisition": Acquisition(**acquisition | facts),
        }
        | own
    )
