"""The commands that run models or bring them in and out: `predict`, `export`, `import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.options import (
    Device,
    Json,
    Patients,
    PredictMemory,
    argument,
    flag,
    option,
    out_option,
)
from hilum.cli.output import SHOWN_CASES, print_json, shown_progress, with_options
from hilum.errors import counted, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilum.inference import RunReport
    from hilum.inference.confidence import CaseConfidence


def predict(
    model: Annotated[Path, argument("MODEL", "Folder of a model: trained or exported.")],
    inputs: Annotated[
        list[str],
        argument(
            "INPUT...",
            "Images, folders, DICOM studies (folder, zip, DICOMDIR), or the address of a DICOMweb"
            " service (dicomweb://...).",
        ),
    ],
    *,
    out: Annotated[Path, out_option("DIR", "Folder for the predictions.")],
    formats: Annotated[
        list[str] | None,
        option(
            "File format, may be given several times. Segmentation: nifti, nrrd, mha, png, tiff,"
            " dicom-seg (dicom-seg-binary, dicom-seg-labelmap), dicom-rtstruct"
            " (default: png for pictures, else nifti); classification: csv, json (default: both)."
            " Both, of DICOM series: dicom-sr (report), dicom-sc (key images), dicom-pdf.",
            "--format",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="Inference engine: auto, torch, openvino or onnx.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, float32, bfloat16, float16; int8 for a model exported in int8.",
        ),
    ] = "auto",
    memory: PredictMemory = None,
    overlap: Annotated[
        float | None, option("Fraction shared by neighbouring patches (default: the plan's).")
    ] = None,
    every_patch: Annotated[
        bool, flag("--every-patch", "Run patches that show only air, too.")
    ] = False,
    alpha: Annotated[
        float | None,
        option(
            "Share of patients for whom an interval of a volume may fail (default: 0.1; at least"
            " 1 / (held-out patients + 1))."
        ),
    ] = None,
    contours: Annotated[
        bool, flag("--contours", "Write the inner and outer contours of the regions, too.")
    ] = False,
    tta: Annotated[
        bool, flag("--tta", "Test-time augmentation: average over mirrored images.")
    ] = False,
    probabilities: Annotated[
        bool, flag("--probabilities", "Write the probabilities, too.")
    ] = False,
    pictures: Annotated[
        bool, flag("--pictures", "Draw PNGs: outlines of labels, or the heat map of a class.")
    ] = False,
    most_pictures: Annotated[
        int, typer.Option(metavar="N", help="With --pictures: draw at most N cases.")
    ] = 50,
    explain: Annotated[
        str | None,
        option("Heat maps of a classifier's decision by grad_cam, hires_cam or occlusion."),
    ] = None,
    sets_per_class: Annotated[
        bool,
        flag(
            "--sets-per-class",
            "Make prediction sets whose coverage holds within each class, not only over all cases.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool, flag("--skip-existing", "Skip cases that are predicted already.")
    ] = False,
    series: Annotated[
        str | None,
        option(
            "DICOM series of each study: number, UID, or a rule as 'description~portal and"
            " slices>50' (default: the one that suits the model; see `hilum series`).",
            metavar="RULE",
        ),
    ] = None,
    study: Annotated[
        str | None, option("UID of the study to fetch from the DICOMweb service.", metavar="UID")
    ] = None,
    store: Annotated[
        bool, flag("--store", "Send the results to the DICOMweb service, too.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run a model on images; each prediction lies on its image's own grid."""
    from hilum import api

    with shown_progress() as shown:
        report = api.predict(
            model,
            inputs,
            out,
            formats=tuple(formats) if formats else None,
            engine=engine,
            precision=precision,
            tta=tta,
            probabilities=probabilities,
            pictures=pictures,
            most_pictures=most_pictures,
            segmentation=api.SegmentationOptions(overlap, every_patch, memory, alpha, contours),
            classification=api.ClassificationOptions(explain, sets_per_class),
            skip_existing=skip_existing,
            series=series,
            device=device,
            study=study,
            store=store,
            progress=shown.outcome,
            advance=shown.predicted,
        )
    if as_json:
        print_json(report.model_dump_json(indent=2))
    else:
        _print_report(report, out, most_pictures if pictures else None)
    if report.failures:
        raise typer.Exit(3)


def _print_report(report: "RunReport", out: Path, most_pictures: int | None) -> None:
    """Print counts, unlike cases and failures of a run."""
    done = sum(outcome.status == "done" for outcome in report.cases)
    skipped = sum(outcome.status == "skipped" for outcome in report.cases)
    more = f" ({skipped} more existed already)" if skipped else ""
    typer.echo(
        f"{done} of {len(report.cases)} cases predicted in {report.seconds:.1f} s{more}: {out}"
    )
    if most_pictures is not None and done > most_pictures:
        typer.echo(
            f"Pictures of the first {counted(most_pictures, 'case')} only;"
            f" --most-pictures {done} draws all."
        )
    judged = [one.confidence for one in report.cases if one.confidence is not None]
    if judged:
        typer.echo(_say_confidence(judged, out / "run.json"))
    unlike = [outcome.case for outcome in report.cases if outcome.unlike]
    if unlike:
        typer.echo(
            f"{len(unlike)} of {done + skipped} unlike the training data, do not rely on them:"
            f" {some(unlike, shown=SHOWN_CASES)}; reasons: {out / 'run.json'}",
            err=True,
        )
    for warning in report.model_warnings:
        typer.echo(f"Warning of the model's training: {warning}", err=True)
    for alike in report.failures:  # what is needed, and the cure, was printed when it happened
        names = some((outcome.case for outcome in alike), shown=SHOWN_CASES)
        first = with_options(alike[0].error.partition("\n")[0])
        typer.echo(f"failed: {names}: {first}", err=True)
    if report.failures:
        kept = f", or {out / 'run.json'}" if (out / "run.json").is_file() else ""
        typer.echo(f"Full messages: above{kept}", err=True)


def _say_confidence(judged: "Sequence[CaseConfidence]", run: Path) -> str:
    """Say where the intervals of volumes are, or at which alpha there would be some."""
    first = judged[0]
    patients = counted(first.patients, "held-out patient")
    intervals = any(region.low_ml is not None for one in judged for region in one.regions)
    if first.alpha < first.smallest_alpha and not intervals:
        return (
            f"No intervals of volumes at alpha {first.alpha:g}: possible with {patients} at alpha"
            f" {first.least_alpha} or more"
        )
    return (
        f"Volumes with intervals, expected Dice: {run} (alpha {first.alpha:g}; possible with"
        f" {patients} at alpha {first.least_alpha} or more)"
    )


def export(
    model: Annotated[Path, argument("MODEL", "Model folder that `hilum train` wrote.")],
    *,
    out: Annotated[Path, out_option("FOLDER", "New folder.")],
    formats: Annotated[str, typer.Option("--format", help="openvino, onnx or both.")] = "openvino",
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the weights: auto (float32), float32, float16; int8 needs --data."
        ),
    ] = "auto",
    data: Annotated[
        Path | None,
        option("For int8: annotated cases for calibration and validation.", metavar="DATA"),
    ] = None,
    gate: Annotated[
        float | None, option("For int8: largest loss of mean Dice of a label (default: 0.005).")
    ] = None,
    patients: Patients = None,
    as_json: Json = False,
) -> None:
    """Export a segmentation model to a folder that `hilum predict` runs without torch.

    The exported network is verified against the model.
    """
    from hilum import api

    with shown_progress() as shown:
        made = api.export(
            model,
            out,
            formats=formats,
            precision=precision,
            data=data,
            gate=gate,
            patients=patients,
            progress=shown.cases,
        )
    if as_json:
        print_json(made.manifest.model_dump_json(indent=2))
        return
    record = made.manifest.quantisation
    reference = "" if record is None else " to the validated int8 network"
    for engine, difference in made.manifest.differences.items():
        typer.echo(
            f"{engine}: exported and verified; largest logit difference{reference}:"
            f" {difference:.1g} of the logits' spread"
        )
    if record is not None:
        typer.echo(f"int8 to float32: {record.distance:.2g} of the logits' spread")
        typer.echo(
            f"Measured on {counted(len(record.validated_on), 'case')} of"
            f" {counted(record.patients, 'patient')}:"
        )
        for text in (*(one.in_words for one in record.labels), *record.notes):
            typer.echo(f"  {text}")
    typer.echo(f"Exported: {out}   (installation: {out / 'README.md'})")
    typer.echo(f"Next: hilum predict {out} IMAGES -o predictions")


def import_nnunet(
    folder: Annotated[
        Path,
        argument("FOLDER", "TRAINER__PLANS__CONFIGURATION, with plans.json and fold_*."),
    ],
    *,
    out: Annotated[Path, out_option("MODEL", "Folder for the model.")],
    folds: Annotated[
        list[str] | None,
        option(
            "0, 1, ... or all; several: an ensemble (default: every numbered fold, else all).",
            "--folds",
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="final or best.")] = "final",
    as_json: Json = False,
) -> None:
    """Import an nnU-Net v2 model; no code in its files is run."""
    from hilum import api

    model = api.import_nnunet(folder, out, folds=tuple(folds or ()), checkpoint=checkpoint)
    if as_json:
        print_json(api.to_json({"model": str(out), "id": model.id, "facts": model.facts}))
        return
    network = model.plan.network.value.title
    typer.echo(f"Imported {model.plan.name}: {network}, {len(model.networks)} fold(s): {out}")
    typer.echo(f"Next: hilum predict {out} INPUT -o OUT")
