"""Front doors of packages that import a name when it is first used."""

from __future__ import annotations

import ast
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def front_door(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` from the imports below `if TYPE_CHECKING:`.

    The package's `__init__.py` so lists each name once: type checkers and editors see the import,
    and Python makes it when the name is first used.
    """
    door = sys.modules[package]
    homes = {
        alias.name: node.module or ""
        for block in ast.parse(inspect.getsource(door)).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def import_name(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(homes[name]), name)
        setattr(door, name, value)
        return value

    return import_name, lambda: sorted(homes), sorted(homes)
