"""Decision curves: the definition, threshold by threshold; treat-all and treat-none.

What is undefined.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UsageError
from hilum.metrics import net_benefit, net_benefit_at


def test_by_hand() -> None:
    # treated from 0.2: three, of whom two need it; odds 1/4
    curve = net_benefit([0.1, 0.2, 0.5, 0.9], [0, 1, 0, 1], [0, 0.2, 0.5, 0.95])
    assert curve.model == pytest.approx([0.5, (2 - 1 / 4) / 4, (1 - 1) / 4, 0])
    assert curve.treat_all == pytest.approx([0.5, (2 - 2 / 4) / 4, (2 - 2) / 4, (2 - 2 * 19) / 4])
    assert curve.treat_none.tolist() == [0, 0, 0, 0]
    assert curve.thresholds.tolist() == [0, 0.2, 0.5, 0.95]


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=20),
    st.integers(0, 9),
)
def test_the_definition(cases: list[tuple[int, bool]], tenth: int) -> None:
    probability, positive = (np.array(column) for column in zip(*cases, strict=True))
    probability, threshold = probability / 10, tenth / 10
    treated = probability >= threshold
    expected = (
        (treated & positive).sum() - (treated & ~positive).sum() * threshold / (1 - threshold)
    ) / len(cases)
    assert net_benefit_at(probability, positive, threshold=threshold) == pytest.approx(expected)
    prevalence = positive.mean()
    curve = net_benefit(probability, positive, [threshold])
    assert curve.treat_all[0] == pytest.approx(
        prevalence - (1 - prevalence) * threshold / (1 - threshold)
    )
    assert curve.model[0] <= prevalence + 1e-12  # nobody can do better than treat those who need it
    perfect = net_benefit(positive.astype(float), positive, [max(threshold, 0.05)])
    assert perfect.model[0] == pytest.approx(prevalence)


def test_a_calibrated_model_never_harms() -> None:
    random = np.random.default_rng(0)
    probability = random.beta(1, 3, 20_000)
    curve = net_benefit(
        probability, random.random(20_000) < probability, np.linspace(0.01, 0.6, 30)
    )
    assert (curve.model >= np.maximum(curve.treat_all, 0) - 0.003).all()
    assert curve.model[10] > max(curve.treat_all[10], 0) + 0.02


def test_no_case_and_no_threshold() -> None:
    assert math.isnan(net_benefit([], [], [0.1]).model[0])
    assert net_benefit([0.5], [1], []).model.size == 0


def test_impossible_questions_are_refused() -> None:
    for thresholds in ([1.0], [-0.1], [math.nan], 0.5):
        with pytest.raises(UsageError, match="at least 0 and below 1"):
            net_benefit([0.5], [1], thresholds)
    with pytest.raises(UsageError, match=r"outside 0\.\.1"):
        net_benefit_at([2.5], [1], threshold=0.5)
