"""int8 by post-training quantisation with NNCF, accepted by the Dice on validation cases.

Ranges are set from patches of cases that the model was trained on; whether the quantised network
may be used is decided on annotated cases that it was not, and that set no range.
"""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from importlib import metadata
from io import StringIO
from typing import TYPE_CHECKING, cast

import numpy as np

from hilum.dataset import match_dataset, open_dataset, read_annotation, read_case
from hilum.dataset.case import Fold
from hilum.dataset.folds import make_folds
from hilum.engines.openvino_engine import OpenVINOEngine
from hilum.engines.openvino_library import ov
from hilum.errors import ModelError, UsageError, counted
from hilum.inference.export_manifest import LabelQuality, Quantisation
from hilum.inference.predict_cases import predict_cases, spread_evenly
from hilum.inference.predictor import Predictor
from hilum.inference.sliding_window import cut_patch
from hilum.metrics import dice
from hilum.preprocess import preprocess_case, preprocess_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dataset import Case, Dataset
    from hilum.engines.engine import Engine
    from hilum.engines.openvino_library import Model
    from hilum.inference.exported import TestVectors
    from hilum.inference.model import RunnableModel
    from hilum.inference.trained_model import TrainedModel
    from hilum.plan.segmentation import SegmentationPlan

_log = logging.getLogger("hilum")
_MOST_CASES = 20
"""Cases that calibrate, and cases that validate, at most; spread evenly over all."""
_PATCHES_A_CASE = 4
_CALIBRATION_VOXELS = 60e6
"""Input voxels that set the ranges, unless a few patches are more: statistics of so many no longer
move, and cost minutes."""
_FEWEST_PATCHES = 8
FEWEST_PATIENTS = 3
"""Patients in the validation at least: one says nothing about the next."""
MOST_UNSEEN = 0.25
"""Part of the labels that may be in no validation case; what int8 costs them is not known."""
_SET_ASIDE = (
    "a fold of patients was set aside, since the cases here that the model was validated on and not"
    " trained on are of {held} patients, and {needed} and others are needed; the model may have"
    " learnt from those that validate: their Dice measures what int8 changes, not how good the"
    " model is"
)
_NO_PATIENTS = (
    "the data name no patients: every case was taken for a patient of its own"
    " (patients='REGEX' finds them in the names)"
)


@dataclass(frozen=True)
class Split:
    """Cases for calibration and cases for validation."""

    calibration: tuple[Case, ...]
    validation: tuple[Case, ...]
    notes: tuple[str, ...]


def quantise(
    model: TrainedModel,
    networks: Sequence[Model],
    data: Path | str,
    *,
    gate: float,
    vectors: TestVectors,
    patients: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[tuple[Model, ...], Quantisation]:
    """Quantise a model's networks and hold the result against the float32 ones.

    Args:
        model: what was trained, and on which cases, where its folder says so.
        networks: `openvino.Model`s of its members.
        data: annotated cases; what `hilum.open_dataset` opens.
        gate: mean Dice that any label may lose.
        vectors: what the float32 networks answer.
        patients: a regular expression for the patient in a case's id, where no table names
            patients.
        progress: called as progress(done, total, case id).

    Returns:
        The quantised networks, and what was measured.

    Raises:
        UsageError: the gate is no fraction, or the data hold annotated cases of too few patients.
        DataError: the data cannot be opened, or are of other channels than the model.
        ModelError: a label loses more than the gate, or too many labels are in no validation case;
            the message has the figures.
    """
    if not 0 <= gate <= 1:
        raise UsageError(
            f"gate={gate:g} is no loss of Dice", needed="a number from 0 to 1", cure="gate=0.005"
        )
    plan = cast("SegmentationPlan", model.plan)
    opened = open_dataset(data, task="segmentation", patients=patients)
    opened.refuse_faults()
    dataset = match_dataset(opened, plan.channels, plan.labels, holder="the model")
    split = split_cases(model, dataset)
    patches = calibration_patches(plan, split.calibration)
    quantised = tuple(_quantise_network(network, patches) for network in networks)
    with (
        closing(OpenVINOEngine(list(networks), precision="float32")) as plain,
        closing(OpenVINOEngine(list(quantised), precision="int8")) as small,
    ):
        labels = compare_engines(model, plain, small, split.validation, progress=progress)
        distance = vectors.difference(small)
    notes = [*split.notes, *dataset.notes[len(opened.notes) :]]
    unjudged = ", ".join(one.region for one in labels if one.reference is None)
    if unjudged:
        notes.append(f"no validation case holds {unjudged}: what int8 costs there is not known")
    if all(case.patient is None for case in (*split.calibration, *split.validation)):
        notes.append(_NO_PATIENTS)
    record = Quantisation(
        dataset=dataset.name,
        calibrated_on=tuple(case.id for case in split.calibration),
        patches=len(patches),
        validated_on=tuple(case.id for case in split.validation),
        patients=len(_patients(split.validation)),
        distance=distance,
        gate=gate,
        labels=labels,
        method=f"nncf {metadata.version('nncf')} on openvino {ov.__version__}: {_METHOD}",
        notes=tuple(notes),
    )
    _refuse_beyond(record)
    return quantised, record


def split_cases(model: TrainedModel, dataset: Dataset) -> Split:
    """Cases that calibrate and cases that validate, no patient in both.

    At least `FEWEST_PATIENTS` patients validate.

    Those that the model's training validated on are taken to validate, where its folder names them
    and the data hold enough of them; else (an ensemble of folds, whose every case some member has
    seen; a model that says nothing) a fold of patients is set aside, and a note says why.

    Raises:
        UsageError: annotated cases of too few patients.
    """
    cases = {case.id: case for case in dataset.not_tests if case.annotation is not None}
    patients = len(_patients(cases.values()))
    if patients <= FEWEST_PATIENTS:
        raise UsageError(
            f"{dataset.root} has {counted(len(cases), 'annotated case')} of"
            f" {counted(patients, 'patient')} beside the test cases",
            needed=(
                f"at least {FEWEST_PATIENTS + 1} patients: some set the ranges, {FEWEST_PATIENTS}"
                " judge the result"
            ),
            cure="give data with cases of more patients, or export without precision='int8'",
        )
    trained, held = (
        model.facts.cases_for(part) if model.facts else frozenset[str]()
        for part in ("train", "validation")
    )
    own = Fold(tuple(sorted(trained or cases)), tuple(sorted(held - trained)))
    for fold in (own, *_folds(dataset, cases, patients)):
        calibration, validation = (
            [cases[name] for name in names if name in cases]
            for names in (fold.train, fold.validation)
        )
        judges = _patients(validation)
        others = [case for case in calibration if not _patients([case]) & judges]
        chosen = spread_evenly(validation, _MOST_CASES)
        if others and len(_patients(chosen)) >= FEWEST_PATIENTS:
            known = _patients(cases[name] for name in own.validation if name in cases)
            note = _SET_ASIDE.format(held=len(known), needed=FEWEST_PATIENTS)
            return Split(spread_evenly(others, _MOST_CASES), chosen, () if fold is own else (note,))
    raise UsageError(
        f"{dataset.root}: no fold of its {counted(len(cases), 'annotated case')} of"
        f" {counted(patients, 'patient')} leaves"
        " some to set the ranges",
        needed=f"{FEWEST_PATIENTS} patients that judge, and others",
        cure="give data with cases of more patients",
    )


def _folds(dataset: Dataset, cases: Mapping[str, Case], patients: int) -> list[Fold]:
    """List the data set's own folds, then made ones, those with the most validation patients first.

    Of few patients one calibrates and the others judge.
    """
    annotated = replace(dataset, cases=tuple(cases.values()), splits=())
    made = sorted(
        make_folds(annotated, max(2, min(5, patients // FEWEST_PATIENTS))),
        key=lambda fold: -len(_patients(cases[name] for name in fold.validation)),
    )
    if patients < 2 * FEWEST_PATIENTS:
        made += [Fold(fold.validation, fold.train) for fold in make_folds(annotated, patients)]
    return [*dataset.splits, *made]


def _patients(cases: Iterable[Case]) -> set[str]:
    """Return the patients of cases; one without a known patient is a patient of its own."""
    return {case.group for case in cases}


def calibration_patches(
    plan: SegmentationPlan, cases: Sequence[Case]
) -> tuple[NDArray[np.float32], ...]:
    """Cut patches (1, C, *patch) as the network sees them, half of them on annotated structures.

    The same cases give the same patches.
    """
    rng, size = np.random.default_rng(0), plan.patch.value
    most = max(_FEWEST_PATCHES, int(_CALIBRATION_VOXELS / np.prod(size)))
    each = max(1, min(_PATCHES_A_CASE, -(-most // len(cases))))
    patches: list[NDArray[np.float32]] = []
    for case in cases:
        if len(patches) >= most:
            break
        image, restore = preprocess_case(read_case(case), plan)
        labels = preprocess_labels(read_annotation(case), restore)
        where = np.argwhere(labels != 0)
        for number in range(each):
            centre = (
                where[rng.integers(len(where))]
                if number % 2 == 0 and len(where)
                else rng.integers(0, labels.shape)
            )
            # moved inside the image, padded with zeros
            starts = [
                min(max(0, int(c) - p // 2), max(0, n - p))
                for c, p, n in zip(centre, size, image.shape[1:], strict=True)
            ]
            z, y, x = (slice(start, start + p) for start, p in zip(starts, size, strict=True))
            before = [max(0, p - n) // 2 for p, n in zip(size, image.shape[1:], strict=True)]
            patches.append(cut_patch(image, (z, y, x), before, size)[None])
    return tuple(patches[:most])


def compare_engines(
    model: TrainedModel,
    plain: Engine,
    small: Engine,
    cases: Sequence[Case],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[LabelQuality, ...]:
    """Predict the cases with both engines, and compare with the annotations and each other."""
    table = cast("SegmentationPlan", model.plan).labels
    predictors = [
        Predictor(cast("RunnableModel", model), engine=engine) for engine in (plain, small)
    ]

    def predict(case: Case) -> list[tuple[float, float, float]]:
        """Score both predictors on one case: Dice with the reference, and with each other."""
        reference = read_annotation(case).array[0]
        first, second = (predictor.predict(case).labels.array[0] for predictor in predictors)
        counts = (
            np.full(reference.shape, fill_value=True)
            if table.ignore is None
            else reference != table.ignore
        )
        rows = []
        for region in table.scored:
            masks = [np.isin(one, region.labels) & counts for one in (first, second, reference)]
            rows.append(
                (dice(masks[0], masks[2]), dice(masks[1], masks[2]), dice(masks[1], masks[0]))
            )
        return rows

    found = [*predict_cases(predict, cases, progress=progress).values()]
    return tuple(
        _quality(region.name, [rows[n] for rows in found]) for n, region in enumerate(table.scored)
    )


_METHOD = (
    "preset mixed (activations asymmetric), fast bias correction, first and last convolution left"
    " as they are"
)


def _quantise_network(network: Model, patches: Sequence[NDArray[np.float32]]) -> Model:
    """Quantise the network to int8, but for its first and last convolution.

    These have few channels and cost next to nothing, but the one sees the image's whole range and
    the other's answers are what labels are decided by: without them agreement with float32 rose
    from .987 to .993 (one network, docs/benchmarks.md).
    """
    convolutions = [
        node.get_friendly_name()
        for node in network.get_ordered_ops()
        if re.fullmatch(r"(Group)?Convolution(BackpropData)?", node.get_type_name())
    ]
    try:
        with warnings.catch_warnings(action="ignore"):
            import nncf
    except ImportError as error:
        raise UsageError(
            "precision int8: nncf, which quantises, is not installed",
            needed="nncf",
            cure="pip install 'hilum[openvino]'",
        ) from error
    # not `nncf.set_log_level`, which sets handlers that NNCF's logger shares with others
    logging.getLogger("nncf").setLevel(logging.ERROR)
    # without its progress bars and its opinions about torch
    with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()):
        return nncf.quantize(
            network.clone(),
            nncf.Dataset(list(patches)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(patches),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=[convolutions[0], convolutions[-1]]),
        )


def _refuse_beyond(record: Quantisation) -> None:
    """Raise where a label loses more than the gate, or too many labels are in no case."""
    cases = counted(len(record.validated_on), "validation case")
    judges = f"{cases} of {counted(record.patients, 'patient')}"
    unseen = [one.region for one in record.labels if one.reference is None]
    if len(unseen) > MOST_UNSEEN * len(record.labels):
        raise ModelError(
            f"int8: {len(unseen)} of {len(record.labels)} labels are in none of {judges}:"
            f" {', '.join(unseen)}",
            needed=f"validation cases that hold at least {1 - MOST_UNSEEN:.0%} of the labels",
            cure=(
                "give data with annotated cases that hold them, or export without precision='int8'"
            ),
        )
    lost = [
        one
        for one in record.labels
        if one.reference is not None and one.reference - (one.int8 or 0.0) > record.gate
    ]
    if lost:
        raise ModelError(
            "int8 costs too much: " + "; ".join(one.in_words for one in lost),
            needed=f"a loss of at most {record.gate:g} for every label, on {judges}",
            cure="export without precision='int8', or accept the loss with a larger gate",
        )


def _quality(region: str, values: Sequence[tuple[float, float, float]]) -> LabelQuality:
    """Return the mean Dice of both networks over the cases where one of the two is defined.

    A case where only int8 predicts something counts as 0 for it.
    """
    rows = np.array(values, dtype=np.float64).reshape(-1, 3)
    defined = rows[~np.isnan(rows[:, :2]).all(axis=1)]
    if not len(defined):
        return LabelQuality(region=region, reference=None, int8=None, agreement=None, cases=0)
    # both empty is right: where one of the two networks answers nothing rightly, its figure for
    # that case is 1
    reference, int8, agreement = (
        float(np.nan_to_num(column, nan=1.0).mean()) for column in defined.T
    )
    return LabelQuality(
        region=region, reference=reference, int8=int8, agreement=agreement, cases=len(defined)
    )
