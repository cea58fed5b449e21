"""Whole synthetic data sets on disk, in layouts that people have."""

from __future__ import annotations

import csv
import io
import json
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.errors import UsageError
from hilum.examples.abdomen import ABDOMEN_LABELS, follow_up, make_study, sample_patient
from hilum.examples.chest import NODULE_LABELS, Kind, make_nodule_ct
from hilum.examples.dicom import SeriesTags, refuse_existing, write_dicom_series
from hilum.files.atomic import atomic_write_text
from hilum.io import write_labels, write_volume
from hilum.volume import LabelTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from hilum.examples.abdomen import Patient, SyntheticCase

    Progress = Callable[[int, int, str], None]

_STUDIES_OF_TWO = 3  # every third patient comes back for a second study


def make_abdomen_dataset(
    folder: Path | str,
    *,
    cases: int = 12,
    tests: int = 2,
    seed: int = 0,
    shape: tuple[int, int, int] = (42, 84, 108),
    structures: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a synthetic abdominal CT data set in nnU-Net's raw layout, with a patient table.

    imagesTr/abdomen_000_0000.nii.gz, labelsTr/abdomen_000.nii.gz, dataset.json and patients.csv
    (case, patient, sex, age, site); test cases of other patients lie in imagesTs, with their
    annotation in labelsTs, and once more as one DICOM series a folder in dicomTs/CASE. Every third
    patient has two studies, so that only folds by patient are honest.

    Args:
        folder: where to; made where it does not exist.
        cases: annotated training cases.
        tests: test cases.
        seed: same seed and options, same voxels.
        shape: voxels (Z, Y, X) of each case, which sets the spacing (see :func:`make_abdomen_ct`)
            and the cost.
        structures: names of :data:`ABDOMEN_LABELS` to annotate, numbered from 1 in this order; all
            if None.
        progress: called with (done, all, case) after each case.

    Returns:
        The folder.

    Raises:
        UsageError: no case, an unknown structure, or the folder holds such files already.
    """
    if cases < 1 or tests < 0:
        raise UsageError(
            f"a data set of {cases} cases and {tests} test cases cannot be made",
            needed="at least one case",
        )
    table, lookup = _choose(structures)
    folder = Path(folder)
    made = ("imagesTr", "labelsTr", *("imagesTs", "labelsTs", "dicomTs")[: 3 * (tests > 0)])
    refuse_existing(folder, *made, "patients.csv", "dataset.json")
    rows: list[tuple[object, ...]] = []
    studies = chain(_studies(seed, cases, shape), _studies(seed + 1_000_003, tests, shape))
    for number, (patient, study) in enumerate(studies):
        test = number >= cases
        name = f"abdomen_test_{number - cases:03d}" if test else f"abdomen_{number:03d}"
        _write_case(folder, "Ts" if test else "Tr", name, study, lookup)
        row = _patient_row(seed, patient + 10_000 if test else patient)
        if test:
            tags = SeriesTags(patient_id=row[0], uid_seed=f"{seed} {name}")
            write_dicom_series(study.image, folder / "dicomTs" / name, tags=tags)
        rows.append((name, *row))
        if progress is not None:
            progress(number + 1, cases + tests, name)
    _write_table(folder / "patients.csv", ("case", "patient", "sex", "age", "site"), rows)
    facts = {
        "name": "synthetic abdomen",
        "description": f"synthetic abdominal CT made by hilum.examples from seed {seed}",
        "channel_names": {"0": "CT"},
        "labels": {label.name: label.id for label in table.labels},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    atomic_write_text(folder / "dataset.json", json.dumps(facts, indent=2) + "\n")
    return folder


def make_nodule_dataset(
    folder: Path | str,
    *,
    cases: int = 40,
    seed: int = 0,
    shape: tuple[int, int, int] = (24, 48, 48),
    prefix: str = "nodule",
    progress: Progress | None = None,
) -> Path:
    """Write a synthetic lung nodule data set: cases.csv, images/, masks/.

    Labels are "benign" and "malignant", in turn; every third patient has two nodules.

    Args:
        folder: where to; made where it does not exist.
        cases: how many nodules.
        seed: same seed and options, same voxels.
        shape: voxels (Z, Y, X) of each block.
        prefix: of the cases' names; two data sets that meet in one evaluation need two.
        progress: called with (done, all, case) after each case.

    Returns:
        The folder.

    Raises:
        UsageError: no case, or the folder holds such files already.
    """
    if cases < 1:
        raise UsageError(f"a data set of {cases} cases cannot be made", needed="at least one case")
    folder = Path(folder)
    refuse_existing(folder, "images", "masks", "cases.csv", "labels.json")
    kinds: tuple[Kind, Kind] = ("benign", "malignant")
    rows: list[tuple[object, ...]] = []
    for number, patient in enumerate(_patients(cases)):
        name, kind = f"{prefix}_{number:03d}", kinds[number % 2]
        study = make_nodule_ct(seed * 100_003 + number, kind, shape=shape)
        write_volume(study.image, folder / "images" / f"{name}.nii.gz")
        write_labels(study.labels, folder / "masks" / f"{name}.nii.gz")
        person, _, _, site = _patient_row(seed, patient)
        rows.append((name, person, f"images/{name}.nii.gz", f"masks/{name}.nii.gz", kind, site))
        if progress is not None:
            progress(number + 1, cases, name)
    _write_table(folder / "cases.csv", ("case", "patient", "image", "mask", "label", "site"), rows)
    atomic_write_text(folder / "labels.json", NODULE_LABELS.model_dump_json(indent=2) + "\n")
    return folder


def _choose(
    structures: Sequence[str] | None,
) -> tuple[LabelTable, NDArray[np.uint8]]:
    """Return the table of the chosen structures and the new id of each old id (else 0)."""
    known = {label.name: label for label in ABDOMEN_LABELS.foreground}
    names = list(known) if structures is None else list(structures)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        raise UsageError(
            f"the structures {names} are not all known and different",
            needed=f"different names out of {', '.join(known)}",
        )
    chosen = [
        known[name].model_copy(update={"id": number}) for number, name in enumerate(names, start=1)
    ]
    lookup = np.zeros(256, dtype=np.uint8)
    for label in chosen:
        lookup[known[label.name].id] = label.id
    # a tumour is liver where it is not told apart
    if "liver tumour" not in names and "liver" in names:
        lookup[known["liver tumour"].id] = lookup[known["liver"].id]
    return LabelTable(labels=(ABDOMEN_LABELS.labels[0], *chosen)), lookup


def _patients(cases: int) -> Iterator[int]:
    """Number the patient of each case; every third patient has two."""
    patients = (
        patient for patient in count() for _ in range(2 if patient % _STUDIES_OF_TWO == 1 else 1)
    )
    return islice(patients, cases)


def _studies(
    seed: int, cases: int, shape: tuple[int, int, int]
) -> Iterator[tuple[int, SyntheticCase]]:
    """Make each case's study, with the number of its patient.

    A second study of a patient is a follow-up of the first.
    """
    latest: dict[int, Patient] = {}
    for number, owner in enumerate(_patients(cases)):
        rng = np.random.default_rng([seed, 3, number])
        patient = follow_up(latest[owner], rng) if owner in latest else sample_patient(rng)
        latest[owner] = patient
        yield owner, make_study(patient, rng, shape=shape)


def _patient_row(seed: int, patient: int) -> tuple[str, str, int, str]:
    """Make a patient's id, sex, age and site."""
    rng = np.random.default_rng([seed, 4, patient])
    return (
        f"P{patient:05d}",
        "FM"[int(rng.integers(2))],
        int(rng.integers(35, 88)),
        "ABC"[int(rng.integers(3))],
    )


def _write_case(
    folder: Path,
    part: str,
    name: str,
    study: SyntheticCase,
    lookup: NDArray[np.uint8],
) -> None:
    """Write image and labels of a case."""
    write_volume(study.image, folder / f"images{part}" / f"{name}_0000.nii.gz")
    labels = study.labels.with_array(lookup[study.labels.array])
    write_labels(labels, folder / f"labels{part}" / f"{name}.nii.gz")


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    """Write a CSV table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())
