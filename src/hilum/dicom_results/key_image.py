"""Key images: pictures of a prediction as DICOM secondary captures, one series for all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet
from hilum.dicom_results.producer import NOT_A_DEVICE, finish
from hilum.dicom_results.repair import reference_to
from hilum.dicom_results.uids import ObjectUids, derive_uid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from highdicom.sc import SCImage
    from numpy.typing import NDArray

    from hilum.dicom_results.producer import Producer
    from hilum.dicom_results.repair import Plane, SourceImages

SERIES_NUMBER = 9400
"""SeriesNumber of key images."""


@dataclass(frozen=True, eq=False)
class KeyImage:
    """A picture of a source frame with its result drawn in.

    Args:
        pixels: (Y, X, 3) sRGB.
        frame: number of the source frame that it shows, from 0.
        title: in a few words.
    """

    pixels: NDArray[np.uint8]
    frame: int
    title: str


def make_key_images(
    source: SourceImages, producer: Producer, pictures: Sequence[KeyImage]
) -> Iterator[SCImage]:
    """Make a secondary capture of each picture, all in one series of the source's study.

    Args:
        source: the images that were predicted.
        producer: the model.
        pictures: at least one.
    """
    digest = hashlib.sha256(producer.version.encode())
    for picture in pictures:
        digest.update(f"{picture.frame} {picture.title} {picture.pixels.shape}".encode())
        digest.update(picture.pixels.tobytes())
    uids = ObjectUids.of(
        "SC",
        frames=[plane.key for plane in source.planes],
        model=producer.model,
        content=digest.hexdigest(),
    )
    for number, picture in enumerate(pictures, start=1):
        yield _capture(source, producer, picture, uids, number)


@keep_quiet()  # highdicom's remarks on names
def _capture(
    source: SourceImages, producer: Producer, picture: KeyImage, uids: ObjectUids, number: int
) -> SCImage:
    """Make the secondary capture of one picture."""
    from highdicom.sc import SCImage
    from pydicom.uid import ExplicitVRLittleEndian

    plane = source.planes[picture.frame]
    header = plane.header
    data = SCImage(
        picture.pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.study,
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("key image", uids.instance, str(number)),
        instance_number=number,
        patient_orientation=("L", "P"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="hilum: key images. Not a medical device",
        **producer.fields,
    )
    data.copy_patient_and_study_information(header)
    data.PatientOrientation = _orientation(plane)
    data.Laterality = header.get("Laterality") or ""
    data.ImageComments = f"{picture.title}. hilum model {producer.model}. {NOT_A_DEVICE}"
    if header.get("BurnedInAnnotation") in {"YES", "NO"}:  # the caption does not name the patient
        data.BurnedInAnnotation = header.BurnedInAnnotation
    data.SourceImageSequence = [reference_to(header, plane.number)]
    finish(data, source)
    return data


def _orientation(plane: Plane) -> list[str]:
    """Return the directions in which columns and rows rise; empty where they are not known."""
    if not plane.has_position:
        return []
    cosines = [float(value) for value in plane.geometry.ImageOrientationPatient]
    return [_direction(cosines[:3]), _direction(cosines[3:])]


def _direction(cosines: Sequence[float]) -> str:
    """Name the direction in the patient that is nearest (PS3.3 C.7.6.1.1.1)."""
    axis = max(range(3), key=lambda n: abs(cosines[n]))
    return ("LPH" if cosines[axis] > 0 else "RAF")[axis]
