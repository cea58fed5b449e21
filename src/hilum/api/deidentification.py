"""The verb that takes patients' identities out of DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hilum.deidentification import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilum.deidentification import DeidentificationReport

DeidentifyOptions = Options


def deidentify(  # noqa: PLR0913  (the verb's options, keyword-only)
    source: Path | str,
    out: Path | str,
    *,
    key: Path | str,
    options: DeidentifyOptions | None = None,
    report: Path | str | None = None,
    search: bool = True,
    uid_map: bool = False,
    workers: int | None = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> DeidentificationReport:
    """De-identify DICOM files by PS3.15 Annex E, then search the output for what was removed.

    Args:
        source: file, folder or zip archive; never changed.
        out: folder for the files. Names in it are new ones.
        key: file with the secret from which new UIDs, patient ids and moved dates follow; made
            where there is none. Whoever has it can link them to the old ones.
        options: of the profile; by default as little as it allows is kept, and dates are moved.
        report: folder for the report, which holds identifiers; None: `OUT_private_report`, beside
            `out`.
        search: search the output for every removed value.
        uid_map: write old and new UIDs beside the report.
        workers: number of processes; None for all processors where the files have 64 MiB and more.
            A script that asks for several must be one that can be imported: its calls stand below
            `if __name__ == "__main__":`.
        progress: called as progress(stage, done, total).

    Raises:
        UsageError: no such source, folders that lie in each other, or files in the way.
        DataError: no file could be de-identified, or the key file is none.
    """
    from hilum.deidentification import deidentify_folder
    from hilum.engines.host import usable_cpus

    out = Path(out)
    place = out if out.name.strip(".") else out.resolve()  # "." and ".." have no name to add to
    beside = place.with_name(f"{place.name}_private_report") if report is None else Path(report)
    return deidentify_folder(
        Path(source),
        out,
        Path(key),
        options=options or DeidentifyOptions(),
        report=beside,
        search=search,
        uid_map=uid_map,
        workers=workers,
        most_workers=usable_cpus(),
        progress=progress,
    )
