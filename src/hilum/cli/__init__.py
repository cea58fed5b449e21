"""The command line: each sub-command parses, calls one verb of `hilum.api`, and prints.

It decides nothing.
"""

from hilum.cli.app import app as app
from hilum.cli.app import main as main
from hilum.cli.options import Task as Task
