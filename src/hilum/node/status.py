"""Status page and metrics of a node; they name studies by their UID and hold no patient data."""

from __future__ import annotations

import html
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily

from hilum.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client import Metric

    from hilum.node.config import NodeConfig
    from hilum.node.queue import Queue, StudyState

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="5"><style>body{{font:15px sans-serif;margin:2em}}
td,th{{text-align:left;padding:.2em .9em;border-bottom:1px solid #ccc}}</style>
<h1>{title}</h1><p>Port {port}. Disk: {free:.1f} GB free, nothing is accepted below {reserve:.1f}
GB. <a href="metrics">Metrics</a></p><h2>Totals</h2><table>{totals}</table><h2>Studies</h2>
<table><tr><th>study<th>model<th>state<th>images<th>last image<th>attempts<th>reason</tr>
{studies}</table></html>
"""


class Counters:
    """Counts since the node was started, and the registry that Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._received = Counter(
            "hilum_node_received", "Instances received.", registry=self.registry
        )
        self._bytes = Counter(
            "hilum_node_received_bytes", "Bytes of data sets received.", registry=self.registry
        )
        self._refused = Counter(
            "hilum_node_refused", "Instances refused.", ["status"], registry=self.registry
        )
        self._runs = Counter(
            "hilum_node_predictions", "Predictions.", ["model", "status"], registry=self.registry
        )
        self._seconds = Counter(
            "hilum_node_prediction_seconds",
            "Seconds of predicting.",
            ["model"],
            registry=self.registry,
        )
        self._sent = Counter(
            "hilum_node_sent", "Results sent.", ["destination", "status"], registry=self.registry
        )

    def received(self, size: int) -> None:
        """Count an instance that was acknowledged."""
        self._received.inc()
        self._bytes.inc(size)

    def refused(self, status: int) -> None:
        """Count an instance that was not."""
        self._refused.labels(f"0x{status:04X}").inc()

    def predicted(self, model: str, status: str, seconds: float) -> None:
        """Count a prediction."""
        self._runs.labels(model, status).inc()
        self._seconds.labels(model).inc(seconds)

    def sent(self, destination: str, status: str) -> None:
        """Count an attempt to send a result."""
        self._sent.labels(destination, status).inc()


class _QueueMetrics:
    """Reads gauges from the queue whenever Prometheus asks."""

    def __init__(self, queue: Queue, folder: Path) -> None:
        self._queue, self._folder = queue, folder

    def collect(self) -> Iterator[Metric]:
        """Read the gauges."""
        counts = self._queue.counts()
        runs = GaugeMetricFamily(
            "hilum_node_runs", "Studies by model, in each state.", labels=["state"]
        )
        for state, number in counts["runs"].items():
            runs.add_metric([state], number)
        sent = GaugeMetricFamily(
            "hilum_node_deliveries", "Results in each state.", labels=["destination", "state"]
        )
        for key, number in counts["deliveries"].items():
            destination, _, state = key.rpartition(" ")
            sent.add_metric([destination, state], number)
        yield runs
        yield sent
        yield GaugeMetricFamily(
            "hilum_node_instances", "Instances on the disk.", value=counts["instances"]["stored"]
        )
        yield GaugeMetricFamily(
            "hilum_node_free_bytes", "Free bytes on the disk.", value=_free(self._folder)
        )


class StatusServer:
    """Serves the status page at / and metrics at /metrics.

    Raises:
        ResourceError: the port cannot be listened on.
    """

    def __init__(self, config: NodeConfig, port: int, queue: Queue, counters: Counters) -> None:
        """Listen on the port, and answer requests from now on."""
        counters.registry.register(_QueueMetrics(queue, config.folder))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Serve the status page or the metrics; 404 for any other address."""
                if self.path == "/metrics":
                    kind, body = "text/plain; version=0.0.4", generate_latest(counters.registry)
                elif self.path == "/":
                    kind, body = "text/html; charset=utf-8", status_page(config, port, queue)
                else:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log no requests."""

        try:
            self._server = ThreadingHTTPServer(
                (config.status_host, config.status_port or 0), Handler
            )
        except OSError as error:
            raise ResourceError(
                f"port {config.status_port} cannot be listened on: {error.strerror}",
                cure="choose another port for the status page",
            ) from error
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def status_page(config: NodeConfig, port: int, queue: Queue) -> bytes:
    """Write the page of totals and the latest studies as HTML."""
    counts = queue.counts()
    totals = [
        *(f"<tr><td>{key}<td>{number}</tr>" for key, number in counts["runs"].items()),
        *(
            f"<tr><td>{html.escape(key)}<td>{number}</tr>"
            for key, number in counts["deliveries"].items()
        ),
        f"<tr><td>instances stored<td>{counts['instances']['stored']}</tr>",
    ]
    states = queue.states(config.quiet_seconds, time.time())
    return _PAGE.format(
        title=html.escape(f"hilum node {config.title}"),
        port=port,
        free=_free(config.folder) / 1e9,
        reserve=config.reserve / 1e9,
        totals="".join(totals),
        studies="\n".join(map(_row, states)),
    ).encode()


def _row(state: StudyState) -> str:
    """Write a study's state as a row of the page."""
    changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.changed))
    cells = (
        state.study,
        state.model,
        state.state,
        state.images,
        changed,
        state.attempts,
        state.reason,
    )
    return "<tr>" + "".join(f"<td>{html.escape(str(one))}" for one in cells) + "</tr>"


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
