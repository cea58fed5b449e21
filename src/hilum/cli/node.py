"""The command `node`."""

import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hilum.cli.options import Device, flag, option
from hilum.cli.output import MessageFormatter

if TYPE_CHECKING:
    from hilum.node import Node


_TICK_SECONDS = 0.25


def node(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]", help="Settings, a TOML file; options replace what it says."
        ),
    ] = None,
    *,
    model: Annotated[Path | None, option("Folder of a model, instead of CONFIG's.")] = None,
    port: Annotated[
        int | None, option("Port to receive images at (default: 11112; 0: any free).")
    ] = None,
    title: Annotated[
        str | None, option("Application entity title of this node (default: HILUM).")
    ] = None,
    folder: Annotated[
        Path | None,
        option("Folder for images, queue and results (default: hilum-node).", metavar="DIR"),
    ] = None,
    formats: Annotated[
        list[str] | None,
        option(
            "With --model: format of the results (default: dicom-seg of a segmentation, dicom-sr of"
            " a classification).",
            "--format",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        option("With --model: rule for the series that it takes, see `hilum series`.", "--series"),
    ] = None,
    to: Annotated[
        list[str] | None,
        option("Where results go: TITLE@HOST:PORT, or the address of a DICOMweb service."),
    ] = None,
    quiet_seconds: Annotated[
        float | None,
        option("Seconds without a new image after which a study is complete (default: 60)."),
    ] = None,
    status_port: Annotated[
        int | None, option("Port of the status page and metrics (default: none).")
    ] = None,
    allow: Annotated[
        list[str] | None, option("Application entity title that may connect (default: any).")
    ] = None,
    reserve: Annotated[
        str | None, option("Free disk space to be left (default: 2GB).", metavar="AMOUNT")
    ] = None,
    retry_dead: Annotated[
        bool, flag("--retry-dead", "Try again predictions and sendings that were given up.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Receive studies from a PACS or scanner, run models on them, send the results.

    Stops at Ctrl-C or SIGTERM; what is not finished goes on at the next start.
    """
    from hilum.node import Node, make_config, parse_destination, read_config

    settings = {} if config is None else read_config(config)
    settings.setdefault("folder", "hilum-node")
    given = {
        "port": port,
        "title": title,
        "folder": folder,
        "quiet_seconds": quiet_seconds,
        "status_port": status_port,
        "allow": allow or None,
        "reserve": reserve,
        "device": None if device == "auto" else device,
        "destinations": [parse_destination(one).model_dump() for one in to] if to else None,
    }
    if model is not None:
        served = {"name": model.absolute().name, "folder": model, "rule": rule or ""}
        given["models"] = [served | ({"formats": formats} if formats else {})]
    settings |= {name: value for name, value in given.items() if value is not None}
    for handler in logging.root.handlers:  # the log is all that a service shows
        handler.setLevel(logging.INFO)
        handler.setFormatter(MessageFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    _run_until_stopped(Node(make_config(settings), retry_dead=retry_dead))


def _run_until_stopped(running: "Node") -> None:
    """Wait for a signal, then stop the node."""
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda came, _: signals.append(came))
    config = running.config
    typer.echo(f"{config.title} listens on port {running.port}; folder: {config.folder}")
    if running.status_port is not None:
        typer.echo(f"Status page: http://{config.status_host}:{running.status_port}/")
    if not config.destinations:
        typer.echo("No destination: results stay in the folder.")
    while not signals:  # one that another thread got does not end a wait for a lock
        time.sleep(_TICK_SECONDS)
    running.stop()
    typer.echo("Stopped.")
