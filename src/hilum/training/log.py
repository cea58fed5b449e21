"""Training logs for people: log.csv, curves.png, and TensorBoard events if installed."""

from __future__ import annotations

import csv
import io
import math
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import fmean, variance
from typing import TYPE_CHECKING

from hilum.errors import ResourceError
from hilum.files import atomic_path, atomic_write_text
from hilum.training.checkpoint import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter

_FEW_ROWS = 40
"""Up to so many rows each is drawn with a marker: a line through one row would not be seen."""


class Log:
    """The log of one training in a folder; rows are kept in memory, files are written whole.

    Args:
        folder: where log.csv and curves.png go, and tensorboard/ where the package tensorboard is
            installed.
        rows: those of the sessions before.
    """

    def __init__(self, folder: Path, rows: Sequence[Row] = ()) -> None:
        self.folder, self.rows = folder, list(rows)
        self._events: SummaryWriter | None = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            first = self.rows[-1].step + 1 if self.rows else 0
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first)

    def add(self, row: Row) -> None:
        """Add a row to the log, and to TensorBoard's event file where there is one."""
        self.rows.append(row)
        if self._events is None:
            return
        with self._writing():
            for name in ("loss", "learning_rate", "gradient_norm", "score"):
                value = getattr(row, name)
                if value is not None:
                    self._events.add_scalar(name, value, row.step)

    def write(self) -> None:
        """Write log.csv."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Row.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in self.rows)
        atomic_write_text(self.folder / "log.csv", text.getvalue())

    def close(self) -> None:
        """Write everything, the picture too."""
        self.write()
        if self._events is not None:
            with self._writing():
                self._events.close()
        if self.rows:
            plot_training(self.rows, self.folder / "curves.png")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an error that TensorBoard raises, of this call or an earlier one, into ours."""
        try:
            yield
        except OSError as error:
            raise ResourceError(
                f"{self.folder / 'tensorboard'} cannot be written: {error.strerror or error}",
                needed="space on the disk",
                cure="free some space, then go on with resume=True",
            ) from error


def plot_training(rows: Sequence[Row], path: Path) -> None:
    """Draw loss, validation score and learning rate over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    steps = [row.step for row in rows]
    marker = "o" if len(rows) <= _FEW_ROWS else ""
    top.plot(steps, [row.loss for row in rows], color="#9ecae1", linewidth=1)
    top.plot(
        steps,
        _smooth([row.loss for row in rows]),
        color="#2171b5",
        marker=marker,
        markersize=3,
        label="training loss (smoothed)",
    )
    top.set_ylabel("loss")
    measured = [(row.step, row.score) for row in rows if row.score is not None]
    if measured:
        right = top.twinx()
        right.plot(
            *zip(*measured, strict=True),
            color="#238b45",
            marker="o",
            markersize=4,
            label="validation score",
        )
        right.set_ylabel("score")
        right.set_ylim(0, 1)
        right.legend(loc="center right", frameon=False)
    top.legend(loc="upper right", frameon=False)
    top.grid(alpha=0.3)
    bottom.plot(
        steps, [row.learning_rate for row in rows], color="#636363", marker=marker, markersize=3
    )
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    bottom.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over a window of a twentieth of the rows, shorter at the ends."""
    half = max(1, len(values) // 40)
    windows = (values[max(0, n - half) : n + half + 1] for n in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def loss_still_falls(rows: Sequence[Row]) -> bool:
    """Return True if the loss fell by more than its noise in the second half of the rows.

    The noise is twice the standard error of the difference of both quarters' means. Fewer than 8
    rows cannot show a flat loss, so it counts as falling.
    """
    losses = [row.loss for row in rows]
    quarter = len(losses) // 4
    if quarter < 2:
        return True
    before, last = losses[-2 * quarter : -quarter], losses[-quarter:]
    noise = 2 * math.sqrt((variance(before) + variance(last)) / quarter)
    return fmean(before) - fmean(last) > noise
