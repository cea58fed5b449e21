"""Messages about missing packages: hilum says what to do; it does not take itself for broken."""

import subprocess
import sys

import pytest

from hilum.errors import missing_package

TORCHLESS = """
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None  # as not installed
sys.argv = ["hilum", *sys.argv[1:]]
from hilum.cli import main
main()
"""


@pytest.mark.parametrize(
    "command", [("train", "DATA", "-o", "MODEL"), ("predict", "MODEL", "DATA", "-o", "OUT")]
)
def test_without_torch_the_cure_is_said_and_nothing_is_traced(tmp_path, command):
    (tmp_path / "DATA").mkdir()
    (tmp_path / "MODEL").mkdir()
    (tmp_path / "MODEL" / "model.json").write_text("{}")
    said = subprocess.run(
        [sys.executable, "-c", TORCHLESS, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert said.returncode == 5, said.stderr
    assert said.stderr.lstrip().startswith("hilum: the package ")
    assert "is not installed" in said.stderr
    assert "Cure: install hilum without --no-deps" in said.stderr
    assert "hilum export MODEL -o FOLDER" in said.stderr
    assert "Traceback" not in said.stderr
    assert "bug" not in said.stderr


def test_a_part_of_hilum_that_is_missing_is_a_bug():
    assert missing_package(ModuleNotFoundError("no", name="hilum.nowhere")) is None
    assert missing_package(ModuleNotFoundError("no")) is None
    assert "the package sklearn is not installed" in str(
        missing_package(ModuleNotFoundError("no", name="sklearn.metrics"))
    )
