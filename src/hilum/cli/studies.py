"""The command that lists DICOM series: `series`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.options import Device, Json, argument, option
from hilum.cli.output import print_json, with_options
from hilum.errors import counted

if TYPE_CHECKING:
    from hilum.api import SeriesListing
    from hilum.api.studies import SeriesRow, StudyRecord

_HEAD = ("series", "modality", "description", "kind", "slices", "mm (Z Y X)", "verdict")
_WIDEST = 36
"""Letters of a column but the last."""


def series(
    folder: Annotated[Path, argument("FOLDER", "DICOM files at any depth, a zip, or a DICOMDIR.")],
    *,
    model: Annotated[
        Path | None, option("Also say which series this model takes, and why.", metavar="MODEL")
    ] = None,
    rule: Annotated[
        str | None,
        option(
            "Number, UID, or rule as 'description~portal and slices>50': which series it takes.",
            "--series",
            metavar="RULE",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """List the series of DICOM studies with a verdict each, and which one a model takes."""
    from hilum import api

    listing = api.series(folder, model=model, rule=rule, device=device)
    if as_json:
        print_json(listing.model_dump_json(indent=2))
        return
    for study in listing.studies:
        _print_study(study)
    _print_files(listing)


def _print_study(study: "StudyRecord") -> None:
    """Print the table of a study, and the choice."""
    about = "  ".join(
        word for word in (f"patient {study.patient}", study.date, study.folder) if word
    )
    typer.echo(f"Study: {about}")
    table = [_HEAD, *(_cells(row) for row in study.series)]
    widths = [max(len(line[n]) for line in table) for n in range(len(_HEAD) - 1)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        typer.echo(f"  {'  '.join([*cells, line[-1]])}".rstrip())
    for row in study.series:
        for channel, score in row.scores.items():
            if not score.excluded:
                reasons = "; ".join(score.reasons)
                typer.echo(f"  {row.rule} for {channel}: {score.points:.3g} points: {reasons}")
    for taken in study.taken:
        channel = f" for {taken.channel}" if taken.channel else ""
        typer.echo(f"Taken{channel}: {taken.title}, because: {taken.because}")
    if study.error:
        typer.echo(f"Taken: none. {with_options(study.error)}")
    typer.echo("")


def _cells(row: "SeriesRow") -> tuple[str, ...]:
    """Return the cells of a volume."""
    spacing = " x ".join(f"{value:.3g}" for value in row.spacing_mm or ())
    verdict = f"refused: {row.refused}" if row.refused else "; ".join(("ok", *row.notes))
    shown = (row.rule, row.modality, row.description, row.kind, str(row.slices), spacing)
    return (*(_cut(cell) for cell in shown), " ".join(verdict.split()))


def _cut(cell: str) -> str:
    """Cut a cell of a table, but for the UID that names a series."""
    return cell if len(cell) <= _WIDEST or cell[0].isdigit() else f"{cell[: _WIDEST - 3]}..."


def _print_files(listing: "SeriesListing") -> None:
    """Print how many files belong to series, and why others do not."""
    files = listing.files
    typer.echo(f"{counted(files.taken, 'file')} in {counted(len(listing.studies), 'study')}")
    for group in (*files.left_out, *files.unreadable):
        names = ", ".join(group.names) + (", ..." if group.count > len(group.names) else "")
        typer.echo(f"{counted(group.count, 'file')} left out: {group.reason}: {names}")
