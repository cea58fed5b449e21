"""Several models ranked, and several runs of one beside its patients."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from class_samples import TWO, made_up
from test_compare import evaluation

from hilum import metrics
from hilum.errors import DataError, UsageError
from hilum.evaluation import (
    ClassEvaluation,
    ClassEvaluationRecord,
    Comparison,
    Evaluation,
    Ranking,
    compare,
    summarise,
    summarise_classes,
)
from hilum.evaluation.by_task import AnyEvaluation
from hilum.evaluation.comparison import load_comparison
from hilum.evaluation.study import model_names

CASES = 40
FAST = {"resamples": 200}


def model(better: float, seed: int = 0, *, spread: float = 0.0, name: str = "") -> Evaluation:
    """An evaluation whose Dice is that of the same patients plus `better`, and noise."""
    patient = np.random.default_rng(9).uniform(0.5, 0.7, CASES)
    random = np.random.default_rng(seed)
    values = patient + better + random.normal(0, spread) + random.normal(0, 0.01, CASES)
    dices = {f"c{i}": float(value) for i, value in enumerate(values)}
    return evaluation(dices, name=name or f"{better:+.2f}, seed {seed}")


def ranked(*models: AnyEvaluation | list[AnyEvaluation], **how: object) -> Ranking:
    """The ranking of models that are called a, b, c, ..., and their runs a1, a2, ..."""

    def called(one: AnyEvaluation, name: str) -> AnyEvaluation:
        record = one.record.model_copy(update={"predictions": name})
        return type(one)(one.scores, record)

    named = [
        [called(run, f"{letter}{i}") for i, run in enumerate(model, 1)]
        if isinstance(model, list)
        else called(model, letter)
        for letter, model in zip("abcdefgh", models, strict=False)
    ]
    ranking = compare(*named, **FAST, **how)
    assert isinstance(ranking, Ranking)
    return ranking


def two_regions(one: Evaluation, more: float) -> Evaluation:
    """The same with a second region, whose Dice is higher by `more`; of c0 it is undefined."""
    spleen = tuple(
        dataclasses.replace(
            s, region="spleen", dice=float("nan") if s.case == "c0" else s.dice + more
        )
        for s in one.scores
    )
    table = evaluation({"c0": 0.5}, more={2: "spleen"}).record.labels
    record = one.record.model_copy(update={"labels": table})
    return Evaluation(one.scores + spleen, record)


def test_models_that_differ_are_ranked_and_told_apart() -> None:
    ranking = ranked(model(0.0, 1), model(0.1, 2), model(0.05, 3))
    assert [one.model for one in ranking["liver", "dice"]] == ["b", "c", "a"]
    first = ranking["liver", "dice"][0]
    assert (first.rank, first.mean_rank, first.first, first.patient_rank) == (1, 1, 1, 1)
    assert (first.low, first.high) == (1, 1)
    assert [one.model for one in ranking["liver", "hd95"]] == ["b", "c", "a"]  # less is better
    assert [(pair.a, pair.b) for pair in ranking.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [one.better for pair in ranking.pairs for one in pair.differences[:1]] == ["b", "b", "a"]
    page = ranking.markdown()
    assert page.startswith("# Comparison of 3 models\n")
    assert "By Dice of liver the order is b (0." in page
    assert "First when patients are resampled: b in 100%." in page
    assert "tell b from every other model" in page
    assert "| a - b | liver | Dice |" in page
    with pytest.raises(KeyError):
        ranking["liver", "dise"]


def test_p_values_are_corrected_over_all_pairs() -> None:
    models = model(0.0, 1), model(0.004, 2), model(0.002, 3)
    ranking = ranked(*models)
    single = [
        one.p_value
        for first, second in ((0, 1), (0, 2), (1, 2))
        for one in compare(models[first], models[second], **FAST).differences
    ]
    found = [one for pair in ranking.pairs for one in pair.differences]
    assert [one.p_value for one in found] == pytest.approx(single, nan_ok=True)
    assert [one.p_holm for one in found] == pytest.approx(metrics.holm(single), nan_ok=True)


def test_models_that_hardly_differ_are_not_settled() -> None:
    ranking = ranked(model(0.0, 1), model(0.001, 2), model(-0.1, 3))
    shares = {one.model: one.first for one in ranking["liver", "dice"]}
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 < min(shares["a"], shares["b"]) < 0.5 < max(shares["a"], shares["b"]) < 1
    page = ranking.markdown()
    assert "only from c: who is the best is not settled." in page
    assert "These cases allow a difference in Dice of liver of -" in page
    assert "about" in page
    assert "patients are needed; there are 40." in page


def test_several_regions_have_a_mean_as_headline() -> None:
    models = [two_regions(model(better, seed), 0.1) for seed, better in enumerate((0, 0.05, 0.1))]
    ranking = ranked(*models)
    assert [(one.part, one.metric) for one in ranking.ranks[:3]] == [("", "dice")] * 3
    scores = {(s.region, s.case): s.dice for s in models[2].scores}
    means = [
        np.nanmean([scores[region, f"c{i}"] for i in range(CASES)])
        for region in ("liver", "spleen")
    ]
    assert ranking["dice"][0].value == pytest.approx(np.mean(means))
    assert len(ranking["spleen", "dice"]) == 3
    assert "By Dice of all the order is c" in ranking.markdown()
    two = compare(*models[:2], **FAST)
    assert isinstance(two, Comparison)
    assert "" not in {one.part for one in two.differences}


def region_scores(of_case: float, of_other: float, name: str) -> Evaluation:
    """Liver in ten cases, spleen in one of them."""
    random = np.random.default_rng(len(name))
    both = two_regions(
        evaluation({f"c{i}": of_case + random.normal(0, 0.001) for i in range(10)}, name=name), 0
    )
    kept = tuple(
        dataclasses.replace(s, dice=of_other) if s.region == "spleen" else s
        for s in both.scores
        if s.region == "liver" or s.case == "c1"
    )
    return Evaluation(kept, both.record)


def test_the_mean_over_regions_is_that_of_an_evaluation() -> None:
    models = [region_scores(0.9, 0.1, "a"), region_scores(0.8, 0.9, "bb")]
    models.append(region_scores(0.3, 0.2, "ccc"))
    ranking = ranked(*models)
    assert [one.model for one in ranking["dice"]] == ["b", "a", "c"]
    for one, place in zip(ranking["dice"], (1, 0, 2), strict=True):
        regions = summarise(models[place].scores, resamples=20)
        assert one.value == pytest.approx(regions.overall["dice"].mean)
    first = ranking.pairs[0].differences[0]
    assert (first.part, first.test) == ("", "permutation")
    assert first.p_value == first.p_permutation == 1  # all of it comes from one patient's spleen
    values = {one.model: one.value for one in ranking["dice"]}
    assert (first.a, first.b) == pytest.approx((values["a"], values["b"]))
    assert first.difference == pytest.approx(values["a"] - values["b"])
    alike = ranked([models[0]] * 2, [models[1]] * 2)
    assert alike.pairs[0].differences[0].difference == pytest.approx(first.difference)


def of_few(better: float, seed: int, patients: int) -> Evaluation:
    """Two regions of the first patients."""
    one = two_regions(model(better, seed), 0.1)
    few = {f"c{i}" for i in range(1, patients + 1)}
    return Evaluation(tuple(s for s in one.scores if s.case in few), one.record)


def test_six_patients_show_no_best_model() -> None:
    models = [of_few(better, seed, 6) for seed, better in enumerate((0.0, 0.1, 0.2))]
    ranking = ranked(*models)
    first = ranking.pairs[0].differences[0]
    assert (first.test, first.p_value, first.better) == ("permutation", 2 / 2**6, "undecided")
    assert "who is the best is not settled." in ranking.markdown()
    tests = sum(not np.isnan(one.p_value) for pair in ranking.pairs for one in pair.differences)
    needed = next(n for n in range(6, 40) if tests * 2 / 2**n < 0.05)
    attention = (
        "Attention: 6 patients can show no difference, however large: corrected for"
        f" {tests} tests, at least {needed} patients are needed."
    )
    assert attention in ranking.markdown()
    assert "Attention" not in compare(*[model(b, 1) for b in (0, 0.1, 0.2)], **FAST).markdown()
    runs = [[models[0], models[1]], [models[1], models[2]]]  # their test is no permutation
    assert "Attention" not in compare(*runs, **FAST).markdown()


def without(one: Evaluation, cases: int) -> Evaluation:
    """The same with the Dice of the last cases undefined."""
    gone = {f"c{i}" for i in range(CASES - cases, CASES)}
    scores = tuple(
        dataclasses.replace(s, dice=float("nan")) if s.case in gone else s for s in one.scores
    )
    return Evaluation(scores, one.record)


def test_the_deviation_of_a_mean_over_regions_is_that_of_its_patients() -> None:
    models = [of_few(better, seed, 6) for seed, better in enumerate((0.0, 0.1, 0.2))]
    first = ranked(*models).pairs[0].differences[0]
    means = [np.mean(np.reshape([s.dice for s in one.scores], (2, 6)), axis=0) for one in models]
    assert first.deviation == pytest.approx(np.std(means[0] - means[1], ddof=1))


def test_the_first_is_not_called_the_best_where_it_lost_a_pair() -> None:
    better = model(0.1, 1)
    scores = tuple(
        dataclasses.replace(s, dice=s.dice - (0.3 if int(s.case[1:]) >= 10 else -0.05))
        for s in model(0.1, 2).scores
    )
    changes = Evaluation(scores, better.record)  # better in the cases that c has, worse over all
    page = ranked(changes, better, without(model(-0.2, 3), 30)).markdown()
    assert "By Dice of liver the order is a" in page
    assert "tests find b better than a on the cases that both of a pair have" in page
    assert "it is the best" not in page
    assert "who is the best is not settled." in page


def test_runs_of_one_model_are_set_beside_patients() -> None:
    runs = [model(0.0, seed, spread=0.05) for seed in range(4)]
    ranking = ranked(runs)
    assert (ranking.ranks, ranking.pairs, len(ranking.models)) == ((), (), 1)
    dice = next(one for one in ranking.spreads if one.metric == "dice")
    table = np.array([[s.dice for s in run.scores] for run in runs]).T
    expected = metrics.run_variance(table)
    assert dice.values == pytest.approx(table.mean(axis=0))
    assert (dice.patients, dice.runs, dice.rest) == pytest.approx(
        (expected.patients, expected.runs, expected.rest)
    )
    assert dice.error == pytest.approx(np.sqrt((expected.patients**2 + expected.rest**2) / CASES))
    page = ranking.markdown()
    assert page.startswith("# 4 runs of one model\n")
    assert "4 runs of a1,...,a4 have a Dice of liver of" in page
    assert "Most of what is not known comes from the runs." in page
    steady = compare([model(0.0, seed) for seed in range(3)], **FAST).markdown()
    assert "Most of what is not known comes from the patients." in steady


def test_a_difference_within_the_spread_of_runs_is_none() -> None:
    first = [model(0.01, seed, spread=0.03) for seed in range(3)]
    second = [model(0.0, seed, spread=0.03) for seed in range(10, 13)]
    ranking = ranked(first, second, margins={"dice": 0.3})
    (pair,) = ranking.pairs
    dice = pair.differences[0]
    assert (dice.metric, dice.test) == ("dice", "runs")
    tables = [
        np.array([[s.dice for s in run.scores] for run in side]).T for side in (first, second)
    ]
    expected = metrics.runs_test(*tables)
    assert (dice.difference, dice.low, dice.high, dice.p_value) == pytest.approx(
        (expected.difference, expected.low, expected.high, expected.p_value)
    )
    assert dice.from_runs == pytest.approx(expected.from_runs)
    assert dice.equivalent
    page = ranking.markdown()
    assert "Shown to be equivalent: a1,a2,a3 and b1,b2,b3 in Dice of liver (within 0.3)." in page
    alone = compare(first[0], second[0], **FAST)
    assert isinstance(alone, Comparison)
    assert alone["liver", "dice"].p_value < 0.001
    assert dice.p_value > 0.05
    assert "intervals over patients and runs" in ranking.markdown()
    assert (dice.p_permutation, dice.deviation) == (None, None)
    assert "permutation" not in page
    assert "patients are needed" not in page
    mixed = compare(first, second, first[0], second[0], **FAST).markdown().splitlines()
    rows = [line for line in mixed if "| liver | Dice |" in line and " - " in line]
    place = (
        next(line for line in mixed if "permutation" in line).split("|").index(" p, permutation ")
    )
    assert [line.split("|")[place].strip() == "–" for line in rows] == [True] * 5 + [False]
    json.loads(ranking.model_dump_json())


def test_a_single_run_beside_several_is_taken_as_it_is() -> None:
    ranking = ranked([model(0.0, seed, spread=0.01) for seed in range(3)], model(0.2, 7))
    assert {one.model for one in ranking.spreads} == {"a1,a2,a3"}
    assert ranking.pairs[0].differences[0].better == "b"


def class_evaluation(noise: float, seed: int) -> ClassEvaluation:
    scores = tuple(made_up(TWO, 80, noise=noise, seed=seed))
    references = made_up(TWO, 80, seed=0)
    scores = tuple(
        s.model_copy(update={"reference": r.reference, "patient": r.patient})
        for s, r in zip(scores, references, strict=True)
    )
    record = ClassEvaluationRecord(
        hilum="0",
        predictions=f"noise {noise}, seed {seed}",
        reference="r",
        missing=(),
        unexpected=(),
        notes=(),
        summary=summarise_classes(scores, TWO, resamples=20),
        subgroups=(),
    )
    return ClassEvaluation(scores, record)


def test_classifiers_are_ranked_by_metrics_of_all_cases() -> None:
    good = class_evaluation(0.3, 0)
    poor = [
        ClassEvaluation(
            tuple(
                s.model_copy(update={"probabilities": s.probabilities[::turn]}) for s in good.scores
            ),
            good.record,
        )
        for turn in (1, -1)
    ]
    ranking = ranked(poor[1], good, poor[0])
    areas = ranking["auroc"]
    assert [(one.model, one.rank, one.first) for one in areas] == [
        ("b", 1.5, 0.5),
        ("c", 1.5, 0.5),
        ("a", 3, 0),
    ]
    assert areas[0].value == pytest.approx(1 - areas[2].value)
    assert areas[0].patient_rank is None
    assert ranking.pairs[0].differences[0].test == "delong"
    assert "By AUROC of all the order is" in ranking.markdown()
    runs = ranked([poor[0], poor[0]], [poor[1], poor[1]])
    assert runs.pairs[0].differences[0].test == "runs"
    assert runs.pairs[0].differences[0].difference == pytest.approx(areas[0].value - areas[2].value)
    assert runs.spreads[0].of_means == 0


def test_models_are_named_after_their_folders() -> None:
    assert model_names([["out/unet"], ["wide/"]]) == ["unet", "wide"]
    assert model_names([["x/evaluation"], ["y/evaluation"]]) == ["x", "y"]
    assert model_names([["x/e"], ["y/e"], ["z"]]) == ["x/e", "y/e", "z"]
    assert model_names([["u1", "u2", "u3"], ["w"]]) == ["u1,u2,u3", "w"]
    assert model_names([[f"u{seed}" for seed in range(9)]]) == ["u0,...,u8"]
    assert model_names([["x/e"], ["x/e"], ["y"]]) == ["e (1)", "e (2)", "y"]


def test_a_brief_page_has_the_rows_that_matter(tmp_path: Path) -> None:
    for i in range(3):
        two_regions(model(0.02 * i, i), 0.1).save(tmp_path / f"model_{i}")
    folders = [tmp_path / f"model_{i}" for i in range(3)]
    ranking = compare(*folders, margins={"assd": 1}, **FAST)
    assert isinstance(ranking, Ranking)
    brief, page = ranking.markdown(most=8), ranking.markdown()
    assert "By Dice of all the order is model_2 (" in brief
    ranks, pairs = brief.split("## Pairs")
    assert pairs.count("\n| model_") == 8
    assert pairs.count("| all | Dice |") == 3  # the headline of each pair
    assert pairs.count("ASSD") == 5  # equivalence was asked for, though nothing has a value
    assert ranks.count("\n| all | Dice |") == ranks.count("\n| ") - 2 == 3
    left_out = page.count("\n| model_") - 8
    assert f"And {left_out} more rows." in pairs
    assert "more row" not in page


def test_from_folders_to_files(tmp_path: Path) -> None:
    for i in range(3):
        model(0.02 * i, i).save(tmp_path / str(i))
    ranking = compare(*(tmp_path / str(i) for i in range(3)), **FAST)
    ranking.save(tmp_path / "out")
    again = load_comparison(tmp_path / "out")
    assert again.model_dump_json() == ranking.model_dump_json()
    compare(tmp_path / "0", tmp_path / "1", **FAST).save(tmp_path / "out")
    assert isinstance(load_comparison(tmp_path / "out"), Comparison)
    (tmp_path / "out" / "comparison.json").write_text("{}")
    with pytest.raises(DataError, match="compare again"):
        load_comparison(tmp_path / "out")


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(UsageError, match="there is 1 evaluation"):
        compare(model(0.0))
    with pytest.raises(UsageError, match="give the evaluations of both"):
        compare()
    with pytest.raises(DataError, match="no case and region in common"):
        compare(model(0.0), model(0.1), evaluation({"x": 0.5}))
    with pytest.raises(UsageError, match="of different kinds"):
        compare(model(0.0), model(0.1), class_evaluation(0.3, 0))
