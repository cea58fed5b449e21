"""Griffe's extension for the reference: names that a package imports `as` themselves are public."""

import ast
from typing import Any

import griffe


class PublicImports(griffe.Extension):
    """Marks `from a import b as b` as public, as type checkers do (PEP 484)."""

    def on_module_members(self, *, node: Any, mod: griffe.Module, **_: Any) -> None:
        """Mark the imports of a module."""
        if isinstance(node, ast.AST):
            for part in ast.walk(node):
                if isinstance(part, ast.ImportFrom):
                    for alias in part.names:
                        if alias.asname == alias.name and alias.name in mod.members:
                            mod.members[alias.name].public = True
