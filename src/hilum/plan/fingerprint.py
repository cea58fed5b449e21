"""The fingerprint: the facts that a plan is decided from, measured once per case."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from hilum.dataset.case import refuse
from hilum.dataset.channels import (
    Kind,
    named_kind,
)
from hilum.dataset.classes import (
    ClassTable,  # noqa: TC001  pydantic needs the type when the record is made
)
from hilum.errors import DataError, LabelError, UsageError, did_you_mean
from hilum.plan.case_facts import (
    CaseFacts,
    CaseSamples,
    ChannelFacts,
    Intensities,
    measure_case,
)
from hilum.plan.plan import ChannelRange, Range, Record, TrainingRanges
from hilum.volume import Box, LabelTable, reorient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hilum.dataset.case import Case, Dataset


class ChannelSummary(Record):
    """One channel over all cases.

    `foreground` is None where no case has an annotated foreground voxel.
    """

    name: str
    kind: Kind
    kind_because: str
    foreground: Intensities | None
    whole: Intensities


class Fingerprint(Record):
    """The facts of a data set.

    Shapes and spacings are in array order (Z, Y, X) of the orientation SPL.

    A fingerprint depends on the data alone: the same cases give the same bytes whatever the number
    of threads.
    """

    version: Literal[1] = 1
    name: str
    channels: tuple[ChannelSummary, ...]
    task: str = "segmentation"
    labels: LabelTable
    """Meaning of the annotation's integers; of a classification of those of its masks."""
    classes: ClassTable | None = None
    cases: tuple[CaseFacts, ...]


def make_fingerprint(
    dataset: Dataset,
    *,
    cases: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    threads: int = 2,
) -> Fingerprint:
    """Read every case once and measure what planning needs.

    Large volumes are sampled: at most 10,000 voxels under the annotation and 10,000 of the whole
    image a case and channel, drawn by a generator that is seeded with the case's id.

    Args:
        dataset: what `hilum.dataset.open_dataset` gave.
        cases: ids to look at; all annotated cases if None. For cross-validation pass the training
            cases.
        progress: called as progress(done, total, case id).
        threads: cases that are read at a time; memory grows with it.

    Raises:
        UsageError: no case is left, or an id is unknown.
        LabelError: the data set has neither labels nor classes, or an annotation holds a label that
            the table does not know.
        GeometryError: an annotation does not lie on its image's grid.
    """
    if dataset.labels is not None:
        dataset.labels.refuse_unlearnable(str(dataset.root))
        task, table, classes = "segmentation", dataset.labels, None
    elif dataset.classes is not None:
        task, classes = "classification", dataset.classes
        table = LabelTable.from_names({1: "region"})
    else:
        raise LabelError(
            f"{dataset.name} has neither a label table nor classes",
            needed="labels in dataset.json, or a column of classes",
            cure="hilum check DATA",
        )
    known = {case.id: case for case in dataset.cases}
    unknown = [case for case in cases or () if case not in known]
    if unknown:
        raise UsageError(
            f"{dataset.name} has no annotated case {unknown[0]!r}",
            needed="ids of annotated cases",
            cure=did_you_mean(unknown[0], known),
        )
    chosen = list(dataset.not_tests) if cases is None else [known[case] for case in cases]
    if not chosen:
        raise UsageError(
            f"{dataset.name} has no annotated case",
            needed="at least one annotated case",
            cure=f"annotate cases in {dataset.root}; `hilum check DATA` says what each lacks",
        )

    def work(case: Case) -> CaseSamples | DataError:
        try:
            return _measure(case, table, dataset.channels, annotated=classes is None)
        except DataError as error:  # so that one error names all faulty cases
            return error

    measured: list[CaseSamples] = []
    faults: dict[str, DataError] = {}
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        for case, result in zip(chosen, pool.map(work, chosen), strict=True):
            if isinstance(result, DataError):
                faults[case.id] = result
            else:
                measured.append(result)
            if progress is not None:
                progress(len(measured) + len(faults), len(chosen), case.id)
    refuse(faults, len(chosen), str(dataset.root))
    made = summarise(dataset.name, dataset.channels, table, measured)
    return made.model_copy(update={"task": task, "classes": dataset.classes or None})


def summarise(
    name: str, channels: Sequence[str], labels: LabelTable, measured: Sequence[CaseSamples]
) -> Fingerprint:
    """Pool the cases' facts and samples.

    The order of the cases is kept and does not change the pooled numbers' meaning.
    """
    facts = tuple(one.facts for one in measured)
    summaries = []
    for index, channel in enumerate(channels):
        foreground = np.concatenate([one.foreground[index] for one in measured])
        whole = Intensities.of(np.concatenate([one.whole[index] for one in measured]))
        dimensions = 2 if all(min(case.shape) == 1 for case in facts) else 3
        each = [case.channels[index] for case in facts]
        kind, why = guess_kind(channel, each, dimensions=dimensions)
        pooled = Intensities.of(foreground) if foreground.size else None
        summary = ChannelSummary(
            name=channel, kind=kind, kind_because=why, foreground=pooled, whole=whole
        )
        summaries.append(summary)
    return Fingerprint(name=name, channels=tuple(summaries), labels=labels, cases=facts)


def guess_kind(channel: str, cases: Sequence[ChannelFacts], *, dimensions: int) -> tuple[Kind, str]:
    """Guess the kind of image of a channel from its name, else from its values.

    A channel named CT whose values cannot be Hounsfield units (8-bit pictures, values already
    normalised) is not taken for one.

    Returns:
        the kind and one sentence of reason.
    """
    low = float(np.median([case.minimum for case in cases]))
    high = float(np.median([case.maximum for case in cases]))
    values = f"values run from about {low:g} to {high:g}"
    hounsfield = high - low > 300 and (low <= -100 or high > 600)
    named = named_kind(channel)
    if named == "ct" and not hounsfield:
        why = f"channel {channel!r} is named CT, but its {values}, which cannot be Hounsfield units"
        return "unknown", why
    if named is not None:
        return named, f"its name is {channel!r} and its {values}"
    integral = all(case.integral for case in cases)
    if integral and low <= -900 and high >= 200:
        return "ct", f"its {values} in whole numbers, as Hounsfield units do"
    if integral and dimensions == 2 and low >= 0 and high <= 255:
        return "picture", f"its {values} in whole numbers on single pictures"
    return "unknown", f"neither its name {channel!r} nor its values tell ({values})"


def _measure(
    case: Case, table: LabelTable, channels: Sequence[str], *, annotated: bool
) -> CaseSamples:
    """Read and measure a case; of a classification also its class and where to look."""
    from hilum.dataset import read_annotation, read_case
    from hilum.dataset.reading import read_region

    image = read_case(case)
    if annotated:
        return measure_case(case.id, image, read_annotation(case), table=table, channels=channels)
    region = None if case.region is None else read_region(case)
    measured = measure_case(case.id, image, region, table=table, channels=channels)
    extent = None
    if region is not None:
        turned = reorient(region, "source" if image.geometry.is_2d else "SPL")
        box = Box.around(turned.array[0])
        if box is not None:
            extent = tuple(n * mm for n, mm in zip(box.shape, turned.geometry.spacing, strict=True))
    known = {"label": case.label, "region_mm": extent, "centred": case.centre_mm is not None}
    return replace(measured, facts=measured.facts.model_copy(update=known))


def summarise_training_images(fingerprint: Fingerprint, *, scaled: bool) -> TrainingRanges:
    """Return the ranges of the fingerprint's images.

    Without spacings where they have no physical scale, which is `scaled` false.
    """
    cases = fingerprint.cases
    pictures = all(min(case.shape) == 1 for case in cases)
    channels = tuple(
        ChannelRange(
            name=one.name,
            kind=one.kind,
            minimum=(min(lows := [case.channels[n].minimum for case in cases]), max(lows)),
        )
        for n, one in enumerate(fingerprint.channels)
    )
    extents = [[n * mm for n, mm in zip(case.shape, case.spacing, strict=True)] for case in cases]
    return TrainingRanges(
        channels=channels,
        cases=len(cases),
        pictures=pictures,
        orientation="source" if pictures else "SPL",
        spacing=ranges_along_axes([case.spacing for case in cases]) if scaled else None,
        extent_mm=ranges_along_axes(extents) if scaled else None,
    )


def ranges_along_axes(triples: Sequence[Sequence[float]]) -> tuple[Range, Range, Range]:
    """Return the least and the largest of numbers along (Z, Y, X)."""
    z, y, x = ((float(min(axis)), float(max(axis))) for axis in zip(*triples, strict=True))
    return z, y, x
