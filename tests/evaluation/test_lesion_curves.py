"""FROC of an evaluation: by probabilities beside label maps, by hand, on page and disk."""

import json
from pathlib import Path

import numpy as np
import pytest

from hilum import metrics
from hilum.evaluation import Evaluation, LesionCurve, evaluate_folder
from hilum.evaluation.segmentation.lesion_curve import lesion_curve
from hilum.inference.prediction import Prediction
from hilum.io import write_labels, write_volume
from hilum.metrics.froc import ScoredLesions
from hilum.report import write_report
from hilum.report.canvas import SERIES
from hilum.report.html.plots import froc_plot
from hilum.volume import Geometry, LabelTable, Volume

SHAPE = (4, 12, 14)
GRID = Geometry.from_spacing(SHAPE, (3.0, 1.0, 1.0))
CASES = [f"c{number}" for number in range(6)]


def masks(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference with two lesions, prediction of some of them and a false one, probability."""
    random = np.random.default_rng(number)
    reference, probability = np.zeros(SHAPE, bool), np.full(SHAPE, 0.01)
    for place, in_reference, found in (
        ((slice(1, 3), slice(1, 4), slice(1, 4)), True, True),
        ((slice(1, 3), slice(7, 10), slice(1, 4)), True, number % 2 == 0),
        ((slice(1, 3), slice(1, 4), slice(9, 12)), False, number % 3 == 0),
    ):
        reference[place] = in_reference
        if found:
            probability[place] = random.uniform(0.5, 1.0)
    return reference, probability > 0.5, probability


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Six cases, whose predictions name the lesion 2, with probabilities beside them."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    references.mkdir()
    table = LabelTable.from_names({1: "organ", 2: "lesion"})
    for number, case in enumerate(CASES):
        reference, predicted, probability = masks(number)
        write_labels(Volume(reference[None].astype(np.uint8), GRID), references / f"{case}.nii.gz")
        outputs = np.stack([1 - probability, 0 * probability, probability]).astype(np.float32)
        Prediction(
            case=case,
            labels=Volume(predicted[None].astype(np.uint8) * 2, GRID),
            table=table,
            model="",
            probabilities=Volume(outputs, GRID),
        ).save(predictions)
    (references / "labels.json").write_text('{"background": 0, "lesion": 1, "organ": 2}')
    (predictions / "labels.json").write_text(table.model_dump_json())
    return predictions, references, tmp_path / "out"


def expected() -> metrics.Froc:
    scored = []
    for number in range(len(CASES)):
        reference, predicted, probability = masks(number)
        probability = probability.astype(np.float32)
        scored.append(metrics.score_lesions(predicted, reference, probability))
    return metrics.froc(scored)


def test_probabilities_beside_label_maps_give_a_froc(folders: tuple[Path, Path, Path]) -> None:
    made = evaluate_folder(*folders)
    (curve,) = made.record.lesion_curves
    wanted = expected()
    assert (curve.region, curve.cases, curve.patients, curve.lesions) == ("lesion", 6, 6, 12)
    assert curve.mean_sensitivity == pytest.approx(wanted.mean_sensitivity)
    assert curve.low < curve.mean_sensitivity < curve.high <= 1
    for rate in (0, 0.1, 0.3, 1, 8):
        assert curve.sensitivity_at(rate) == pytest.approx(wanted.sensitivity_at(rate))
    assert list(curve.scores) == sorted(curve.scores, reverse=True)
    assert curve.false_positives[-1] == wanted.false_positives[-1] == 2 / 6
    row = made.estimates[-1]
    assert (row.part, row.metric, row.value) == ("lesion", "froc", curve.mean_sensitivity)
    assert made.record.unexpected == ()  # probabilities are no cases
    assert Evaluation.load(folders[2]).record.lesion_curves == made.record.lesion_curves
    page = (folders[2] / "summary.md").read_text("utf-8")
    assert "## Lesions found against false positives (FROC)" in page
    assert "| lesion | 12 | 0." in page
    assert "lesion,froc,0." in (folders[2] / "estimates.csv").read_text("utf-8")


def test_a_report_draws_the_froc(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    evaluate_folder(*folders)
    write_report(folders[2], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Lesions found against false positives (FROC)" in text
    assert "of 12 lesions" in text


def test_regions_of_a_froc_have_the_colours_of_plots() -> None:
    found = [ScoredLesions(np.array([0.9]), np.zeros(0)) for _ in range(3)]
    plot = froc_plot([lesion_curve(region, found, ["p", "q", "r"]) for region in "ab"])
    assert plot is not None
    colours = [line.get_color() for line in plot.canvas.axes[0].lines]
    assert colours == [SERIES[0]] * 2 + [SERIES[1]] * 2


def test_regions_have_channels_of_their_own(folders: tuple[Path, Path, Path]) -> None:
    predictions = folders[0]
    regions = [{"name": "all", "labels": [1, 2]}, {"name": "lesion", "labels": [2]}]
    table = json.loads((predictions / "labels.json").read_text("utf-8"))
    table |= {"regions": regions, "decode_ids": [1, 2]}
    (predictions / "labels.json").write_text(json.dumps(table))
    for number, case in enumerate(CASES):
        probability = masks(number)[2]
        both = np.stack([np.ones(SHAPE), probability]).astype(np.float32)
        write_volume(Volume(both, GRID), predictions / f"{case}_probabilities.nii.gz")
    (curve,) = evaluate_folder(*folders).record.lesion_curves
    assert curve.mean_sensitivity == pytest.approx(expected().mean_sensitivity)


def test_why_there_is_no_froc_is_said(folders: tuple[Path, Path, Path]) -> None:
    file = folders[0] / "c3_probabilities.nii.gz"
    write_volume(Volume(np.zeros((5, *SHAPE), np.float32), GRID), file)
    record = evaluate_folder(*folders).record
    assert record.lesion_curves == ()
    assert any(f"no FROC: {file} has 5 channels; Needed: 3" in note for note in record.notes)
    assert any(
        note.endswith("; Cure: predict this case again with its probabilities")
        for note in record.notes
    )
    file.unlink()
    record = evaluate_folder(*folders).record
    said = "no FROC: no probabilities lie beside the predictions of c3"
    assert (record.lesion_curves, said in record.notes) == ((), True)
    for other in folders[0].glob("*_probabilities.nii.gz"):
        other.unlink()
    made = evaluate_folder(*folders)
    assert (made.record.lesion_curves, "FROC" in made.markdown()) == ((), False)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_no_numbers_give_no_froc(
    folders: tuple[Path, Path, Path], value: float
) -> None:
    file = folders[0] / "c0_probabilities.nii.gz"
    write_volume(Volume(np.full((3, *SHAPE), value, np.float32), GRID), file)
    assert evaluate_folder(*folders).record.lesion_curves == ()
    notes = Evaluation.load(folders[2]).record.notes
    assert any(f"no FROC: {file} holds NaN or infinite values" in note for note in notes)


def test_a_patient_named_like_another_case_is_another_patient(
    folders: tuple[Path, Path, Path],
) -> None:
    made = evaluate_folder(*folders, patients={"c0": "c1"})
    assert made.record.lesion_curves[0].patients == made.estimates[0].patients == 6


def test_without_a_lesion_nothing_is_found() -> None:
    scored = [ScoredLesions(np.zeros(0), np.array([0.9])) for _ in range(3)]
    curve = lesion_curve("lesion", scored, ["p", "q", "r"])
    assert np.isnan([curve.mean_sensitivity, curve.sensitivity_at(8)]).all()
    assert (curve.false_positives, curve.estimate.method) == ((1.0,), "none")
    again = LesionCurve.model_validate_json(curve.model_dump_json())
    assert again.model_dump_json() == curve.model_dump_json()
