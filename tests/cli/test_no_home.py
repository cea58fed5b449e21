"""Commands of a user without HOME and without a passwd entry, as in many containers."""

import os
import subprocess
import sys

import pytest

from hilum.examples import make_abdomen_dataset

pytest.importorskip("pwd")

NO_HOME = """
import pwd
def none(*_):
    raise KeyError("getpwuid(): uid not found")
pwd.getpwuid = none
from hilum.cli import main
main()
"""


def hilum(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    return subprocess.run(
        [sys.executable, "-c", NO_HOME, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_run_without_a_home_folder(tmp_path):
    make_abdomen_dataset(tmp_path / "data", cases=4, tests=1, shape=(6, 12, 14))
    commands = (
        ("train", "data", "-o", "model", "--steps", "1", "--device", "cpu"),
        ("predict", "model", "data/imagesTs", "-o", "out", "--pictures"),
    )
    for command in commands:
        done = hilum(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/pictures/abdomen_test_000.png").is_file()
