"""The verbs that use models: predict, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.api.web import local_sources, store_results
from hilum.files import OutputFolder
from hilum.files.archive import unpacked
from hilum.pipelines import (
    ClassificationOptions,
    RunOptions,
    SegmentationOptions,
    prediction_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.api.data import CaseProgress
    from hilum.inference import CaseOutcome, ExportedModel, RunReport, TrainedModel
    from hilum.inference.forecast import Advance
    from hilum.inference.predictors import AnyPredictor


def load_model(folder: Path | str, *, device: str = "auto") -> TrainedModel | ExportedModel:
    """Load a model folder, trained or exported; see `hilum.inference.load_runnable`."""
    from hilum.inference import load_runnable

    return load_runnable(folder, device=device)


def dicom_formats(model: TrainedModel | ExportedModel) -> tuple[str, ...]:
    """Return the formats in which a PACS gets the predictions of a model."""
    return prediction_of(model, None, None).dicom_formats


def predict(  # noqa: PLR0913  (the verb's options, keyword-only)
    model: Path | str | TrainedModel | ExportedModel,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    engine: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    probabilities: bool = False,
    pictures: bool = False,
    most_pictures: int = 50,
    segmentation: SegmentationOptions | None = None,
    classification: ClassificationOptions | None = None,
    skip_existing: bool = False,
    series: str | None = None,
    device: str = "auto",
    study: str | None = None,
    store: bool = False,
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
    advance: Callable[[Advance], None] | None = None,
) -> RunReport:
    """Predict many cases into a folder; what fails is reported and the rest go on.

    Args:
        model: a trained model or an exported one, or its folder.
        inputs: files, folders of files, DICOM folders, zip archives of them, a DICOMDIR, data sets;
            or a DICOMweb service as "dicomweb://HOST:PORT/PATH" (http), "dicomwebs://..." (https).
        out: folder for `<case>.nii.gz`, labels.json and run.json; of a classification for
            predictions.csv and `<case>.json`.
        formats: among `hilum.inference.FORMATS`, of a classification `CLASS_FORMATS`; None: PNG of
            a picture and NIfTI of all else, of a classification both.
        engine: what runs the network: "torch", "openvino", "onnx", or "auto", the fastest that is
            there.
        precision: "float32", "bfloat16", "float16", "int8", or "auto", the engine's choice: of an
            int8 model int8, else bfloat16 where the device has instructions for it, whatever
            training used.
        tta: average over the mirrored images that the plan allows.
        probabilities: also write the probabilities.
        pictures: also draw `pictures/<case>.png`: the outlines on three slices, or where a class's
            class comes from.
        most_pictures: of so many cases at most, as they are slow to draw.
        segmentation: options that only a segmentation model has.
        classification: options that only a classifier has.
        skip_existing: leave out cases that are already there.
        series: which DICOM series of each study is taken: its number, UID, or a rule such as
            "description~portal and slices>50" (`hilum.dicom.rule`); None: the one that suits the
            model best.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where
            it is.
        study: UID of the study that is fetched from the DICOMweb service.
        store: send the DICOM files among the results back to the service; without `formats`, a
            segmentation is written as dicom-seg, a classification as dicom-sr.
        progress: called with each outcome, how many are done, and how many there are.
        advance: called whenever patches are done, with how far the run is and how long the rest is
            expected to take.

    Raises:
        HilumError: the model cannot be loaded, or an input does not exist; nothing was predicted.
    """
    from hilum.inference import predict_many
    from hilum.inference.many import find_for
    from hilum.inference.prediction_writer import PICTURES

    loaded = load_model(model, device=device) if isinstance(model, str | Path) else model
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    out = Path(out)
    wanted = None if precision == "auto" else precision
    run = RunOptions(engine, wanted, tta, most_pictures if pictures else 0)
    prediction = prediction_of(loaded, segmentation, classification)
    predictor: AnyPredictor = prediction.make_predictor(loaded, run)
    if store and formats is None:
        formats = prediction.dicom_formats
    with local_sources(given, study, store=store) as local, unpacked(local) as sources:
        found = find_for(predictor, sources, series=series)
        cases = {case.id: case for case in found.cases} if pictures else {}
        pictured = {case: out / PICTURES / f"{case}.png" for case in cases}
        files = [file for case in cases.values() for file in case.files]
        with OutputFolder(out, "predict", inputs=files) as folder:
            folder.refuse_foreign(pictured.values())
            shown: list[str] = []

            def finish_case(outcome: CaseOutcome, done: int, total: int) -> None:
                if pictures and outcome.status == "done" and len(shown) < most_pictures:
                    shown.append(outcome.case)
                    picture = pictured[outcome.case]
                    written = [out / name for name in outcome.files]
                    prediction.write_picture(cases[outcome.case], written, picture)
                    folder.record(picture)
                if progress is not None:
                    progress(outcome, done, total)

            report = predict_many(
                predictor,
                found,
                out,
                formats=formats,
                probabilities=probabilities,
                skip_existing=skip_existing,
                progress=finish_case,
                advance=advance,
            )
    if store:
        store_results(given, out, report)
    return report


def export(
    model: Path | str | TrainedModel,
    out: Path | str,
    *,
    formats: str = "openvino",
    precision: str = "auto",
    data: Path | str | None = None,
    gate: float | None = None,
    patients: str | None = None,
    progress: CaseProgress | None = None,
) -> ExportedModel:
    """Write a trained model as one folder that predicts without torch, checked after it is written.

    Args:
        model: a trained segmentation model, or its folder.
        out: a new folder; `hilum predict` and `api.predict` take it like a trained model's.
        formats: "openvino", "onnx" or "both".
        precision: in which the weights are stored: "auto" and "float32", "float16", or "int8".
        data: of int8: annotated cases, from which it takes its ranges and on which it is judged.
        gate: of int8: mean Dice that a label may lose; 0.005 if None.
        patients: of int8: a regular expression for the patient in a case's id, where no table names
            patients.
        progress: of int8: called as progress(done, total, case id).

    Raises:
        HilumError: see `hilum.inference.export_model`.
    """
    from hilum.exchange import export_model
    from hilum.inference import TrainedModel

    loaded = model if isinstance(model, TrainedModel) else TrainedModel.load(model, device="cpu")
    return export_model(
        loaded,
        out,
        formats=formats,
        precision=precision,
        data=data,
        gate=gate,
        patients=patients,
        progress=progress,
    )
