"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints. It decides nothing."""

from hilum.cli.commands import Task, app, main

__all__ = ["Task", "app", "main"]
