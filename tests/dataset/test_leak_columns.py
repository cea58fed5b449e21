"""Columns that tell the class without the image."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.dataset import (
    Case,
    ClassTable,
    Dataset,
)
from hilum.dataset.leaks import audit_of
from hilum.dataset.leaks.columns import predictors


def table_of(labels, columns, *, kind="exclusive", patients=None):
    names = tuple(sorted({part for label in labels for part in label.split("|") if part}))
    cases = tuple(
        Case(
            f"c{n:03d}",
            patients[n] if patients else None,
            {"image": Path("x.png")},
            None,
            label,
            {name: values[n] for name, values in columns.items()},
        )
        for n, label in enumerate(labels)
    )
    return Dataset(
        "d", Path(), "table", cases, ("image",), None, classes=ClassTable(names=names, kind=kind)
    )


def told(dataset):
    return {found.column: found for found in audit_of(dataset, ()).predictors}


RNG = np.random.default_rng(3)


SICK = np.arange(300) % 2 == 1


def test_columns_that_tell_the_class():
    columns = {
        "view": np.where(RNG.random(300) < np.where(SICK, 0.7, 0.4), "AP", "PA"),
        "device": np.where(RNG.random(300) < 0.98, np.where(SICK, "X", "Y"), "Z"),
        "kind_label": np.where(SICK, "yes", "no"),
        "size": np.where(SICK, RNG.normal(1, 1, 300), RNG.normal(0, 1, 300)).round(3),
        "between": (
            np.where(
                SICK, RNG.uniform(4, 6, 300), RNG.choice([1.0, 9.0], 300) + RNG.normal(0, 1, 300)
            ).round(3)
        ),
        "site": RNG.choice(list("abcdef"), 300),
        "age": RNG.integers(20, 80, 300),
        "series": [f"u{n}" for n in range(300)],
        "fold": np.where(SICK, 1, 2),
    }
    labels = np.where(SICK, "sick", "a well one").tolist()
    found = told(
        table_of(
            labels, {name: [str(value) for value in values] for name, values in columns.items()}
        )
    )
    assert {name: one.verdict for name, one in found.items()} == {
        "view": "predicts",
        "device": "leak",
        "kind_label": "restates",
        "size": "predicts",
        "between": "leak",
    }
    from sklearn.metrics import roc_auc_score

    assert found["view"].auroc == pytest.approx(
        roc_auc_score(SICK, columns["view"] == "AP"), abs=1e-9
    )
    assert found["size"].auroc == pytest.approx(roc_auc_score(SICK, columns["size"]), abs=0.03)
    assert found["size"].low < found["size"].auroc < found["size"].high
    assert found["size"].surely_above < found["size"].low
    assert found["kind_label"].target == "sick from a well one"


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=12, derandomize=True)
def test_columns_of_chance_tell_nothing(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(120) % 3).astype(str).tolist()
    columns = {
        "number": rng.normal(size=120).round(3),
        "word": rng.choice(list("abcd"), 120),
        "flag": rng.integers(0, 2, 120),
    }
    assert (
        told(
            table_of(
                labels, {name: [str(value) for value in values] for name, values in columns.items()}
            )
        )
        == {}
    )


def test_a_column_that_names_the_patient_tells_nothing_of_others():
    patients = [f"P{n // 6}" for n in range(300)]
    sick = [(n // 6) % 2 for n in range(300)]
    found = told(
        table_of(
            list(map(str, sick)),
            {"referrer": patients, "ward": list(map(str, sick))},
            patients=patients,
        )
    )
    assert set(found) == {"ward"}
    assert found["ward"].low < 0.95  # fifty patients, not three hundred


def test_missing_values_may_tell():
    values = ["" if sick and n % 3 else "5" if n % 2 else "7" for n, sick in enumerate(SICK)]
    assert (
        told(table_of(np.where(SICK, "b", "a").tolist(), {"weight": values}))["weight"].auroc > 0.8
    )


def test_grades_and_findings_are_each_a_target():
    grades = [str(n % 4) for n in range(200)]
    found = told(
        table_of(grades, {"high": [str(int(grade >= "2")) for grade in grades]}, kind="ordinal")
    )
    assert found["high"].target == "grade 2 or higher"
    labels = [
        "|".join(name for bit, name in enumerate(("edema", "mass")) if n >> bit & 1)
        for n in range(200)
    ]
    found = told(
        table_of(
            labels,
            {"drain": ["yes" if "mass" in label else "no" for label in labels]},
            kind="multilabel",
        )
    )
    assert found["drain"].target == "mass from the others"


def test_too_few_cases_are_not_judged():
    labels = ["a"] * 50 + ["b"] * 9
    dataset = table_of(labels, {"x": labels})
    assert (
        predictors(dataset.cases, dataset.classes, {case.id: case.id for case in dataset.cases}, {})
        == ()
    )
