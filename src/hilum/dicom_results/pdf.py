"""A page about a case as a DICOM Encapsulated PDF."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hilum.dicom.header import keep_quiet
from hilum.dicom_results.producer import finish
from hilum.dicom_results.repair import reference_to
from hilum.dicom_results.uids import ObjectUids

if TYPE_CHECKING:
    from highdicom.base import SOPClass
    from pydicom.dataset import Dataset

    from hilum.dicom_results.producer import Producer
    from hilum.dicom_results.repair import SourceImages

SERIES_NUMBER = 9500
"""SeriesNumber of pages."""
_TITLE = ("126000", "DCM", "Imaging Measurement Report")


@keep_quiet()  # highdicom's remarks on names
def make_encapsulated_pdf(
    source: SourceImages, producer: Producer, document: bytes, *, title: str
) -> SOPClass:
    """Put a PDF into a DICOM object of the source's study.

    Args:
        source: the images that the page is about.
        producer: the model.
        document: the PDF.
        title: of the page.
    """
    from highdicom.base import SOPClass
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

    header = source.headers[0]
    digest = hashlib.sha256(producer.version.encode() + title.encode() + document)
    uids = ObjectUids.of(
        "PDF",
        frames=[plane.key for plane in source.planes],
        model=producer.model,
        content=digest.hexdigest(),
    )
    data = SOPClass(
        study_instance_uid=source.study,
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.instance,
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="hilum: page of the case. Not a medical device",
        **producer.fields,
    )
    data.copy_patient_and_study_information(header)
    _add_document(data, source, document, title)
    finish(data, source)
    return data


def _add_document(data: Dataset, source: SourceImages, document: bytes, title: str) -> None:
    """Add the attributes of the Encapsulated Document and SC Equipment modules."""
    from highdicom.sr import CodedConcept

    data.ConversionType = "WSD"
    data.AcquisitionDateTime = "".join(source.moment)
    data.BurnedInAnnotation = "YES"  # the page names the patient
    data.DocumentTitle = title
    data.ConceptNameCodeSequence = [CodedConcept(*_TITLE)]
    data.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data.EncapsulatedDocumentLength = len(document)
    data.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    data.SourceInstanceSequence = [reference_to(header) for header in source.headers]
