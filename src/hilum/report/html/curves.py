"""Plots of a classification with their numbers: curves and confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hilum.evaluation.page import decimals, span
from hilum.report.confusion import confusion_canvas
from hilum.report.curves import panel_canvases
from hilum.report.html.document import Plot, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hilum.evaluation import ClassEvaluation, QuestionCurves

    Rows = Iterator[tuple[str, ...]]

_ALARMS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
_RECALLS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_RISKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def curve_plots(evaluation: ClassEvaluation) -> tuple[Plot, ...]:
    """Draw ROC, precision and recall, calibration and decision curve, each with its numbers."""
    canvases = panel_canvases(evaluation.scores, evaluation.classes)
    curves = evaluation.curves.curves
    plots = []
    for name, (title, text, head, rows) in _TEXTS.items():
        table = tuple((one.of, *row) for one in curves for row in rows(one))
        data = Table(f"{title} in numbers", ("of", *head), table) if table else None
        plots.append(
            Plot(title, canvases[name], f"{text} {_values_text(evaluation, name)}".strip(), data)
        )
    return tuple(plots)


def confusion_plot(evaluation: ClassEvaluation) -> Plot | None:
    """Draw the confusion matrix; None of findings, of which a case may have several."""
    if evaluation.classes.kind == "multilabel":
        return None
    names = evaluation.classes.names
    rows = tuple(
        (name, *map(str, row))
        for name, row in zip(names, evaluation.summary.confusion, strict=True)
    )
    said = "; ".join(f"{row[0]}: {', '.join(row[1:])}" for row in rows)
    return Plot(
        "Which class is taken for which",
        confusion_canvas(evaluation.scores, evaluation.classes),
        f"Called {', '.join(names)}, of those that are {said}.",
        Table("Rows are what cases are, columns what they are called", ("", *names), rows),
    )


def _values_text(evaluation: ClassEvaluation, panel: str) -> str:
    """Say in words what the curves of a panel come to."""
    metric = {"roc": "auroc", "precision_recall": "auprc", "calibration": "ece"}.get(panel)
    shown = [one for one in evaluation.estimates if one.metric == metric]
    values = [f"{one.part or 'all classes'} {one}" for one in shown]
    name = {"auroc": "AUROC", "auprc": "AUPRC", "ece": "Expected calibration error"}.get(
        metric or ""
    )
    return f"{name}: {'; '.join(values)}." if values else ""


def _roc_rows(curves: QuestionCurves) -> Rows:
    """Give the largest sensitivity at some rates of false alarms."""
    rates, sensitivity = np.array(curves.roc.false_positive_rate), curves.roc.sensitivity
    for most in _ALARMS if rates.size else ():
        yield f"{most:g}", decimals(max(np.array(sensitivity)[rates <= most], default=0.0))


def _precision_rows(curves: QuestionCurves) -> Rows:
    """Give the largest precision at which some recall is reached."""
    recall, precision = np.array(curves.precision_recall.recall), curves.precision_recall.precision
    for least in _RECALLS if recall.size else ():
        yield f"{least:g}", decimals(max(np.array(precision)[recall >= least], default=np.nan))


def _calibration_rows(curves: QuestionCurves) -> Rows:
    """Give the bins, with Wilson's interval of what was observed."""
    bins = curves.calibration
    for number, cases in enumerate(bins.cases):
        ends = span(bins.low[number], bins.high[number])
        yield str(cases), decimals(bins.predicted[number]), decimals(bins.observed[number]), ends


def _decision_rows(curves: QuestionCurves) -> Rows:
    """Give the net benefit at some risks."""
    decision = curves.decision
    for risk in _RISKS:
        near = int(np.abs(np.array(decision.threshold) - risk).argmin())
        yield f"{risk:g}", decimals(decision.model[near]), decimals(decision.treat_all[near])


_TEXTS: dict[str, tuple[str, str, tuple[str, ...], Callable[[QuestionCurves], Rows]]] = {
    "roc": (
        "ROC",
        (
            "Sensitivity over the share of false alarms, one line a question; the diagonal is"
            " chance, the dot is where cases are called."
        ),
        ("false alarms at most", "sensitivity"),
        _roc_rows,
    ),
    "precision_recall": (
        "Precision and recall",
        (
            "Share of the called cases that are positive, over the share of the positive cases that"
            " are called; the dotted line is the share of positive cases, which chance would have."
        ),
        ("recall at least", "precision"),
        _precision_rows,
    ),
    "calibration": (
        "Calibration",
        (
            "Observed share over predicted probability in ten bins of as many cases; on the"
            " diagonal they agree. Below, how many cases have which probability."
        ),
        ("cases", "mean probability", "observed share", "interval"),
        _calibration_rows,
    ),
    "decision": (
        "Decision curve",
        (
            "Net benefit in true positives a case, over the risk from which one would act. The"
            " model helps where its line is above those of acting on all (dotted) and on none"
            " (zero)."
        ),
        ("risk", "model", "act on all"),
        _decision_rows,
    ),
}
"""Title, text, head of the numbers and their rows, by panel."""
