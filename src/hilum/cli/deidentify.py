"""The command that takes patients' identities out of DICOM files: `deidentify`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.options import Json, argument, flag, option, out_option
from hilum.cli.output import print_json, shown_progress, with_options


class Dates(StrEnum):
    """Treatments of dates."""

    shift = "shift"
    keep = "keep"
    remove = "remove"


def deidentify(
    source: Annotated[
        Path, argument("IN", "DICOM file, zip archive, or folder with any files below it.")
    ],
    *,
    out: Annotated[Path, out_option("DIR", "Folder for the files, which get new names.")],
    key: Annotated[
        Path,
        option(
            "Key file, made where there is none: new UIDs, patient ids and dates follow from it.",
            metavar="FILE",
        ),
    ],
    dates: Annotated[
        Dates,
        typer.Option(
            help="shift: all dates of a patient by the same number of days; keep; or remove them"
            " and all times, after which no SUV can be computed."
        ),
    ] = Dates.shift,
    retain_uids: Annotated[bool, flag("--retain-uids", "Keep UIDs.")] = False,
    retain_device: Annotated[
        bool, flag("--retain-device", "Keep serial numbers and names of devices.")
    ] = False,
    retain_institution: Annotated[
        bool, flag("--retain-institution", "Keep the institution's name and address.")
    ] = False,
    retain_patient: Annotated[
        bool,
        flag(
            "--retain-patient",
            "Keep sex, age (at most 90), size and weight: SUV needs the weight.",
        ),
    ] = False,
    retain_safe_private: Annotated[
        bool,
        flag("--retain-private", "Keep private attributes that the standard lists as safe."),
    ] = False,
    clean_descriptors: Annotated[
        bool,
        flag("--clean-descriptors", "Keep descriptions, without names, ids and long numbers."),
    ] = False,
    clean_graphics: Annotated[
        bool, flag("--clean-graphics", "Keep graphic annotations, their texts cleaned.")
    ] = False,
    clean_structured_content: Annotated[
        bool,
        flag("--clean-reports", "Keep the content of reports, their texts cleaned."),
    ] = False,
    report: Annotated[
        Path | None,
        option(
            "Folder for the report, which holds identifiers (default: OUT_private_report).",
            metavar="DIR",
        ),
    ] = None,
    no_search: Annotated[
        bool, flag("--no-search", "Do not search the output for the removed values.")
    ] = False,
    uid_map: Annotated[
        bool, flag("--uid-map", "Write old and new UIDs beside the report.")
    ] = False,
    workers: Annotated[
        int | None,
        option("Number of processes (default: 1, and one a processor for 64 MiB and more)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """De-identify DICOM files by PS3.15 Annex E, then search the output for what was removed.

    Exit code 3 if a file failed, or if a removed value was found again.
    """
    from hilum import api

    options = api.DeidentifyOptions(
        dates=dates.value,
        retain_uids=retain_uids,
        retain_device=retain_device,
        retain_institution=retain_institution,
        retain_patient=retain_patient,
        retain_safe_private=retain_safe_private,
        clean_descriptors=clean_descriptors,
        clean_graphics=clean_graphics,
        clean_structured_content=clean_structured_content,
    )
    with shown_progress() as shown:
        result = api.deidentify(
            source,
            out,
            key=key,
            options=options,
            report=report,
            search=not no_search,
            uid_map=uid_map,
            workers=workers,
            progress=lambda stage, done, total: shown.advance(stage, done, total, ""),
        )
    if as_json:
        print_json(result.model_dump_json(indent=2))
    else:
        typer.echo(with_options(result.summary()))
        typer.echo(f"Output: {out}")
        typer.echo(f"Report, with names and numbers of patients: {result.place}")
    if result.failed or result.found:
        raise typer.Exit(3)
