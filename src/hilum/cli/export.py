"""`hilum export`."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.commands import app
from hilum.cli.options import Json, Patients
from hilum.cli.output import print_json, shown_progress


@app.command()
def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Model folder that `hilum train` wrote.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FOLDER", help="A new folder.", show_default=False),
    ],
    formats: Annotated[str, typer.Option("--format", help="openvino, onnx or both.")] = "openvino",
    precision: Annotated[
        str,
        typer.Option(
            help="How the weights are stored: auto (float32), float32, float16; int8 needs --data."
        ),
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Of int8: annotated cases that set its ranges and judge it.",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        float | None,
        typer.Option(
            help="Of int8: mean Dice that a label may lose. [default: 0.005]", show_default=False
        ),
    ] = None,
    patients: Patients = None,
    as_json: Json = False,
) -> None:
    """Write a segmentation model as one folder that `hilum predict` runs without torch.

    What is written is checked.
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
    of = "the model" if record is None else "the quantised network as it was accepted"
    for engine, difference in made.manifest.differences.items():
        typer.echo(
            f"{engine}: written and checked; it differs from {of} by {difference:.1g} of the"
            " logits' spread"
        )
    if record is not None:
        typer.echo(f"int8 differs from float32 by {record.distance:.2g} of the logits' spread")
        typer.echo(f"Measured on {len(record.validated_on)} cases of {record.patients} patients:")
        for text in (*(one.in_words for one in record.labels), *record.notes):
            typer.echo(f"  {text}")
    typer.echo(f"Exported: {out}   (how to install it: {out / 'README.md'})")
    typer.echo(f"Next: hilum predict {out} IMAGES -o predictions")
