"""The report of a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import counted
from hilum.evaluation import Evaluation
from hilum.evaluation.page import span
from hilum.report.html.cards import data_card_section, model_card_section
from hilum.report.html.checklists import checklist_section
from hilum.report.html.classes import class_report
from hilum.report.html.confidence import model_confidence
from hilum.report.html.data_flow import data_flow
from hilum.report.html.document import Document, KeyNumber, Section, Table
from hilum.report.html.environment import environment_section
from hilum.report.html.label_maps import label_map_report
from hilum.report.html.learning import learning_curves
from hilum.report.html.proofs import disjoint
from hilum.report.html.scope import UNKNOWN, intended_images, scope_section
from hilum.report.html.values import metric_title, sentence, short

if TYPE_CHECKING:
    from hilum.inference.assurance import Calibration
    from hilum.inference.manifest import Metric
    from hilum.report.html.model_folder import ModelFolder

_MATTER = ("dice", "nsd", "auroc", "sensitivity", "specificity", "balanced_accuracy")
_OWN_SECTIONS = {"Data", "Results", "Notes", "Methods"}
"""Sections of the held-out evaluation that the model's own sections say already."""


def model_report(folder: ModelFolder) -> Document:
    """Return the report of a model folder."""
    held_out = _held_out(folder)
    numbers = _numbers(folder) if held_out is None else held_out.numbers
    more = () if held_out is None else held_out.sections
    sections = (
        scope_section(folder),
        _flow_section(folder),
        _results(folder),
        *sorted(
            (one for one in more if one.title not in _OWN_SECTIONS),
            key=lambda one: one.title == "Gallery",  # the longest comes last
        ),
        _classifier(folder),
        model_confidence(folder.confidence),
        _curves(folder),
        _plan(folder),
        data_card_section(folder.data_card, folder.manifest.facts),
        model_card_section(folder.model_card),
        checklist_section(folder, "claim_2024"),
        checklist_section(folder, "tripod_ai"),
        environment_section(folder),
    )
    return Document(f"Model {folder.plan.name}", _plain_words(folder, held_out), numbers, sections)


def _held_out(folder: ModelFolder) -> Document | None:
    """Return the report of the held-out cases, where `training/` holds their evaluation."""
    if folder.evaluation is None:
        return None
    if isinstance(folder.evaluation, Evaluation):
        return label_map_report(folder.evaluation, images={})
    return class_report(folder.evaluation, images={})


def _plain_words(folder: ModelFolder, held_out: Document | None) -> tuple[str, ...]:
    """Say in plain words what the model does, how good it is, on whom, and where it fails."""
    metrics = folder.metrics
    lines = [_purpose(folder)]
    first = [
        one for one in metrics.metrics if one.name in {"dice", "auroc"} and one.mean is not None
    ]
    if first:
        said = "; ".join(_in_words(one) for one in first[:6])
        lines.append(f"Measured on {metrics.measured_on}: {said}. {_optimism(folder)}".rstrip())
    else:
        lines.append(
            f"How good it is, is unknown ({metrics.measured_on}): predict cases that it has not"
            " learnt from, and evaluate them, before you trust it."
        )
    lines += [f"Warning: {one}" for one in metrics.warnings]
    lines += _failures(folder, held_out)
    lines.append(intended_images(folder))
    return tuple(lines)


def _purpose(folder: ModelFolder) -> str:
    """Say what the model does, and from whose images it learnt."""
    images = " and ".join(folder.kinds) or "images of an unknown kind"
    verb = "tells apart" if folder.classifies else "finds"
    text = f"This model {verb} {', '.join(folder.names)} in {images}."
    facts = folder.manifest.facts
    if facts is None:
        return text
    patients = "unknown patients"
    if facts.patients is not None:
        patients = counted(facts.patients, "patient")
    return (
        f"{text} It was made from {counted(facts.cases, 'case')} of {patients} ({facts.dataset})."
    )


def _in_words(metric: Metric) -> str:
    """Say one metric with its interval."""
    of = "" if metric.region == "all" else f" of {metric.region}"
    interval = span(metric.lower, metric.upper)
    return f"{metric_title(metric.name)}{of} {metric.mean:.3f} ({interval})"


def _optimism(folder: ModelFolder) -> str:
    """Say how far held-out figures of a training may be trusted; "" of other figures."""
    if folder.metrics.measured_on.endswith("(hilum tune)"):
        return ""
    if len(folder.folds) > 1:
        return (
            "These are cross-validated figures: no case was judged by a network that learnt from"
            " it, but all cases were looked at for the plan, so they are optimistic for patients"
            " of other places."
        )
    if folder.folds:
        return (
            "These are figures of validation cases of the same data set: they are optimistic for"
            " patients of other places."
        )
    return ""


def _failures(folder: ModelFolder, held_out: Document | None) -> list[str]:
    """Say where the model is weakest, as far as its metrics tell."""
    ranked = sorted(
        (
            one
            for one in folder.metrics.metrics
            if one.name in {"dice", "sensitivity"} and one.mean is not None
        ),
        key=lambda one: one.mean or 0.0,
    )
    lines = []
    if len(ranked) > 1:
        lines.append(f"It is weakest in {_in_words(ranked[0])}.")
    if held_out is not None:
        lines += [text for text in held_out.summary if text.startswith("Missed altogether")]
        lines.append("Which cases it does worst stands under “Worst cases”.")
    return lines


def _numbers(folder: ModelFolder) -> tuple[KeyNumber, ...]:
    """Return three numbers of metrics.json, where there is no evaluation to take them from."""
    known = [
        one
        for name in _MATTER
        for one in folder.metrics.metrics
        if one.name == name and one.mean is not None
    ]
    return tuple(
        KeyNumber(
            f"{one.mean:.3f}",
            span(one.lower, one.upper),
            metric_title(one.name) + ("" if one.region == "all" else f" of {one.region}"),
        )
        for one in known[:3]
    )


def _flow_section(folder: ModelFolder) -> Section:
    """Show which cases came in, which did not and why, and the folds."""
    rows = tuple(
        (
            one.name,
            str(one.train),
            str(one.train - one.left_out),
            str(one.validation),
            UNKNOWN if one.unscored is None else str(one.validation - one.unscored),
            str(one.steps),
        )
        for one in folder.folds
    )
    head = ("fold", "training cases", "learnt from", "validation cases", "scored", "steps")
    tables = (Table("Folds", head, rows),) if rows else ()
    proof = disjoint(folder)
    text = proof.text if proof else "The model does not say which cases it learnt from."
    return Section("Data flow", (text,), (data_flow(folder), *tables))


def _results(folder: ModelFolder) -> Section:
    """Show the metrics, and on which cases they were measured."""
    metrics = folder.metrics
    rows = tuple(
        (
            one.region,
            metric_title(one.name),
            "–" if one.mean is None else f"{one.mean:.3f}",
            span(one.lower, one.upper) if one.mean is not None else "–",
            "–" if one.median is None else f"{one.median:.3f}",
            str(one.cases),
        )
        for one in metrics.metrics
    )
    head = ("of", "metric", "mean", f"{metrics.level:.0%} interval", "median", "cases")
    measured = f"measured on {metrics.measured_on}" if rows else metrics.measured_on
    paragraphs = tuple(map(sentence, (measured, *metrics.notes)))
    return Section(
        "How good it is", paragraphs, (Table("Measured metrics", head, rows),) if rows else ()
    )


def _classifier(folder: ModelFolder) -> Section:
    """Show calibration, prediction sets and the refusal of a classifier."""
    title = "Calibration, prediction sets, refusal"
    if folder.assurance is None:
        return Section(title)
    calibration, refusals = folder.assurance.calibration, folder.assurance.refusals
    rows = [("temperature", short(calibration.temperature))]
    if calibration.bias:
        rows.append(("added to the logits", ", ".join(map(short, calibration.bias))))
    rows += [
        ("why", calibration.because or "not recorded"),
        ("held-out cases it was learnt from", str(calibration.cases)),
        ("coverage of the prediction sets", f"{calibration.coverage:.0%}"),
        ("least probability in a set", ", ".join(map(short, calibration.thresholds)) or "no sets"),
    ]
    rows += [
        (f"coverage of sets per class, {name}", f"{held:.0%}")
        for name, held in zip(folder.names, calibration.class_coverage, strict=False)
        if held is not None
    ]
    if refusals:
        rows.append(
            ("images like the training images that are refused", f"{refusals[0].share:.0%}")
        )
    else:
        rows.append(("refusal", "the model refuses no image"))
    table = Table("Learnt from held-out cases", ("what", "value"), tuple(rows), wrap=True)
    return Section(title, (_sets_in_words(calibration),), (table,))


def _sets_in_words(calibration: Calibration) -> str:
    """Say what prediction sets promise, and from which probability a class is called."""
    if not calibration.thresholds:
        return "The model gives probabilities and no prediction sets."
    return (
        f"The prediction set of a case holds its class in {calibration.coverage:.0%} of cases like"
        f" the {calibration.cases} held-out ones. A class is called where its probability is the"
        " largest, of two classes from 0.5, unless a threshold is given to `hilum evaluate`."
    )


def _curves(folder: ModelFolder) -> Section:
    """Show the learning curves."""
    if not folder.curves:
        return Section(
            "Learning curves",
            ("Not here: the folder `training/` with the logs was not given along.",)
            if folder.folds
            else (),
        )
    plots = tuple(learning_curves(name, rows) for name, rows in folder.curves.items())
    return Section("Learning curves", blocks=plots)


def _plan(folder: ModelFolder) -> Section:
    """Show every decision with its reason."""
    rows = tuple(
        (name.replace("_", " "), short(decision.value), decision.because)
        for name, decision in folder.plan.decisions.items()
    )
    hardware = folder.plan.hardware
    limit = "" if hardware.minutes is None else f" and {hardware.minutes:g} minutes a fold"
    text = (
        f"{counted(len(rows), 'decision')}, made for {hardware.device} with"
        f" {hardware.memory_gb:g} GiB{limit}. All of it, to the last number, is in plan.json."
    )
    table = Table("Decisions", ("decision", "value", "because"), rows, wrap=True)
    return Section("Plan and its reasons", (text,), (table,))
