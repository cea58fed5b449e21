"""`hilum tune`."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.commands import app
from hilum.cli.options import Device, Json, Patients
from hilum.cli.output import format_interval, format_number, print_json, shown_progress


@app.command()
def tune(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Model folder of a segmentation; it stays.", show_default=False
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Annotated cases that it was not trained on.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="MODEL2",
            help="New folder for the tuned model.",
            show_default=False,
        ),
    ],
    cases: Annotated[
        int | None,
        typer.Option(help="Use at most so many cases, spread evenly.", show_default=False),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Wall-clock minutes that may be taken.", show_default=False)
    ] = None,
    patients: Patients = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn post-processing and overlap on cases that a segmentation model has not seen."""
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
    if metrics is not None:
        typer.echo(f"Measured on {metrics.measured_on}:")
        for metric in metrics.metrics:
            if metric.name == "dice":
                typer.echo(
                    f"  {metric.region}: Dice {format_number(metric.mean)}"
                    f" {format_interval(metric.lower, metric.upper)}"
                )
        for note in metrics.notes:
            typer.echo(f"  note: {note}")
    typer.echo(f"Model: {out}   (every figure: {out / 'tuning.json'})")
