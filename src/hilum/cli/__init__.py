"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints. It decides nothing."""

from hilum.cli.commands import Task, app, main
from hilum.cli.export import export

__all__ = ["Task", "app", "export", "main"]
