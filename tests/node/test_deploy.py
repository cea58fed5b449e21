"""The files of deploy/: linted, not built."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.node import make_config, read_config
from programs import leave_out, require


@pytest.fixture
def deploy(repository):
    return repository / "deploy"


def options_of(command):
    """Name the options of a command line, which `hilum node` must have."""
    return {word for word in command if word.startswith("--")}


def known_options():
    import inspect

    from hilum.cli.node import node

    return {f"--{name.replace('_', '-')}" for name in inspect.signature(node).parameters}


def test_the_unit_passes_systemd_s_own_check(deploy, tmp_path):
    text = (deploy / "hilum-node.service").read_text()
    program = str(Path(sys.executable).parent / "hilum")
    (tmp_path / "hilum-node.service").write_text(text.replace("/opt/hilum/bin/hilum", program))
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", str(tmp_path / "hilum-node.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "hilum-node" not in done.stderr, done.stderr
    command = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])
    assert command[1] == "node"
    assert options_of(command) <= known_options()


def test_the_container_file_passes_hadolint(deploy):
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        leave_out("hadolint is missing; scripts/setup installs it where there is one")
    command = [program, "--no-color", str(deploy / "Containerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_container_file_is_sound(deploy, repository):
    text = (deploy / "Containerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    parts = [line.split(maxsplit=1) for line in lines if line.strip()]
    assert parts[0][0] == "FROM"
    assert re.fullmatch(r"[a-z]+:\d[\w.-]*", parts[0][1])  # no host, and no moving tag
    users = [value for name, value in parts if name == "USER"]
    assert users
    assert users[-1] not in {"root", "0"}
    for value in (value for name, value in parts if name == "COPY"):
        *sources, _ = value.split()
        assert all((repository / source).exists() for source in sources)
    entry = json.loads(dict(parts)["ENTRYPOINT"])
    assert entry[:2] == ["hilum", "node"]
    assert options_of(entry) <= known_options()


def test_the_settings_that_are_shipped_are_valid(deploy):
    config = make_config(read_config(deploy / "node.toml") | {"folder": "any"})
    assert config.models[0].folder == deploy / "models" / "liver"
    assert [one.name for one in config.destinations_of("liver")] == ["pacs"]
