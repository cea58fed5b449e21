"""The maker of a DICOM object that hilum writes, and the time it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from hilum.dicom.header import keep_quiet
from hilum.files.atomic import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from highdicom import sr
    from pydicom.dataset import Dataset

    from hilum.dicom_results.repair import SourceImages

MANUFACTURER = "hilum"
UTF_8 = "ISO_IR 192"
"""SpecificCharacterSet of all objects, and of the headers of their sources."""
NOT_A_DEVICE = "Not a medical device: for research only"
"""Text on every page and picture."""


class CommonFields(TypedDict):
    """Arguments of highdicom that all objects of one model have alike."""

    manufacturer: str
    manufacturer_model_name: str
    device_serial_number: str
    software_versions: str
    specific_character_set: str


@dataclass(frozen=True)
class Producer:
    """The model that an object's statements come from.

    Args:
        model: its id.
        version: of hilum.
    """

    model: str
    version: str

    @property
    def fields(self) -> CommonFields:
        """The equipment that made an object, and the coding of its texts."""
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MANUFACTURER,
            "device_serial_number": self.model,
            "software_versions": self.version,
            "specific_character_set": UTF_8,
        }

    @property
    def algorithm(self) -> sr.AlgorithmIdentification:
        """The identification of the model in a structured report (TID 4019)."""
        from highdicom import sr

        return sr.AlgorithmIdentification(name=f"hilum model {self.model}", version=self.version)


def finish(data: Dataset, source: SourceImages) -> None:
    """Give an object the date of its source, so that making it again gives the same bytes."""
    date, time = source.moment
    data.InstanceCreationDate, data.InstanceCreationTime = date, time
    data.SeriesDate, data.SeriesTime = date, time
    for keyword, value in (
        ("ContentDate", date),
        ("ContentTime", time),
        ("DateOfSecondaryCapture", date),
        ("TimeOfSecondaryCapture", time),
    ):
        if keyword in data:
            setattr(data, keyword, value)
    for equipment in data.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = date + time


def save(data: Dataset, path: Path) -> Path:
    """Write a DICOM file, completely or not at all."""
    with atomic_path(path) as temporary, keep_quiet():
        data.save_as(temporary, enforce_file_format=True)
    return path
