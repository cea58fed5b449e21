"""The commands that judge predictions: `evaluate`, `compare`, `report`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.options import (
    ClassesOption,
    Json,
    LabelOption,
    PositiveOption,
    argument,
    flag,
    labelling_of,
    option,
    out_option,
)
from hilum.cli.output import print_json, shown_progress, with_options

_ROWS = 12
"""Rows of a table of differences that `compare` prints at most."""


class Surface(StrEnum):
    """Definitions of a surface."""

    voxel = "voxel"
    mesh = "mesh"


def evaluate(
    predictions: Annotated[
        Path, argument("PREDICTIONS", "Folder of predicted label maps, or of predictions.csv.")
    ],
    reference: Annotated[
        Path,
        argument(
            "REFERENCE", "Data set, folder of reference label maps, or table of case and label."
        ),
    ],
    *,
    out: Annotated[Path, out_option("DIR", "Folder for cases.csv, summary.json and summary.md.")],
    tolerance: Annotated[
        list[float] | None,
        option(
            "Tolerance of the normalised surface distance (default: 2). Several times: the first is"
            " that of nsd, each further one has a column nsd_<MM>mm.",
            metavar="MM",
        ),
    ] = None,
    surface: Annotated[
        Surface,
        typer.Option(help="Surfaces between voxels, as surface-distance has them, or as a mesh."),
    ] = Surface.voxel,
    lesion_overlap: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of a lesion that must be covered to be found."),
    ] = 0.1,
    also: Annotated[
        list[str] | None,
        option(
            "Further metric: boundary_iou, or cldice (centreline Dice of tubes). May be given"
            " several times.",
            "--metric",
            metavar="NAME",
        ),
    ] = None,
    instances: Annotated[
        bool,
        flag(
            "--instances",
            "The ids of the label maps are objects of one kind (nuclei), not labels.",
        ),
    ] = False,
    other_tools: Annotated[
        bool,
        flag(
            "--other-tools",
            "Also print what MONAI, medpy, surface-distance and nnU-Net would for these masks.",
        ),
    ] = False,
    allow_missing: Annotated[
        bool, flag("--allow-missing", "Leave out cases without a prediction.")
    ] = False,
    cross_validated: Annotated[
        bool,
        flag(
            "--cross-validated",
            "The cases are those of the folds that the models were trained on: say so beside the"
            " figures, which are then optimistic.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        option(
            "For label maps in a plain folder: the data set, or a table of case and patient, that"
            " names the patients.",
            metavar="DATA",
        ),
    ] = None,
    label: LabelOption = None,
    classes: ClassesOption = None,
    positive: PositiveOption = None,
    subgroups: Annotated[
        list[str] | None,
        option(
            "Column of the reference whose values are evaluated separately (default: those that"
            " describe a case).",
            "--subgroup",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        option(
            "For two classes or findings: probability from which a case counts as positive.",
            metavar="P",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score predictions with confidence intervals: overlap, surface, volume and lesions.

    Of classes: ROC, calibration and decision curves. Both in subgroups of the cases.
    """
    from hilum import api

    with shown_progress() as shown:
        result = api.evaluate(
            predictions,
            reference,
            out,
            tolerance_mm=tolerance or 2.0,
            surface=surface.value,
            lesion_overlap=lesion_overlap,
            also=also or (),
            instances=instances,
            other_tools=other_tools,
            allow_missing=allow_missing,
            cross_validated=cross_validated,
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
        typer.echo(with_options(result.markdown()))
        typer.echo(f"Written to {out}")


def compare(
    models: Annotated[
        list[str],
        argument(
            "EVALUATION...",
            "Folder that `hilum evaluate` wrote, one a model, all of the same cases. Several runs"
            " of a model, such as other seeds, with commas between: A1,A2,A3.",
        ),
    ],
    *,
    out: Annotated[
        Path | None, out_option("DIR", "Folder for comparison.json and comparison.md.")
    ] = None,
    margins: Annotated[
        list[str] | None,
        option(
            "Largest difference of a metric that does not matter, e.g. dice=0.01: tests whether"
            " models are equivalent. May be given for several metrics.",
            "--margin",
            metavar="METRIC=NUMBER",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare models by paired tests of difference and, on request, of equivalence.

    More than two are also ranked, with the stability of the ranks; of several runs of a model the
    spread over runs is set beside that over patients.
    """
    from hilum import api

    result = api.compare(*models, margins=margins or (), out=out)
    if as_json:
        print_json(result.model_dump_json(indent=2))
        return
    typer.echo(result.markdown(most=_ROWS))
    written = "All rows: --out DIR writes them" if out is None else f"Written to {out}"
    typer.echo(f"{written} (comparison.md, comparison.json)")


def report(
    source: Annotated[
        Path,
        argument(
            "FOLDER",
            "Model, predictions, evaluation or comparison: a folder that `hilum train`, `predict`,"
            " `evaluate` or `compare` wrote.",
        ),
    ],
    *,
    out: Annotated[Path, out_option("FILE", "HTML file to write.")],
    images: Annotated[
        Path | None,
        option(
            "Images of the cases, of predictions or where the references are a plain folder:"
            " data set, folder of images or of DICOM series.",
            metavar="FOLDER",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        option(
            "Folder for the same plots as PNG and SVG, and the tables as CSV and LaTeX.",
            "--figures",
            metavar="DIR",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model, predictions, an evaluation or a comparison as one HTML file.

    It opens without a network.
    """
    from hilum import api

    api.report(source, out, images=images, plots=plots)
    if as_json:
        print_json(json.dumps({"report": str(out)}))
    else:
        typer.echo(f"Open {out} in a browser.")
