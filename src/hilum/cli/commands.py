"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints.

It decides nothing.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.options import (
    BackboneOption,
    ClassesOption,
    Data,
    Device,
    HeldMemory,
    Json,
    LabelOption,
    Memory,
    Minutes,
    NetworkOption,
    Patients,
    PositiveOption,
    RegionOption,
    StagesOption,
    TaskOption,
    WeightsOption,
    labelling_of,
)
from hilum.cli.output import (
    describe_paths,
    fail,
    files_at_the_end,
    format_findings,
    format_interval,
    format_number,
    print_json,
    short,
    shorten,
    shown_progress,
)
from hilum.errors import HilumError, missing_package

app = typer.Typer(
    name="hilum",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Deep learning on medical images: train, evaluate and run segmentation and classification."
        " Not a medical device."
    ),
    epilog="Exit codes: 0 done, 1 a bug of hilum, 2 usage, 3 the data, 4 the model, 5 resources.",
)


_TOLD = {
    "dice": "Dice",
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "quadratic_kappa": "quadratic kappa",
}
"""Of all figures those that are said at the end of a training."""


def _version(asked: bool) -> None:
    if asked:
        import hilum

        typer.echo(f"hilum {hilum.__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Say the version and stop."
        ),
    ] = False,
) -> None:
    """Deep learning on medical images: train, evaluate and run segmentation and classification.

    Not a medical device.
    """


@app.command()
def check(
    data: Data,
    *,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a corrected copy and its log here.", show_default=False
        ),
    ] = None,
    patients: Patients = None,
    task: TaskOption = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a data set and say the cure."""
    from hilum import api

    with shown_progress() as shown:
        labelling = labelling_of(task, label, classes, positive)
        result = api.check(
            data, fix=fix, patients=patients, labelling=labelling, progress=shown.cases
        )
    if as_json:
        print_json(api.to_json(result))
    else:
        for line in format_findings(result.findings):
            typer.echo(line)
        typer.echo(
            f"{result.errors} errors, {len(result.findings) - result.errors} warnings and notes."
        )
        if result.fixes is not None:
            typer.echo(
                f"Corrected copy: {result.fixes.folder} ({len(result.fixes.fixed)} changes, see"
                " fixes.json)"
            )
            if left := sum(finding.severity == "error" for finding in result.fixes.left):
                typer.echo(f"{left} errors above are in it too: they cannot be mended safely.")
    if result.errors and fix is None:
        raise typer.Exit(3)


@app.command()
def plan(
    data: Data,
    *,
    minutes: Minutes = None,
    device: Device = "auto",
    memory: Memory = None,
    task: TaskOption = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    network: NetworkOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    stages: StagesOption = None,
    region: RegionOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write plan.json here, to be edited and given to `train --plan`.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how a model would be made: every decision with its reason."""
    from hilum import api

    with shown_progress() as shown:
        made = api.plan(
            data,
            minutes=minutes,
            device=device,
            memory_gb=memory,
            labelling=labelling_of(task, label, classes, positive),
            network=api.NetworkOptions(network, backbone, weights, stages, region),
            out=out,
            listener=shown.listener,
        )
    if as_json:
        print_json(made.model_dump_json(indent=2))
        return
    for name, decision in made.decisions.items():
        typer.echo(
            f"{name.replace('_', ' ')}: {short(decision.value)}\n    because {decision.because}"
        )
    if out is not None:
        typer.echo(f"Written to {out}")


@app.command()
def train(
    data: Data,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="MODEL", help="Model folder to write.", show_default=False
        ),
    ],
    task: TaskOption = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    network: NetworkOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    stages: StagesOption = None,
    region: RegionOption = None,
    minutes: Minutes = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps instead of minutes: reproducible.", show_default=False),
    ] = None,
    fold: Annotated[int, typer.Option(help="Which of five patient folds to validate on.")] = 0,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train all of so many folds and join them into one model.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the folder's checkpoints are.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of folds, initial weights, sampling and augmentation.")
    ] = 0,
    device: Device = "auto",
    memory: Memory = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Follow this plan.json.", show_default=False),
    ] = None,
    patients: Patients = None,
    as_json: Json = False,
) -> None:
    """Train a model."""
    from hilum import api

    with shown_progress() as shown:
        model = api.train(
            data,
            out,
            labelling=labelling_of(task, label, classes, positive),
            network=api.NetworkOptions(network, backbone, weights, stages, region),
            minutes=minutes,
            steps=steps,
            fold=fold,
            folds=folds,
            seed=seed,
            device=device,
            memory_gb=memory,
            plan=plan,
            patients=patients,
            resume=resume,
            listener=shown.listener,
        )
    metrics = model.metrics
    if as_json:
        print_json(api.to_json(metrics))
        return
    if metrics is not None:
        typer.echo(f"Measured on {metrics.measured_on}:")
        for metric in metrics.metrics:
            if metric.name in _TOLD:
                between = format_interval(metric.lower, metric.upper)
                typer.echo(
                    f"  {metric.region}: {_TOLD[metric.name]} {format_number(metric.mean)} {between}"
                )
    drawn = "".join(
        f"; learning curves: {path}"
        for path in sorted((out / "training").glob("fold_*/curves.png"))
    )
    typer.echo(f"Model: {out}   (its card: {out / 'MODEL_CARD.md'}{drawn})")
    typer.echo(f"Next: hilum predict {out} IMAGES -o predictions")


@app.command()
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Folder of a model: trained or exported.", show_default=False
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Images, folders of images, DICOM folders.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Folder for the answers.", show_default=False
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=(
                "nifti, nrrd, mha, png, tiff; of a classification csv, json; may be given several"
                " times. [default: png for "
                "pictures, nifti for all else; csv and json]"
            ),
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="NAME", help="What runs the network: auto, torch, openvino, onnx."),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto, float32, bfloat16, float16, int8 (of a model exported so)."
        ),
    ] = "auto",
    memory: HeldMemory = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Share of a patch that its neighbour sees too. [default: the plan's]",
            show_default=False,
        ),
    ] = None,
    every_patch: Annotated[
        bool, typer.Option("--every-patch", help="Also run patches that show nothing but air.")
    ] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirrored images where the plan allows it.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probabilities.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also draw PNGs: outlines, or where a class is seen.")
    ] = False,
    most_pictures: Annotated[
        int, typer.Option(metavar="N", help="Of --pictures: of so many cases.")
    ] = 50,
    explain: Annotated[
        str | None,
        typer.Option(
            help="Of a classifier: where its answer comes from, by grad_cam, hires_cam, occlusion.",
            show_default=False,
        ),
    ] = None,
    check_maps: Annotated[
        bool,
        typer.Option(
            "--check-maps",
            help="Of --explain: compare maps with occlusion and with random weights (slow).",
        ),
    ] = False,
    sets_per_class: Annotated[
        bool,
        typer.Option(
            "--sets-per-class",
            help="Of a classifier: prediction sets that keep their promise for each class.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out cases that are already there.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run a model on images; each answer lies on its image's own grid."""
    from hilum import api

    with shown_progress() as shown:
        report = api.predict(
            model,
            inputs,
            out,
            formats=tuple(formats) if formats else None,
            engine=engine,
            precision=precision,
            memory=memory,
            overlap=overlap,
            every_patch=every_patch,
            tta=tta,
            probabilities=probabilities,
            pictures=pictures,
            most_pictures=most_pictures,
            explain=explain,
            check_maps=check_maps,
            sets_per_class=sets_per_class,
            skip_existing=skip_existing,
            device=device,
            progress=shown.outcome,
            advance=shown.predicted,
        )
    failed = [outcome for outcome in report.cases if outcome.status == "failed"]
    if as_json:
        print_json(report.model_dump_json(indent=2))
    else:
        done = sum(outcome.status == "done" for outcome in report.cases)
        there = sum(outcome.status == "skipped" for outcome in report.cases)
        skipped = f" ({there} more were there already)" if there else ""
        typer.echo(
            f"{done} of {len(report.cases)} cases predicted in {report.seconds:.1f} s{skipped}:"
            f" {out}"
        )
        if pictures and done > most_pictures:
            typer.echo(
                f"Pictures: of the first {most_pictures} cases; --most-pictures {done} draws all."
            )
        strange = [outcome.case for outcome in report.cases if outcome.unlike]
        if strange:
            typer.echo(
                f"Unlike the training data: {shorten(strange)}; why: above, and in {out / 'run.json'}",
                err=True,
            )
        for alike in report.failures:  # what is needed, and the cure, was said when it happened
            names = shorten([outcome.case for outcome in alike])
            typer.echo(f"failed: {names}: {alike[0].error.partition(chr(10))[0]}", err=True)
        if failed:
            typer.echo(f"In full: above, and in {out / 'run.json'}", err=True)
    if failed:
        raise typer.Exit(3)


imports = typer.Typer(no_args_is_help=True, help="Turn the models of other programs into hilum's.")
app.add_typer(imports, name="import")


@imports.command("nnunet")
def import_nnunet(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="TRAINER__PLANS__CONFIGURATION, with plans.json and fold_*.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", metavar="MODEL", help="Folder for the model.", show_default=False
        ),
    ],
    folds: Annotated[
        list[str] | None,
        typer.Option(
            "--folds",
            help="0, 1, ... or all; several are an ensemble. Default: every one.",
            show_default=False,
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
    typer.echo(
        f"Imported {model.plan.name}: {model.plan.network.value.title}, {len(model.networks)}"
        f" fold(s): {out}"
    )
    typer.echo(f"Next: hilum predict {out} INPUT -o OUT")


@app.command()
def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Folder of predicted label maps, or of predictions.csv.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REFERENCE",
            help="Data set, folder of reference label maps, or table of case and label.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for cases.csv, summary.json and summary.md.",
            show_default=False,
        ),
    ],
    tolerance: Annotated[
        float, typer.Option(metavar="MM", help="Tolerance of the normalised surface distance.")
    ] = 2.0,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score what is there.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help=(
                "Of label maps: the data set, or a table of case and patient, that says whose the"
                " cases of a plain folder are."
            ),
            show_default=False,
        ),
    ] = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    subgroups: Annotated[
        list[str] | None,
        typer.Option(
            "--subgroup", help="Of classes: a column to look at by value.", show_default=False
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Of two classes or of findings: also score calling them from this probability on.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score predictions with confidence intervals: overlap, surface, volume and lesions.

    Or ROC, calibration and subgroups.
    """
    from hilum import api

    with shown_progress() as shown:
        result = api.evaluate(
            predictions,
            reference,
            out,
            tolerance_mm=tolerance,
            allow_missing=allow_missing,
            data=data,
            labelling=(
                labelling_of(None, label, classes, positive)
                if label or classes or positive
                else None
            ),
            subgroups=subgroups,
            threshold=threshold,
            progress=shown.cases,
        )
    if as_json:
        print_json(result.record.model_dump_json(indent=2))
    else:
        typer.echo(result.markdown())
        typer.echo(f"Written to {out}")


@app.command()
def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="EVALUATION_A", help="Folder that `hilum evaluate` wrote.", show_default=False
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="EVALUATION_B", help="Another one of the same cases.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder for comparison.json and .md.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two evaluations by paired tests."""
    from hilum import api

    result = api.compare(a, b, out=out)
    if as_json:
        print_json(result.model_dump_json(indent=2))
    else:
        typer.echo(result.markdown())


@app.command()
def demo(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A new folder.")] = Path(
        "out/demo"
    ),
    minutes: Annotated[float, typer.Option(help="Minutes of training.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Make synthetic CT, segment and classify: train, predict, evaluate, draw, in about 5 minutes."""
    from hilum import api

    with shown_progress() as shown:
        result = api.demo(out, minutes=minutes, listener=shown.listener)
    if as_json:
        print_json(result.evaluation.record.model_dump_json(indent=2))
        return
    for region in result.evaluation.summary.regions:
        dice = region.metrics["dice"]
        typer.echo(
            f"{region.region}: Dice {format_number(dice.mean)} on {region.cases} test studies"
        )
    auroc = result.class_evaluation.record.summary["auroc"]
    typer.echo(
        f"malignant nodules: AUROC {format_number(auroc.value)} {format_interval(auroc.low, auroc.high)}"
    )
    typer.echo(f"Look at: {describe_paths(result.pictures)}")
    typer.echo(f"Learning curves: {out / 'model' / 'training' / 'fold_0' / 'curves.png'}")
    typer.echo(
        f"All scores: {out / 'evaluation' / 'summary.md'}; the model's card:"
        f" {out / 'model' / 'MODEL_CARD.md'}"
    )
    typer.echo(
        "Next, on your own data: hilum check DATA, then hilum train DATA -o MODEL --minutes 20"
    )


@app.command()
def doctor(*, as_json: Json = False) -> None:
    """Say what this machine offers, for yourself or for a report of a fault."""
    from hilum import api

    facts = api.environment()
    if as_json:
        print_json(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {value}")


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    try:
        with files_at_the_end():
            app()
    except HilumError as error:
        fail(str(error), error.exit_code)
    except MemoryError:
        cure = (
            "close other programs, crop the images to the part that matters, or use a machine with"
            " more memory"
        )
        fail(f"memory is not enough\nCure: {cure}", 5)
    except OSError as error:
        cure = "check that the file or folder is there and may be used, or choose another one"
        what = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        fail(f"{what}\nCure: {cure}", 5)
    except Exception as error:
        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            fail(str(missing), missing.exit_code)
        logging.getLogger("hilum").exception(
            "This is a bug of hilum: please report it with what follows and `hilum doctor`."
        )
        raise SystemExit(1) from None
