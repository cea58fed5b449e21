"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints.

It decides nothing.
"""

from hilum.cli.app import app, main
from hilum.cli.options import Task

__all__ = ["Task", "app", "main"]
