"""Proposed metrics: one shape for each rule."""

from pathlib import Path

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.evaluation import Evaluation, evaluate_folder, score_labels, summarise
from hilum.evaluation.segmentation.proposal import Proposal, propose
from hilum.io import write_labels
from hilum.volume import Geometry, LabelTable, Volume

TABLE = LabelTable.from_names({1: "part"})


def proposed(
    *maps: np.ndarray, instances: bool = False, also: tuple[str, ...] = ()
) -> dict[str, Proposal]:
    """Return the proposals for references that are predicted rightly."""
    scores = [
        row
        for i, labels in enumerate(maps)
        for row in score_labels(
            labels,
            labels,
            spacing=(1.0, 1.0, 1.0),
            table=LabelTable.from_names({1: "objects"}) if instances else TABLE,
            case=f"c{i}",
            instances=instances,
            also=also,
        )
    ]
    regions = summarise(scores).regions
    return {one.metric: one for one in propose(scores, regions, instances=instances)}


def box(*sizes: tuple[int, int, int], shape: tuple[int, int, int] = (30, 30, 60)) -> np.ndarray:
    """Boxes beside each other along x."""
    labels, x = np.zeros(shape, dtype=np.uint8), 2
    for size in sizes:
        z, y, width = size
        labels[2 : 2 + z, 2 : 2 + y, x : x + width] = 1
        x += width + 3
    return labels


def test_of_a_large_piece_overlap_and_border() -> None:
    found = proposed(box((25, 25, 25)))
    assert list(found) == ["dice", "nsd"]
    assert "large for its voxels" in found["dice"].because


def test_of_a_small_piece_the_border_alone() -> None:
    found = proposed(box((4, 4, 4)))
    assert list(found) == ["nsd"]
    assert "leaves a Dice of 0.7" in found["nsd"].because
    assert found["nsd"].computed


def test_of_several_pieces_lesions_first() -> None:
    found = proposed(box((12, 12, 12), (3, 3, 3)), box((20, 20, 20)), box((3, 3, 3), (4, 4, 4)))
    assert next(iter(found)) == "lesion_f1"
    assert found["lesion_f1"].because.startswith("2 of 3 references have several pieces")


def test_of_a_tube_its_centreline() -> None:
    tube = box((2, 2, 56))
    assert next(iter(proposed(tube))) == "cldice"
    assert not proposed(tube)["cldice"].computed
    assert proposed(tube, also=("cldice",))["cldice"].computed
    assert "cldice" not in proposed(box((6, 6, 30)))


def test_of_objects_panoptic_quality() -> None:
    ids = box((9, 9, 9), (9, 9, 9))
    ids[:, :, 13:] *= 2
    assert next(iter(proposed(ids, instances=True))) == "pq"


def test_of_what_no_reference_has_nothing() -> None:
    assert not proposed(box())


def written(folder: Path, labels: np.ndarray) -> Path:
    write_labels(
        Volume(labels[np.newaxis], Geometry.from_spacing(labels.shape)),
        folder / "a.nii.gz",
    )
    return folder


def test_the_page_and_the_record_have_it(tmp_path: Path) -> None:
    reference = written(tmp_path / "reference", box((2, 2, 56)))
    made = evaluate_folder(reference, reference, tmp_path / "out", table=TABLE)
    assert made.record.proposals[0].metric == "cldice"
    assert Evaluation.load(tmp_path / "out").record.proposals == made.record.proposals
    page = (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "| part | centreline Dice | ask for it: also='cldice' | it is long or flat" in page


def test_a_folder_of_objects(tmp_path: Path) -> None:
    ids = box((9, 9, 9), (9, 9, 9), (9, 9, 9)).astype(np.int16)
    ids[:, :, 13:] *= 300
    reference = written(tmp_path / "reference", ids)
    prediction = written(tmp_path / "prediction", np.where(ids == 1, 2, 0).astype(np.uint8))
    (prediction / "labels.json").write_text('{"labels": {"background": 0, "nucleus": 2}}')
    made = evaluate_folder(prediction, reference, tmp_path / "out", instances=True)
    (row,) = made.scores
    assert (row.region, made.summary.regions[0].region) == ("nucleus", "nucleus")
    (reference / "labels.json").write_text('{"labels": {"background": 0, "cell": 1, "ignore": 9}}')
    named = evaluate_folder(prediction, reference, tmp_path / "out", instances=True).record
    assert [one.region for one in named.summary.regions] == ["cell"]
    assert named.labels.ignore == 9
    (reference / "labels.json").write_text('{"labels": {"background": 0, "cell": 1, "debris": 2}}')
    with pytest.raises(UsageError, match=r"labels\.json names the labels cell, debris"):
        evaluate_folder(prediction, reference, tmp_path / "out", instances=True)
    for folder in (reference, prediction):
        (folder / "labels.json").unlink()
    made = evaluate_folder(prediction, reference, tmp_path / "out", instances=True)
    (row,) = made.scores
    assert (row.region, row.lesions_reference, row.lesions_predicted) == ("objects", 2, 1)
    assert row.rq == pytest.approx(2 / 3)
    assert made.record.instances
    dataset = tmp_path / "data"
    for name in ("images", "masks"):
        written(dataset / name, ids > 0)
    with pytest.raises(UsageError, match="is a data set, whose ids are labels"):
        evaluate_folder(prediction, dataset, tmp_path / "out", instances=True)
