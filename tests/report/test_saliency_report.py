"""The report of classes: curves with numbers, subgroups, saved maps over their images."""

import base64
import csv
import io

import numpy as np
import pytest
from PIL import Image
from test_html_report import Page

from hilum.dataset import ClassTable
from hilum.evaluation import ClassScore, evaluate_classes
from hilum.io import write_volume
from hilum.report import write_report
from hilum.targets.predictions import write_predictions
from hilum.volume import Geometry, Volume

TABLE = ClassTable(names=("benign", "malignant"))
GRID = Geometry.from_spacing((6, 20, 24), (2.0, 1.0, 1.0))
CASES = 30


def spot(number):
    """The voxel at which the map of a case is strongest."""
    return number % 6, 2 + number, 17 - number


def heat(number):
    """A map with a small strong spot, and more, but weaker, in another slice."""
    z, y, x = spot(number)
    made = np.zeros((1, *GRID.shape), np.float32)
    made[0, (z + 3) % 6] = 0.3
    made[0, z, y - 1 : y + 2, x - 1 : x + 2] = 0.5
    made[0, z, y, x] = 1
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 30 small volumes, predictions of them with maps of one class, an evaluation."""
    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    rows, scores = [("image", "patient", "sex", "label")], []
    for number in range(CASES):
        malignant = number % 3 == 0
        image = random.normal(100, 10, size=(1, *GRID.shape)).astype(np.float32)
        write_volume(Volume(image, GRID), root / f"c{number}.nii.gz")
        label = TABLE.names[malignant]
        rows.append((f"c{number}.nii.gz", f"p{number // 2}", "FM"[number % 2], label))
        share = float(np.clip(0.3 + 0.4 * malignant + random.normal(0, 0.15), 0.01, 0.99))
        scores.append(ClassScore(case=f"c{number}", probabilities=(1 - share, share)))
        if number < 12:
            place = root / "predictions" / f"c{number}_malignant_map.nii.gz"
            write_volume(Volume(heat(number), GRID), place)
    with (root / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    write_predictions(scores, TABLE, root / "predictions" / "predictions.csv")
    evaluate_classes(root / "predictions", root / "cases.csv", root / "evaluation")
    return root


@pytest.fixture(scope="module")
def page(folder):
    write_report(folder / "evaluation", folder / "report.html", plots=folder / "plots")
    return Page((folder / "report.html").read_text("utf-8"))


def test_each_curve_is_a_plot_with_its_numbers(page, folder):
    plots = [known["alt"] for known in page.all("img", **{"class": "plot"})]
    assert [alt.partition(".")[0] for alt in plots[:5]] == [
        "ROC",
        "Precision and recall",
        "Calibration",
        "Decision curve",
        "Which class is taken for which",
    ]
    assert "AUROC: all classes 0." in plots[0]
    with (folder / "plots" / "curves-4-decision-curve.csv").open() as stream:
        risks = list(csv.DictReader(stream))
    assert risks[1] == {"of": "malignant", "risk": "0.1", **risks[1]}
    assert float(risks[1]["act on all"]) == pytest.approx(1 / 3 - 2 / 3 * 0.1 / 0.9, abs=5e-4)


def test_subgroups_have_a_plot_and_a_table(page):
    assert "AUROC in subgroups" in page.text
    assert page.text.count("sex: F1515") == 1


def test_maps_lie_over_the_images_of_the_most_wrong_and_most_right(page):
    titles = [
        known["id"] for known in page.all("figure") if known.get("id", "").startswith("case-")
    ]
    assert len(titles) == 8
    assert "what speaks for malignant" in page.text
    assert len(page.all("img", **{"class": "lines"})) == 3 * 8
    links = {known["href"] for known in page.all("a") if known["href"].startswith("#case-")}
    assert links <= {f"#{name}" for name in titles}
    assert links


def axial_views(page):
    """Height, labels, first slice and layer of the first view of each case."""
    views, name = {}, ""
    for tag, known in page.tags:
        if tag == "figure":
            name = known.get("id", "")
        elif known.get("class") in {"view", "lines", "slice"} and name.startswith("case-"):
            views.setdefault(name, {}).setdefault(known["class"], known)
    for name, parts in views.items():
        coded = parts["lines"]["src"].partition(",")[2]
        layer = Image.open(io.BytesIO(base64.b64decode(coded))).convert("RGBA")
        height, labels = (parts["view"][f"data-{one}"] for one in ("height", "labels"))
        first = int(parts["slice"]["value"])
        yield name, int(height), labels.split("|")[first], first, np.asarray(layer).astype(int)


def test_a_view_begins_where_the_map_of_its_case_is_strongest(page):
    views = list(axial_views(page))
    assert len(views) == 8
    for name, height, label, first, layer in views:
        z, y, x = spot(int(name.removeprefix("case-c")))
        assert label == f"slice {z + 1} of 6"
        tile = layer[first * height : (first + 1) * height]
        assert {*np.unique(tile[..., 3])} == {0, 140}
        assert 0 < (tile[..., 3] > 0).mean() < 0.06  # the spot has 9 of 480 voxels
        brightness = np.where(tile[..., 3] > 0, tile[..., :3].sum(axis=-1), 0)
        middle = np.argwhere(brightness == brightness.max()).mean(axis=0) + 0.5
        found = middle * GRID.shape[1:] / tile.shape[:2] - 0.5  # the view holds whole slices
        np.testing.assert_allclose(found, (y, x), atol=0.3)


def test_maps_without_images_say_so(folder, tmp_path):
    table = tmp_path / "labels.csv"
    rows = [f"c{n},{TABLE.names[n % 3 == 0]}" for n in range(CASES)]
    table.write_text("\n".join(["case,label", *rows]) + "\n")
    evaluate_classes(folder / "predictions", table, tmp_path / "evaluation")
    write_report(tmp_path / "evaluation", tmp_path / "report.html")
    assert "Of 8 cases with maps no image is known." in (tmp_path / "report.html").read_text()
    images = {f"c{n}": folder / f"c{n}.nii.gz" for n in range(CASES)}
    write_report(tmp_path / "evaluation", tmp_path / "report.html", images=images)
    assert "no image is known" not in (tmp_path / "report.html").read_text()
