"""The commands that make a model: `check`, `plan`, `train`, `tune`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.options import (
    BackboneOption,
    ClassesOption,
    Data,
    Device,
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
    argument,
    flag,
    labelling_of,
    option,
    out_option,
)
from hilum.cli.output import (
    format_findings,
    format_interval,
    format_number,
    print_curves,
    print_json,
    program_name,
    shorten_value,
    shown_progress,
    with_options,
)
from hilum.errors import counted

if TYPE_CHECKING:
    from hilum.inference.manifest import ModelMetrics

_PRINTED = {
    "dice": "Dice",
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "quadratic_kappa": "quadratic kappa",
}
"""Metrics that are printed at the end of a training."""


def check(
    data: Data,
    *,
    fix: Annotated[
        Path | None, option("Write a corrected copy and its log to this folder.", metavar="DIR")
    ] = None,
    patients: Patients = None,
    task: TaskOption = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    as_json: Json = False,
) -> None:
    """Find faults of a data set and say how to mend them."""
    from hilum import api

    with shown_progress() as shown:
        labelling = labelling_of(task, label, classes, positive)
        result = api.check(
            data, fix=fix, patients=patients, labelling=labelling, progress=shown.cases
        )
    if as_json:
        print_json(api.to_json(result))
    else:
        typer.echo(result.summary)
        for line in format_findings(result.findings):
            typer.echo(line)
        kinds = Counter(finding.severity for finding in result.findings)
        typer.echo(", ".join(counted(kinds[kind], kind) for kind in ("error", "warning", "note")))
        if result.fixes is not None:
            changes = counted(len(result.fixes.fixed), "change")
            typer.echo(f"Corrected copy: {result.fixes.folder} ({changes}, see fixes.json)")
            if left := sum(finding.severity == "error" for finding in result.fixes.left):
                typer.echo(
                    f"In the copy {counted(left, 'error')} above remain: no safe mend is known."
                )
    if result.errors and fix is None:
        raise typer.Exit(3)


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
        out_option("FILE", "Write plan.json here, to be edited and given to `train --plan`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print how a model would be made: every decision with its reason."""
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
        typer.echo(f"{name.replace('_', ' ')}: {shorten_value(decision.value)}")
        typer.echo(f"    because {with_options(decision.because)}")
    if out is not None:
        typer.echo(f"Written to {out}")


def train(
    data: Data,
    *,
    out: Annotated[Path, out_option("MODEL", "Folder for the model.")],
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
        int | None, option("Number of optimiser steps, instead of minutes: reproducible.")
    ] = None,
    fold: Annotated[
        int, typer.Option(help="Number of the fold to validate on, from 0 (usually to 4).")
    ] = 0,
    folds: Annotated[
        int | None, option("Number of folds; all are trained and joined into one model.")
    ] = None,
    resume: Annotated[
        bool, flag("--resume", "Continue from the checkpoints in the folder.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Seed of folds, initial weights, sampling and augmentation.")
    ] = 0,
    device: Device = "auto",
    memory: Memory = None,
    plan: Annotated[
        Path | None, option("Train by this plan.json.", "--plan", metavar="FILE")
    ] = None,
    patients: Patients = None,
    as_json: Json = False,
) -> None:
    """Train a model, validate it on cases that it does not learn from, and write its folder."""
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
    if as_json:
        print_json(api.to_json(model.metrics))
        return
    _print_metrics(model.metrics)
    typer.echo(f"Model: {out}   (model card: {out / 'MODEL_CARD.md'})")
    print_curves(out)
    typer.echo(f"Next: {program_name()} predict {out} IMAGES -o predictions")


def tune(
    model: Annotated[Path, argument("MODEL", "Model folder of a segmentation; it is not changed.")],
    data: Annotated[
        Path, argument("DATA", "Annotated cases; those that it was trained on are left out.")
    ],
    *,
    out: Annotated[Path, out_option("MODEL2", "New folder for the tuned model.")],
    cases: Annotated[int | None, option("Maximum number of cases, spread evenly.")] = None,
    minutes: Annotated[float | None, option("Time limit in wall-clock minutes.")] = None,
    patients: Patients = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn post-processing on cases that a segmentation model was not trained on."""
    from hilum import api

    with shown_progress() as shown:
        result = api.tune(
            model,
            data,
            out,
            cases=cases,
            minutes=minutes,
            patients=patients,
            device=device,
            listener=shown.listener,
        )
    if as_json:
        print_json(result.tuning.model_dump_json(indent=2))
        return
    metrics = result.model.metrics
    _print_metrics(metrics)
    for note in metrics.notes if metrics is not None else ():
        typer.echo(f"  note: {note}")
    typer.echo(f"Model: {out}   (all results: {out / 'tuning.json'})")


def _print_metrics(metrics: "ModelMetrics | None") -> None:
    """Print a model's main metrics with their intervals."""
    if metrics is None:
        return
    typer.echo(f"Measured on {metrics.measured_on}:")
    for metric in metrics.metrics:
        if metric.name in _PRINTED:
            number = f"{_PRINTED[metric.name]} {format_number(metric.mean)}"
            interval = format_interval(metric.lower, metric.upper)
            typer.echo(f"  {metric.region}: {number} {interval}")
