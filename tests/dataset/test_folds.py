"""Folds: no patient on both sides, each case validates once, case order does not matter."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_samples import nnunet
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.dataset import Case, ClassTable, Dataset, Fold, describe_folds, make_folds, open_dataset
from hilum.dataset import folds as folds_module
from hilum.dataset.folds import case_strata, fold_groups, groups_on_both_sides, leaking_patients
from hilum.errors import UsageError


def classification(patients, classes):
    cases = tuple(
        Case(f"c{n:03d}", patient, {"image": Path("x.png")}, None, label)
        for n, (patient, label) in enumerate(zip(patients, classes, strict=True))
    )
    names = tuple(sorted({*classes, "a", "b"}))
    return Dataset("d", Path(), "table", cases, ("image",), None, classes=ClassTable(names=names))


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=14, max_size=60),
    st.integers(2, 5),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_no_patient_on_both_sides_and_every_case_once(rows, count, seed):
    dataset = classification(
        [None if p == 12 else f"P{p}" for p, _ in rows], [label for _, label in rows]
    )
    units = {patient or case for case, patient in ((c.id, c.patient) for c in dataset.cases)}
    if len(units) < count:
        with pytest.raises(UsageError, match="at least one patient for each fold"):
            make_folds(dataset, count, seed=seed)
        return
    folds = make_folds(dataset, count, seed=seed)
    everyone = sorted(case.id for case in dataset.cases)
    assert len(folds) == count
    assert sorted(case for fold in folds for case in fold.validation) == everyone
    assert all(fold.validation and fold.train for fold in folds)
    assert all(sorted((*fold.train, *fold.validation)) == everyone for fold in folds)
    assert leaking_patients(dataset, folds) == {}
    assert make_folds(replace(dataset, cases=dataset.cases[::-1]), count, seed=seed) == folds


def test_classes_are_spread():
    dataset = classification([None] * 50, ["sick"] * 10 + ["well"] * 40)
    for fold in make_folds(dataset, 5):
        assert Counter(dataset[case].label for case in fold.validation) == {"sick": 2, "well": 8}


def test_seed_changes_folds():
    dataset = classification([None] * 50, ["x"] * 50)
    assert make_folds(dataset, seed=1) != make_folds(dataset, seed=2)


def test_a_class_rarer_than_folds_is_no_obstacle():
    dataset = classification([None] * 23, ["x"] * 20 + ["y", "z", "y"])
    assert len(make_folds(dataset, 5)) == 5
    dataset = classification([None] * 26, ["x"] * 20 + ["u", "v", "w", "y", "z", "t"])
    assert len(make_folds(dataset, 5)) == 5


def test_given_split_is_honoured():
    given = (Fold(("c001",), ("c000",)),)
    dataset = replace(classification([None] * 4, list("abab")), splits=given)
    assert make_folds(dataset, 5, seed=3) == given
    assert describe_folds(dataset, given).startswith(
        "1 fold as given by the data set, 1 validation cases each."
    )


def test_too_few():
    with pytest.raises(UsageError, match="folds=1 cannot"):
        make_folds(classification([None] * 4, list("abab")), 1)
    with pytest.raises(UsageError, match="5 folds cannot be made of 4 patients") as caught:
        make_folds(classification([None] * 4, list("abab")))
    assert caught.value.cure == "folds=4"
    with pytest.raises(UsageError, match="add cases of other patients"):
        make_folds(classification(["A"] * 4, list("abab")))


def test_segmentation_is_stratified_by_labels_and_volume(tmp_path, monkeypatch):
    dataset = open_dataset(nnunet(tmp_path))
    (tmp_path / "labelsTr" / "f.nii.gz").write_bytes(b"broken")
    strata = case_strata(dataset)
    assert strata["a"].startswith("1+2/")
    assert strata["f"].startswith("unreadable/")
    folds = make_folds(dataset, 3)
    assert "stratified by the labels present" in describe_folds(dataset, folds)
    assert "No patient is known" in describe_folds(dataset, folds)
    monkeypatch.setattr(folds_module, "CHEAP_BYTES", 0)
    assert case_strata(dataset) == {}
    assert "not stratified" in describe_folds(dataset, make_folds(dataset, 3))
    assert make_folds(dataset, 3, strata={"a": "x", "b": "x", "c": "x"})


def test_descriptions_say_what_is_known():
    dataset = classification(["A", "A", "B", "C", "D", None], list("xyxyxy"))
    text = describe_folds(dataset, make_folds(dataset, 2))
    assert "grouped by 4 patients and 1 case without one" in text
    assert "The patients of 1 case are not known" in text
    known = classification(list("ABCDEF"), list("xyxyxy"))
    assert "grouped by 6 patients, stratified by class." in describe_folds(
        known, make_folds(known, 2)
    )
    leaky = replace(dataset, splits=(Fold(("c000",), ("c001", "c002")),))
    assert "1 patients are on both sides" in describe_folds(leaky, leaky.splits)
    assert leaking_patients(leaky, leaky.splits) == {"A": ("c000", "c001")}


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), min_size=14, max_size=40),
    st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=4), max_size=5),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_near_duplicates_and_their_patients_stay_together(rows, groups):
    dataset = classification(
        [None if p == 9 else f"P{p}" for p, _ in rows], [label for _, label in rows]
    )
    together = [[f"c{n:03d}" for n in group] for group in groups]
    units = fold_groups(dataset, together)
    for group in together:
        assert len({units[case] for case in group if case in units}) <= 1
    for one in dataset.cases:
        for other in dataset.cases:
            if one.patient is not None and one.patient == other.patient:
                assert units[one.id] == units[other.id]
    assert fold_groups(dataset, together[::-1]) == units
    if len(set(units.values())) < 2:
        return
    for fold in make_folds(dataset, 2, together=together):
        assert not {units[case] for case in fold.train} & {units[case] for case in fold.validation}
        assert groups_on_both_sides((fold,), together) == ()


def test_a_chain_of_groups_is_one_unit_and_others_stay_apart():
    dataset = classification(["A", "B", "C", "D", None, None], list("ababab"))
    units = fold_groups(dataset, [("c000", "c001"), ("c001", "c004"), ("c002", "gone")])
    assert len({units[case] for case in ("c000", "c001", "c004")}) == 1
    assert len(set(units.values())) == 4
    text = describe_folds(
        dataset, make_folds(dataset, 2, together=[("c000", "c001")]), together=[("c000", "c001")]
    )
    assert "1 group of near-duplicates stays in one fold." in text
    given = replace(dataset, splits=(Fold(("c000",), ("c001",)),))
    text = describe_folds(given, given.splits, together=[("c000", "c001"), ("c002", "c003")])
    assert "1 group of near-duplicates is on both sides of it" in text


def findings(labels, kind="multilabel", names=("mass", "edema", "hernia")):
    dataset = classification([None] * len(labels), ["a"] * len(labels))
    cases = tuple(
        replace(case, label=label) for case, label in zip(dataset.cases, labels, strict=True)
    )
    return replace(dataset, cases=cases, classes=ClassTable(names=names, kind=kind))


def test_findings_are_spread_by_the_rarest_of_each_case():
    labels = ["mass"] * 20 + ["mass|edema"] * 10 + ["edema|hernia"] * 5 + [""] * 15
    dataset = findings(labels)
    strata = case_strata(dataset)
    assert [strata[f"c{n:03d}"] for n in (0, 20, 30, 35)] == ["mass", "edema", "hernia", ""]
    for fold in make_folds(dataset, 5):
        assert Counter(strata[case] for case in fold.validation) == {
            "mass": 4,
            "edema": 2,
            "hernia": 1,
            "": 3,
        }
    assert "by the rarest finding of each case" in describe_folds(dataset, make_folds(dataset, 5))


def test_grades_are_spread():
    dataset = findings([str(n % 5) for n in range(50)], "ordinal", ("0", "1", "2", "3", "4"))
    for fold in make_folds(dataset, 5):
        assert Counter(dataset[case].label for case in fold.validation) == dict.fromkeys("01234", 2)
    assert "stratified by grade" in describe_folds(dataset, make_folds(dataset, 5))
