"""Output of the command line for people: messages, numbers, progress bars."""

from __future__ import annotations

import logging
import math
import re
import shlex
import sys
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from shutil import which
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from hilum.errors import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress, Task, TaskID

    from hilum.dataset import Finding
    from hilum.inference.forecast import Advance
    from hilum.inference.run_report import CaseOutcome
    from hilum.training import Listener


SHOWN_CASES = 8
"""Cases that a line names; of more their number."""
_SHOWN_FINDINGS = 3
_BAR = (8, 28)
"""Least and largest width of a bar in characters."""
_BESIDE_BAR = 72
"""Characters beside the bar: stage, percentage, both times, the current case."""
_LINE_EVERY_SECONDS = 30.0
"""Interval of progress lines where there is no terminal for bars."""


def fail(message: str, code: int) -> NoReturn:
    """Print an error on standard error and exit with a code."""
    typer.echo(f"hilum: {message}", err=True)
    raise SystemExit(code)


@contextmanager
def files_at_the_end() -> Iterator[None]:
    """Print which files a command left out as its last lines, on standard error."""
    sentences: dict[str, None] = {}

    def keep(record: logging.LogRecord) -> bool:
        inventory = getattr(record, "inventory", None)
        if getattr(inventory, "leaves_out", False):
            sentences[record.getMessage()] = None
        return inventory is None

    logger = logging.getLogger("hilum")
    logger.setLevel(logging.INFO)
    logger.addFilter(keep)
    for handler in logging.root.handlers:  # the console shows no more than before
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeFilter(keep)
        for sentence in sentences:
            typer.echo(sentence, err=True)


class ProgressDisplay:
    """Progress bars on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._latest: TaskID | None = None
        self._begun = perf_counter()
        self._failed = 0

    @property
    def listener(self) -> Listener:
        """Return a training's listener, which prints messages and moves bars."""
        from hilum.training import Listener

        return Listener(say=self.say, advance=self.advance)

    def say(self, sentence: str) -> None:
        """Print a message above the bars."""
        text = with_options(sentence)
        self._progress.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def advance(self, stage: str, done: float, total: float, text: str) -> None:
        """Move the bar of a stage.

        A finished stage that comes again, e.g. for another data set, starts again at 0.
        """
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, text="")
        elif done < total and self._task(self._tasks[stage]).finished:
            self._progress.reset(self._tasks[stage])
        self._progress.update(self._tasks[stage], completed=done, total=total, text=text)
        self._latest = self._tasks[stage]

    def line(self) -> str:
        """Return the progress as one line of text."""
        since = timedelta(seconds=round(perf_counter() - self._begun))
        if self._latest is None:
            return f"{since} since the start"
        task = self._task(self._latest)
        if task.finished:
            return f"{since} since the start; {task.description} has ended"
        left = task.fields.get("remaining", task.time_remaining)
        rest = "" if left is None else f", about {timedelta(seconds=round(left))} left"
        share = f"{since} {task.description}: {task.percentage:.0f} %{rest}"
        return f"{share}   {task.fields['text']}".rstrip()

    def _task(self, number: TaskID) -> Task:
        """Return rich's task of a number."""
        return next(task for task in self._progress.tasks if task.id == number)

    def cases(self, done: int, total: int, case: str) -> None:
        """Move the bar over cases."""
        self.advance("cases", done, total, case)

    def predicted(self, advance: Advance) -> None:
        """Move the bar over all predictions, with the estimated time left."""
        text = self._describe_progress(advance.done, advance.total, advance.case)
        self.advance("predict", advance.fraction, 1.0, text)
        self._progress.update(self._tasks["predict"], remaining=advance.remaining_seconds)

    def outcome(self, outcome: CaseOutcome, done: int, total: int) -> None:
        """Count the outcome of a case."""
        self._failed += outcome.status == "failed"
        if "predict" in self._tasks:
            self._progress.update(
                self._tasks["predict"], text=self._describe_progress(done, total, outcome.case)
            )

    def _describe_progress(self, done: int, total: int, case: str) -> str:
        """Return the counts and the case: a narrow terminal cuts the end."""
        return (
            f"{done} of {total} cases{f', {self._failed} failed' if self._failed else ''}   {case}"
        )


@contextmanager
def _print_lines(shown: ProgressDisplay) -> Iterator[None]:
    """Print a line of progress every half minute."""
    ended = Event()

    def tell() -> None:
        while not ended.wait(_LINE_EVERY_SECONDS):
            shown.say(shown.line())

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


@contextmanager
def shown_progress() -> Iterator[ProgressDisplay]:
    """Show progress bars, or lines where there is no terminal; Ctrl-C prints how to continue."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """Column of the time left, by the work's own estimate or rich's; none at the end."""

        def render(self, task: Task) -> Text:
            """Write the time that is left, as expected by the task where it says so."""
            if task.finished:
                return Text("")
            seconds = task.fields.get("remaining")
            if seconds is None:
                return super().render(task).append(" left")
            return Text(f"{timedelta(seconds=round(seconds))} left", "progress.remaining")

    class Current(TextColumn):
        """Column of the current case; it is cut in a narrow terminal."""

        def render(self, task: Task) -> Text:
            return Text(str(task.fields["text"]), no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(bar_width=max(_BAR[0], min(_BAR[1], console.width - _BESIDE_BAR))),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        Left(table_column=Column(no_wrap=True)),
        Current("", table_column=Column(no_wrap=False, overflow="ellipsis")),
    )
    try:
        with Progress(*columns, console=console) as progress:
            shown = ProgressDisplay(progress)
            with nullcontext() if console.is_terminal else _print_lines(shown):
                yield shown
    except KeyboardInterrupt as stopped:  # typer would exit silently
        kept = f": {stopped}" if stopped.args else ""
        fail(f"Stopped{kept}. To continue: {command_to_continue(sys.argv)}", 130)


def program_name() -> str:
    """Return what people type to run hilum: its name, or its path where the shell finds none."""
    return "hilum" if which("hilum") else sys.argv[0]


def command_to_continue(words: Sequence[str]) -> str:
    """Write the whole command that takes up the one of these words again."""
    options = {"train": "--resume", "predict": "--skip-existing"}
    more = [option for verb, option in options.items() if verb in words[1:2]]
    return shlex.join([program_name(), *words[1:], *(one for one in more if one not in words)])


@cache
def option_names() -> dict[str, str]:
    """List the options of all commands by the argument of `hilum.api` that they set."""
    from hilum.cli.app import app

    commands: list[Any] = [typer.main.get_command(app)]
    for command in commands:  # grows by the commands of each group
        commands += getattr(command, "commands", {}).values()
    options = {
        parameter.name: parameter.opts[-1] for command in commands for parameter in command.params
    }
    names = {name: option for name, option in options.items() if option.startswith("--")}
    return names | {"memory_gb": "--memory", "tolerance_mm": "--tolerance"}


def with_options(message: str) -> str:
    """Replace arguments in a message by the options that set them: region='mask', --region mask."""
    options = option_names()

    def spell(found: re.Match[str]) -> str:
        name, value = options.get(found["name"]), found["text"] or found["value"] or ""
        if name is None:
            return found[0]
        return name if value == "True" else f"{name} {value}"

    return re.sub(r"\b(?P<name>\w+)=(?:'(?P<text>[^' ]*)'|(?P<value>[\w.+-]+))", spell, message)


class MessageFormatter(logging.Formatter):
    """Writes what hilum logs as the command line's users know it: with options, not arguments."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; of a bug as it is, for the source code in it."""
        text = super().format(record)
        return with_options(text) if record.name == "hilum" and not record.exc_info else text


def print_json(text: str) -> None:
    """Print JSON on standard output."""
    typer.echo(text)


def print_curves(model: Path) -> None:
    """Name the learning curves of a model's folds; a training without steps has none."""
    for path in sorted((model / "training").glob("fold_*/curves.png")):
        typer.echo(f"Learning curves: {path}")


def format_number(value: float | None) -> str:
    """Format a metric with three decimals."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def format_interval(low: float | None, high: float | None) -> str:
    """Format an interval in brackets, or the reason why there is none."""
    from hilum import api

    return f"({api.span(low, high)})"


def describe_paths(files: Sequence[Path]) -> str:
    """Name a file by its path, and several in one folder by the folder and their number."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return ", ".join(
        f"{where} ({len(held)} files)" if len(held) > 1 else str(held[0])
        for where, held in folders.items()
    )


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """Format the findings of a check as lines.

    Many cases with one kind and one cure become one line and a count; findings about the whole data
    set each have their line.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind, finding.cure), []).append(finding)
    lines = []
    for (severity, kind, cure), held in groups.items():
        whole, cases = [one for one in held if not one.case], [one for one in held if one.case]
        shown = cases if len(cases) <= _SHOWN_FINDINGS else cases[:1]
        lines += [
            f"{severity:7} {kind}: {f'{one.case}: ' if one.case else ''}{with_options(one.found)}"
            for one in (*whole, *shown)
        ]
        more = [one.case for one in cases[len(shown) :]]
        if more:
            names = some(more, shown=SHOWN_CASES)
            lines.append(f"        and {len(more)} more like it: {names} (--json names all)")
        lines.append(f"        cure: {cure}")
    return lines


def shorten_value(value: object) -> str:
    """Format a decision's value on one line."""
    if hasattr(value, "model_dump"):
        return ", ".join(
            f"{name} {shorten_value(part)}"
            for name, part in value.model_dump(exclude_defaults=False).items()
        )
    if isinstance(value, tuple) and value and hasattr(value[0], "model_dump"):
        return "; ".join(shorten_value(part) for part in value)
    return str(value)
