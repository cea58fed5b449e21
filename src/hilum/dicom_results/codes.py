"""Coded concepts of hilum, where DICOM has none of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

PRIVATE_SCHEME = "99HILUM"
"""Coding scheme of concepts that no standard has; a name that begins with 99 is private."""
_PRIVATE = {
    "probability": "Probability",
    "calibrated": "Calibrated probability",
    "coverage": "Coverage of prediction sets",
    "prediction_set": "In the prediction set",
    "predicted": "Predicted",
    "components": "Number of connected components",
    "connectivity": "26-connected components",
    "pixels": "Sum of segmented pixels",
    "distance": "Out-of-distribution score",
    "unlike_check": "Out-of-distribution check",
    "unlike": "Unlike the training images: not to be used",
    "like": "Like the training images",
    "output": "Output of the network",
    "calibration": "Calibrated on held-out cases",
    "conformal": "Conformal prediction",
    "features": "Distance in the features of the network",
}


def private_code(name: str) -> CodedConcept:
    """Return a concept of hilum's own by its name."""
    return coded(name, PRIVATE_SCHEME, _PRIVATE[name])


def coded(value: str, scheme: str, meaning: str) -> CodedConcept:
    """Make a coded concept; a meaning that is longer than DICOM's 64 characters is cut."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning[:64])


def code_of_name(name: str) -> tuple[str, str, str]:
    """Make (value, scheme, meaning) for a label or class that has no code but its name.

    A code value has 16 characters at most: the beginning of a hash of the name.
    """
    return hashlib.sha256(name.encode()).hexdigest()[:16], PRIVATE_SCHEME, name


def private_scheme() -> CodingSchemeIdentificationItem:
    """Describe the private coding scheme, as each object that uses it has to."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME,
        name="Concepts of hilum",
        responsible_organization="The hilum developers",
    )
