"""What people see of the command line: messages, figures, progress bars."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from hilum.inference import CaseOutcome
    from hilum.training import Listener


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on standard error and end with an exit code."""
    typer.echo(f"hilum: {message}", err=True)
    raise SystemExit(code)


class Shown:
    """Progress bars on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    @property
    def listener(self) -> Listener:
        """For training: sentences and bars."""
        from hilum.training import Listener

        return Listener(say=self.say, advance=self.advance)

    def say(self, sentence: str) -> None:
        """Print a sentence above the bars."""
        self._progress.console.print(sentence, highlight=False, soft_wrap=True, markup=False)

    def advance(self, stage: str, done: float, total: float, text: str) -> None:
        """Move the bar of a stage."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, text="")
        self._progress.update(self._tasks[stage], completed=done, total=total, text=text)

    def cases(self, done: int, total: int, case: str) -> None:
        """One bar over cases."""
        self.advance("cases", done, total, case)

    def outcomes(self, outcome: CaseOutcome, done: int, total: int) -> None:
        """One bar over predicted cases."""
        self.advance("cases", done, total, outcome.case)


@contextmanager
def shown_progress() -> Iterator[Shown]:
    """Show progress while something long runs; Ctrl-C says how to go on."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Shown(progress)
    except KeyboardInterrupt:  # typer would end without a word
        fail("Stopped. Training goes on with --resume, prediction with --skip-existing.", 130)


def print_json(text: str) -> None:
    """Print JSON on standard output."""
    typer.echo(text)


def figure(value: float | None) -> str:
    """A figure of an evaluation, for people."""
    return "undefined" if value is None else f"{value:.3f}"


def short(value: Any) -> str:
    """A decision's value on one line."""
    if hasattr(value, "model_dump"):
        return ", ".join(f"{name} {short(part)}" for name, part in value.model_dump(exclude_defaults=False).items())
    if isinstance(value, tuple) and value and hasattr(value[0], "model_dump"):
        return "; ".join(short(part) for part in value)
    return str(value)
