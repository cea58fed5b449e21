"""What people see: places, intervals, findings of one kind together."""

from pathlib import Path

from hilum.cli.shown import places, span, told
from hilum.dataset import Finding


def finding(case: str, kind: str = "grid-header", cure: str = "--fix", severity: str = "warning") -> Finding:
    return Finding(case=case, kind=kind, severity=severity, found=f"{case or 'all'} is odd", cure=cure)


def test_many_files_of_a_folder_are_one_place():
    files = [Path("out/pictures") / f"{n}.png" for n in range(35)]
    assert places([*files, Path("out/curves.png")]) == f"{Path('out/pictures')} (35 files), {Path('out/curves.png')}"
    assert places(files[:1]) == str(files[0])
    assert places([]) == ""


def test_an_interval_that_is_not_there_is_not_called_undefined():
    assert span(0.5, 0.75) == "(0.500 to 0.750)"
    assert span(None, None) == "(too few patients for an interval)"
    assert span(None, 0.75) == "(undefined to 0.750)"


def test_three_findings_are_named_and_more_are_counted():
    assert told([finding("a"), finding("b"), finding("c")]) == [
        "warning grid-header: a: a is odd",
        "warning grid-header: b: b is odd",
        "warning grid-header: c: c is odd",
        "        cure: --fix",
    ]
    assert told([finding(name) for name in "abcdefghijkl"]) == [
        "warning grid-header: a: a is odd",
        "        and 11 more like it: b, c, d, e, f, g, h, i, ... (--json names all)",
        "        cure: --fix",
    ]


def test_findings_of_other_kinds_cures_and_severities_stand_apart():
    lines = told(
        [finding(""), finding("a", cure="other"), finding("b", severity="error"), finding("c", kind="header"), finding("d")]
    )
    assert [line for line in lines if "cure" not in line] == [
        "warning grid-header: all is odd",
        "warning grid-header: d: d is odd",
        "warning grid-header: a: a is odd",
        "error   grid-header: b: b is odd",
        "warning header: c: c is odd",
    ]
