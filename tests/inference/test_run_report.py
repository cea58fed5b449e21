"""run.json says what happened and names no user and no computer."""

from __future__ import annotations

import getpass
import json
import platform
import sys
from types import SimpleNamespace

import torch

from hilum.inference import CaseOutcome, RunClock, RunReport
from hilum.inference import run_report as module
from hilum.inference.confidence import CaseConfidence
from hilum.inference.run_report import skipped_outcomes

CPU = "cpu: 2 threads, AVX512"


def test_report_is_written_and_read_back(tmp_path):
    clock = RunClock(
        "train",
        device=CPU,
        options={"minutes": 20, "folds": [0, 1]},
        seeds={"weights": 7},
        model="abc",
        precision="bfloat16",
    )
    outcome = CaseOutcome(case="liver_1", status="failed", error="no such file")
    report = clock.report(status="stopped", cases=(outcome,))
    report.save(tmp_path / "run.json")
    assert RunReport.load(tmp_path / "run.json") == report
    fields = json.loads((tmp_path / "run.json").read_text())
    assert fields["verb"] == "train"
    assert fields["options"] == {"minutes": 20, "folds": [0, 1]}
    assert fields["seeds"] == {"weights": 7}
    assert fields["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert fields["device"].startswith("cpu: ")
    assert fields["started"].endswith("+00:00")
    assert 0 <= fields["seconds"] < 5
    assert 0.05 < fields["peak_memory_gb"] < 64
    assert fields["peak_device_memory_gb"] is None
    assert platform.node() not in json.dumps(fields) or len(platform.node()) < 4
    assert f"/{getpass.getuser()}/" not in json.dumps(fields)


def test_time_goes_on_between_reports():
    clock = RunClock("predict", device=CPU)
    first = clock.report().seconds
    assert clock.report().seconds >= first


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "_PACKAGES", ("numpy", "no-such-package-of-ours"))
    assert list(module.package_versions()) == ["numpy"]


def test_peak_memory_in_bytes_on_every_system(monkeypatch):
    here = module.peak_memory_bytes()
    assert here > 50 * 2**20
    if sys.platform == "linux":
        monkeypatch.setattr(sys, "platform", "darwin")  # counts in bytes, Linux in KiB
        assert module.peak_memory_bytes() * 512 < here * 1.5
    monkeypatch.setattr(sys, "platform", "win32")
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(module.psutil, "Process", lambda: memory)
    assert module.peak_memory_bytes() == 123


def test_left_out_cases_keep_what_an_earlier_run_warned_of(tmp_path):
    confidence = CaseConfidence(
        alpha=0.1, smallest_alpha=0.05, patients=19, guarantee="holds", regions=()
    )
    path = tmp_path / "run.json"
    first = (
        CaseOutcome(
            case="a",
            status="done",
            files=("a.nii.gz",),
            unlike=("far",),
            confidence=confidence,
            seconds={"run": 2.0},
        ),
        CaseOutcome(case="b", status="failed", error="damaged", unlike=("far",)),
        CaseOutcome(case="c", status="skipped"),
    )
    RunClock("predict", device="cpu").report(cases=first).save(path)
    wanted = [
        CaseOutcome(
            case="a", status="skipped", unlike=("far",), confidence=confidence, carried=True
        ),
        *(CaseOutcome(case=case, status="skipped") for case in "bcd"),
    ]
    for _ in range(2):  # also what was carried over is
        found = skipped_outcomes("abcd", path)
        assert found == wanted
        RunClock("predict", device="cpu").report(cases=tuple(found)).save(path)
    path.write_text("{")
    assert skipped_outcomes("a", path) == [CaseOutcome(case="a", status="skipped")]
