"""Predictions written as DICOM: structured report, key images, page of the case."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from hilum.dicom_results.key_image import make_key_images
from hilum.dicom_results.page import print_page
from hilum.dicom_results.pdf import make_encapsulated_pdf
from hilum.dicom_results.producer import Producer, save
from hilum.dicom_results.rtstruct import make_rtstruct
from hilum.dicom_results.seg import Segmentation
from hilum.dicom_results.sr import (
    make_classification_report,
    make_measurement_report,
    save_report,
)
from hilum.inference.dicom.classes import classification_of, key_images_of_classes, page_of_classes
from hilum.inference.dicom.labels import key_images_of_labels, page_of_labels
from hilum.inference.dicom.names import (
    KEY_IMAGES,
    PAGE,
    REPORT,
    SEGMENTATION,
    STRUCTURES,
    segmentation_among,
)
from hilum.inference.dicom.source import DicomSource

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from hilum.dicom_results.key_image import KeyImage
    from hilum.dicom_results.page import Page
    from hilum.dicom_results.seg import Kind
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.prediction import Prediction


def write_segmentation(prediction: Prediction, folder: Path, kind: Kind) -> tuple[Path, ...]:
    """Write the labels as a DICOM Segmentation.

    Raises:
        DataError: the case is no DICOM, or its series cannot be read.
    """
    path = folder / f"{prediction.case}{SEGMENTATION}"
    _segmentation(prediction, kind).save(path)
    return (path,)


def write_report(
    prediction: Prediction, folder: Path, together: Collection[str]
) -> tuple[Path, ...]:
    """Write the measurements of a segmentation as a structured report.

    Args:
        prediction: of a DICOM series.
        folder: where to.
        together: names of all formats that are written: the report refers to a SEG among them.

    Raises:
        DataError: the case is no DICOM, or its series cannot be read.
    """
    measured, kind = prediction.measured, segmentation_among(together)
    report = make_measurement_report(
        measured.source.images,
        _producer(prediction),
        measured.findings,
        seg=None if kind is None else _segmentation(prediction, kind).reference,
    )
    return (save_report(report, folder / f"{prediction.case}{REPORT}"),)


def write_key_images(prediction: Prediction, folder: Path) -> tuple[Path, ...]:
    """Write the outlines on up to three frames as secondary captures.

    Raises:
        DataError: the case is no DICOM, or its series cannot be read.
    """
    pictures = key_images_of_labels(prediction)
    return _save_pictures(prediction, prediction.measured.source, pictures, folder)


def write_page(prediction: Prediction, folder: Path) -> tuple[Path, ...]:
    """Write the page of a segmentation as an encapsulated PDF.

    Raises:
        DataError: the case is no DICOM, or its series cannot be read.
    """
    page = page_of_labels(prediction)
    return _save_page(prediction, prediction.measured.source, page, folder)


def write_structures(prediction: Prediction, folder: Path) -> tuple[Path, ...]:
    """Write the labels as contours in an RTSTRUCT.

    Raises:
        DataError: the case is no DICOM, its series cannot be read, or has no place in the patient.
    """
    source = prediction.measured.source
    structures = make_rtstruct(
        prediction.labels, prediction.table, source.stack, source.images, _producer(prediction)
    )
    return (save(structures, folder / f"{prediction.case}{STRUCTURES}"),)


def write_classes(
    prediction: ClassPrediction, folder: Path, formats: Collection[str]
) -> tuple[Path, ...]:
    """Write a classification in the DICOM formats among `formats`.

    Raises:
        DataError: the case is no DICOM, or its series cannot be read.
    """
    source, files = DicomSource.open(prediction.case, prediction.files), []
    if "dicom-sr" in formats:
        found = classification_of(prediction)
        report = make_classification_report(source.images, _producer(prediction), found)
        files.append(save_report(report, folder / f"{prediction.case}{REPORT}"))
    if "dicom-sc" in formats:
        pictures = key_images_of_classes(prediction, source)
        files += _save_pictures(prediction, source, pictures, folder)
    if "dicom-pdf" in formats:
        files += _save_page(prediction, source, page_of_classes(prediction, source), folder)
    return tuple(files)


def _producer(prediction: Prediction | ClassPrediction) -> Producer:
    return Producer(prediction.model, metadata.version("hilum"))


def _segmentation(prediction: Prediction, kind: Kind) -> Segmentation:
    """Make the SEG of a prediction; its UIDs, to which a report refers, follow from its content."""
    source, producer = prediction.dicom_source, _producer(prediction)
    return Segmentation.of(
        prediction.labels,
        prediction.table,
        source.stack,
        source.images,
        producer,
        kind=kind,
        descriptions=_descriptions(prediction),
    )


def _descriptions(prediction: Prediction) -> dict[int, str]:
    """Describe by label id how sure each segment is, where the model carries a confidence."""
    confidence, found = prediction.confidence, {}
    if confidence is None:
        return {}
    share = f"{100 * (1 - confidence.alpha):.3g} % intervals, for patients like the held-out ones"
    if confidence.notes:
        share += ", weakened: see run.json"
    regions = zip(prediction.table.scored, confidence.regions, strict=True)
    for region, judged in regions:
        if len(region.labels) == 1:  # a union of labels is no segment
            words = f"Volume {judged.in_words}"
            found[region.labels[0]] = words if judged.low_ml is None else f"{words}; {share}"
    return found


def _save_pictures(
    prediction: Prediction | ClassPrediction,
    source: DicomSource,
    pictures: Sequence[KeyImage],
    folder: Path,
) -> tuple[Path, ...]:
    """Write pictures as secondary captures, one file each."""
    captures = make_key_images(source.images, _producer(prediction), pictures)
    return tuple(
        save(data, folder / f"{prediction.case}{suffix}")
        for data, suffix in zip(captures, KEY_IMAGES, strict=False)
    )


def _save_page(
    prediction: Prediction | ClassPrediction, source: DicomSource, page: Page, folder: Path
) -> tuple[Path, ...]:
    """Write a page as an encapsulated PDF."""
    document = make_encapsulated_pdf(
        source.images, _producer(prediction), print_page(page), title=page.title
    )
    return (save(document, folder / f"{prediction.case}{PAGE}"),)
