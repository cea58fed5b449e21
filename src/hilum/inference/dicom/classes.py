"""Report, key images and page of a classification: probabilities, sets, heat maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom_results.display import Words, with_caption, with_heat
from hilum.dicom_results.findings import ClassFinding, Classification
from hilum.dicom_results.key_image import KeyImage
from hilum.dicom_results.page import Page, source_facts
from hilum.dicom_results.producer import NOT_A_DEVICE
from hilum.targets.predictions import called_classes

if TYPE_CHECKING:
    from hilum.dicom_results.display import Pixels
    from hilum.inference.class_prediction import ClassPrediction
    from hilum.inference.dicom.source import DicomSource

MOST_PICTURES = 3


def classification_of(prediction: ClassPrediction) -> Classification:
    """Return what a report says of a prediction; what the model does not know is left out."""
    score, verdict, promise = prediction.score, prediction.verdict, prediction.promise
    names = called_classes(score, prediction.table)
    members = score.prediction_set
    return Classification(
        tuple(
            ClassFinding(
                name,
                score.probabilities[place],
                None if score.calibrated is None else score.calibrated[place],
                None if members is None else name in members,
                name in names,
            )
            for place, name in enumerate(prediction.table.names)
        ),
        coverage=None if promise is None else promise.coverage,
        unlike=None if verdict is None else verdict.refuse,
        because="" if verdict is None else verdict.because,
        distance=None if verdict is None else verdict.features_distance,
    )


def key_images_of_classes(prediction: ClassPrediction, source: DicomSource) -> list[KeyImage]:
    """Draw the heat map of each class that has one where it is strongest, else the middle frame."""
    pictures = []
    for number, name, pixels in _pictures(prediction, source):
        title = f"Frame {number + 1} of {len(source.stack.frames)}"
        what = f"{title}, what speaks for {name}" if name else title
        rows = [
            [Words(what)],
            [
                Words(
                    f"{one.name}"
                    f" {one.probability if one.calibrated is None else one.calibrated:.2f}"
                )
                for one in _classes(prediction)
            ],
            *([Words(text)] for text in _remarks(prediction)),
            [Words(f"hilum model {prediction.model}. {NOT_A_DEVICE}")],
        ]
        pictures.append(KeyImage(with_caption(pixels, rows), number, what))
    return pictures


def page_of_classes(prediction: ClassPrediction, source: DicomSource) -> Page:
    """Lay out the page of a classification: a row a class."""
    return Page(
        title=f"Classification of {prediction.case}",
        facts=(
            *source_facts(source.images),
            ("Model", prediction.model),
            ("Predicted", prediction.label or "none of the findings"),
        ),
        head=("Class", "Probability", "Calibrated", "In the prediction set"),
        rows=tuple(
            (
                one.name,
                f"{one.probability:.3f}",
                "" if one.calibrated is None else f"{one.calibrated:.3f}",
                "" if one.in_set is None else ("yes" if one.in_set else "no"),
            )
            for one in _classes(prediction)
        ),
        pictures=tuple(pixels for _, _, pixels in _pictures(prediction, source)),
        warnings=tuple(_remarks(prediction)),
    )


def _classes(prediction: ClassPrediction) -> tuple[ClassFinding, ...]:
    return classification_of(prediction).classes


def _remarks(prediction: ClassPrediction) -> list[str]:
    """Say what the prediction set holds, and whether the image is unlike those of the training."""
    said = []
    if prediction.score.prediction_set is not None and prediction.promise is not None:
        names = ", ".join(prediction.score.prediction_set) or "no class"
        said.append(f"Prediction set ({100 * prediction.promise.coverage:.0f} %): {names}")
    said += [f"Unlike the training images: {text}" for text in prediction.unlike]
    return said


def _pictures(prediction: ClassPrediction, source: DicomSource) -> list[tuple[int, str, Pixels]]:
    """Draw a frame for each heat map: its number, the class, the picture."""
    if not prediction.maps:
        middle = len(source.stack.frames) // 2
        return [(middle, "", source.display(middle).pixels)]
    drawn = []
    for name, volume in list(prediction.maps.items())[:MOST_PICTURES]:
        heat = source.stack.to_frames(volume.array[0])  # (N, rows, columns)
        number = int(heat.sum(axis=(1, 2)).argmax()) if heat.any() else len(heat) // 2
        pixels = with_heat(source.display(number), heat[number], float(heat.max()))
        drawn.append((number, name, pixels))
    return drawn
