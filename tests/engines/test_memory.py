"""Free memory is the container's where that is less than the machine's.

Both versions of control groups, mounted as they are.
"""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from typer.testing import CliRunner

from hilum import api, cli
from hilum.engines import host_memory, memory
from hilum.errors import ResourceError, UsageError

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    facts = SimpleNamespace(available=48 * GIB, total=64 * GIB)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: facts)


def tree(root, group, mounts, files):
    """A /proc and a /sys with these groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    (root / "proc/self/mountinfo").write_text(mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return host_memory(root)


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def test_without_groups_the_machine_counts(tmp_path):
    assert host_memory(tmp_path / "nowhere") == memory.HostMemory(48 * GIB, 64 * GIB)


def test_a_container_of_version_2(tmp_path):
    files = {
        "memory.max": 8 * GIB,
        "memory.current": 7 * GIB,
        "memory.stat": (
            f"anon {5 * GIB}\nfile {2 * GIB}\ninactive_file {GIB}\nactive_file {GIB // 2}\nshmem"
            f" {GIB // 2}"
        ),
    }
    assert tree(tmp_path, "0::/\n", V2, files) == memory.HostMemory(
        2.5 * GIB, 8 * GIB
    )  # the cache of files can go


def test_a_unit_within_a_limited_slice_of_version_2(tmp_path):
    files = {
        "user.slice/job.scope/memory.max": "max",
        "user.slice/job.scope/memory.current": GIB,
        "user.slice/memory.max": 4 * GIB,
        "user.slice/memory.current": 3 * GIB,
    }
    assert tree(tmp_path, "0::/user.slice/job.scope\n", V2, files) == memory.HostMemory(
        GIB, 4 * GIB
    )


@pytest.mark.parametrize(
    ("mounted", "folder"),
    [("/", "memory/docker/abc"), ("/docker/abc", "memory"), ("/else", "memory")],
)
def test_a_container_of_version_1(tmp_path, mounted, folder):
    files = {
        f"{folder}/memory.limit_in_bytes": 2 * GIB,
        f"{folder}/memory.usage_in_bytes": 2 * GIB,
        f"{folder}/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB}\ntotal_active_file 0",
        "cpu/memory.limit_in_bytes": 1,
        "cpu/memory.usage_in_bytes": 1,
    }
    if folder != "memory":
        files |= {
            "memory/memory.limit_in_bytes": 2**63 - 4096,
            "memory/memory.usage_in_bytes": 50 * GIB,
        }
    group = "5:cpu:/docker/abc\n4:memory:/docker/abc\n0::/\n"
    assert tree(tmp_path, group, V1.format(root=mounted), files) == memory.HostMemory(GIB, 2 * GIB)


def test_a_group_above_its_limit_has_nothing_left(tmp_path):
    assert tree(tmp_path, "0::/\n", V2, {"memory.max": GIB, "memory.current": 2 * GIB}).free == 0


def test_a_limit_above_the_machine_changes_nothing(tmp_path):
    files = {"memory.max": 900 * GIB, "memory.current": GIB}
    assert tree(tmp_path, "0::/\n", V2, files) == memory.HostMemory(48 * GIB, 64 * GIB)


def test_this_machine_has_some():
    assert 0 < host_memory(Path("/")).free <= 48 * GIB


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="only POSIX can say that a file gets its room"
)
def test_a_mapped_file_has_its_room_on_the_disk_or_is_refused(tmp_path, monkeypatch):
    """A sparse file on a disk that fills up would kill the process when it is written to."""
    array = memory.file_array((3, 64, 64), tmp_path)
    array[...] = 2
    assert array.sum() == 2 * array.size

    def full(descriptor, start, size):
        assert (start, size) == (0, 4 * 3 * 64 * 64)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ResourceError, match="a temporary file cannot be made: No space left"):
        memory.file_array((3, 64, 64), tmp_path)

    def unknown(descriptor, start, size):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert memory.file_array((3, 64, 64), tmp_path).shape == (3, 64, 64)


def test_an_amount_without_a_unit_is_no_amount():
    with pytest.raises(
        UsageError,
        match=r"memory='2' is no amount of memory\n.*with its unit, .*\nCure: memory='2GB'",
    ):
        memory.parse_memory("2")
    assert memory.parse_memory(2_000_000) == 2_000_000  # of Python, in bytes as said


@pytest.mark.parametrize(
    ("typed", "gigabytes"),
    [("2", 2), ("2GB", 2), ("0.5", 0.5), ("500MB", 0.5), ("2GiB", 2.147483648)],
)
def test_every_command_takes_memory_alike(typed, gigabytes):
    seen = {}

    def noted(*_, **options):
        seen.update(options)
        raise UsageError("seen")

    for verb, words in {
        "train": ["DATA", "-o", "M"],
        "plan": ["DATA"],
        "predict": ["M", "I", "-o", "O"],
    }.items():
        with mock.patch.object(api, verb, noted):
            CliRunner().invoke(cli.app, [verb, *words, "--memory", typed])
    assert seen["memory_gb"] == pytest.approx(gigabytes)
    assert memory.parse_memory(seen["segmentation"].memory) == pytest.approx(gigabytes * 1e9)
