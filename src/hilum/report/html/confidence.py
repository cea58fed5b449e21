"""Confidence of segmentations: of the cases of a run, and as held-out patients showed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import counted, plain_digits
from hilum.evaluation.page import decimals, span
from hilum.report.canvas import BLUE, GREY, new_canvas
from hilum.report.html.document import Plot, Section, Table

if TYPE_CHECKING:
    from hilum.inference.run_report import RunReport
    from hilum.inference.voxel_calibration import DiceCheck, Reliability, VoxelCalibration
    from hilum.report.html.document import Block

_NOTHING = "–"


def run_confidence(run: RunReport) -> Section:
    """Show interval, contours and expected Dice of every predicted region."""
    judged = [(one.case, one.confidence) for one in run.cases if one.confidence is not None]
    rows = tuple(
        (
            case,
            one.region,
            plain_digits(one.volume_ml),
            _range(one.low_ml, one.high_ml),
            _range(one.inner_ml, one.outer_ml),
            _number(one.dice),
            _number(one.least_dice),
        )
        for case, confidence in judged
        for one in confidence.regions
    )
    texts = [confidence.guarantee for _, confidence in judged]
    texts += [f"{note}." for _, one in judged for note in (*one.notes, *one.impossible)]
    head = ("case", "region", "volume, ml", "interval, ml", "inner to outer contour, ml")
    table = Table("Volumes, and the Dice to expect", (*head, "Dice", "at least"), rows)
    return Section(
        "How sure the predictions are", tuple(dict.fromkeys(texts)), (table,) if rows else ()
    )


def model_confidence(calibration: VoxelCalibration | None) -> Section:
    """Show calibration, expected Dice and coverage of the held-out patients."""
    if calibration is None:
        return Section("How sure its predictions are")
    text = (
        f"Learnt from {counted(len(calibration.cases), 'case')} of"
        f" {counted(calibration.patients, 'patient')}: {calibration.how}."
    )
    blocks: list[Block] = []
    rows = tuple(
        (
            region.region,
            one.stratum,
            str(one.patients),
            decimals(one.covered),
            span(one.low, one.high),
        )
        for region in calibration.regions
        for one in region.coverage
    )
    if rows:
        head = ("region", "patients like", "number", "within", "95 % interval")
        caption = "Held-out patients whose volume lies in the interval that the others give"
        blocks.append(Table(f"{caption} (90 % are promised)", head, rows))
    checked = tuple(
        (region.region, *_dice_cells(region.dice))
        for region in calibration.regions
        if region.dice is not None
    )
    if checked:
        head = (
            "region",
            "cases",
            "mean error",
            "error of always saying the mean",
            "rank correlation",
        )
        blocks.append(Table("Expected Dice against the real one, held out", head, checked))
    blocks += [
        _reliability_plot(region.region, region.before, region.after)
        for region in calibration.regions
        if region.before is not None and region.after is not None
    ]
    notes = tuple(f"{note}." for note in (*calibration.notes, *calibration.impossible))
    return Section("How sure its predictions are", (text, *notes), tuple(blocks))


def _number(value: float | None) -> str:
    """Write a number; a dash where it is not known."""
    return _NOTHING if value is None else decimals(value)


def _range(low: float | None, high: float | None) -> str:
    """Write "3.1 to 4.2"; a dash where neither is known."""
    if low is None and high is None:
        return _NOTHING
    return " to ".join(_NOTHING if end is None else plain_digits(end) for end in (low, high))


def _dice_cells(check: DiceCheck) -> tuple[str, ...]:
    """Write how far the expected Dice was from the real one."""
    return (
        str(len(check.cases)),
        _with_interval(check.error),
        _number(check.error_of_mean),
        _with_interval(check.spearman),
    )


def _with_interval(found: tuple[float, float, float] | None) -> str:
    """Write a value with its interval."""
    return _NOTHING if found is None else f"{decimals(found[0])} ({span(found[1], found[2])})"


def _reliability_plot(region: str, before: Reliability, after: Reliability) -> Plot:
    """Draw the share of voxels that the reference has against their predicted probability."""
    canvas = new_canvas(4.2, 3.6)
    axes = canvas.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.plot(before.predicted, before.observed, "s--", color=GREY, label="as the network says")
    axes.plot(after.predicted, after.observed, "o-", color=BLUE, label="calibrated, held out")
    axes.set_xlabel("predicted probability")
    axes.set_ylabel("share of voxels in the reference")
    axes.legend(loc="upper left")
    text = (
        f"Voxels of {region} by probability: on the dotted diagonal the probability comes true."
        f" The mean distance from it is {_number(before.error)} before calibration and"
        f" {_number(after.error)} after it."
    )
    bins = zip(after.predicted, after.observed, after.low, after.high, after.voxels, strict=True)
    rows = tuple(
        (decimals(predicted), decimals(observed), _range(low, high), str(voxels))
        for predicted, observed, low, high, voxels in bins
    )
    head = ("predicted", "observed", "95 % interval", "voxels")
    data = Table(f"Calibrated probability of {region} in numbers", head, rows)
    return Plot(f"Calibration of {region}", canvas, text, data)
