"""Documentation that is executed.

Every Python and shell block of docs/ and the README, in order, page by page.

The blocks of a page share one temporary working directory, and its Python blocks one namespace. A
comment before a block says what is different about it:

    <!-- output -->               the next block (text) is what the block before it prints; "..."
    stands for anything <!-- show only: reason -->    the next block is not executed; SHOW_ONLY
    counts these, so that none slips in
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted(
    p.relative_to(REPOSITORY).as_posix()
    for p in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
)
EXECUTED = ("python", "sh")
SHOWN = ("text", "json", "csv", "mermaid")  # no code of ours
SHOW_ONLY = {"CONTRIBUTING.md": 2, "README.md": 1, "docs/how-to/train.md": 1}
"""Number of blocks of each page that are marked as not executed."""
LONG = {
    "docs/how-to/train.md",
    "docs/how-to/predict.md",
    "docs/how-to/plan.md",
    "docs/how-to/deploy.md",
    "docs/how-to/tune.md",
    "docs/how-to/classify.md",
    "docs/tutorials/first-model.md",
    "docs/tutorials/two-tasks.md",
}
"""Pages that train for half a minute or more: slow tests."""
SERVED = {"docs/how-to/pacs.md"}
"""Pages that start servers: run on free ports by tests/node/test_pacs_page.py."""

_BLOCK = re.compile(
    r"(?:^<!-- *(?P<mark>[^>]*?) *-->\n+)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    shown: bool
    output: bool


def blocks_of(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        mark = match["mark"] or ""
        yield Block(
            language=match["language"].strip(),
            text=match["text"],
            line=text.count("\n", 0, match.start("text")) + 1,
            shown=mark.startswith("show only: "),
            output=mark == "output",
        )


def run_python(block, page, namespace):
    code = compile(
        "\n" * (block.line - 1) + block.text, page, "exec"
    )  # a traceback names the page's own line
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)  # noqa: S102 - our own documentation
    return printed.getvalue()


def run_shell(block, page, folder):
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        ["sh", "-euc", block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, (
        f"{page}, line {block.line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done.stdout


def check_output(block, page, printed):
    same = doctest.OutputChecker().check_output(
        block.text, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert same, (
        f"{page}, line {block.line}: the page says\n{block.text}\nbut this was printed\n{printed}"
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in LONG else [])
        for page in PAGES
        if page not in SERVED
        and any(block.language in EXECUTED and not block.shown for block in blocks_of(page))
    ],
)
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__page__"}
    printed = ""
    for block in blocks_of(page):
        if block.output:
            check_output(block, page, printed)
        elif block.language == "python" and not block.shown:
            printed = run_python(block, page, namespace)
        elif block.language == "sh" and not block.shown:
            printed = run_shell(block, page, tmp_path)


def test_every_block_has_a_known_language():
    strange = [
        f"{page}, line {block.line}: {block.language!r}"
        for page in PAGES
        for block in blocks_of(page)
        if block.language not in (*EXECUTED, *SHOWN)
    ]
    assert not strange, f"use one of {EXECUTED} (executed) or {SHOWN}: {strange}"


def test_blocks_that_are_not_executed_are_counted():
    counts = {page: sum(block.shown for block in blocks_of(page)) for page in PAGES}
    assert {page: count for page, count in counts.items() if count} == SHOW_ONLY


def test_every_fence_is_a_block():
    """A fence that the pattern above does not see (indented.

    Or with an unknown comment) would never be executed.
    """
    for page in PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        fences = len(re.findall(r"^[ \t]*```", text, re.MULTILINE))
        assert fences == 2 * len(list(blocks_of(page))), (
            f"{page}: a fence that is indented or not closed"
        )


def test_the_site_builds(tmp_path):
    """Every link, page of the navigation and documented name exists."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_every_test_that_the_faults_page_names_is_there():
    page = (REPOSITORY / "docs" / "explanation" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 40
    for file, test in named:
        text = (REPOSITORY / "tests" / file.removeprefix("tests/")).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file}::{test}"
