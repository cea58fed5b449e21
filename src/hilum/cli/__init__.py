"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints.

It decides nothing.
"""

from hilum.cli.commands import app, main
from hilum.cli.export import export
from hilum.cli.options import Task
from hilum.cli.tune import tune

__all__ = ["Task", "app", "export", "main", "tune"]
