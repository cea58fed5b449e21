"""The report: one HTML file that holds everything, for label maps, classes and comparisons."""

import base64
import io
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum import api
from hilum.errors import DataError, UsageError
from hilum.evaluation import compare, evaluate_folder
from hilum.io import write_labels, write_volume
from hilum.report import write_report
from hilum.report.html.document import Table
from hilum.report.html.export import latex_table
from hilum.report.html.gallery import GalleryCase, chosen_cases, make_viewer
from hilum.report.html.plots import bland_altman
from hilum.report.html.scene import make_scene
from hilum.volume import Geometry, Volume


class Page(HTMLParser):
    """Tags, ids, text and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.text, self.addresses = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.tags.append((tag, known))
        self.ids += [known["id"]] if "id" in known else []
        self.addresses += [known[name] for name in ("src", "href") if name in known]

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **wanted):
        return [
            known
            for name, known in self.tags
            if name == tag and all(known.get(key) == value for key, value in wanted.items())
        ]


GRID = Geometry.from_spacing((14, 30, 26), (3.0, 1.0, 1.5))


def case(number, *, empty=False):
    labels = np.zeros((1, *GRID.shape), np.uint8)
    if not empty:
        labels[0, 3:9, 8 : 20 - number, 6:18] = 1
    return Volume(labels, GRID)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """An nnU-Net raw folder of eight CTs, predictions of them, and their evaluation."""
    root = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    folder = root / "Dataset001_Liver"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    (root / "predictions").mkdir()
    (folder / "dataset.json").write_text(
        '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1},'
        ' "numTraining": 8, "file_ending": ".nii.gz"}'
    )
    for number in range(8):
        image = random.normal(-900, 50, size=(1, *GRID.shape)).astype(np.int16)
        image[case(0).array > 0] = 60
        write_volume(Volume(image, GRID), folder / "imagesTr" / f"c{number}_0000.nii.gz")
        write_labels(case(0), folder / "labelsTr" / f"c{number}.nii.gz")
        predicted = case(number, empty=number == 7)
        write_labels(predicted, root / "predictions" / f"c{number}.nii.gz")
    evaluate_folder(root / "predictions", folder, root / "evaluation")
    return root


@pytest.fixture(scope="module")
def page(data):
    write_report(data / "evaluation", data / "report.html")
    return Page((data / "report.html").read_text("utf-8"))


def test_a_report_asks_nothing_of_a_network(page):
    assert page.addresses
    outside = [one for one in page.addresses if not one.startswith(("data:", "#"))]
    assert outside == []
    for one in page.addresses:
        if one.startswith("data:image/svg+xml;base64,"):
            drawing = base64.b64decode(one.partition(",")[2]).decode()
            assert not re.search(r'href="(?!#)', drawing)


def test_ids_are_unique_and_pictures_have_a_text(page):
    assert len(page.ids) == len({*page.ids})
    assert all("alt" in known for known in page.all("img"))
    assert all(known["alt"] for known in page.all("img", **{"class": "plot"}))
    assert {known["href"][1:] for known in page.all("a")} <= {*page.ids}
    assert page.all("html", lang="en")


def test_the_first_words_say_how_good_and_where_it_fails(page):
    text = " ".join(page.text.split())
    assert "8 cases of 8 patients, 1 region. The mean Dice (1 is perfect overlap) is 0." in text
    assert "Missed altogether: liver in 1 of 8." in text
    assert "structures missed altogether" in text
    assert "Not a medical device" in text


def test_the_metrics_to_look_at_are_named_with_their_reason(page):
    assert "Which metrics to look at" in page.text
    assert "Dice" in page.text[page.text.index("By the shape of the references") :]


def test_a_gallery_shows_worst_middle_and_best(page, data):
    titles = re.findall(r"(c\d), (among the worst|in the middle|among the best)", page.text)
    assert titles[0] == ("c7", "among the worst")
    assert ("c0", "among the best") in titles
    assert len(titles) == 8
    views = page.all("div", **{"class": "view"})
    assert len(views) == 3 * 8
    tiles = page.all("img", **{"class": "tiles"})
    for view, picture in zip(views, tiles, strict=True):
        pixels = Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
        slices, width, height = (int(view[f"data-{key}"]) for key in ("slices", "width", "height"))
        assert pixels.size == (width, height * slices)
        assert len(view["data-labels"].split("|")) == slices
    assert (data / "report.html").stat().st_size < 2e6


def test_the_worst_cases_lead_to_the_gallery(page):
    links = {known["href"] for known in page.all("a") if known["href"].startswith("#case-")}
    assert links == {f"#case-c{number}" for number in range(8)}
    assert len(page.all("figure", id="case-c7")) == 1


def test_plots_have_their_numbers(page):
    assert page.text.count("Numbers of this plot") == 4
    assert "Medians: liver 0." in page.text
    assert {"Each case: Dice.", "Each case: NSD.", "Each case: HD95, mm."} <= {
        known["alt"].split(".")[0] + "." for known in page.all("img", **{"class": "plot"})
    }


def rows(text):
    """Rows of three as the page's script unpacks them."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2").reshape(-1, 3)
    return np.cumsum(steps, axis=0, dtype="<u2")


def test_surfaces_of_a_case_are_where_its_labels_are(page):
    scenes = page.all("div", **{"class": "scene"})
    assert len(scenes) == 8
    surfaces = page.all("div", **{"class": "surface"})
    assert [one["data-side"] for one in surfaces].count("reference") == 8
    assert [one["data-side"] for one in surfaces].count("prediction") == 7  # one was missed
    labels = [
        known["aria-label"] for known in page.all("canvas") if "surfaces" in known["aria-label"]
    ]
    assert (
        "c7, among the worst, surfaces of liver (only of the reference), 18 x 12 x 18 mm"
        in (labels[0])
    )
    for one in surfaces:
        points, corners = (rows(one[f"data-{what}"]) for what in ("vertices", "triangles"))
        assert {*np.unique(corners)} == {*range(len(points))}
    reference = rows(surfaces[-2]["data-vertices"]) * float(scenes[-1]["data-step"])
    assert np.ptp(reference, axis=0) == pytest.approx([18, 12, 18], abs=0.2)


def test_a_scene_has_every_structure_and_no_picture_has_one():
    labels = case(0).array.copy()
    labels[0, 5:8, 9:12, 7:10] = 2
    both = Volume(labels, GRID)
    scene = make_scene(both, case(0), {1: "liver", 2: "tumour"})
    assert scene.names == ("liver", "tumour")
    assert scene.text.startswith("surfaces of liver, tumour (only of the prediction), 18 x 12 x 18")
    assert make_scene(both, None, {3: "spleen"}) is None
    picture = Volume(labels[:, :1], Geometry.from_spacing((1, 30, 26)))
    assert make_scene(picture, None, {1: "liver"}) is None


def test_plots_and_tables_are_exported(data, tmp_path):
    write_report(data / "evaluation", tmp_path / "report.html", plots=tmp_path / "plots")
    names = {file.name for file in (tmp_path / "plots").iterdir() if file.name[0] != "."}
    assert {
        *(f"cases-1-each-case-dice.{kind}" for kind in ("png", "svg", "csv", "tex")),
        *(f"cases-5-volumes-of-liver.{kind}" for kind in ("png", "svg")),
        *(f"worst-cases-1-lowest-dice-first.{kind}" for kind in ("csv", "tex")),
    } <= names
    worst = (tmp_path / "plots" / "worst-cases-1-lowest-dice-first.csv").read_text("utf-8")
    assert worst.splitlines()[:2] == [
        'case,region,Dice,"HD95, mm",volume',
        "c7,liver,0.000,61.386,missed",
    ]
    with Image.open(tmp_path / "plots" / "cases-1-each-case-dice.png") as picture:
        assert picture.width > 1500
    drawing = (tmp_path / "plots" / "cases-1-each-case-dice.svg").read_text("utf-8")
    assert base64.b64encode(drawing.encode()).decode() in (tmp_path / "report.html").read_text()
    write_report(data / "evaluation", tmp_path / "report.html", plots=tmp_path / "plots")
    (tmp_path / "plots" / "worst-cases-1-lowest-dice-first.csv").write_text("mine")
    with pytest.raises(UsageError, match="changed since hilum wrote it"):
        write_report(data / "evaluation", tmp_path / "report.html", plots=tmp_path / "plots")


def test_a_table_for_latex_by_hand():
    table = Table("5 % of a_b", ("x", "p"), (("A & B", "< 0.001"), ("c~d", "–")))
    assert latex_table(table) == (
        "\\begin{table}\n\\centering\n\\caption{5 \\% of a\\_b}\n\\begin{tabular}{lr}\n\\toprule\n"
        "x & p \\\\\n\\midrule\nA \\& B & $<$ 0.001 \\\\\nc\\textasciitilde{}d & -- \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_a_ct_has_windows_in_hounsfield_units():
    image = Volume(np.full((1, *GRID.shape), 40, np.int16), GRID)
    image.array[0, 0] = -1000
    viewer = make_viewer(GalleryCase("x", "", image, case(0), None))
    soft = viewer.windows[0]
    assert soft.name == "soft tissue"
    assert (soft.low * 2000 - 1000, soft.high * 2000 - 1000) == (-160, 240)
    assert viewer.legend == (("rgb(230 159 0)", "prediction (dashed)"),)


def test_outlines_of_both_lie_where_the_labels_are():
    image = Volume(np.zeros((1, *GRID.shape), np.float32), GRID)
    viewer = make_viewer(GalleryCase("x", "", image, case(4), case(0)))
    axial = viewer.views[0]
    lines = Image.open(io.BytesIO(base64.b64decode(axial.outlines.partition(",")[2])))
    found = np.asarray(lines).reshape(axial.slices, axial.height, axial.width)
    # the box around the reference with its margin: rows 8..20 and 3 around, columns 6..18 and 3
    scale = axial.height / 18
    rows, columns = np.nonzero(found[axial.first] == 1)
    assert rows.min() == pytest.approx(3 * scale, abs=scale / 2 + 1)
    assert rows.max() == pytest.approx(15 * scale, abs=scale / 2 + 1)
    assert columns.min() == pytest.approx(3 * 1.5 * scale, abs=scale)
    predicted, _ = np.nonzero(found[axial.first] == 2)
    assert predicted.max() == pytest.approx(11 * scale, abs=scale / 2 + 1)


def test_a_picture_has_one_view():
    grid = Geometry.from_spacing((1, 12, 9))
    labels = np.zeros((1, 1, 12, 9), np.uint8)
    labels[0, 0, 3:6, 2:5] = 1
    colours = np.zeros((3, 1, 12, 9), np.uint8)
    viewer = make_viewer(GalleryCase("x", "", Volume(colours, grid), Volume(labels, grid), None))
    assert [view.name for view in viewer.views] == ["picture"]
    assert viewer.windows == ()


def test_cases_are_chosen_once():
    assert chosen_cases([("a", 0.5)]) == {"a": "among the worst"}
    chosen = chosen_cases([(f"c{n}", n / 20) for n in range(20)])
    assert [*chosen] == ["c0", "c1", "c2", "c8", "c9", "c10", "c19", "c18", "c17"]


def test_limits_of_agreement_by_hand():
    plot = bland_altman(np.array([10.0, 20, 30]), np.array([11.0, 20, 32]), "liver", "ml")
    assert "Mean error 1 ml (solid line); limits of agreement -0.96 to 2.96 ml" in plot.text
    assert bland_altman(np.zeros(2), np.zeros(2), "liver", "ml") is None


def test_a_report_without_its_images_says_so(data, tmp_path, caplog):
    moved = tmp_path / "evaluation"
    moved.mkdir()
    for file in (data / "evaluation").iterdir():
        if not file.name.startswith("."):
            (moved / file.name).write_text(
                file.read_text("utf-8").replace(str(data / "predictions"), str(tmp_path / "gone")),
                "utf-8",
            )
    write_report(moved, tmp_path / "report.html")
    assert f"No images: {tmp_path / 'gone'} is not a folder." in (
        tmp_path / "report.html"
    ).read_text("utf-8")
    assert "no gallery in the report" in caplog.text


def test_a_comparison_has_a_report(data, tmp_path):
    comparison = compare(data / "evaluation", data / "evaluation", margins={"dice": 0.02})
    comparison.save(tmp_path / "comparison")
    write_report(tmp_path / "comparison", tmp_path / "report.html")
    text = " ".join(Page((tmp_path / "report.html").read_text("utf-8")).text.split())
    assert "Shown to be equivalent: Dice of liver (within 0.02)." in text
    assert "within 0.02 (p < 0.001)" in text


def test_several_models_and_runs_have_a_report(data, tmp_path):
    folder = data / "evaluation"
    api.compare(folder, folder, [folder, folder], out=tmp_path / "ranking")
    api.report(tmp_path / "ranking", tmp_path / "ranking.html")
    page = Page((tmp_path / "ranking.html").read_text("utf-8"))
    text = " ".join(page.text.split())
    assert "Comparison of 3 models" in text
    assert "who is the best is not settled" in text
    assert {"ranks", "pairs", "runs", "data-and-methods"} <= set(page.ids)
    plots = [image["alt"] for image in page.all("img", **{"class": "plot"})]
    assert any(alt.startswith("Ranks by Dice of liver.") for alt in plots)
    assert any(alt.startswith("Runs by Dice of liver.") for alt in plots)
    api.compare(f"{folder},{folder}", out=tmp_path / "runs")
    api.report(tmp_path / "runs", tmp_path / "runs.html")
    assert "2 runs of one model" in (tmp_path / "runs.html").read_text("utf-8")


def test_cross_validated_figures_are_called_so_first(data, tmp_path):
    labels = data / "Dataset001_Liver" / "labelsTr"
    made = api.evaluate(data / "predictions", labels, tmp_path / "e", cross_validated=True)
    assert made.record.cross_validated
    assert made.markdown().splitlines()[4].startswith("Attention: these are figures of a cross-val")
    write_report(tmp_path / "e", tmp_path / "report.html")
    head = (tmp_path / "report.html").read_text("utf-8").split("<nav")[0]
    assert "optimistic for new patients" in head


def test_references_in_a_plain_folder_take_named_images(data, tmp_path):
    labels = data / "Dataset001_Liver" / "labelsTr"
    plain = tmp_path / "references"
    plain.mkdir()
    for file in labels.iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    evaluate_folder(data / "predictions", plain, tmp_path / "evaluation")
    write_report(tmp_path / "evaluation", tmp_path / "without.html")
    assert "no image is known; the reference is shown" in (tmp_path / "without.html").read_text()
    api.report(
        tmp_path / "evaluation",
        tmp_path / "with.html",
        images=data / "Dataset001_Liver" / "imagesTr",
    )
    page = (tmp_path / "with.html").read_text()
    assert "soft tissue" in page
    assert "no image is known" not in page


def test_an_image_of_another_grid_is_not_shown(data, tmp_path, caplog):
    plain = tmp_path / "references"
    plain.mkdir()
    for file in (data / "Dataset001_Liver" / "labelsTr").iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    evaluate_folder(data / "predictions", plain, tmp_path / "evaluation")
    small = Volume(np.zeros((1, 3, 4, 5), np.int16), Geometry.from_spacing((3, 4, 5)))
    write_volume(small, tmp_path / "c1.nii.gz")
    images = {"c1": tmp_path / "c1.nii.gz"}
    write_report(tmp_path / "evaluation", tmp_path / "report.html", images=images)
    assert "c1.nii.gz lies on another grid than the reference of c1" in caplog.text


def test_names_in_a_report_are_escaped(data, tmp_path):
    record = (data / "evaluation" / "summary.json").read_text("utf-8")
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "summary.json").write_text(record.replace('"liver"', '"<script>x</script>"'))
    cases = (data / "evaluation" / "cases.csv").read_text("utf-8")
    (folder / "cases.csv").write_text(cases.replace(",liver,", ",<script>x</script>,"))
    write_report(folder, tmp_path / "report.html")
    assert "<script>x" not in (tmp_path / "report.html").read_text("utf-8")


def test_what_is_no_evaluation_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"neither summary\.json, comparison\.json, model\.json nor run\.json"
    ):
        write_report(tmp_path, tmp_path / "out" / "report.html")
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(DataError, match=r"comparison\.json is damaged"):
        write_report(tmp_path, tmp_path / "out" / "report.html")


def test_a_file_of_others_is_kept(data, tmp_path):
    mine = tmp_path / "report.html"
    mine.write_text("mine")
    with pytest.raises(UsageError, match="report"):
        write_report(data / "evaluation", mine)
    assert mine.read_text() == "mine"
    write_report(data / "evaluation", Path(tmp_path / "new.html"))
    write_report(data / "evaluation", Path(tmp_path / "new.html"))  # its own is replaced


def test_methods_name_the_surfaces_and_metrics_that_there_are(page, data, tmp_path):
    text = " ".join(page.text.split())
    assert "of the mean t below 20 patients, BCa above" in text
    assert "NSD at 2 mm. Surfaces run between voxels" in text
    metrics = text[text.index("Metrics: Dice; IoU; NSD; HD95, mm;") :].split(". ")[0]
    assert "lesion" not in metrics  # the liver is no lesion
    assert "boundary IoU" not in metrics
    how = {"surface": "mesh", "tolerance_mm": 1.5, "also": ["boundary_iou"]}
    made = evaluate_folder(data / "predictions", data / "Dataset001_Liver", tmp_path / "e", **how)
    write_report(tmp_path / "e", tmp_path / "r.html")
    text = " ".join(Page((tmp_path / "r.html").read_text("utf-8")).text.split())
    assert "; boundary IoU. NSD at 1.5 mm. Surfaces are the triangles of marching cubes" in text
    summary = made.markdown().splitlines()[2]
    assert "NSD at 1.5 mm. Surfaces are the triangles of marching cubes" in summary
    assert "of the mean t below 20 patients, BCa above (2000 resamples)" in summary
    assert "bootstrap" not in summary


def test_what_other_tools_print_is_shown_where_it_was_asked_for(data, tmp_path):
    evaluate_folder(
        data / "predictions",
        data / "Dataset001_Liver",
        tmp_path / "e",
        other_tools=True,
    )
    write_report(tmp_path / "e", tmp_path / "r.html")
    text = Page((tmp_path / "r.html").read_text("utf-8")).text
    assert "Printed by other tools for the same masks" in text
    assert "surface-distance" in text
