"""The command line's root: its options, `doctor`, `demo`, and how errors become exit codes."""

import io
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.deidentify import deidentify
from hilum.cli.evaluation import compare, evaluate, report
from hilum.cli.node import node
from hilum.cli.options import Json
from hilum.cli.output import (
    MessageFormatter,
    describe_paths,
    fail,
    files_at_the_end,
    format_interval,
    format_number,
    print_curves,
    print_json,
    program_name,
    shown_progress,
    with_options,
)
from hilum.cli.prediction import export, import_nnunet, predict
from hilum.cli.studies import series
from hilum.cli.training import check, plan, train, tune
from hilum.errors import HilumError, missing_package

app = typer.Typer(
    name="hilum",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a bug of hilum, 2 usage, 3 the data, 4 the model, 5 resources.",
)


def _print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        import hilum

        typer.echo(f"hilum {hilum.__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Deep learning on medical images: train, evaluate and run segmentation and classification.

    Not a medical device.
    """


def demo(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="New folder.")] = Path(
        "out/demo"
    ),
    minutes: Annotated[
        float,
        typer.Option(help="Minutes of training the segmentation; the classification takes one."),
    ] = 3.0,
    as_json: Json = False,
) -> None:
    """Train, predict and evaluate on synthetic CT, with pictures, in about 5 minutes."""
    from hilum import api

    with shown_progress() as shown:
        result = api.demo(out, minutes=minutes, listener=shown.listener)
    if as_json:
        print_json(result.evaluation.record.model_dump_json(indent=2))
        return
    for region in result.evaluation.summary.regions:
        dice = format_number(region.metrics["dice"].mean)
        typer.echo(f"{region.region}: Dice {dice} on {region.cases} test studies")
    auroc = result.class_evaluation.record.summary["auroc"]
    interval = format_interval(auroc.low, auroc.high)
    typer.echo(f"malignant nodules: AUROC {format_number(auroc.value)} {interval}")
    typer.echo(f"Pictures: {describe_paths(result.pictures)}")
    print_curves(out / "model")
    typer.echo(f"All scores: {out / 'evaluation' / 'summary.md'}")
    typer.echo(f"Model card: {out / 'model' / 'MODEL_CARD.md'}")
    for page in ("report", "model_report", "nodule_report", "nodule_model_report"):
        typer.echo(f"Open in a browser: {(out / f'{page}.html').resolve().as_uri()}")
    name = program_name()
    typer.echo(f"Next, with your data: {name} check DATA, {name} train DATA -o MODEL --minutes 20")


def doctor(*, as_json: Json = False) -> None:
    """Print this machine's versions, devices and memory, e.g. for a bug report."""
    from hilum import api

    facts = api.environment()
    if as_json:
        print_json(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:18} {value}")


for verb in (
    check,
    plan,
    train,
    predict,
    evaluate,
    compare,
    report,
    tune,
    export,
    deidentify,
    series,
    node,
    demo,
    doctor,
):
    app.command()(verb)
imports = typer.Typer(no_args_is_help=True, help="Import models of other programs.")
imports.command("nnunet")(import_nnunet)
app.add_typer(imports, name="import")


@contextmanager
def _clean_end_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: temporary folders are removed."""
    former = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def main() -> None:
    """Run the command line; every error becomes a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no UTF-8
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MessageFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    try:
        with files_at_the_end(), _clean_end_at_sigterm():
            app()
    except HilumError as error:
        fail(with_options(str(error)), error.exit_code)
    except MemoryError:
        fail(
            "Out of memory\nCure: close other programs, crop the images to the part that matters,"
            " or use a machine with more memory",
            5,
        )
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        fail(f"{what}\nCure: check that the file or folder exists and may be used", 5)
    except Exception as error:
        missing = missing_package(error) if isinstance(error, ModuleNotFoundError) else None
        if missing is not None:
            fail(str(missing), missing.exit_code)
        logging.getLogger("hilum").exception(
            "This is a bug of hilum: please report it with what follows and `hilum doctor`."
        )
        raise SystemExit(1) from None
