"""Free-response ROC: drawn lesions, counts of the unscored metric, brute force, empty cases."""

import math

import numpy as np
import pytest

from hilum.errors import UsageError
from hilum.metrics import froc, lesions, score_lesions
from hilum.metrics.froc import ScoredLesions


def row(text: str) -> np.ndarray:
    """Probabilities (1, 1, X) drawn with tenths; a dot is 0."""
    return np.array([[[0.0 if c == "." else int(c) / 10 for c in text]]])


def scored(prediction: str, reference: str, *, min_overlap: float = 0.1) -> ScoredLesions:
    probability = row(prediction)
    return score_lesions(probability > 0, row(reference) > 0, probability, min_overlap=min_overlap)


def test_by_hand() -> None:
    found = scored("79..6..5.8.", "99.....9..9")
    # the first lesion is found at .9, the second at .5, the third not: .8 lies beside it
    assert found.found_at.tolist() == [0.9, 0.5, -math.inf]
    assert sorted(found.false) == [0.6, 0.8]
    curve = froc([found, scored("....", "....")])
    assert curve.scores.tolist() == [0.9, 0.8, 0.6, 0.5]
    assert curve.sensitivity == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert curve.false_positives == pytest.approx([0, 0.5, 1, 1])
    assert [curve.sensitivity_at(rate) for rate in (0, 0.9, 1)] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3]
    )
    assert curve.mean_sensitivity == pytest.approx((3 * 1 / 3 + 4 * 2 / 3) / 7)


def test_a_lesion_found_in_pieces_has_the_score_at_which_enough_is_covered() -> None:
    found = scored("9.3.7.....", "9999999999", min_overlap=0.2)
    assert found.found_at.tolist() == [0.7]
    assert found.false.size == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_counts_are_those_of_the_components_above_each_score(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    prediction, reference = random.random((2, 4, 9, 11)) < 0.15
    levels = random.integers(1, 6, size=prediction.shape) / 10
    curve = froc([score_lesions(prediction, reference, levels, min_overlap=share)])
    whole = lesions(prediction, reference, min_overlap=share)
    assert curve.sensitivity.max(initial=0) == pytest.approx(whole.recall)
    assert curve.false_positives.max(initial=0) == whole.predicted - whole.real
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.false_positives) >= 0).all()


def test_empty_cases() -> None:
    nothing = froc([scored("....", "....")])
    assert nothing.scores.size == 0
    assert math.isnan(nothing.mean_sensitivity)
    assert math.isnan(froc([scored("5...", "....")]).mean_sensitivity)
    assert froc([scored("....", ".9..")]).mean_sensitivity == 0
    assert froc([scored("9...", ".9..")]).sensitivity_at(8) == 0
    perfect = froc([scored(".9..", ".9..")])
    assert perfect.mean_sensitivity == 1


def test_what_cannot_be_scored_is_refused() -> None:
    mask = row("99.") > 0
    with pytest.raises(UsageError, match="one probability a voxel"):
        score_lesions(mask, mask, row("99"))
    with pytest.raises(UsageError, match="a share above 0"):
        score_lesions(mask, mask, row("99."), min_overlap=0)
    with pytest.raises(UsageError, match="at least one case"):
        froc([])
