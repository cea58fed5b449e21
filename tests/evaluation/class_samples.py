"""Classifications made up from a seed, for the tests of this room and of the report."""

import numpy as np

from hilum.dataset import ClassTable
from hilum.evaluation import ClassScore

TWO = ClassTable(names=("benign", "malignant"))
THREE = ClassTable(names=("cyst", "adenoma", "carcinoma"))
GRADES = ClassTable(names=("I", "II", "III", "IV"), kind="ordinal")
FINDINGS = ClassTable(names=("effusion", "mass", "nodule"), kind="multilabel")
TABLES = {"binary": TWO, "exclusive": THREE, "ordinal": GRADES, "multilabel": FINDINGS}


def made_up(
    table: ClassTable, n: int = 120, *, seed: int = 0, noise: float = 1.0, sets: bool = False
) -> list[ClassScore]:
    """Two cases a patient; probabilities that know something, the less the more noise there is.

    Columns sex, age and site.
    """
    random = np.random.default_rng(seed)
    return [_one(table, number, random, noise, sets=sets) for number in range(n)]


def _one(
    table: ClassTable, number: int, random: np.random.Generator, noise: float, *, sets: bool
) -> ClassScore:
    classes = len(table.names)
    if table.kind == "multilabel":
        members = random.random(classes) < 0.35
        probabilities = 1 / (1 + np.exp(-(2 * members - 1 + noise * random.normal(size=classes))))
        label = "|".join(name for name, yes in zip(table.names, members, strict=True) if yes)
    else:
        index = int(random.integers(classes))
        logits = -0.7 * (np.arange(classes) - index) ** 2 + noise * random.normal(size=classes)
        probabilities = np.exp(logits) / np.exp(logits).sum()
        label = table.names[index]
    return ClassScore(
        case=f"c{number:03}",
        patient=f"p{number // 2:03}",
        reference=label,
        probabilities=tuple(probabilities.tolist()),
        prediction_set=_named(table, probabilities > 0.2) if sets else None,
        certain=_named(table, probabilities > 0.8) if sets and table.kind == "multilabel" else None,
        fold=number // 2 % 5,
        columns={
            "sex": "MF"[number % 2],
            "age": str(30 + number * 7 % 50),
            "site": "ABC"[number % 3],
        },
    )


def _named(table: ClassTable, chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(table.names, chosen, strict=True) if yes)


def scores_of(table: ClassTable, rows, **more) -> list[ClassScore]:
    """From (label, probabilities) pairs, one patient a case."""
    return [
        ClassScore(case=f"c{number}", reference=label, probabilities=probabilities, **more)
        for number, (label, probabilities) in enumerate(rows)
    ]
