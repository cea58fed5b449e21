"""The synthetic abdomen is an abdomen.

In the right place, of the right size and density, and the same for the same seed.
"""

import numpy as np
import pytest
from scipy import ndimage

from hilum.errors import UsageError
from hilum.examples import ABDOMEN_LABELS, make_abdomen_ct
from hilum.examples.abdomen import follow_up, paint_patient, sample_patient
from hilum.examples.canvas import Canvas, Warp
from hilum.examples.shapes import capsule, cylinder, ellipsoid, rotation, smooth_union
from hilum.volume import Geometry

IDS = {label.name: label.id for label in ABDOMEN_LABELS.labels}


@pytest.fixture(scope="module", params=[0, 3, 11])
def study(request):
    return make_abdomen_ct(request.param, tumours=3)


def volume_ml(study, name):
    return (
        float((study.labels.array == IDS[name]).sum())
        * study.labels.geometry.voxel_volume_mm3
        / 1000
    )


def centre_mm(study, name):
    index = np.argwhere(study.labels.array[0] == IDS[name]).mean(axis=0)
    return study.labels.geometry.index_to_world(index)


def mean_hu(study, name):
    inside = ndimage.binary_erosion(study.labels.array[0] == IDS[name])
    return float(study.image.array[0][inside].mean())


def test_image_and_labels_share_an_oblique_grid(study):
    assert study.image.array.shape == (1, 42, 84, 108)
    assert study.image.array.dtype == np.int16
    assert study.labels.array.dtype == np.uint8
    assert study.image.geometry == study.labels.geometry
    assert study.image.geometry.orientation == "SPL"
    off_axis = np.abs(study.image.geometry.directions - np.eye(3)[:, ::-1]).max()
    assert 1e-3 < off_axis < 0.2
    assert len(set(study.image.geometry.spacing)) == 3


def test_organs_have_adult_sizes(study):
    """Ranges around the textbook's means: liver 1.5 l, spleen 0.2 l, kidney 0.15 l."""
    assert 900 < volume_ml(study, "liver") + volume_ml(study, "liver tumour") < 2300
    assert 40 < volume_ml(study, "spleen") < 400
    for kidney in ("right kidney", "left kidney"):
        assert 60 < volume_ml(study, kidney) < 260


def test_organs_lie_on_their_sides(study):
    """World x rises to the patient's Left, y to Posterior, z to Superior."""
    liver, spleen = centre_mm(study, "liver"), centre_mm(study, "spleen")
    right, left = centre_mm(study, "right kidney"), centre_mm(study, "left kidney")
    assert liver[0] < -30 < 30 < spleen[0]
    assert right[0] < -30 < 30 < left[0]
    assert spleen[1] > liver[1]  # the spleen lies behind
    assert max(right[2], left[2]) < min(liver[2], spleen[2])  # the kidneys lie lowest
    assert right[2] < left[2]  # the liver pushes the right kidney down


def test_tissues_have_their_densities(study):
    assert 60 < mean_hu(study, "liver") < 140
    assert 60 < mean_hu(study, "spleen") < 150
    assert mean_hu(study, "left kidney") > mean_hu(study, "liver")  # contrast medium
    tumour = study.image.array[study.labels.array == IDS["liver tumour"]]
    assert 0 < tumour.mean() < mean_hu(study, "liver") - 15
    image = study.image.array
    for low, high in (
        (-1024, -900),
        (-900, -700),
        (-130, -80),
        (20, 90),
        (200, 700),
    ):  # air, lung, fat, muscle, bone
        assert ((image >= low) & (image < high)).mean() > 0.005


def test_tumours_lie_in_the_liver(study):
    tumour = study.labels.array[0] == IDS["liver tumour"]
    around = ndimage.binary_dilation(tumour, iterations=2) & ~tumour
    assert tumour.any()
    assert (study.labels.array[0][around] == IDS["liver"]).mean() > 0.5


def test_edges_are_shared_by_voxels():
    """Partial volume: between air and skin there are voxels of every density in between."""
    image = make_abdomen_ct(5, noise_hu=0.0).image.array
    between = image[(image > -900) & (image < -150)]
    assert np.histogram(between, bins=8, range=(-900, -150))[0].min() > 20


def test_same_seed_same_bytes():
    shape = (12, 24, 30)
    first, again, other = (make_abdomen_ct(seed, shape=shape) for seed in (7, 7, 8))
    assert first.image == again.image
    assert first.labels == again.labels
    assert not np.array_equal(first.image.array, other.image.array)


def test_a_healthy_liver_has_no_tumour():
    assert not (
        make_abdomen_ct(1, shape=(16, 32, 40), tumours=0).labels.array == IDS["liver tumour"]
    ).any()


def test_some_drawn_patients_are_healthy():
    counts = [len(sample_patient(np.random.default_rng(seed)).tumours) for seed in range(40)]
    assert 0 in counts
    assert max(counts) >= 3


def test_the_grid_does_not_change_the_patient():
    """The same patient on a finer and shifted grid has the same liver volume.

    Anatomy lives in millimetres.
    """
    patient = sample_patient(np.random.default_rng(4))
    volumes = []
    for shape, spacing in (((40, 60, 76), (5.2, 5.0, 5.0)), ((30, 80, 100), (7.0, 3.7, 3.8))):
        half = (np.array(shape) - 1) / 2 * spacing
        grid = Geometry.from_spacing(shape, spacing, origin=np.array([0.0, 6.0, 0.0]) - half[::-1])
        _, labels = paint_patient(patient, grid, np.random.default_rng(0))
        volumes.append(float(np.isin(labels.array, (1, 2)).sum()) * grid.voxel_volume_mm3)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)


def test_follow_up_keeps_the_anatomy():
    rng = np.random.default_rng(0)
    patient = sample_patient(rng, tumours=2)
    later = follow_up(patient, rng)
    assert later.warp is patient.warp
    assert [t.centre for t in later.tumours] == [t.centre for t in patient.tumours]
    assert [t.radius_mm for t in later.tumours] != [t.radius_mm for t in patient.tumours]


def test_too_small_a_shape_is_refused():
    with pytest.raises(UsageError, match="at least 8 voxels along each axis"):
        make_abdomen_ct(0, shape=(4, 64, 64))


def test_distances_of_solids():
    points = np.array(
        [[0.0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, 35], [3, 4, 0]], dtype=np.float32
    ).T
    assert ellipsoid(points, (0, 0, 0), (10, 20, 30))[1:4] == pytest.approx([0, 0, 5], abs=0.2)
    turned = ellipsoid(points, (0, 0, 0), (20, 10, 30), axes=rotation(about_z=90))
    assert turned[1:3] == pytest.approx([0, 0], abs=1e-3)
    assert capsule(points, (0, 0, 0), (10, 0, 0), 2.0) == pytest.approx(
        [-2, -2, 18, 33, 2], abs=1e-4
    )
    assert cylinder(points, (0, 0), (5, 5)) == pytest.approx([-5, 5, 15, -5, 0], abs=1e-4)
    flat = np.zeros(3, dtype=np.float32)
    assert smooth_union(flat, flat + 50, 10) == pytest.approx([0, 0, 0])
    assert (smooth_union(flat, flat, 10) < 0).all()  # the seam is filled


def test_windows_paint_into_the_canvas():
    rng = np.random.default_rng(0)
    geometry = Geometry.from_spacing(
        (20, 30, 40),
        (3.0, 2.0, 1.5),
        origin=(-30, -30, -30),
        directions=rotation(about_x=10)[:, ::-1],
    )
    centre = tuple(float(v) for v in geometry.index_to_world((9, 14, 22)))
    whole, part = (
        Canvas.blank(geometry, warp=Warp.sample(rng, amplitude_mm=0.5)) for _ in range(2)
    )
    part = Canvas(part.geometry, part.hu, part.labels, whole.points, whole.warp_mm, part.blur_mm)
    whole.paint(ellipsoid(whole.points, centre, (9, 8, 7)), 100.0, label=3)
    window = part.near(centre, 9)
    assert window.hu.size < part.hu.size
    window.paint(ellipsoid(window.points, centre, (9, 8, 7)), 100.0, label=3)
    assert np.array_equal(whole.hu, part.hu)
    assert np.array_equal(whole.labels, part.labels)
    assert part.near((1e4, 0, 0), 5).hu.size <= 30 * 20  # far away: next to nothing
