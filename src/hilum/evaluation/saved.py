"""Folders of evaluations: tables, summary.md and, last, summary.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from hilum.errors import DataError, UsageError
from hilum.evaluation.estimates import estimates_text
from hilum.files import OutputFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.evaluation.estimates import Estimate

CASES, ESTIMATES, SUMMARY, SUMMARY_TEXT = "cases.csv", "estimates.csv", "summary.json", "summary.md"
OTHER_TOOLS = "other_tools.csv"
RecordT = TypeVar("RecordT", bound=BaseModel)


def write_evaluation(
    folder: Path | str,
    tables: Mapping[str, str],
    estimates: Iterable[Estimate],
    page: str,
    record: BaseModel,
) -> None:
    """Write tables, by file name, estimates.csv, summary.md and, last, summary.json.

    Raises:
        UsageError: a file of these names that no evaluation wrote is in the way.
        ResourceError: the folder cannot be written, or another process writes to it.
    """
    summary = record.model_dump_json(indent=2) + "\n"
    table = estimates_text(estimates)
    with OutputFolder(folder, "evaluate") as out:
        out.write({**tables, ESTIMATES: table, SUMMARY_TEXT: page, SUMMARY: summary})


def read_record(folder: Path | str, kind: type[RecordT]) -> RecordT:
    """Read the summary.json of an evaluation.

    Raises:
        UsageError: the folder holds no evaluation.
        DataError: the file is damaged or of another version.
    """
    source = Path(folder)
    for name in (CASES, SUMMARY):
        if not (source / name).is_file():
            raise UsageError(
                f"there is no {name} in {source}",
                needed="a folder that `hilum evaluate` wrote",
                cure="evaluate predictions first, and give the folder of that evaluation",
            )
    try:
        return kind.model_validate_json((source / SUMMARY).read_text(encoding="utf-8"))
    except ValidationError as error:
        raise DataError(
            f"{source / SUMMARY} is damaged or of another version: {error}",
            needed="an evaluation of version 1",
            cure="evaluate again with this version of hilum",
        ) from error
