"""Size and habits of the source.

Code lines, function bodies, `Any`, short private functions, docstrings, retired words.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from pathlib import Path

from _common import write_result

HOUSE = Path(__file__).resolve().parent.parent / "src" / "hilum"
SHORT = 5  # lines of a body
RELATIVE = re.compile(r"(What|How|Whether|Where|Which|When|That)\b")
RETIRED = (
    "seen",
    "unseen",
    "draw",
    "drawn",
    "room",
    "figure",
    "figures",
    "member",
    "members",
    "unit",
    "units",
    "answer",
)
RETIRED += ("answers", "course", "courses", "asked", "told", "said", "laps", "fair", "books")
"""Words with a private meaning (issue on plain English); counted in names of functions, classes,
arguments and files."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SKIPPED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        for part in (
            getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []
        ):
            if (
                isinstance(part, ast.Expr)
                and isinstance(part.value, ast.Constant)
                and isinstance(part.value.value, str)
            ):
                lines.difference_update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
    return len(lines)


def body_lines(node: Function) -> int:
    """Count the lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def formatted(columns: int, folder: Path) -> dict[str, str]:
    """Copy the source, format it at so many columns, and return its text by path."""
    shutil.copytree(HOUSE, folder / "hilum", ignore=shutil.ignore_patterns("__pycache__"))
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--quiet",
        "--isolated",
        "--line-length",
        str(columns),
        str(folder),
    ]
    subprocess.run(ruff, check=True)
    root = folder / "hilum"
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.py"))
    }


def count_retired(trees: dict[str, ast.Module]) -> Counter[str]:
    """Count the retired words in the names of files, functions, classes and arguments."""
    names = [Path(path).stem for path in trees]
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, Function | ast.ClassDef):
                names.append(node.name)
            if isinstance(node, ast.arg):
                names.append(node.arg)
    words = (
        word
        for name in names
        for word in re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")
    )
    return Counter(word for word in words if word in RETIRED)


def once_used(texts: dict[str, str], trees: dict[str, ast.Module]) -> list[str]:
    """List private functions of at most five lines that their file names once."""
    return [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
        and node.name.startswith("_")
        and not node.name.startswith("__")
        and body_lines(node) <= SHORT
        and len(re.findall(rf"\b{node.name}\b", texts[path])) == 2
    ]


def called_once(texts: dict[str, str], once: list[str]) -> list[str]:
    """List those of the functions that are called in place.

    The others stand in a table or are handed on, as callbacks and thread targets are: they cannot
    be written into their caller.
    """
    called = []
    for one in once:
        place, name = one.split(" ")
        mentions = re.findall(rf"(def )?\b{name}\b(\()?", texts[place.rpartition(":")[0]])
        called += [one] if ("", "(") in mentions else []
    return called


def measure(columns: int) -> dict[str, object]:
    """Measure the source at so many columns."""
    with tempfile.TemporaryDirectory() as folder:
        texts = formatted(columns, Path(folder))
    trees = {path: ast.parse(text) for path, text in texts.items()}
    functions = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, Function)
    ]
    bodies = sorted(body_lines(node) for node in functions)
    signatures = [ast.unparse(part) for node in functions for part in annotations(node)]
    documented = [
        (path, getattr(node, "name", "module"), docstring)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef | ast.Module)
        and (docstring := ast.get_docstring(node))
    ]
    rooms: Counter[str] = Counter()
    for path, text in texts.items():
        rooms[path.split("/")[0]] += code_lines(text)
    return {
        "columns": columns,
        "code lines": sum(rooms.values()),
        "files": len(texts),
        "functions": len(functions),
        "body median": statistics.median(bodies),
        "body p90": bodies[int(0.9 * len(bodies))],
        "body longest": bodies[-1],
        "Any in signatures": sum(bool(re.search(r"\bAny\b", part)) for part in signatures),
        "Callable[..., X]": sum(text.count("Callable[...") for text in texts.values()),
        "private once-used short functions": len(once := once_used(texts, trees)),
        "of these called, not handed on as a value": len(called_once(texts, once)),
        "relative first lines": sum(
            bool(RELATIVE.match(docstring)) for _, _, docstring in documented
        ),
        "longest line": max(len(line) for text in texts.values() for line in text.splitlines()),
        "largest rooms": dict(rooms.most_common(6)),
        "retired words": dict(count_retired(trees).most_common()),
    }


def annotations(node: Function) -> list[ast.expr]:
    """List the annotations of a function's arguments and return value."""
    arguments = [
        *node.args.posonlyargs,
        *node.args.args,
        *node.args.kwonlyargs,
        node.args.vararg,
        node.args.kwarg,
    ]
    return [
        part
        for part in (*(one.annotation for one in arguments if one is not None), node.returns)
        if part is not None
    ]


def main() -> None:
    """Print the measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--columns",
        type=int,
        default=100,
        help="format a copy of the source at so many columns first",
    )
    result = measure(parser.parse_args().columns)
    for name, value in result.items():
        print(f"{name:36} {value}")
    write_result("house", result)


if __name__ == "__main__":
    main()
