"""Maps of a classifier: of which class, on which grid, and how far to believe them."""

import numpy as np
import pytest
from test_class_predictor import even

from classification_toys import FINDINGS, GRADES, Means, class_model, class_plan
from hilum.dataset import ClassTable
from hilum.errors import UsageError
from hilum.inference import ClassPredictor
from hilum.io import read_volume
from hilum.plan.classification import RegionSpec
from hilum.volume import Geometry, Volume
from inference_toys import SIGNED_AXES, oblique_geometry

MIDDLE = RegionSpec(kind="middle")


@pytest.mark.parametrize("axes", [SIGNED_AXES[n] for n in (0, 7, 20, 34, 47)])
def test_a_map_lies_on_the_cases_own_grid(axes):
    """A mean and a linear layer: the positive part of the image speaks for the positive class."""
    geometry = oblique_geometry((5, 7, 6), axes=axes)
    image = Volume(
        np.random.default_rng(1).normal(0.2, 1, (1, 5, 7, 6)).astype(np.float32), geometry
    )
    plan = class_plan(region=MIDDLE)
    turned = ClassPredictor(class_model(plan)).prepare(image).restore.turned
    plan = class_plan(region=MIDDLE, patch=turned.shape, spacing=turned.spacing)
    said = ClassPredictor(class_model(plan), explain="grad_cam").predict(image)
    assert set(said.maps) == {"malignant"}
    found = said.maps["malignant"]
    assert found.geometry == geometry
    np.testing.assert_allclose(
        found.array, np.maximum(image.array, 0) / image.array.max(), atol=1e-5
    )
    other = ClassPredictor(class_model(plan), explain="hires_cam").predict(
        image.with_array(-image.array)
    )
    np.testing.assert_allclose(other.maps["benign"].array, found.array, atol=1e-5)
    assert said.seconds.restore > 0


def test_a_map_is_zero_where_the_network_did_not_look():
    image = even(1.0, geometry=Geometry.from_spacing((10, 12, 14)))
    plan = class_plan(region=MIDDLE, patch=(4, 4, 6))
    found = ClassPredictor(class_model(plan), explain="grad_cam").predict(image).maps["malignant"]
    expected = np.zeros((1, 10, 12, 14))
    expected[0, 3:7, 4:8, 4:10] = 1
    np.testing.assert_allclose(found.array, expected)


def spots(channels=3):
    """Channel n is bright at row n."""
    array = np.zeros((channels, 4, 6, 8), np.float32)
    for channel in range(channels):
        array[channel, 1, channel] = 1 + channel
    return Volume(array, Geometry.from_spacing((4, 6, 8)))


def rows_of(volume):
    return sorted(set(np.argwhere(volume.array[0] > 0)[:, 1].tolist()))


@pytest.mark.parametrize(
    ("bias", "grade", "row"), [((9, 9, 9), "IV", 2), ((9, 9, -9), "III", 1), ((9, -9, -9), "II", 0)]
)
def test_of_a_grade_the_step_that_reaches_it_is_explained(bias, grade, row):
    """Output n looks at channel n alone, and asks whether the grade is above n."""
    plan = class_plan(GRADES, channels=("a", "b", "c"), patch=(4, 6, 8))
    model = class_model(plan, Means(np.eye(3).tolist(), bias).eval())
    said = ClassPredictor(model, explain="grad_cam").predict(spots())
    assert said.label == grade
    assert {name: rows_of(volume) for name, volume in said.maps.items()} == {grade: [row]}


@pytest.mark.parametrize("explain", ["grad_cam", "hires_cam", "occlusion"])
def test_of_the_lowest_grade_is_explained_what_speaks_for_it(explain):
    """Its class is called because channel a is dark at row 3.

    What is bright at row 0 speaks against it.
    """
    plan = class_plan(GRADES, channels=("a", "b", "c"), patch=(4, 6, 8))
    image = spots()
    image.array[0, 1, 3] = -4.0
    said = ClassPredictor(
        class_model(plan, Means(np.eye(3).tolist(), (-9.0, -9.0, -9.0)).eval()), explain=explain
    ).predict(image)
    assert said.label == "I"
    (found,) = [volume.array[0, 1] for volume in said.maps.values()]
    assert found.sum(axis=1).argmax() == 3
    assert not found[0].any()


def test_every_finding_that_is_called_is_explained_and_the_likeliest_where_none_is():
    plan = class_plan(FINDINGS, channels=("a", "b", "c"), patch=(4, 6, 8))
    model = class_model(plan, Means(np.eye(3).tolist(), (9.0, -9.0, 9.0)).eval())
    said = ClassPredictor(model, explain="grad_cam").predict(spots())
    assert {name: rows_of(volume) for name, volume in said.maps.items()} == {
        "effusion": [0],
        "nodule": [2],
    }
    model = class_model(plan, Means(np.eye(3).tolist(), (-9.0, -3.0, -9.0)).eval())
    said = ClassPredictor(model, explain="occlusion").predict(spots())
    assert said.label == ""
    assert list(said.maps) == ["mass"]


def test_five_members_are_explained_by_occlusion_as_one_is():
    """Usual blocks of a volume are 217 passes, of five folds 1085, more than the limit of 1000."""
    noise = np.random.default_rng(0).normal(1, 0.3, (1, 12, 12, 12))
    image = Volume(noise.astype(np.float32), Geometry.from_spacing((12, 12, 12)))
    plan, members = class_plan(patch=(12, 12, 12)), [Means([[0.0], [1.0]]).eval() for _ in range(5)]
    said = ClassPredictor(class_model(plan, *members), explain="occlusion").predict(image)
    one = ClassPredictor(class_model(plan, members[0]), explain="occlusion").predict(image)
    assert said.score == one.score
    np.testing.assert_allclose(said.maps["malignant"].array, one.maps["malignant"].array, atol=1e-6)


def test_an_unknown_explanation_is_refused():
    with pytest.raises(
        UsageError, match=r"explanation 'gradcam'[\s\S]*grad_cam, hires_cam, occlusion"
    ):
        ClassPredictor(class_model(), explain="gradcam")


def test_maps_of_classes_that_differ_only_in_signs_are_two_files(tmp_path):
    table = ClassTable(names=("none", "ER+", "ER-"), kind="multilabel")
    plan = class_plan(table, channels=("a", "b", "c"), patch=(4, 6, 8))
    model = class_model(plan, Means(np.eye(3).tolist(), (-9.0, 9.0, 9.0)).eval())
    said = ClassPredictor(model, explain="grad_cam").predict(spots())
    files = said.save(tmp_path)
    assert [file.name for file in files] == [
        "case.json",
        "case_ER--1_map.nii.gz",
        "case_ER--2_map.nii.gz",
    ]
    assert [rows_of(read_volume(file)) for file in files[1:]] == [[1], [2]]
