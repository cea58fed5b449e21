"""docs/how-to/pacs.md, command by command: Orthanc, the node, a study there and back."""

import contextlib
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from node_samples import free_port
from orthanc import dicomweb_plugin

sys.path.append(str(Path(__file__).parent.parent))

from programs import require
from test_docs import blocks_of, run_python, run_shell

PAGE = "docs/how-to/pacs.md"
PORTS = ("11112", "4242", "8042", "8080")
MINUTES = 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for program in ("dcmsend", "echoscu", "curl"):
        require(program)
    plugins = str(Path(dicomweb_plugin()).parent)
    changes = {"/usr/share/orthanc/plugins": plugins, "/usr/sbin/Orthanc": require("Orthanc")}
    changes |= {port: str(free_port()) for port in PORTS}
    namespace = {"__name__": "__page__"}
    start = time.monotonic()
    try:
        for block in blocks_of(PAGE):
            text = block.text
            for old, new in changes.items():
                text = text.replace(old, new)
            if block.language == "python":
                run_python(block, PAGE, namespace)
            elif block.language == "sh":
                run_shell(dataclasses.replace(block, text=text), PAGE, tmp_path)
    finally:
        end_servers(tmp_path)
    assert time.monotonic() - start < 60 * MINUTES
    assert list((tmp_path / "predictions").glob("*.dcm"))


def end_servers(folder):
    """End what the page started, where a command before its last one failed."""
    for name in ("node.pid", "orthanc.pid"):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((folder / name).read_text()), signal.SIGTERM)
