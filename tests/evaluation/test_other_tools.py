"""The table of other tools' numbers: means as the tools take them, files and page."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from hilum.evaluation import Evaluation, evaluate_folder, score_labels
from hilum.evaluation.segmentation.other_tools import tool_means
from hilum.io import write_labels
from hilum.metrics import peer_values
from hilum.volume import Geometry, LabelTable, Volume

TABLE = LabelTable.from_names({1: "organ"})
SPACING = (3.0, 1.0, 1.0)


def box(shift: int = 0, *, empty: bool = False) -> np.ndarray:
    labels = np.zeros((7, 12, 16), dtype=np.uint8)
    labels[2:5, 3:9, 3 + shift : 10 + shift] = not empty
    return labels


CASES = {
    "found": (box(1), box()),
    "missed": (box(empty=True), box()),
    "absent": (box(empty=True), box(empty=True)),
}


def test_means_are_taken_as_the_tools_do() -> None:
    scores = [
        row
        for case, (prediction, reference) in CASES.items()
        for row in score_labels(
            prediction, reference, spacing=SPACING, table=TABLE, case=case, other_tools=True
        )
    ]
    means = {(one.tool, one.metric): one for one in tool_means(scores)}
    found = {
        (one.tool, one.metric): one.value
        for one in peer_values(box(1) > 0, box() > 0, SPACING, tolerance_mm=2.0)
    }
    nnunet = means["nnU-Net", "dice"]
    assert nnunet.mean == pytest.approx(found["nnU-Net", "dice"] / 2)  # the missed one counts as 0
    assert (nnunet.cases, nnunet.left_out) == (3, 1)
    assert str(nnunet).endswith("(NaN left out in 1 case)")
    assert str(means["MONAI", "hd"]).startswith("inf")
    assert means["MONAI", "hd95"].mean == pytest.approx(found["MONAI", "hd95"])
    assert means["MONAI", "hd95"].left_out == 2
    assert math.isnan(means["surface-distance", "hd"].mean)
    assert means["medpy", "assd"].errors == 2
    assert str(means["medpy", "assd"]).endswith("(error in 2 cases)")


def test_files_and_page(tmp_path: Path) -> None:
    for case, pair in CASES.items():
        for folder, labels in zip(("predictions", "references"), pair, strict=True):
            grid = Geometry.from_spacing(labels.shape, SPACING)
            write_labels(Volume(labels[np.newaxis], grid), tmp_path / folder / f"{case}.nii.gz")
    folders = [tmp_path / name for name in ("predictions", "references", "out")]
    made = evaluate_folder(*folders, table=TABLE, other_tools=True, tolerance_mm=1.5)
    with (tmp_path / "out" / "other_tools.csv").open(encoding="utf-8") as stream:
        rows = {(r["case"], r["tool"], r["metric"]): r["value"] for r in csv.DictReader(stream)}
    assert rows["missed", "medpy", "hd95"] == "error"
    assert rows["missed", "MONAI", "hd"] == "inf"
    assert rows["absent", "nnU-Net", "dice"] == ""
    assert float(rows["found", "nnU-Net", "dice"]) == pytest.approx(
        {score.case: score.dice for score in made.scores}["found"]
    )
    page = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "| region | metric | MONAI | medpy | surface-distance | nnU-Net |" in page
    assert "| organ | HD95 |" in page
    assert "| organ | NSD at 1.5 mm |" in page
    loaded = Evaluation.load(tmp_path / "out")
    assert [str(one) for one in loaded.record.other_tools] == list(
        map(str, made.record.other_tools)
    )
    again = evaluate_folder(*folders[:2], tmp_path / "plain", table=TABLE)
    assert not again.record.other_tools
    assert not (tmp_path / "plain" / "other_tools.csv").exists()
