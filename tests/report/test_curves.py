"""The curves and the confusion matrix of a classification: what is drawn is what is counted."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent / "evaluation"))

from class_samples import FINDINGS, GRADES, TABLES, THREE, TWO, made_up, scores_of

from hilum import metrics
from hilum.dataset import ClassTable
from hilum.errors import DataError, UsageError
from hilum.report import plot_confusion, plot_curves

MANY = ClassTable(names=tuple(f"finding {k}" for k in range(14)), kind="multilabel")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept to be looked into."""
    from matplotlib.figure import Figure

    kept = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *args, **more: (kept.append(figure), save(figure, *args, **more))[1],
    )
    return kept


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title(loc="left") == title)


def texts_of(legend):
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("kind", TABLES)
def test_curves_are_pictures(kind, tmp_path, drawn):
    table = TABLES[kind]
    plot_curves(made_up(table, 60), table, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 900
    assert 0.6 < (pixels == 255).all(axis=2).mean() < 0.99  # drawn upon, and not full
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    lines = {"binary": 1, "exclusive": 3, "ordinal": 3, "multilabel": 3}[kind]
    roc = panel(drawn[0], "ROC")
    assert len([line for line in roc.lines if line.get_linestyle() == "-"]) == lines


def test_what_is_drawn_is_what_is_counted(tmp_path, drawn):
    scores = made_up(TWO, 80)
    p, truth = (
        np.array([s.probabilities[1] for s in scores]),
        np.array([s.reference == "malignant" for s in scores]),
    )
    plot_curves(scores, TWO, tmp_path / "curves.png")
    (figure,) = drawn
    roc = panel(figure, "ROC")
    x, y = next(line for line in roc.lines if line.get_linestyle() == "-").get_data()
    assert np.trapezoid(y, x) == pytest.approx(metrics.auroc(p, truth))
    area = metrics.delong_interval(p, truth, groups=[s.patient for s in scores])
    assert (
        texts_of(roc.get_legend())[0]
        == f"AUROC {area.estimate:.3f} ({area.low:.3f} to {area.high:.3f})"
    )
    (point,) = [line for line in roc.lines if line.get_marker() == "o"]
    assert point.get_data() == (
        pytest.approx((p >= 0.5)[~truth].mean()),
        pytest.approx((p >= 0.5)[truth].mean()),
    )
    precision = panel(figure, "Precision and recall")
    assert texts_of(precision.get_legend()) == [
        f"AUPRC {metrics.auprc(p, truth):.3f}",
        "prevalence",
    ]
    bins = next(line for line in panel(figure, "Calibration").lines if line.get_marker() == "o")
    curve = metrics.calibration_curve(p, truth)
    np.testing.assert_allclose(bins.get_data(), (curve.predicted, curve.observed))
    model = next(line for line in panel(figure, "Decision").lines if len(line.get_xdata()) == 99)
    np.testing.assert_allclose(
        model.get_ydata(), metrics.net_benefit(p, truth, np.linspace(0.01, 0.99, 99)).model
    )
    assert (
        figure.get_suptitle()
        == "malignant: 80 cases of 40 patients, probabilities as the model gives them"
    )


def test_a_legend_has_the_colours_of_what_it_explains(tmp_path, drawn):
    plot_curves(made_up(TWO, 80), TWO, tmp_path / "one.png")
    plot_curves(made_up(THREE, 80), THREE, tmp_path / "three.png")
    for figure, own in zip(drawn, (True, False), strict=True):
        for title, name, marker in (
            ("ROC", "as called", "o"),
            ("Precision and recall", "prevalence", "None"),
            ("Decision", "act on all", "None"),
        ):
            axes = panel(figure, title)
            (entry,) = [
                handle for handle in axes.get_legend().legend_handles if handle.get_label() == name
            ]
            shown = {
                line.get_color()
                for line in axes.lines
                if line.get_marker() == marker and line.get_linestyle() != "-"
            }
            shown -= {"#8C8C8C"}  # the diagonal
            assert (shown == {entry.get_color()}) == own
        (entry,) = [
            one
            for one in panel(figure, "Calibration").get_legend().legend_handles
            if one.get_label() == "calibrated"
        ]
        assert entry.get_color() == "#8C8C8C"


def test_calibrated_probabilities_are_drawn(tmp_path, drawn):
    scores = [s.model_copy(update={"calibrated": (0.6, 0.4)}) for s in made_up(TWO, 20)]
    plot_curves(scores, TWO, tmp_path / "curves.png")
    assert "calibrated probabilities" in drawn[0].get_suptitle()
    assert texts_of(panel(drawn[0], "ROC").get_legend())[0].startswith("AUROC 0.500")


def test_what_calibration_left_as_it_was_is_not_called_calibrated(tmp_path, drawn):
    plot_curves(
        [s.model_copy(update={"calibrated": s.probabilities}) for s in made_up(TWO, 20)],
        TWO,
        tmp_path / "curves.png",
    )
    assert drawn[0].get_suptitle().endswith("probabilities as the model gives them")


def test_many_questions_share_a_legend(tmp_path, drawn):
    plot_curves(made_up(MANY, 60), MANY, tmp_path / "curves.png")
    (figure,) = drawn
    (legend,) = figure.legends
    assert [text.split(",")[0] for text in texts_of(legend)] == [*MANY.names]
    assert texts_of(panel(figure, "ROC").get_legend()) == ["as called"]
    styles = {
        (line.get_color(), str(line._unscaled_dash_pattern))
        for line in panel(figure, "Calibration").lines
    }
    assert len(styles) == 14 + 1  # no two alike


def test_a_class_that_nobody_has(tmp_path, drawn):
    scores = scores_of(
        THREE, [("cyst", (0.6, 0.3, 0.1)), ("adenoma", (0.3, 0.5, 0.2)), ("cyst", (0.2, 0.7, 0.1))]
    )
    plot_curves(scores, THREE, tmp_path / "curves.png")
    assert texts_of(panel(drawn[0], "ROC").get_legend())[2] == "carcinoma, AUROC not defined"


def test_confusion(tmp_path, drawn):
    scores = made_up(GRADES, 60)
    plot_confusion(scores, GRADES, tmp_path / "confusion.png")
    (axes,) = drawn[0].axes
    rows = metrics.confusion([GRADES.index(s.reference) for s in scores], _grades(scores), 4)
    assert [int(text.get_text().split("\n")[0]) for text in axes.texts] == rows.ravel().tolist()
    np.testing.assert_allclose(axes.images[0].get_array(), rows / rows.sum(axis=1, keepdims=True))
    assert f"{np.trace(rows) / 60:.1%} called right" in axes.get_title(loc="left")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 400


def _grades(scores):
    return [(np.cumsum(s.probabilities) <= 0.5).sum() for s in scores]


def test_a_row_without_cases(tmp_path, drawn):
    plot_confusion(scores_of(THREE, [("cyst", (0.6, 0.3, 0.1))]), THREE, tmp_path / "confusion.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == [
        "1\n100%",
        "0\n0%",
        "0\n0%",
        *["0"] * 6,
    ]


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(UsageError, match="findings, of which a case may have several"):
        plot_confusion(made_up(FINDINGS, 10), FINDINGS, tmp_path / "confusion.png")
    with pytest.raises(DataError, match="no scores"):
        plot_curves([], TWO, tmp_path / "curves.png")
    with pytest.raises(DataError, match="no scores"):
        plot_confusion([], TWO, tmp_path / "confusion.png")
    assert not list(tmp_path.iterdir())


def test_pyplot_is_left_alone(tmp_path):
    import subprocess

    code = (
        "import sys; sys.path.append(sys.argv[1]); from pathlib import Path; from class_samples"
        " import TWO, made_up\nfrom hilum.report import plot_curves; plot_curves(made_up(TWO, 20),"
        " TWO, Path(sys.argv[2]))\nprint('matplotlib.pyplot' in sys.modules, 'torch' in"
        " sys.modules)"
    )
    samples = Path(__file__).parent.parent / "evaluation"
    done = subprocess.run(
        [sys.executable, "-c", code, str(samples), str(tmp_path / "c.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False False"
