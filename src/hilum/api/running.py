"""The verbs that use models: predict, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import UsageError
from hilum.io import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.inference import CaseOutcome, ExportedModel, RunReport, TrainedModel
    from hilum.inference.forecast import Advance

    CaseProgress = Callable[[int, int, str], None]


def load_model(folder: Path | str, *, device: str = "auto") -> TrainedModel | ExportedModel:
    """Load a model folder, trained or exported; see `hilum.inference.load_runnable`."""
    from hilum.inference import load_runnable

    return load_runnable(folder, device=device)


def predict(  # noqa: PLR0913  (the verb's options, keyword-only)
    model: Path | str | TrainedModel | ExportedModel,
    inputs: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    formats: Sequence[str] | None = None,
    engine: str = "auto",
    precision: str = "auto",
    memory: str | int | None = None,
    overlap: float | None = None,
    every_patch: bool = False,
    tta: bool = False,
    probabilities: bool = False,
    pictures: bool = False,
    most_pictures: int = 50,
    explain: str | None = None,
    check_maps: bool = False,
    sets_per_class: bool = False,
    skip_existing: bool = False,
    device: str = "auto",
    progress: Callable[[CaseOutcome, int, int], None] | None = None,
    advance: Callable[[Advance], None] | None = None,
) -> RunReport:
    """Predict many cases into a folder; what fails is reported and the rest go on.

    Args:
        model: a trained model or an exported one, or its folder.
        inputs: files, folders of files, DICOM folders, data sets.
        out: folder for `<case>.nii.gz`, labels.json and run.json; of a classification for
            predictions.csv and `<case>.json`.
        formats: among `hilum.inference.FORMATS`, of a classification `CLASS_FORMATS`; None: PNG of
            a picture and NIfTI of all else, of a classification both.
        engine: what runs the network: "torch", "openvino", "onnx", or "auto", the fastest that is
            there.
        precision: "float32", "bfloat16", "float16", "int8", or "auto", the engine's choice: of an
            int8 model int8, else bfloat16 where the device has instructions for it, whatever
            training used.
        memory: what this process may hold, as "4GB" or a number of bytes; None: three quarters of
            what is free.
        overlap: of a segmentation: fraction shared by neighbouring patches, 0 <= overlap < 1; the
            plan's if None.
        every_patch: of a segmentation: also run patches that show nothing but air or one constant;
            see `hilum.inference.empty`.
        tta: average over the mirrored images that the plan allows.
        probabilities: also write the probabilities.
        pictures: also draw `pictures/<case>.png`: the outlines on three slices, or where a class's
            answer comes from.
        most_pictures: of so many cases at most, as they are slow to draw.
        explain: of a classifier, where in the image its answer comes from: grad_cam, hires_cam or
            occlusion, as `<case>_<class>_map.nii.gz`; with `pictures` grad_cam if None.
        check_maps: of a classifier: also write into `<case>.json` how far each map agrees with one
            made in another way, and with those of random weights, see
            `hilum.inference.explain.check_map`; slow.
        sets_per_class: of a classifier: prediction sets that keep their promise among the cases of
            each class.
        skip_existing: leave out cases that are already there.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; a model that is loaded already stays where
            it is.
        progress: called with each outcome, how many are done, and how many there are.
        advance: called whenever patches are done, with how far the run is and how long the rest is
            expected to take.

    Raises:
        HilumError: the model cannot be loaded, or an input does not exist; nothing was predicted.
    """
    from hilum.inference import find_cases, make_predictor, predict_many, read_source
    from hilum.inference.stale_outputs import PICTURES
    from hilum.report import DRAWINGS

    loaded: Any = load_model(model, device=device) if isinstance(model, str | Path) else model
    sources = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    task, table, out = loaded.plan.task.value, loaded.plan.table, Path(out)
    predictor = make_predictor(
        loaded,
        tta=tta,
        **RUNNING[task](
            engine=engine,
            precision=precision,
            memory=memory,
            overlap=overlap,
            every_patch=every_patch,
        ),
        **EXPLANATIONS[task](
            explain,
            pictures=most_pictures if pictures else 0,
            check_maps=check_maps,
            sets_per_class=sets_per_class,
        ),
    )
    if check_maps and formats is not None and "json" not in formats:
        raise UsageError(
            "a check of maps that is written nowhere",
            needed="the format json",
            cure="--format json",
        )
    found = (
        find_cases(sources, loaded.plan.channels, annotated=predictor.asks_annotated)
        if pictures
        else ()
    )
    cases = {case.id: case for case in found}
    pictured = {case: out / PICTURES / f"{case}.png" for case in cases} if pictures else {}
    with OutputFolder(
        out, "predict", inputs=[file for case in found for file in case.files]
    ) as folder:
        folder.refuse_foreign(pictured.values())
        drawn: list[str] = []

        def finished(outcome: CaseOutcome, done: int, total: int) -> None:
            if pictures and outcome.status == "done" and len(drawn) < most_pictures:
                drawn.append(outcome.case)
                files = [out / name for name in outcome.files]
                case, picture = cases[outcome.case], pictured[outcome.case]
                DRAWINGS[task](read_source(case), files, table, picture, case=case)
                folder.record(picture)
            if progress is not None:
                progress(outcome, done, total)

        return predict_many(
            predictor,
            sources,
            out,
            formats=formats,
            probabilities=probabilities,
            skip_existing=skip_existing,
            progress=finished,
            advance=advance,
        )


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
    from hilum.inference import TrainedModel, export_model

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


def _no_explanation(
    explain: str | None,
    *,
    pictures: int,  # noqa: ARG001  (a segmentation's own)
    check_maps: bool,
    sets_per_class: bool,
) -> dict[str, Any]:
    asked = {
        "prediction sets": ("--sets-per-class", sets_per_class),
        "an explanation": ("--explain", explain is not None),
        "a check of maps": ("--check-maps", check_maps),
    }
    for what, (option, given) in asked.items():
        if given:
            raise UsageError(
                f"{what} of a segmentation", needed="a classifier", cure=f"leave out {option}"
            )
    return {}


def _explanation(
    explain: str | None, *, pictures: int, check_maps: bool, sets_per_class: bool
) -> dict[str, Any]:
    drawn_only = {"explain": "grad_cam" if pictures else None, "most_explained": pictures}
    return {
        "check_maps": check_maps,
        "sets_per_class": sets_per_class,
        **({"explain": explain} if explain else drawn_only),
    }


EXPLANATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "segmentation": _no_explanation,
    "classification": _explanation,
}
"""What a predictor is asked to say beside its answer, by task."""


def _patches(*, precision: str, **options: Any) -> dict[str, Any]:
    return {"precision": None if precision == "auto" else precision, **options}


def _whole_images(
    *,
    engine: str,
    precision: str,
    memory: str | int | None,
    overlap: float | None,
    every_patch: bool,
) -> dict[str, Any]:
    asked = {
        "--memory": memory is not None,
        "--overlap": overlap is not None,
        "--every-patch": every_patch,
    }
    asked["--engine"] = engine not in {"auto", "torch"}
    wrong = [option for option, given in asked.items() if given]
    if wrong:
        raise UsageError(
            f"{wrong[0]} of a classifier", needed="a segmentation", cure=f"leave out {wrong[0]}"
        )
    return {"precision": None if precision == "auto" else precision}


RUNNING: dict[str, Callable[..., dict[str, Any]]] = {
    "segmentation": _patches,
    "classification": _whole_images,
}
"""How a predictor is asked to run its network, by task: a classifier sees one small input, which
torch runs."""
