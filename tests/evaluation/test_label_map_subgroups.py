"""Subgroups of label maps: the same estimates as of the whole, by patient, with misses."""

import csv

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.evaluation import (
    Evaluation,
    evaluate_folder,
    label_map_subgroups,
    score_labels,
    summarise,
)
from hilum.io import write_labels, write_volume
from hilum.report.html.subgroups import subgroup_section
from hilum.volume import Geometry, LabelTable, Volume

TABLE = LabelTable.from_names({1: "liver", 2: "spleen"})


def scores_of(number, *, shift=0, missed=False):
    reference = np.zeros((6, 20, 20), np.uint8)
    reference[1:5, 2:10, 2:10] = 1
    reference[1:5, 12:18, 12:18] = 2
    prediction = np.roll(reference, shift, axis=2)
    if missed:
        prediction[prediction == 2] = 0
    return score_labels(
        prediction,
        reference,
        spacing=(2.0, 1.0, 1.0),
        table=TABLE,
        case=f"c{number}",
        patient=f"p{number // 2}",
    )


@pytest.fixture(scope="module")
def scores():
    return [
        score
        for number in range(24)
        for score in scores_of(number, shift=number % 3, missed=number == 5)
    ]


def columns(number):
    return {"site": "A" if number < 8 else "B", "age": str(20 + number), "note": f"text {number}"}


CELLS = {f"c{number}": columns(number) for number in range(24)}


def test_a_subgroup_is_summarised_like_the_whole(scores):
    groups = {(g.column, g.value): g for g in label_map_subgroups(scores, CELLS)}
    assert {column for column, _ in groups} == {"site", "age"}  # notes differ in every case
    here = groups["site", "A"]
    part = summarise([score for score in scores if int(score.case[1:]) < 8])
    assert (here.cases, here.patients, here.small) == (8, 4, True)
    for metric in ("dice", "nsd", "hd95"):
        for region in ("liver", "spleen", ""):
            found, wanted = here.estimate(metric, region), part.mean(metric, region=region or None)
            assert found.value == pytest.approx(wanted)
        whole = part["spleen"].metrics[metric]
        found = here.estimate(metric, "spleen")
        assert (found.low, found.high) == pytest.approx((whole.low, whole.high))
        assert (found.n, found.patients, found.method) == (whole.n, 4, whole.interval)
    assert groups["site", "B"].small
    most = {case: {"side": "left" if case != "c0" else "right"} for case in CELLS}
    large = {g.value: g for g in label_map_subgroups(scores, most, ["side"])}["left"]
    assert (large.patients, large.small) == (12, False)


def test_misses_of_a_subgroup_are_counted(scores):
    groups = {g.value: g for g in label_map_subgroups(scores, CELLS, ["site"])}
    assert (groups["A"].present, groups["A"].missed) == (16, 1)
    assert (groups["B"].present, groups["B"].missed) == (32, 0)


def test_a_subgroup_keeps_the_notes_of_its_estimates(scores):
    groups = {g.value: g for g in label_map_subgroups(scores, CELLS, ["site"])}
    missed = groups["A"].estimate("hd95", "spleen")
    assert missed.note == "1 case with one surface only: the image's diagonal"
    assert str(missed) == f"{missed.value:.3f} ({missed.low:.3f} to {missed.high:.3f})"
    assert groups["B"].estimate("hd95", "spleen").note == ""
    section = subgroup_section([groups["A"], groups["B"]], None)
    remarks = {table.caption: [row[-1] for row in table.rows] for table in section.blocks}
    assert remarks["Metrics of spleen in subgroups"] == [f"few; HD95, mm: {missed.note}", "few"]


def test_a_column_that_nobody_has_is_refused(scores):
    with pytest.raises(UsageError, match=r"no column 'sites'"):
        label_map_subgroups(scores, CELLS, ["sites"])
    assert label_map_subgroups(scores, {}) == ()


def test_an_evaluation_has_the_columns_of_its_data_set(tmp_path):
    grid = Geometry.from_spacing((6, 20, 20), (2.0, 1.0, 1.0))
    rows = [("image", "mask", "patient", "scanner")]
    for number in range(6):
        labels = np.zeros((1, *grid.shape), np.uint8)
        labels[0, 1:5, 2:10, 2:10] = 1
        write_volume(Volume(labels * np.int16(50), grid), tmp_path / f"c{number}.nii.gz")
        write_labels(Volume(labels, grid), tmp_path / f"c{number}_mask.nii.gz")
        predicted = np.roll(labels, number // 3, axis=3)
        write_labels(Volume(predicted, grid), tmp_path / "predictions" / f"c{number}.nii.gz")
        rows.append(
            (
                f"c{number}.nii.gz",
                f"c{number}_mask.nii.gz",
                f"p{number}",
                "new" if number < 3 else "old",
            )
        )
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    made = evaluate_folder(tmp_path / "predictions", tmp_path / "cases.csv", tmp_path / "out")
    again = Evaluation.load(tmp_path / "out")
    assert again.record.subgroups == made.record.subgroups
    found = {(g.column, g.value): g.estimate("dice").value for g in again.record.subgroups}
    assert found == {("scanner", "new"): 1.0, ("scanner", "old"): pytest.approx(7 / 8)}
    page = (tmp_path / "out" / "summary.md").read_text("utf-8")
    assert "| scanner | old (small) | 3 | 3 | 0.875" in page
