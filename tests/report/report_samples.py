"""Model folders and prediction runs for tests of their reports, made without a training."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

from hilum.evaluation import evaluate_folder
from hilum.inference.assurance import Assurance, Calibration
from hilum.inference.manifest import Facts, Metric, ModelMetrics
from hilum.inference.run_report import CaseOutcome, RunClock
from hilum.plan.data_card import ColumnSummary, DataCard, LabelSummary, NumberSummary
from hilum.plan.plan import ChannelRange, TrainingRanges
from hilum.volume import LabelTable

sys.path.append(str(Path(__file__).parents[1]))  # whose toys these models are
from inference_toys import real_model

LIVER = LabelTable.from_names({1: "liver"})
AGES = ColumnSummary(
    name="age_years", known=7, values=7, numbers=NumberSummary(low=23, median=60, high=81)
)
SEXES = ColumnSummary(name="sex", known=8, values=2, counts=(("F", 5), ("M", 3)))
CARD = DataCard(
    name="Livers",
    layout="nnunet",
    cases=8,
    patients=8,
    tests=2,
    unlabelled=3,
    labels=(
        LabelSummary(
            name="liver", cases=8, volume_ml=NumberSummary(low=900, median=1500, high=2100)
        ),
    ),
    columns=(AGES, SEXES),
    orphans=(("orphan-image", 1),),
    notes=("no patient column: each case counts as one patient",),
)
SEEN = TrainingRanges(
    channels=(ChannelRange(name="CT", kind="ct", minimum=(-1024, -1000)),),
    cases=8,
    spacing=((3, 5), (0.7, 1), (0.7, 1)),
    extent_mm=((200, 400), (300, 400), (300, 400)),
)
METRICS = ModelMetrics(
    measured_on="8 validation cases of Livers (5-fold cross-validation, seed 0; torch in float32)",
    metrics=(
        Metric(
            region="liver", name="dice", mean=0.91, median=0.92, lower=0.88, upper=0.94, cases=8
        ),
        Metric(region="liver", name="hd95", mean=6.0, median=5.0, lower=4.0, upper=9.0, cases=8),
    ),
    notes=("the ensemble itself was not measured",),
)


def make_model_folder(folder, *, data_card=CARD, seen=SEEN, assurance=None, evaluation=None):
    """A model folder as a training leaves it: card, log of one fold, run.json, an evaluation."""
    model = real_model(labels=LIVER)
    details = {
        f"fold {n}": {
            "train": list("abcdef"),
            "validation": list("gh"),
            "left_out": list("ab")[:n],
            "unscored": n,
            "steps": 40,
        }
        for n in range(2)
    }
    facts = Facts(
        dataset="Livers", cases=7, patients=7, steps=80, seconds=61.0, seed=3, details=details
    )
    model = replace(
        model,
        plan=model.plan.model_copy(update={"seen": seen}),
        metrics=METRICS,
        facts=facts,
        data_card=data_card,
        assurance=assurance,
    )
    model.save(folder)
    clock = RunClock("train", device="cpu", options={"minutes": 20.0}, seeds={"seed": 3})
    clock.report().save(folder / "run.json")
    log = folder / "training" / "fold_0" / "log.csv"
    log.parent.mkdir(parents=True)
    with log.open("w", newline="") as stream:
        writer = csv.writer(stream)
        names = "step,seconds,progress,learning_rate,loss,gradient_norm,score"
        writer.writerow(names.split(","))
        for step in range(1, 41):
            writer.writerow([step, step, step / 40, 1e-3, 2 / step, 1.0, 0.8 if step == 40 else ""])
    if evaluation is not None:
        predictions, reference = evaluation
        evaluate_folder(predictions, reference, folder / "training" / "out_of_fold")
    return folder


def calibrated():
    """A classifier's calibration, without refusals."""
    calibration = Calibration(
        temperature=1.5,
        because="it lowers the log loss of 40 held-out cases",
        thresholds=(0.2, 0.3),
        coverage=0.9,
        cases=40,
        scale="network",
    )
    return Assurance(calibration)


def make_run(folder, outcomes, **changes):
    """Write run.json of predictions."""
    clock = RunClock("predict", device="cpu", engine="openvino", model="0123456789abcdef")
    report = clock.report(cases=tuple(outcomes)).model_copy(update=changes)
    report.save(folder / "run.json")


def outcome(case, status="done", **changes):
    """One case of a run."""
    seconds = {"read": 0.5, "run": 2.0, "write": 0.25} if status == "done" else {}
    return CaseOutcome(case=case, status=status, seconds=seconds, **changes)


def table_of(document, caption):
    """The table of a report with a caption."""
    return next(
        block
        for section in document.sections
        for block in section.blocks
        if getattr(block, "caption", "") == caption
    )
