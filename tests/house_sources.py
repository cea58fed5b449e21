"""The source of hilum as text and as syntax trees, for the tests that hold the house's rules."""

import ast
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOUSE = REPOSITORY / "src" / "hilum"
SOURCES = {
    path.relative_to(HOUSE).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(HOUSE.rglob("*.py"))
}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
ROOMS = sorted(path.parent.name for path in HOUSE.glob("*/__init__.py"))


def room_of(name):
    """`io/nifti.py` is in `io`; `errors.py` is a room of its own."""
    return name.split("/")[0].removesuffix(".py")


def imports_of(tree):
    """Every module that a file imports, in functions and for type checkers too, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def calls_of(tree):
    """Dotted names of what a file calls, e.g. `np.random.default_rng`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def python(code, *arguments, **environment):
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
