"""The time that is left is told by the work, not by the number of cases."""

import pytest

from hilum.inference.forecast import Forecast


def test_the_rest_is_expected_by_the_patches():
    now = [0.0]
    forecast = Forecast({"small": 10, "large": 80, "unknown": None}, clock=lambda: now[0])
    assert forecast.at("small", 0.0).remaining_seconds is None
    now[0] = 5.0
    half = forecast.at("small", 0.5)  # 5 of 10 + 80 + 45 patches in 5 s
    assert (half.done, half.total) == (0, 3)
    assert half.remaining_seconds == pytest.approx(130)
    now[0] = 10.0
    forecast.finish("small")
    assert forecast.at("large", 0.0).remaining_seconds == pytest.approx(125)
    now[0] = 50.0
    assert forecast.at("large", 0.5).remaining_seconds == pytest.approx(85)
    forecast.finish("large")
    forecast.finish("unknown")
    assert forecast.at("unknown", 0.0).fraction == pytest.approx(1)
    assert forecast.at("unknown", 0.0).remaining_seconds == pytest.approx(0)


def test_without_any_size_cases_count_alike():
    now = [3.0]
    forecast = Forecast({"a": None, "b": None}, clock=lambda: now[0])
    now[0] = 7.0
    forecast.finish("a")
    assert forecast.at("b", 0.0).remaining_seconds == pytest.approx(4)
