"""Confidence of segmentations in reports: of a run's cases, and of a model's held-out patients."""

from hilum.inference.confidence import CaseConfidence, RegionConfidence
from hilum.inference.run_report import CaseOutcome, RunClock
from hilum.inference.voxel_calibration import (
    CalibratedRegion,
    Coverage,
    DiceCheck,
    Reliability,
    VoxelCalibration,
)
from hilum.report.html.confidence import model_confidence, run_confidence

LIVER = RegionConfidence(
    region="liver", volume_ml=1500, low_ml=1400.4, high_ml=1610, outer_ml=1580, dice=0.93
)


def run_of(*confidences):
    outcomes = [
        CaseOutcome(case=f"c{n}", status="done", confidence=one)
        for n, one in enumerate(confidences)
    ]
    return RunClock("predict", device="cpu").report(cases=tuple(outcomes))


def judged(*regions, notes=()):
    return CaseConfidence(
        alpha=0.1,
        smallest_alpha=0.05,
        patients=19,
        guarantee="holds",
        regions=regions,
        notes=notes,
    )


def test_every_region_of_a_run_has_its_interval_and_expected_dice():
    noted = judged(LIVER, notes=("with mirrors",)).model_copy(update={"impossible": ("few",)})
    section = run_confidence(run_of(judged(LIVER), noted, None))
    assert section.paragraphs == ("holds", "with mirrors.", "few.")
    (table,) = section.blocks
    assert table.rows[0] == ("c0", "liver", "1500", "1400 to 1610", "– to 1580", "0.930", "–")
    assert [row[0] for row in table.rows] == ["c0", "c1"]


def test_a_run_without_confidence_has_no_such_section():
    section = run_confidence(run_of(None))
    assert (section.paragraphs, section.blocks) == ((), ())


def test_a_model_shows_coverage_dice_and_calibration_of_held_out_patients():
    bins = Reliability(
        predicted=(0.2, 0.8),
        observed=(0.1, 0.7),
        low=(0.05, None),
        high=(0.2, None),
        voxels=(100, 50),
        error=0.1,
    )
    region = CalibratedRegion(
        region="liver",
        before=bins,
        after=bins.model_copy(update={"error": None}),
        dice=DiceCheck(cases=(0, 1), expected=(0.9, 0.8), real=(0.8, 0.9), error=(0.1, 0.05, 0.2)),
        coverage=(Coverage(stratum="all", patients=20, covered=0.95, low=0.76, high=0.99),),
    )
    calibration = VoxelCalibration(
        cases=("a", "b"),
        groups=(0, 1),
        how="out of fold",
        regions=(region,),
        notes=("weak",),
        impossible=("few",),
    )
    section = model_confidence(calibration)
    assert section.paragraphs[1:] == ("weak.", "few.")
    assert section.paragraphs[0] == "Learnt from 2 cases of 2 patients: out of fold."
    coverage, dice, plot = section.blocks
    assert coverage.rows == (("liver", "all", "20", "0.950", "0.760 to 0.990"),)
    assert dice.rows == (("liver", "2", "0.100 (0.050 to 0.200)", "–", "–"),)
    assert "0.100 before calibration and – after" in plot.text
    assert plot.data.rows[1] == ("0.800", "0.700", "–", "50")
    assert plot.image.startswith("data:image/svg+xml")


def test_a_classifier_has_none():
    assert model_confidence(None).blocks == ()
