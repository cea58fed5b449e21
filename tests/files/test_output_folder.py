"""Output folders: what is recorded, what is refused, and who may write."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from hilum.errors import DataError, HilumError, ResourceError, UsageError
from hilum.files import OutputFolder, holds_files, is_output

if TYPE_CHECKING:
    from pathlib import Path

LEDGER, LOCK = ".hilum.json", ".hilum.lock"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_unused_folder_is_left_as_it_was(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "new" / "deep", "predict"):
        assert names(tmp_path / "new" / "deep") == {LEDGER, LOCK}
    assert names(tmp_path) == set()
    with pytest.raises(UsageError, match="cannot go on"), OutputFolder(tmp_path / "new", "predict"):
        raise UsageError("it cannot go on")
    assert names(tmp_path) == set()


def test_owned_files_are_replaced_and_others_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs.json").write_text("mine")
    with OutputFolder(tmp_path, "evaluate") as out:
        out.write({"a.json": "1", "b.json": "1"})
        out.write({"a.json": "2"})
        assert out.owned("a.json")
        assert not out.owned("theirs.json")
        (tmp_path / "b.json").write_text("edited")
        with pytest.raises(
            UsageError,
            match=r"theirs.json \(not written by hilum\); b.json \(changed since hilum wrote it\)",
        ):
            out.write({"a.json": "3", "theirs.json": "", "b.json": ""})
    assert (tmp_path / "a.json").read_text() == "2"
    assert is_output(tmp_path / "a.json")
    assert is_output(tmp_path / "b.json")
    assert not is_output(tmp_path / "theirs.json")
    with (
        OutputFolder(tmp_path, "train") as out,
        pytest.raises(UsageError, match=r"a.json \(written by hilum evaluate\)"),
    ):
        out.refuse_foreign(["a.json", "free.json"])


def test_inputs_are_refused_by_any_name(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", "predict") as out:
        out.write({"first.txt": "1", "linked.txt": "2"})
    (tmp_path / "in").mkdir()
    os.link(tmp_path / "out" / "first.txt", tmp_path / "in" / "scan.txt")
    (tmp_path / "in" / "other.txt").write_text("3")
    (tmp_path / "out" / "linked.txt").unlink()
    (tmp_path / "out" / "linked.txt").symlink_to(tmp_path / "in" / "other.txt")
    with OutputFolder(tmp_path / "out", "predict", inputs=[tmp_path / "in"]) as out:
        with pytest.raises(UsageError, match=r"first.txt, linked.txt \(an input of this command\)"):
            out.refuse_foreign(["first.txt", "linked.txt"])
        assert not out.remove("first.txt")
    with (
        OutputFolder(tmp_path / "out", "predict") as out,
        pytest.raises(UsageError, match=r"linked.txt \(changed since"),
    ):
        out.refuse_foreign(["first.txt", "linked.txt"])


def test_only_owned_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("mine")
    with OutputFolder(tmp_path, "predict") as out:
        out.write({"a.txt": "1", "b.txt": "1"})
        (tmp_path / "b.txt").write_text("edited")
        assert [out.remove(name) for name in ("a.txt", "b.txt", "theirs.txt", "none.txt")] == [
            True,
            False,
            False,
            False,
        ]
    assert names(tmp_path) == {LEDGER, "b.txt", "theirs.txt"}
    assert not is_output(tmp_path / "a.txt")


def test_folders_are_recorded_by_name(tmp_path: Path) -> None:
    with OutputFolder(tmp_path, "train") as out:
        (tmp_path / "training").mkdir()
        (tmp_path / "theirs").mkdir()
        out.record("training", made_from={"data": "ab"})
        out.refuse_foreign(["training"])
        with pytest.raises(UsageError, match=r"theirs \(not written by hilum\)"):
            out.refuse_foreign(["training", "theirs"])
        entry = out.entry("training")
    assert entry is not None
    assert entry.made_from == {"data": "ab"}
    assert is_output(tmp_path / "training")


def test_a_folder_in_use_is_refused_with_its_holder(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", "train") as out:
        other = (
            f"from hilum.files import OutputFolder\nwith OutputFolder({str(out.path)!r},"
            " 'predict'): pass"
        )
        ended = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, check=False
        )
        assert (
            f"out is in use by hilum train on {os.uname().nodename}, process {os.getpid()},"
            " since 20" in ended.stderr
        )
        caught: list[HilumError] = []

        def enter() -> None:
            try:
                with OutputFolder(out.path, "train"):
                    pass
            except ResourceError as error:
                caught.append(error)

        thread = Thread(target=enter)
        thread.start()
        thread.join()
        assert "is in use by hilum train" in str(caught[0])
        with OutputFolder(out.path, "save") as inner:
            inner.write({"a.json": "1"})
        assert out.entry("a.json") == inner.entry("a.json")
        out.refuse_foreign(["a.json"])


def test_a_lock_of_a_dead_process_is_no_lock(tmp_path: Path) -> None:
    held = (
        f"import time\nfrom hilum.files import OutputFolder\nwith OutputFolder({str(tmp_path)!r},"
        " 'train'):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert names(tmp_path) == {LEDGER, LOCK}
    with OutputFolder(tmp_path, "train"):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize("ends", ["before it takes its name", "after it"])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_killed_process_leaves_no_file_of_the_users(
    tmp_path: Path, ends: str, *, earlier: bool
) -> None:
    if earlier:
        with OutputFolder(tmp_path, "predict") as out:
            out.write({"a.txt": "1"})
    code = f"""
import os
from pathlib import Path
from hilum.files import OutputFolder, atomic_write_text
take_name = Path.replace
def replace(self, target):
    if Path(target).name != "a.txt":
        return take_name(self, target)
    if {ends == "after it"}:
        take_name(self, target)
    os._exit(9)
Path.replace = replace
with OutputFolder({str(tmp_path)!r}, "predict") as out:
    out.refuse_foreign(["a.txt"])
    atomic_write_text(out.path / "a.txt", "2")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with OutputFolder(tmp_path, "predict") as out:
        assert out.owned("a.txt") is (earlier or ends == "after it")
        out.write({"a.txt": "3"})
    (tmp_path / "a.txt").write_text("edited")
    with (
        OutputFolder(tmp_path, "predict") as out,
        pytest.raises(UsageError, match="changed since hilum wrote it"),
    ):
        out.refuse_foreign(["a.txt"])


def test_hidden_files_leave_a_folder_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    assert not holds_files(tmp_path)
    assert not holds_files(tmp_path / "none")
    (tmp_path / "a.txt").write_text("")
    assert holds_files(tmp_path)
    assert holds_files(tmp_path / "a.txt")


def test_a_file_system_without_locks_has_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    other = (
        "import time\nfrom filelock import SoftFileLock\nwith"
        f" SoftFileLock({str(tmp_path / LOCK)!r}):\n    print('held', flush=True)\n   "
        " time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", other], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(
            ResourceError,
            match=rf"another process[\s\S]*if that computer broke down, remove .*{LOCK}",
        ):
            OutputFolder(tmp_path, "predict").__enter__()
        process.kill()
    with OutputFolder(tmp_path, "train") as out, OutputFolder(tmp_path, "save") as inner:
        inner.write({"a.json": "1"})
        assert out.owned("a.json")
        assert inner.verb == "train"
    assert names(tmp_path) == {LEDGER, "a.json"}


def test_a_folder_may_have_the_name_of_a_file_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with OutputFolder("training", "train") as out:
        out.refuse_foreign(["training"])
        out.write({"training": "1"})
    assert (tmp_path / "training" / "training").read_text() == "1"


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text("{")
    with pytest.raises(
        DataError, match="the record of what hilum wrote into this folder, is damaged"
    ):
        is_output(tmp_path / "a.txt")


def test_recording_a_file_appends_one_line(tmp_path: Path) -> None:
    with OutputFolder(tmp_path, "predict") as out:
        (tmp_path / "below").mkdir()
        for folder in (tmp_path, tmp_path / "below"):
            out.record(folder / "0.txt")
            ledger, journal = folder / LEDGER, folder / ".hilum.journal"
            before = ledger.read_bytes()
            for number in range(1, 5):
                out.record(folder / f"{number}.txt")
            out.forget(folder / "2.txt")
            assert ledger.read_bytes() == before
            assert len(journal.read_bytes().splitlines()) >= 5
            assert [is_output(folder / f"{number}.txt") for number in (1, 2)] == [True, False]
    for folder in (tmp_path, tmp_path / "below"):
        assert not (folder / ".hilum.journal").exists()
        assert '"4.txt"' in (folder / LEDGER).read_text()


def test_a_journal_with_a_torn_line_is_read(tmp_path: Path) -> None:
    with OutputFolder(tmp_path, "predict") as out:
        out.write({"a.txt": "1"})
    entry = out.files["a.txt"].model_dump_json()
    line = f'{{"files": {{"b.txt": {entry}}}}}'
    (tmp_path / ".hilum.journal").write_text(f"{line}\n{line[:30]}")
    (tmp_path / "b.txt").write_text("1")
    assert is_output(tmp_path / "b.txt")
    with OutputFolder(tmp_path, "predict") as out:
        out.write({"b.txt": "2", "c.txt": "3"})
    assert set(out.files) == {"a.txt", "b.txt", "c.txt"}
    assert not (tmp_path / ".hilum.journal").exists()


def test_a_file_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="file is a file"),
        OutputFolder(tmp_path / "file", "predict"),
    ):
        pass


def test_a_folder_that_another_command_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, removed = OutputFolder._acquire, []

    def late(self: OutputFolder) -> None:
        if not removed:
            removed.append(self.path)
            self.path.rmdir()
        acquire(self)

    monkeypatch.setattr(OutputFolder, "_acquire", late)
    with OutputFolder(tmp_path / "out", "predict") as out:
        out.write({"a.txt": "1"})
    assert names(tmp_path / "out") == {"a.txt", ".hilum.json"}
