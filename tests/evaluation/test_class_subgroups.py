"""Metrics of subgroups, and the columns that make them."""

import numpy as np
import pytest
from class_samples import THREE, TWO, made_up

from hilum.errors import UsageError
from hilum.evaluation import (
    choose_columns,
    subgroups_of,
    summarise_classes,
)
from hilum.evaluation.subgroups import split


def test_a_subgroup_is_summarised_like_the_whole():
    scores = made_up(TWO, 120)
    groups = {
        (g.column, g.value): g for g in subgroups_of(scores, TWO, ["sex", "age"], resamples=60)
    }
    assert {column for column, _ in groups} == {"sex", "age"}
    women = summarise_classes([s for s in scores if s.columns["sex"] == "F"], TWO, resamples=60)
    found = groups["sex", "F"]
    assert (found.cases, found.counts, found.small) == (women.cases, women.counts, False)
    for figure in found.figures:
        assert figure == women[figure.metric]
    assert found["auroc"].value == women["auroc"].value
    with pytest.raises(KeyError, match="dice"):
        found["dice"]
    ages = [value for column, value in groups if column == "age"]
    assert len(ages) == 3
    assert sum(groups["age", value].cases for value in ages) == 120


def test_numbers_in_thirds_words_as_they_are():
    thirds = split([str(value) for value in range(1, 10)] + ["", "n/a"])
    assert [(name, np.flatnonzero(members).tolist()) for name, members in thirds] == [
        ("up to 3.667", [0, 1, 2]),
        ("above 3.667, up to 6.333", [3, 4, 5]),
        ("above 6.333", [6, 7, 8]),
        ("not known", [9, 10]),
    ]
    few = split(["10", "2", "10", "2"])
    assert [(name, members.sum()) for name, members in few] == [("2", 2), ("10", 2)]
    assert [name for name, _ in split(["", "?"])] == ["not known"]
    many = split([f"site {k}" for k in range(14) for _ in range(20 - k)])
    assert [name for name, _ in many] == [*sorted(f"site {k}" for k in range(12)), "other"]
    assert many[-1][1].sum() == 8 + 7
    assert [name for name, _ in split(["1"] * 20 + [str(k) for k in range(2, 8)])] == [
        "up to 1",
        "above 1",
    ]


def test_small_subgroups_are_marked():
    for table, old in ((TWO, 30), (THREE, 50)):
        scores = [
            s.model_copy(update={"columns": {"scanner": "old" if n < old else "new"}})
            for n, s in enumerate(made_up(table, 120))
        ]
        assert {
            g.value: g.small for g in subgroups_of(scores, table, ["scanner"], resamples=20)
        } == {"old": True, "new": False}


def test_columns_that_describe_a_case_are_chosen():
    scores = made_up(TWO, 60)
    named = [
        s.model_copy(update={"columns": {**s.columns, "label_name": s.reference}}) for s in scores
    ]
    assert {g.column for g in subgroups_of(named, TWO, resamples=20)} == {"sex", "age", "site"}
    assert set(
        choose_columns([s.columns for s in named], [s.reference for s in named]).left_out
    ) == {"label_name"}
    with pytest.raises(UsageError, match=r"no column 'view'.*\n.*age, sex, site"):
        subgroups_of(scores, TWO, ["view"])
