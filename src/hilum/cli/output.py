"""Output of the command line for people: messages, numbers, progress bars."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from threading import Event, Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress, Task, TaskID

    from hilum.dataset import Finding
    from hilum.inference.forecast import Advance
    from hilum.inference.run_report import CaseOutcome
    from hilum.training import Listener


_SHOWN_FINDINGS, _SHOWN_CASES = 3, 8
_BAR = (8, 28)
"""Characters of a bar, in a narrow terminal and at most."""
_BESIDE_BAR = 72
"""Characters for what stands beside it: stage, share, both times, some of what is being done."""
_LINE_EVERY_SECONDS = 30.0
"""Where there is no terminal, and bars are written at the end only, a line says this often how far
the work is."""


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on standard error and end with an exit code."""
    typer.echo(f"hilum: {message}", err=True)
    raise SystemExit(code)


class _Files(logging.Handler):
    """Keeps what is logged of files that are not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the sentence of an inventory, unless only hidden files are left out."""
        if getattr(getattr(record, "inventory", None), "leaves_out", False):
            self.sentences[record.getMessage()] = None


def _is_no_account(record: logging.LogRecord) -> bool:
    return not hasattr(record, "inventory")


@contextmanager
def files_at_the_end() -> Iterator[None]:
    """Print which files a command did not take as its last lines, on standard error."""
    kept, logger = _Files(), logging.getLogger("hilum")
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    for handler in logging.root.handlers:  # what is shown at once stays what it was
        handler.setLevel(logging.WARNING)
        handler.addFilter(_is_no_account)  # said at the end, and once
    try:
        yield
    finally:
        logger.removeHandler(kept)
        for handler in logging.root.handlers:
            handler.removeFilter(_is_no_account)
        for sentence in kept.sentences:
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
        """For training: sentences and bars."""
        from hilum.training import Listener

        return Listener(say=self.say, advance=self.advance)

    def say(self, sentence: str) -> None:
        """Print a sentence above the bars."""
        self._progress.console.print(sentence, highlight=False, soft_wrap=True, markup=False)

    def advance(self, stage: str, done: float, total: float, text: str) -> None:
        """Move the bar of a stage.

        One that has ended and comes again, as for another data set, begins anew.
        """
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, text="")
        elif done < total and self._of(stage).finished:
            self._progress.reset(self._tasks[stage])
        self._progress.update(self._tasks[stage], completed=done, total=total, text=text)
        self._latest = self._tasks[stage]

    def line(self) -> str:
        """Print the progress as a line of its own."""
        since = timedelta(seconds=round(perf_counter() - self._begun))
        task = next((task for task in self._progress.tasks if task.id == self._latest), None)
        if task is None or task.finished:
            return f"{since} since the start" + (f"; {task.description} has ended" if task else "")
        left = task.fields.get("remaining", task.time_remaining)
        rest = "" if left is None else f", about {timedelta(seconds=round(left))} left"
        return f"{since} {task.description}: {task.percentage:.0f} %{rest}   {task.fields['text']}".rstrip()

    def _of(self, stage: str) -> Task:
        return next(task for task in self._progress.tasks if task.id == self._tasks[stage])

    def cases(self, done: int, total: int, case: str) -> None:
        """One bar over cases."""
        self.advance("cases", done, total, case)

    def predicted(self, advance: Advance) -> None:
        """One bar over the work of all cases that are predicted, with the time that the rest is expected to take."""
        self.advance(
            "predict",
            advance.fraction,
            1.0,
            self._counted(advance.done, advance.total, advance.case),
        )
        self._progress.update(self._tasks["predict"], remaining=advance.remaining_seconds)

    def outcome(self, outcome: CaseOutcome, done: int, total: int) -> None:
        """Show the outcome of a case that was to be predicted."""
        self._failed += outcome.status == "failed"
        if "predict" in self._tasks:
            self._progress.update(
                self._tasks["predict"], text=self._counted(done, total, outcome.case)
            )

    def _counted(self, done: int, total: int, case: str) -> str:
        """Counts first: a narrow terminal cuts the end."""
        return (
            f"{done} of {total} cases{f', {self._failed} failed' if self._failed else ''}   {case}"
        )


@contextmanager
def _lines(shown: ProgressDisplay) -> Iterator[None]:
    """Say now and then how far the work is."""
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
    """Show progress while something long runs, in lines where there is no terminal.

    Ctrl-C says how to go on.
    """
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
        """Column of the time left: the work's own estimate where it has one, else rich's."""

        def render(self, task: Task) -> Text:
            seconds = task.fields.get("remaining")
            return (
                super().render(task)
                if seconds is None
                else Text(f"{timedelta(seconds=round(seconds))}", "progress.remaining")
            )

    class What(TextColumn):
        """Column that names the current work; the one that is cut where the terminal is narrow."""

        def render(self, task: Task) -> Text:
            return Text(str(task.fields["text"]), no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(bar_width=max(_BAR[0], min(_BAR[1], console.width - _BESIDE_BAR))),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
        Left(table_column=Column(no_wrap=True)),
        What("", table_column=Column(no_wrap=False, overflow="ellipsis")),
    )
    try:
        with Progress(*columns, console=console) as progress:
            shown = ProgressDisplay(progress)
            with nullcontext() if console.is_terminal else _lines(shown):
                yield shown
    except KeyboardInterrupt as stopped:  # typer would end without a word
        kept = f": {stopped}" if stopped.args else ""
        fail(
            f"Stopped{kept}. Training goes on with --resume, prediction with --skip-existing.", 130
        )


def print_json(text: str) -> None:
    """Print JSON on standard output."""
    typer.echo(text)


def format_number(value: float | None) -> str:
    """A figure of an evaluation, for people."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def format_interval(low: float | None, high: float | None) -> str:
    """An interval for people, in brackets, or why there is none."""
    from hilum import api

    return f"({api.span(low, high)})"


def shorten(cases: Sequence[str]) -> str:
    """Cases for people: a few by name, of many how many they are."""
    names = ", ".join(cases[:_SHOWN_CASES])
    return names if len(cases) <= _SHOWN_CASES else f"{len(cases)} cases ({names}, ...)"


def describe_paths(files: Sequence[Path]) -> str:
    """Describe where files lie: a single file by its path, several by their folder and number."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return ", ".join(
        f"{where} ({len(held)} files)" if len(held) > 1 else str(held[0])
        for where, held in folders.items()
    )


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """Findings of the doctor as lines.

    Of cases with one kind and one cure the first and how many more they are.

    What is found of the data set as a whole is another thing every time, and named every time.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity, finding.kind, finding.cure), []).append(finding)
    lines = []
    for (severity, kind, cure), held in groups.items():
        whole, cases = [one for one in held if not one.case], [one for one in held if one.case]
        shown = cases if len(cases) <= _SHOWN_FINDINGS else cases[:1]
        lines += [
            f"{severity:7} {kind}: {f'{one.case}: ' if one.case else ''}{one.found}"
            for one in (*whole, *shown)
        ]
        more = [one.case for one in cases[len(shown) :]]
        if more:
            names = ", ".join(more[:_SHOWN_CASES]) + (", ..." if len(more) > _SHOWN_CASES else "")
            lines.append(f"        and {len(more)} more like it: {names} (--json names all)")
        lines.append(f"        cure: {cure}")
    return lines


def short(value: Any) -> str:
    """A decision's value on one line."""
    if hasattr(value, "model_dump"):
        return ", ".join(
            f"{name} {short(part)}"
            for name, part in value.model_dump(exclude_defaults=False).items()
        )
    if isinstance(value, tuple) and value and hasattr(value[0], "model_dump"):
        return "; ".join(short(part) for part in value)
    return str(value)
