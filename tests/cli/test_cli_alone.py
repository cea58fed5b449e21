"""The command line without data: help, versions, bugs, and what the machine refuses."""

import errno
import os
import re
import subprocess
import sys
import zipfile
from unittest import mock

import numpy as np
import pytest
from test_cli import flat, hilum, refused

import hilum as package
from hilum import api


def test_without_arguments_it_helps():
    assert "Usage" in hilum().out + hilum().err


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "hilum", "evaluate", "-h"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "with confidence intervals" in flat(done.stdout)


def test_doctor_names_the_versions():
    said = hilum("doctor")
    assert said.code == 0
    assert re.search(r"^torch +\d", said.out, re.MULTILINE)


def test_a_bug_says_that_it_is_one(caplog):
    with mock.patch.object(api, "environment", side_effect=ZeroDivisionError("made for the test")):
        assert hilum("doctor").code == 1
    assert "This is a bug of hilum: please report it" in caplog.text
    assert "ZeroDivisionError: made for the test" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")
def test_sigterm_leaves_no_unpacked_archive_behind(tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as made:
        made.writestr("IM1", b"Doe^Jane")
    (tmp_path / "tmp").mkdir()
    code = (
        "import os, signal, sys; from hilum import api, cli; from hilum.files.archive import *\n"
        "def ended():\n"
        "    with unpacked(['study.zip']) as (folder,):\n"
        "        print(len([*folder.iterdir()]), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "api.environment, sys.argv = ended, ['hilum', 'doctor']\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": "tmp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (143, "1\n")
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_ctrl_c_says_how_to_go_on():
    with mock.patch.object(api, "check", side_effect=KeyboardInterrupt):
        said = hilum("check", "data")
    assert said.code == 130
    assert re.search(r"Stopped\. To continue: \S+ ", said.err)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("chekc", "data"), ("No such command", "check")),
        (("check", "data", "--fixx", "out"), ("No such option", "--fix")),
        (("train", "data"), ("Missing option", "--out")),
        (("train", "data", "-o", "m", "--minutes", "soon"), ("--minutes", "a valid number")),
        (("train", "data", "-o", "m", "--task", "astrology"), ("astrology", "segmentation")),
    ],
)
def test_a_mistyped_command_is_refused(arguments, parts):
    said = hilum(*arguments)
    assert said.code == 2
    assert all(part in said.text for part in parts), said.err


def test_a_folder_without_a_data_set(tmp_path):
    refused(
        hilum("plan", tmp_path),
        3,
        "has no layout that hilum knows",
        "imagesTr/CASE_0000.nii.gz",
        "Cure: write a cases.csv",
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "hilum: Out of memory Cure: close other programs"),
        (np.zeros, "hilum: Out of memory Cure: close other programs"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/a.nii"),
            "hilum: /data/a.nii: No such file or directory",
        ),
        (OSError("the scanner's disk went away"), "hilum: the scanner's disk went away Cure: "),
    ],
)
def test_what_the_machine_refuses_is_no_bug(caplog, error, text):
    def effect():
        if isinstance(error, Exception):
            raise error
        error(2**62, np.uint8)

    with mock.patch.object(api, "environment", side_effect=effect):
        refused(hilum("doctor"), 5, text)
    assert not caplog.text


def test_version_is_said():
    said = hilum("--version")
    assert (said.code, said.out.strip()) == (0, f"hilum {package.__version__}")
    done = subprocess.run(
        [sys.executable, "-m", "hilum", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == said.out
