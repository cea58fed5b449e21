"""Values of plans as people read them, in pages and tables."""

import pytest

from hilum.plan.data_card import NumberSummary
from hilum.plan.plan import AugmentationSpec, Normalisation
from hilum.report.html.document import Table
from hilum.report.html.environment import duration
from hilum.report.html.export import latex_table
from hilum.report.html.values import (
    along_axes,
    kind_of_image,
    metric_title,
    sentence,
    short,
    spread,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((4, 8, 6), "4 x 8 x 6"),
        ((0.8, 1.25), "0.8 to 1.25"),
        ((2.5, 0.70312, 0.70312), "2.5 x 0.7031 x 0.7031"),
        (None, "none"),
        ((), "none"),
        (True, "yes"),
        (("a", "b"), "a; b"),
        (Normalisation(kind="unit", upper=255), "kind unit, lower 0, upper 255, mean 0, std 1"),
    ],
)
def test_values_are_short_words(value, text):
    assert short(value) == text


def test_a_long_value_is_cut():
    assert short(AugmentationSpec()).endswith(" ...")
    assert len(short("x" * 1000)) == 240


def test_metrics_of_other_programs_keep_their_names():
    assert metric_title("hd95") == "HD95, mm"
    assert metric_title("hd95", scaled=False) == "HD95, pixels"
    assert metric_title("Dice (nnU-Net)") == "Dice (nnU-Net)"


def test_ranges_and_times():
    numbers = NumberSummary(low=1, median=2, high=3.25)
    assert spread(numbers, "ml") == "1 to 3.25 ml (median 2)"
    assert along_axes(((1, 1), (0.5, 2), (3, 4)), "mm") == "Z 1, Y 0.5 to 2, X 3 to 4 mm"
    assert [duration(seconds) for seconds in (3.14159, 600, 7200)] == [
        "3.14 s",
        "10 minutes",
        "2 hours",
    ]


def test_notes_become_sentences():
    assert sentence("each case counts as one.") == "Each case counts as one."
    assert sentence("nnU-Net's own validation") == "nnU-Net's own validation."
    assert sentence("centre_x is in mm") == "centre_x is in mm."


def test_kinds_of_image_are_written_as_usual():
    kinds = ("ct", "mr", "xray", "us", "picture", "unknown")
    assert [kind_of_image(one) for one in kinds] == [
        *("CT", "MR", "X-ray", "ultrasound", "picture", "unknown")
    ]


def test_a_table_of_sentences_has_columns_of_a_width_in_latex():
    text = latex_table(Table("Items", ("item", "state"), (("1", "filled & done"),), wrap=True))
    assert r"\begin{tabular}{p{0.45\linewidth}p{0.45\linewidth}}" in text
    assert r"1 & filled \& done \\" in text
