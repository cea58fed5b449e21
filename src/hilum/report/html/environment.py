"""Versions, options, time and hashes of a run and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.report.html.document import Section, Table
from hilum.report.html.values import short

if TYPE_CHECKING:
    from hilum.inference.run_report import RunReport
    from hilum.report.html.document import Block
    from hilum.report.html.model_folder import ModelFolder

_TITLE = "Environment and hashes"


def environment_section(folder: ModelFolder) -> Section:
    """Show what the model was made with, and the hashes of its files."""
    manifest = folder.manifest
    rows = tuple((name, str(one.bytes), one.sha256) for name, one in manifest.files.items())
    hashes = Table(f"Files of model {manifest.id}", ("file", "bytes", "SHA-256"), rows, wrap=True)
    text = (
        f"Model {manifest.id}, made on {manifest.created} by hilum {manifest.hilum}. All hashes"
        f" were compared with {manifest.file_name} when this report was written: no file was"
        " altered."
    )
    if folder.run is None:
        blocks: tuple[Block, ...] = (hashes,)
        text += " The folder has no run.json: device, versions and options are unknown."
    else:
        blocks = (*run_tables(folder.run), hashes)
    return Section(_TITLE, (text,), blocks)


def run_section(run: RunReport) -> Section:
    """Show what a run was made with."""
    return Section("Environment", blocks=run_tables(run))


def run_tables(run: RunReport) -> tuple[Table, ...]:
    """Return machine, versions and options of a run."""
    memory = f"{run.peak_memory_gb:.3g} GiB"
    if run.peak_device_memory_gb is not None:
        memory += f", on the device {run.peak_device_memory_gb:.3g} GiB"
    machine = [
        ("started", run.started),
        ("took", duration(run.seconds)),
        ("device", run.device),
        (
            "engine and precision",
            " in ".join(filter(None, (run.engine, run.precision))) or "unknown",
        ),
        ("largest memory", memory),
        ("system", run.platform),
        ("Python", run.python),
        *(
            (f"seed, {name}" if name != "seed" else name, str(one))
            for name, one in run.seeds.items()
        ),
    ]
    options = tuple((name.replace("_", " "), short(one)) for name, one in run.options.items())
    head = ("what", "value")
    return (
        Table("Run", head, tuple(machine), wrap=True),
        Table("Versions", ("package", "version"), tuple(run.packages.items())),
        *((Table("Options", ("option", "value"), options, wrap=True),) if options else ()),
    )


def duration(seconds: float) -> str:
    """Write seconds for people."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} minutes" if seconds < 5400 else f"{seconds / 3600:.3g} hours"
