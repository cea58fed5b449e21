"""predictions.csv: what is written is what is read, whatever the names are; damage is named."""

import csv

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.dataset import ClassTable
from hilum.errors import DataError, LabelError, UsageError
from hilum.evaluation import ClassScore, read_predictions, write_predictions
from hilum.evaluation.classification.arrays import ClassRows
from hilum.files.text import is_known
from hilum.targets.class_score import cumulative_probabilities, decide
from hilum.targets.predictions import named_classes, read_classes, spelled_label

TWO = ClassTable(names=("benign", "malignant"))

text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
awkward = st.one_of(
    text,
    st.sampled_from(
        ["|", "||", "\\|", "a|b", "a,b", 'say "x"', "line\nbreak", "\r", " ", "p_x", "column_", "é"]
    ),
)
named = awkward.filter(bool)


@st.composite
def tables_of_scores(draw):
    names = tuple(draw(st.lists(named, min_size=2, max_size=4, unique=True)))
    # a label in another spelling of a class is read as that class
    other = awkward.filter(
        lambda text: is_known(text) and spelled_label(text, ClassTable(names=names)) == text
    )
    share = st.floats(0, 1)
    further = draw(
        st.lists(
            st.one_of(awkward, st.sampled_from(["case", "label", "set", "predicted", "p_benign"])),
            max_size=3,
            unique=True,
        )
    )
    calibrated = draw(st.booleans())
    cases = draw(st.lists(named, min_size=1, max_size=4, unique=True))
    scores = [
        ClassScore(
            case=case,
            patient=draw(st.none() | named.filter(is_known)),
            unit=draw(st.none() | named),
            reference=draw(st.none() | st.just("") | st.sampled_from(names) | other),
            probabilities=tuple(draw(share) for _ in names),
            calibrated=(
                tuple(draw(share) for _ in names) if calibrated and draw(st.booleans()) else None
            ),
            prediction_set=draw(
                st.none() | st.lists(st.sampled_from(names), unique=True).map(tuple)
            ),
            certain=draw(st.none() | st.lists(st.sampled_from(names), unique=True).map(tuple)),
            fold=draw(st.none() | st.integers(0, 9)),
            refuse=draw(st.none() | st.booleans()),
            distance=draw(st.none() | st.floats(allow_nan=False)),
            columns={name: draw(awkward) for name in further},
        )
        for case in cases
    ]
    return names, scores


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=tables_of_scores())
def test_nothing_is_lost(drawn, tmp_path):
    names, scores = drawn
    table = ClassTable(names=names)
    write_predictions(scores, table, tmp_path)
    assert read_predictions(tmp_path) == tuple(scores)
    assert read_predictions(tmp_path / "predictions.csv", table) == tuple(scores)
    assert named_classes(tmp_path) == names
    assert read_classes(tmp_path) == table


def test_what_people_see(tmp_path):
    findings = ClassTable(names=("effusion", "mass, large"), kind="multilabel")
    scores = [
        ClassScore(
            case="a",
            patient="p1",
            reference="",
            probabilities=(0.25, 0.5),
            prediction_set=(),
            fold=2,
            refuse=False,
        ),
        ClassScore(
            case="b",
            probabilities=(1.0, 0.75),
            prediction_set=("effusion", "mass, large"),
            distance=1.5,
            columns={"age": "61"},
        ),
    ]
    write_predictions(scores, findings, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert list(first) == [
        "case",
        "patient",
        "label",
        "fold",
        "predicted",
        "p_effusion",
        "p_mass, large",
        "set",
        "refuse",
        "distance",
        "age",
    ]
    assert list(first.values()) == [
        "a",
        "p1",
        "|",
        "2",
        "mass, large",
        "0.25",
        "0.5",
        "|",
        "no",
        "",
        "",
    ]
    assert list(second.values()) == [
        "b",
        "",
        "",
        "",
        "effusion|mass, large",
        "1.0",
        "0.75",
        "effusion|mass, large",
        "",
        "1.5",
        "61",
    ]
    assert read_predictions(tmp_path)[0].columns == {"age": ""}  # a column that another case has


def test_units_have_a_column_where_there_are_any(tmp_path):
    """A further column of that name, as of a ward, is not taken for it."""
    score = ClassScore(
        case="a", patient="p1", probabilities=(0.25, 0.75), columns={"unit": "ward 3"}
    )
    write_predictions([score], TWO, tmp_path)
    assert "unit" not in (tmp_path / "predictions.csv").read_text().split("\n")[0].split(",")
    assert read_predictions(tmp_path) == (score,)
    joined = score.model_copy(update={"unit": "patient:p0"})
    write_predictions([joined], TWO, tmp_path)
    assert (tmp_path / "predictions.csv").read_text().startswith("case,patient,unit,label,")
    assert read_predictions(tmp_path) == (joined,)


def test_tables_of_other_programs(tmp_path):
    """Any order of columns, only what is needed; a spreadsheet's byte order mark."""
    file = tmp_path / "theirs.csv"
    file.write_text(
        "site,p_malignant,case,p_benign,label\nA,0.9,x,0.1,malignant\n", encoding="utf-8-sig"
    )
    (score,) = read_predictions(file, TWO)
    assert (score.case, score.reference, score.probabilities) == ("x", "malignant", (0.1, 0.9))
    assert score.columns == {"site": "A"}
    assert read_predictions(file)[0].probabilities == (0.9, 0.1)
    assert read_classes(file) is None
    file.write_text("case,P_Malignant,p_benign,label\nx,0.9,0.1,MALIGNANT\n".replace("P_M", "p_M"))
    assert read_predictions(file, TWO)[0].reference == "malignant"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,p_benign,p_malignant\n", "columns id, p_benign"),
        ("case,benign,malignant\n", "columns case, benign, malignant"),
        ("case,p_benign,p_malignant,p_benign\n", "columns of one name: 'p_benign', 'p_benign'"),
        ("case,p_benign,p_cyst\n", "probabilities of benign, cyst"),
        ("case,p_benign,p_malignant\na,0.5,0.5\na,0.5,0.5\n", r"several rows for a \(lines 2, 3\)"),
        ("case,p_benign,p_malignant\na,0.5\n", "line 2: could not convert"),
        ("case,p_benign,p_malignant\na,0.5,0.5,0.5\n", "line 2: 4 cells below 3 columns"),
        ("case,p_benign,p_malignant\na,0.5,half\n", "line 2: could not convert"),
        (
            "case,p_benign,p_malignant\na,0.5,1.5\n",
            r"line 2: case a has probabilities \[0.5, 1.5\]",
        ),
        ("case,p_benign,p_malignant\na,0.5,nan\n", "numbers from 0 to 1"),
        (
            "case,p_benign,p_malignant,calibrated_benign,calibrated_malignant\na,0.5,0.5,,0.5\n",
            "line 2: could not convert",
        ),
        ("case,p_benign,p_malignant,refuse\na,0.5,0.5,maybe\n", "refuse is 'maybe'"),
        ("case,p_benign,p_malignant\n,0.5,0.5\n", "line 2: .*at least 1 character"),
    ],
)
def test_damage_is_named(tmp_path, content, said):
    file = tmp_path / "predictions.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=f"(?s){said}"):
        read_predictions(tmp_path, TWO)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"has no predictions\.csv"):
        read_predictions(tmp_path)
    (tmp_path / "classes.json").write_text("{}")
    with pytest.raises(DataError, match="is no class table"):
        read_classes(tmp_path)
    (tmp_path / "classes.json").write_text('{"names": ["one"]}')
    with pytest.raises(DataError, match="is no class table"):
        read_classes(tmp_path)
    with pytest.raises(DataError, match="case a has 3 probabilities"):
        write_predictions([ClassScore(case="a", probabilities=(0.2, 0.3, 0.5))], TWO, tmp_path)


def test_impossible_scores_are_refused():
    with pytest.raises(DataError, match="2 probabilities and 1 calibrated"):
        ClassScore(case="a", probabilities=(0.5, 0.5), calibrated=(1.0,))
    with pytest.raises(DataError, match="calibrated probabilities"):
        ClassScore(case="a", probabilities=(0.5, 0.5), calibrated=(1.5, -0.5))


def score(case, *probabilities, label="benign", **more):
    return ClassScore(case=case, reference=label, probabilities=probabilities, **more)


@pytest.mark.parametrize(
    ("scores", "kind", "said"),
    [
        ([], DataError, "no scores"),
        ([score("a", 0.5, 0.5), score("a", 0.5, 0.5)], DataError, "two scores of a"),
        ([score("a", 0.5, 0.5, label=None)], DataError, "no reference for a"),
        ([score("a", 0.2, 0.3, 0.5)], DataError, "case a has 3 probabilities"),
        ([score("a", 0.5, 0.6)], DataError, r"the probabilities of case a sum to 1\.1"),
        ([score("a", 0.5, 0.5, label="cyst")], LabelError, "case a: the class 'cyst'"),
        (
            [score("a", 0.5, 0.5, calibrated=(0.5, 0.5)), score("b", 0.5, 0.5)],
            DataError,
            "no calibrated probabilities of b",
        ),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(scores, kind, said):
    with pytest.raises(kind, match=said):
        ClassRows.of(scores, TWO)


def test_rows():
    scores = [
        score("a", 0.2, 0.8, patient="p", calibrated=(0.6, 0.4)),
        score("b", 0.5, 0.5, patient="q", calibrated=(0.5, 0.5), label="malignant"),
        score("p", 0.1, 0.9, calibrated=(0.3, 0.7)),
        score("d", 0.0, 1.0, patient="p", calibrated=(0.0, 1.0)),
    ]
    rows = ClassRows.of(scores, TWO)
    assert rows.groups.tolist() == [0, 1, 2, 0]  # the case "p" of no patient is not of patient "p"
    assert (rows.patients, rows.index.tolist(), rows.called.tolist()) == (
        3,
        [0, 1, 0, 0],
        [0, 1, 1, 1],
    )
    assert rows.probabilities[:, 1].tolist() == [0.4, 0.5, 0.7, 1.0]
    assert ClassRows.of(scores, TWO, calibrated=False).probabilities[:, 1].tolist() == [
        0.8,
        0.5,
        0.9,
        1.0,
    ]
    taken = rows.take(np.array([3, 3, 1]))
    assert (taken.patients, taken.index.tolist()) == (2, [0, 0, 1])


def test_what_is_called():
    three = np.array([[0.4, 0.15, 0.45], [0.2, 0.5, 0.3]])
    names = ("a", "b", "c")
    assert decide(three, ClassTable(names=names)).argmax(axis=1).tolist() == [2, 1]
    grades = ClassTable(names=names, kind="ordinal")
    assert decide(three, grades).argmax(axis=1).tolist() == [
        1,
        1,
    ]  # reached with .6 and .45: the median grade is the middle one
    np.testing.assert_allclose(cumulative_probabilities(three), [[0.6, 0.45], [0.8, 0.3]])
    assert decide(three, ClassTable(names=names, kind="multilabel")).tolist() == [
        [False] * 3,
        [False, True, False],
    ]
    assert decide(np.array([[0.5, 0.5]]), TWO).tolist() == [[False, True]]
    assert decide(np.array([[0.5, 0.5]]), TWO.model_copy(update={"kind": "ordinal"})).tolist() == [
        [False, True]
    ]
