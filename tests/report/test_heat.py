"""Maps over images: the right slice, the right class, nothing where there is nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from classification_toys import FINDINGS, TWO
from hilum.dataset import Case
from hilum.io import write_labels, write_volume
from hilum.pipelines.prediction import read_maps
from hilum.report import plot_maps
from hilum.report.heat import strongest_slice
from hilum.volume import Geometry, Volume, reorient

SHAPE = (7, 12, 10)


def draw(image, files, table, path, **more):
    """Draw the maps among the files of a case, as `hilum predict --pictures` does."""
    maps, prediction = read_maps(files, table)
    plot_maps(image, maps, table, path, prediction=prediction, **more)


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


def case(tmp_path, *, shape=SHAPE, slices=None, code="SPL", channels=1):
    """An image, and one map a class that is strongest in one slice."""
    grid = Geometry.from_spacing(shape, (3.0, 1.0, 2.0))
    image = Volume(
        np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32), grid
    )
    files = [tmp_path / "case.json"]
    for name, z in (slices or {"malignant": 4}).items():
        heat = np.zeros((1, *shape), np.float32)
        heat[0, z, 2:5, 3:6] = 1.0
        heat[0, max(z - 1, 0), 2, 3] = 1.0
        heat[0, z, 9, 1] = 0.1
        files.append(tmp_path / f"case_{name}_map.nii.gz")
        write_volume(reorient(Volume(heat, grid), code), files[-1])
    return reorient(image, code), files


@pytest.mark.parametrize("code", ["SPL", "ARI", "LIP"])
def test_the_slice_where_the_map_is_strongest_is_shown_with_and_without_it(code, tmp_path, drawn):
    image, files = case(tmp_path, code=code)
    draw(image, files, TWO, tmp_path / "pictures" / "case.png")
    (figure,) = drawn
    plain, coloured, bar = figure.axes
    assert [text.get_text() for text in bar.get_yticklabels()] == ["nothing", "most"]
    assert figure.get_supxlabel() == "colours: how much a place speaks for the class"
    assert plain.get_title() == "slice 5 of 7, where the map is strongest"
    assert coloured.get_title() == "what speaks for malignant"
    own = reorient(image, "SPL").array[0, 4]
    low, high = np.percentile(own, (1, 99))
    for axes in (plain, coloured):
        np.testing.assert_allclose(
            axes.images[0].get_array(), np.clip((own - low) / (high - low), 0, 1), atol=1e-6
        )
    assert len(plain.images) == 1
    heat = coloured.images[1]
    assert heat.get_array().shape == SHAPE[1:]
    strong = np.zeros(SHAPE[1:], bool)
    strong[2:5, 3:6] = True
    assert (
        (np.asarray(heat.get_alpha()) > 0) == strong
    ).all()  # a tenth of the strongest is not coloured
    assert heat.norm.vmin == 0
    assert heat.norm.vmax == 1
    with Image.open(tmp_path / "pictures" / "case.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 40).mean() > 0.01  # there is colour


def test_the_strongest_slice_has_the_largest_value_not_the_largest_area():
    heat = np.zeros(SHAPE, np.float32)
    heat[1] = 0.5
    heat[4, 2, 3] = heat[5, 2, 3:5] = 1.0
    assert strongest_slice(heat) == 5


def test_a_picture_says_which_case_it_is_of_and_what_was_answered(tmp_path, drawn):
    image, files = case(tmp_path)
    draw(image, files, TWO, tmp_path / "study.7.png")
    said = {
        "predicted": "malignant",
        "probabilities": {"benign": 0.1, "malignant": 0.9},
        "calibrated": {"benign": 0.24, "malignant": 0.76},
        "prediction_set": ["benign", "malignant"],
        "promise": {"coverage": 0.9},
        "refuse": True,
    }
    for calibrated in (said["calibrated"], None):
        files[0].write_text(json.dumps({**said, "calibrated": calibrated}))
        draw(image, files, TWO, tmp_path / "study.7.png")
    files[0].write_text(
        json.dumps({**said, "predicted": "", "prediction_set": None, "refuse": None})
    )
    draw(image, files, TWO, tmp_path / "study.7.png")
    bare, calibrated, plain, none = [figure.get_suptitle() for figure in drawn]
    assert bare == "study.7"
    assert calibrated.splitlines() == [
        "study.7   class malignant: 0.76",
        "may be: benign or malignant (90 %)",
        "unlike the training images: not to be used",
    ]
    assert plain.startswith("study.7   class malignant: 0.90\nmay be: benign or malignant (90 %)\n")
    assert none == "study.7   none of the findings"


def test_a_row_a_class(tmp_path, drawn):
    image, files = case(tmp_path, slices={"effusion": 1, "nodule": 6})
    draw(image, files, FINDINGS, tmp_path / "case.png")
    titles = [axes.get_title() for axes in drawn[0].axes[: 2 * 2]]
    assert titles == [
        "slice 2 of 7, where the map is strongest",
        "what speaks for effusion",
        "slice 7 of 7, where the map is strongest",
        "what speaks for nodule",
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_no_slices(channels, tmp_path, drawn):
    image, files = case(tmp_path, shape=(1, 12, 10), slices={"benign": 0}, channels=channels)
    draw(image, files, TWO, tmp_path / "case.png")
    plain, coloured, _ = drawn[0].axes
    assert plain.get_title() == ""
    assert coloured.get_title() == "what speaks for benign"
    assert plain.images[0].get_array().shape[2:] == ((3,) if channels == 3 else ())


def test_a_class_whose_name_is_no_file_name_is_found_again(tmp_path, drawn):
    table = TWO.model_copy(update={"names": ("grade 3", "3")})
    image, files = case(tmp_path, slices={"grade-3": 2})
    draw(image, files, table, tmp_path / "case.png")
    assert drawn[0].axes[1].get_title() == "what speaks for grade 3"
    image, files = case(tmp_path, slices={"strange": 2})
    draw(image, files, table, tmp_path / "case.png")
    assert drawn[1].axes[1].get_title() == ""


def test_classes_that_differ_only_in_signs_have_titles_of_their_own(tmp_path, drawn):
    table = TWO.model_copy(update={"names": ("ER+", "ER-")})
    image, files = case(tmp_path, slices={"ER--0": 2, "ER--1": 5})
    draw(image, files, table, tmp_path / "case.png")
    titles = [axes.get_title() for axes in drawn[0].axes[: 2 * 2]]
    assert titles[1::2] == ["what speaks for ER+", "what speaks for ER-"]
    assert [title.partition(",")[0] for title in titles[::2]] == ["slice 3 of 7", "slice 6 of 7"]


@pytest.mark.parametrize("code", ["SPL", "ARI"])
def test_the_slice_is_the_one_of_the_mask_which_is_outlined(code, tmp_path, drawn):
    image, files = case(tmp_path, code=code)
    mask = np.zeros((1, *SHAPE), np.uint8)
    mask[0, 2, 2:6, 4:8], mask[0, 3, 3, 5] = 1, 1
    write_volume(image, tmp_path / "image.nii.gz")
    write_labels(
        reorient(Volume(mask, reorient(image, "SPL").geometry), code), tmp_path / "mask.nii.gz"
    )
    seen = Case("case", None, {"CT": tmp_path / "image.nii.gz"}, region=tmp_path / "mask.nii.gz")
    draw(image, files, TWO, tmp_path / "case.png", case=seen)
    plain, coloured, _ = drawn[0].axes
    assert (
        plain.get_title()
        == "slice 3 of 7, where the mask is largest\nthe map is strongest in slice 5"
    )
    assert drawn[0].get_supxlabel().endswith("; outlined: the mask")
    for axes in (plain, coloured):
        (outline,) = axes.collections
        corners = outline.get_paths()[0].get_extents()
        np.testing.assert_allclose(
            (corners.x0, corners.x1, corners.y0, corners.y1), (3.5, 7.5, 1.5, 5.5)
        )


def test_the_slice_is_the_one_of_the_point_which_is_crossed(tmp_path, drawn):
    image, files = case(tmp_path)
    seen = Case(
        "case", None, {}, centre_mm=tuple(image.geometry.index_to_world((1, 6, 4)).tolist())
    )
    draw(image, files, TWO, tmp_path / "case.png", case=seen)
    plain = drawn[0].axes[0]
    assert plain.get_title().startswith("slice 2 of 7, where the point lies\n")
    np.testing.assert_allclose(np.ravel(plain.lines[0].get_data()), (4, 6), atol=1e-6)


def test_without_a_map_nothing_is_drawn_and_an_empty_one_colours_nothing(tmp_path, drawn):
    image, files = case(tmp_path)
    draw(image, files[:1], TWO, tmp_path / "none.png")
    assert not drawn
    assert not (tmp_path / "none.png").exists()
    write_volume(image.with_array(np.zeros_like(image.array)), files[1])
    draw(image, files, TWO, tmp_path / "case.png")
    assert not np.asarray(drawn[0].axes[1].images[1].get_alpha()).any()
    assert (
        drawn[0].axes[0].get_title()
        == "slice 4 of 7, in the middle\nthe map is empty: nothing speaks for it"
    )


def test_maps_of_sagittal_series_lie_on_sagittal_slices(tmp_path, drawn):
    grid = Geometry.from_spacing((12, 10, 7), (1.0, 1.0, 4.0))
    image = Volume(np.random.default_rng(0).normal(size=(1, 12, 10, 7)).astype(np.float32), grid)
    heat, mask = np.zeros((1, 12, 10, 7), np.float32), np.zeros((1, 12, 10, 7), np.uint8)
    heat[0, 2:5, 3:6, 4] = 1.0
    mask[0, 1:9, 3:5, 2] = 1
    write_volume(Volume(heat, grid), tmp_path / "case_malignant_map.nii.gz")
    write_labels(Volume(mask, grid), tmp_path / "mask.nii.gz")
    write_volume(image, tmp_path / "image.nii.gz")
    known = Case(
        "case", None, {"image": tmp_path / "image.nii.gz"}, region=tmp_path / "mask.nii.gz"
    )
    files = [tmp_path / "case_malignant_map.nii.gz"]
    draw(image, files, TWO, tmp_path / "alone.png")
    draw(image, files, TWO, tmp_path / "marked.png", case=known)
    alone, marked = drawn
    assert alone.axes[0].get_title() == "sagittal slice 5 of 7, where the map is strongest"
    why = "where the mask is largest\nthe map is strongest in slice 5"
    assert marked.axes[0].get_title() == f"sagittal slice 3 of 7, {why}"
    assert alone.axes[0].images[0].get_array().shape == (12, 10)
