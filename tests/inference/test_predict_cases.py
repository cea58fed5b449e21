"""One loop for all that predicts a list of cases: order, deadline, failures, progress."""

import math

import pytest

from hilum.dataset import Case
from hilum.errors import DataError
from hilum.inference.predict_cases import UNLIMITED, Deadline, predict_cases

CASES = tuple(Case(id=f"c{n}", patient=None, images={}) for n in range(6))


@pytest.fixture
def now(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("hilum.inference.predict_cases.time.perf_counter", lambda: clock[0])
    return clock


def lasting(now, seconds):
    def predict(case):
        now[0] += seconds
        return case.id.upper()

    return predict


def test_results_come_in_the_order_of_the_cases_whatever_the_order_of_prediction():
    rows = []
    found = predict_cases(
        lambda case: case.id.upper(),
        CASES,
        order=[3, 0, 5, 1, 2, 4],
        progress=lambda *row: rows.append(row),
    )
    assert list(found.items()) == [(f"c{n}", f"C{n}") for n in range(6)]
    assert rows[0] == (1, 6, "c3")
    assert rows[-1] == (6, 6, "c4")
    assert predict_cases(str.upper, ["a", "b"]) == {"a": "A", "b": "B"}


def test_no_case_is_begun_that_would_end_after_the_deadline(now):
    found = predict_cases(
        lasting(now, 10.0), CASES, order=[5, 4, 3, 2, 1, 0], deadline=Deadline(135)
    )
    assert list(found) == ["c3", "c4", "c5"]
    assert now == [130.0]


def test_the_least_is_predicted_however_long_it_takes(now):
    assert list(predict_cases(lasting(now, 10.0), CASES, deadline=Deadline(0))) == ["c0"]
    assert len(predict_cases(lasting(now, 10.0), CASES, deadline=Deadline(0), least=4)) == 4


def test_a_case_that_fails_is_left_out_where_someone_is_told():
    def predict(case):
        if case.id == "c2":
            raise DataError("unreadable")
        return 1

    failed = []
    found = predict_cases(predict, CASES, failed=lambda case, error: failed.append((case, error)))
    assert list(found) == ["c0", "c1", "c3", "c4", "c5"]
    ((case, error),) = failed
    assert (case.id, error.found) == ("c2", "unreadable")
    with pytest.raises(DataError, match="unreadable"):
        predict_cases(predict, CASES)


def test_deadlines_are_divided(now):
    end = Deadline(200.0)
    assert (end.left(), end.passed()) == (100.0, False)
    assert end.part(0.25) == Deadline(125.0)
    assert end.part(1) == end
    now[0] = 200.0
    assert end.passed()
    assert UNLIMITED.part(0.5) == UNLIMITED == Deadline(math.inf)
