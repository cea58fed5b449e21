"""Proofs by the files of a model: a sentence, and the file and fields where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.errors import counted, some
from hilum.evaluation import Evaluation
from hilum.inference.assurance import NUMBERS
from hilum.inference.manifest import CARD, LABELS, METRICS, PLAN
from hilum.plan.data_card import DATA_CARD
from hilum.report.html.scope import SITES, ages, column_in_words
from hilum.report.html.values import along_axes, kind_of_image, metric_title, short
from hilum.targets.run_file import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hilum.report.html.model_folder import ModelFolder


@dataclass(frozen=True)
class Proof:
    """A statement, and where it stands.

    Args:
        text: in one or two sentences.
        file: below the model folder.
        fields: in that file, dots between the names; () where the file as a whole says it.
    """

    text: str
    file: str
    fields: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """File and fields for people."""
        return self.file + (f": {', '.join(self.fields)}" if self.fields else "")


def _decisions(folder: ModelFolder, *names: str) -> Proof:
    """Prove by decisions of the plan, each with its reason."""
    decisions = folder.plan.decisions
    said = " ".join(
        f"{name.replace('_', ' ')}: {short(decisions[name].value)}."
        for name in names
        if name in decisions
    )
    fields = tuple(name for name in names if name in decisions)
    return Proof(said[0].upper() + said[1:], PLAN, fields)


def _method(folder: ModelFolder) -> Proof:
    """Prove the kind of method."""
    plan = folder.plan
    return Proof(
        f"Deep learning: {plan.dimensions.value}D {plan.task.value} by a neural network"
        f" ({plan.network.value.title}).",
        PLAN,
        ("task", "dimensions", "network"),
    )


def _source(folder: ModelFolder) -> Proof | None:
    """Say which data set was used, with its cases and patients."""
    facts = folder.manifest.facts
    if facts is None:
        return None
    patients = "unknown" if facts.patients is None else str(facts.patients)
    return Proof(
        f"Data set {facts.dataset}: {counted(facts.cases, 'case')} used, patients: {patients}.",
        folder.manifest_name,
        ("facts.dataset", "facts.cases", "facts.patients"),
    )


def _exclusions(folder: ModelFolder) -> Proof | None:
    """Say how many cases and files were left out."""
    card = folder.data_card
    if card is None:
        return None
    files = 0 if card.files is None else sum(one.count for one in card.files.left_out)
    return Proof(
        f"{counted(card.unlabelled, 'case')} without annotation or label and"
        f" {counted(files, 'file')} were left out, with reasons.",
        DATA_CARD,
        ("unlabelled", "orphans", "files"),
    )


def _preprocessing(folder: ModelFolder) -> Proof:
    return _decisions(
        folder, "orientation", "crop", "region", "spacing", "image_order", "normalisation"
    )


def _subsets(folder: ModelFolder) -> Proof:
    return _decisions(folder, "patch", "region")


def _missing(folder: ModelFolder) -> Proof | None:
    """Prove how cases without an annotation or label are treated."""
    card = folder.data_card
    if card is None:
        return None
    return Proof(
        f"Cases without annotation or label are not used: {card.unlabelled}.",
        DATA_CARD,
        ("unlabelled",),
    )


def _acquisition(folder: ModelFolder) -> Proof | None:
    """Prove the kinds of images and their spacing."""
    ranges = folder.plan.seen
    if ranges is None:
        return None
    kinds = ", ".join(f"{one.name}: {kind_of_image(one.kind)}" for one in ranges.channels)
    spacing = "" if ranges.spacing is None else f" Voxels {along_axes(ranges.spacing, 'mm')}."
    return Proof(f"Kind of image, {kinds}.{spacing}", PLAN, ("seen.channels", "seen.spacing"))


def _centres(folder: ModelFolder) -> Proof | None:
    """Prove the centres that the cases come from."""
    columns = () if folder.data_card is None else folder.data_card.columns_about(*SITES)
    if not columns:
        return None
    said = "; ".join(f"{one.name}: {column_in_words(one)}" for one in columns)
    return Proof(f"{said}.", DATA_CARD, ("columns",))


def _labels(folder: ModelFolder) -> Proof:
    return Proof(f"Names and codes of what is predicted: {some(folder.names, shown=8)}.", LABELS)


def _partition(folder: ModelFolder) -> Proof | None:
    """Say how the cases were divided into folds."""
    facts = folder.manifest.facts
    if facts is None or not folder.folds:
        return None
    folds = "; ".join(
        f"{one.name}: {one.train} to train on, {one.validation} held out" for one in folder.folds
    )
    seed = "" if facts.seed is None else f", seed {facts.seed}"
    return Proof(
        f"{folds}{seed}; every case by name.", folder.manifest_name, ("facts.details", "facts.seed")
    )


def disjoint(folder: ModelFolder) -> Proof | None:
    """Say what is never on both sides of a fold; None where the folds are not known."""
    facts = folder.manifest.facts
    if facts is None or not folder.folds:
        return None
    if facts.patients is None:
        text = (
            "No patients are known: each case counts as one; copies of images stay on one side of"
            " a fold."
        )
    else:
        text = (
            "Patients, and near-duplicate images joined with them: none is on both sides of a fold."
        )
    return Proof(text, folder.manifest_name, ("facts.details", "facts.patients"))


def _model(folder: ModelFolder) -> Proof:
    return _decisions(folder, "network", "patch")


def _inputs(folder: ModelFolder) -> Proof:
    """Prove the inputs of the model."""
    return Proof(
        f"The image alone: {', '.join(folder.plan.channels)}. No other data of the patient.",
        PLAN,
        ("channels",),
    )


def _software(folder: ModelFolder) -> Proof | None:
    """Say which versions of hilum and its packages made the model."""
    if folder.run is None:
        return None
    packages = folder.run.packages
    return Proof(
        f"hilum {folder.manifest.hilum}, Python {folder.run.python}, "
        + ", ".join(f"{name} {packages[name]}" for name in ("torch", "numpy") if name in packages)
        + f", {counted(len(packages), 'package')} in all.",
        RUN,
        ("packages", "python", "platform"),
    )


def _initial(folder: ModelFolder) -> Proof | None:
    """Prove how the weights were initialised."""
    if "weights" in folder.plan.decisions:
        return _decisions(folder, "weights")
    facts = folder.manifest.facts
    if facts is None or facts.seed is None:
        return None
    return Proof(f"Random, seed {facts.seed}.", folder.manifest_name, ("facts.seed",))


def _training(folder: ModelFolder) -> Proof | None:
    """Prove the decisions about the training."""
    if not folder.folds:  # an imported plan says how to predict, not how it was learnt
        return None
    return _decisions(
        folder, "augmentation", "optimiser", "steps", "batch", "loss", "stages", "precision"
    )


def _selection(folder: ModelFolder) -> Proof | None:
    """Say how the weights of the model were chosen."""
    if not folder.folds:
        return None
    proof = _decisions(folder, "steps", "optimiser")
    decay = folder.plan.optimiser.value.ema_decay
    text = (
        f"The weights at the end of the schedule, averaged over the steps (decay {decay:g}); none"
        " of several was chosen by its score. Without a time limit a segmentation ends where the"
        " score of some validation cases no longer rises."
    )
    return Proof(text, proof.file, proof.fields)


def _ensemble(folder: ModelFolder) -> Proof:
    members = len(folder.manifest.members)
    text = "One network." if members == 1 else f"{members} networks, whose logits are averaged."
    return Proof(text, folder.manifest_name, ("members",))


def _metrics(folder: ModelFolder) -> Proof | None:
    names = dict.fromkeys(metric_title(one.name) for one in folder.metrics.metrics)
    if not names:
        return None
    return Proof(f"{some([*names], shown=12)}.", METRICS, ("metrics",))


def _uncertainty(folder: ModelFolder) -> Proof | None:
    """Prove that metrics have intervals over patients."""
    if not any(one.lower is not None for one in folder.metrics.metrics):
        return None
    return Proof(
        f"{folder.metrics.level:.0%} intervals over patients, each patient counted as one.",
        METRICS,
        ("level", "metrics"),
    )


def _internal(folder: ModelFolder) -> Proof | None:
    if not folder.metrics.metrics:
        return None
    return Proof(f"{folder.metrics.measured_on}.", METRICS, ("measured_on",))


def _flow(folder: ModelFolder) -> Proof | None:
    """Say how many cases were used, unlabelled, and kept for testing."""
    card = folder.data_card
    if card is None or not folder.folds:
        return None
    return Proof(
        f"{card.cases} cases used, {card.unlabelled} without annotation or label, {card.tests} kept"
        " for testing; the diagram is under “Data flow”.",
        DATA_CARD,
        ("cases", "unlabelled", "tests"),
    )


def _demographics(folder: ModelFolder) -> Proof | None:
    """Prove age, sex and other columns of the cases."""
    card = folder.data_card
    if card is None or not card.columns:
        return None
    said = "; ".join(f"{one.name}: {column_in_words(one)}" for one in card.columns)
    return Proof(f"Of all cases together: {said}. Ages: {ages(card)}.", DATA_CARD, ("columns",))


def _performance(folder: ModelFolder) -> Proof | None:
    if not folder.metrics.metrics:
        return None
    return Proof(f"Measured on {folder.metrics.measured_on}.", METRICS, ("measured_on",))


def _failures(folder: ModelFolder) -> Proof | None:
    if folder.evaluation is None:
        return None
    file = "cases.csv" if isinstance(folder.evaluation, Evaluation) else "predictions.csv"
    return Proof("Every held-out case with its result.", f"training/out_of_fold/{file}")


def _limits(folder: ModelFolder) -> Proof:
    del folder
    return Proof("What it does not do stands in the model card under “Limits”.", CARD)


def _identity(folder: ModelFolder) -> Proof:
    """Prove the id and the completeness of the model."""
    manifest = folder.manifest
    return Proof(
        f"The model is complete in its folder: id {manifest.id}, hilum {manifest.hilum}"
        " (Apache-2.0), a hash of every file.",
        folder.manifest_name,
        ("id", "hilum", "files"),
    )


def _balance(folder: ModelFolder) -> Proof | None:
    if not folder.folds:
        return None
    return _decisions(folder, "foreground_fraction", "loss", "balance")


def _output(folder: ModelFolder) -> Proof:
    """Say what the model gives: label maps, or probabilities and prediction sets."""
    if folder.assurance is None:
        return _labels(folder)
    calibration = folder.assurance.calibration
    return Proof(
        f"A probability for each class, and prediction sets for {calibration.coverage:.0%} of"
        " cases; thresholds learnt from held-out cases.",
        NUMBERS,
        ("calibration",),
    )


def _calibration(folder: ModelFolder) -> Proof | None:
    """Prove how probabilities are calibrated."""
    if folder.assurance is None:
        return None
    calibration = folder.assurance.calibration
    return Proof(
        f"Logits divided by {calibration.temperature:.4g}: {calibration.because}.",
        NUMBERS,
        ("calibration",),
    )


def _counts(folder: ModelFolder) -> Proof | None:
    """Prove how many cases hold each label or class."""
    card = folder.data_card
    if card is None or not card.labels:
        return None
    said = ", ".join(f"{one.name} in {one.cases}" for one in card.labels)
    return Proof(f"{counted(card.cases, 'case')}: {said}.", DATA_CARD, ("cases", "labels"))


def _ranges(folder: ModelFolder) -> Proof | None:
    """Prove that images unlike the training ones are warned of."""
    if folder.plan.seen is None:
        return None
    refuses = folder.assurance is not None and folder.assurance.refusals
    text = "`hilum predict` warns of images whose kind, voxel size or values are unlike these."
    return Proof(
        text + (" It marks images unlike the training." if refuses else ""), PLAN, ("seen",)
    )


PROOFS: Mapping[str, Callable[[ModelFolder], Proof | None]] = {
    "method": _method,
    "source": _source,
    "exclusions": _exclusions,
    "preprocessing": _preprocessing,
    "subsets": _subsets,
    "missing": _missing,
    "acquisition": _acquisition,
    "centres": _centres,
    "labels": _labels,
    "partition": _partition,
    "disjoint": disjoint,
    "model": _model,
    "inputs": _inputs,
    "software": _software,
    "initial": _initial,
    "training": _training,
    "selection": _selection,
    "ensemble": _ensemble,
    "metrics": _metrics,
    "uncertainty": _uncertainty,
    "internal": _internal,
    "flow": _flow,
    "demographics": _demographics,
    "performance": _performance,
    "failures": _failures,
    "limits": _limits,
    "identity": _identity,
    "balance": _balance,
    "output": _output,
    "calibration": _calibration,
    "counts": _counts,
    "ranges": _ranges,
}
"""Proofs by the names that the check lists use; None where a model does not say it."""
