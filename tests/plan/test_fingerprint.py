"""Measurements of the fingerprint, on volumes whose facts are known."""

import itertools

import numpy as np
import pytest

from hilum.dataset import Case, Dataset
from hilum.errors import DataError, GeometryError, LabelError, UsageError
from hilum.io import write_labels, write_volume
from hilum.plan.case_facts import ChannelFacts, Intensities, measure_case
from hilum.plan.fingerprint import guess_kind, make_fingerprint
from hilum.volume import Geometry, LabelTable, Volume, reorient

TABLE = LabelTable.from_names({1: "organ", 2: "tumour"}, ignore=9)
SHAPE = (12, 20, 31)


def labels_of(shape=SHAPE):
    labels = np.zeros(shape, dtype=np.uint8)
    labels[2:6, 4:9, 10:20] = 1  # 4 x 5 x 10 = 200 voxels
    labels[8, 2, 3] = 2
    labels[8, 3, 4] = 2  # touches the one before by an edge: one piece of 26-connectivity
    labels[10, 15, 25] = 2
    labels[0, 0, 0] = 9
    return labels


def make_case(spacing=(3.0, 0.8, 0.7), seed=0):
    geometry = Geometry.from_spacing(SHAPE, spacing, origin=(-40.0, 12.5, 7.0))
    array = np.random.default_rng(seed).normal(100, 20, (2, *SHAPE)).astype(np.float32)
    return Volume(array, geometry), Volume(labels_of()[None], geometry)


def test_facts_of_a_known_case():
    image, annotation = make_case()
    facts = measure_case("a", image, annotation, table=TABLE, channels=("T1", "T2")).facts
    assert facts.shape == SHAPE
    assert facts.spacing == pytest.approx((3.0, 0.8, 0.7))
    organ, tumour = facts.labels
    assert (organ.id, organ.voxels, organ.components) == (1, 200, 1)
    assert organ.volume_ml == pytest.approx(200 * 3.0 * 0.8 * 0.7 / 1000)
    assert organ.centroid == pytest.approx((4 / 12, 6.5 / 20, 15 / 31))
    assert (tumour.voxels, tumour.components) == (3, 2)
    assert tumour.piece_ml == pytest.approx(2 * 3.0 * 0.8 * 0.7 / 1000)
    under = image.array[0][np.isin(annotation.array[0], (1, 2))]
    assert facts.channels[0].foreground.count == 203
    assert facts.channels[0].foreground.mean == pytest.approx(under.mean(), rel=1e-6)
    assert facts.channels[0].foreground.p99_5 == pytest.approx(np.percentile(under, 99.5), rel=1e-6)


@pytest.mark.parametrize(
    "code", ["".join(p) for p in itertools.product("SI", "PA", "LR")] + ["LPS", "RAI", "PSL", "ARS"]
)
def test_every_orientation_has_the_same_facts(code):
    image, annotation = make_case()
    one = measure_case("a", image, annotation, table=TABLE, channels=("T1", "T2")).facts
    turned = measure_case(
        "a", reorient(image, code), reorient(annotation, code), table=TABLE, channels=("T1", "T2")
    ).facts
    assert turned.orientation == code
    assert turned.model_dump(exclude={"orientation", "labels", "spacing"}) == one.model_dump(
        exclude={"orientation", "labels", "spacing"}
    )
    assert turned.spacing == pytest.approx(one.spacing)
    for mine, its in zip(turned.labels, one.labels, strict=True):
        assert (mine.id, mine.voxels, mine.components) == (its.id, its.voxels, its.components)
        assert (mine.volume_ml, mine.piece_ml) == pytest.approx((its.volume_ml, its.piece_ml))
        assert mine.centroid == pytest.approx(its.centroid)


def test_nonzero_box_and_share():
    image, _ = make_case()
    array = np.zeros_like(image.array)
    array[0, 3:5, 4:10, 7:8] = 5
    facts = measure_case(
        "a", image.with_array(array), None, table=TABLE, channels=("T1", "T2")
    ).facts
    assert facts.nonzero_shape == (2, 6, 1)
    assert facts.channels[0].nonzero == pytest.approx(12 / np.prod(SHAPE))
    assert facts.channels[1].foreground is None
    assert not facts.annotated
    empty = measure_case(
        "a", image.with_array(array * 0), None, table=TABLE, channels=("T1", "T2")
    ).facts
    assert empty.nonzero_shape == (1, 1, 1)


def test_large_cases_are_sampled_the_same_way_every_time():
    geometry = Geometry.from_spacing((40, 41, 42), (1.0, 1.0, 1.0))
    image = Volume(
        np.random.default_rng(1).normal(50, 10, (1, *geometry.shape)).astype(np.float32), geometry
    )
    labels = Volume((image.array > 45).astype(np.uint16), geometry)
    one, two = (measure_case("a", image, labels, table=TABLE, channels=("T1",)) for _ in range(2))
    assert one.facts == two.facts
    assert one.foreground[0].size == one.whole[0].size == 10_000
    assert (one.foreground[0] > 45).all()
    assert one.facts.channels[0].foreground.mean == pytest.approx(
        image.array[image.array > 45].mean(), abs=0.5
    )
    nothing = measure_case(
        "a", image, labels.with_array(labels.array * 0), table=TABLE, channels=("T1",)
    )
    assert nothing.facts.labels == ()
    assert nothing.facts.annotated


def test_pictures_keep_their_axes_and_integers_beyond_16_bits_work():
    geometry = Geometry.from_spacing((1, 30, 20), (1.0, 0.5, 0.4), directions=np.eye(3))
    image = Volume(np.arange(600, dtype=np.uint16).reshape(1, 1, 30, 20), geometry)
    table = LabelTable.from_names({100_000: "organ"})
    labels = Volume((image.array > 300).astype(np.int32) * 100_000, geometry)
    facts = measure_case("a", image, labels, table=table, channels=("grey",)).facts
    assert facts.shape == (1, 30, 20)
    assert facts.spacing == pytest.approx((1.0, 0.5, 0.4))
    assert facts.labels[0].id == 100_000
    assert facts.labels[0].voxels == 299


def test_errors_name_the_case():
    image, annotation = make_case()
    with pytest.raises(DataError, match="case a has 2 channels"):
        measure_case("a", image, annotation, table=TABLE, channels=("T1",))
    with pytest.raises(LabelError, match=r"case a holds labels \[7\]"):
        measure_case(
            "a",
            image,
            annotation.with_array(annotation.array * 0 + 7),
            table=TABLE,
            channels=("T1", "T2"),
        )
    with pytest.raises(LabelError, match=r"case a holds labels \[-3\]"):
        measure_case(
            "a",
            image,
            annotation.with_array(annotation.array.astype(int) * 0 - 3),
            table=TABLE,
            channels=("T1", "T2"),
        )
    shifted = Volume(annotation.array, Geometry.from_spacing(SHAPE, (3.0, 0.8, 0.7)))
    with pytest.raises(GeometryError, match="case a: the annotation"):
        measure_case("a", image, shifted, table=TABLE, channels=("T1", "T2"))
    broken = image.array.copy()
    broken[1, 2, 3, 4] = np.inf
    with pytest.raises(DataError, match="case a has voxels that are NaN or infinite"):
        measure_case("a", image.with_array(broken), annotation, table=TABLE, channels=("T1", "T2"))
    with pytest.raises(DataError, match="no voxel whose intensity"):
        Intensities.of(np.empty(0))


def channel(low, high, *, integral=True):
    return ChannelFacts(minimum=low, maximum=high, nonzero=1.0, integral=integral, foreground=None)


@pytest.mark.parametrize(
    ("name", "facts", "dimensions", "kind"),
    [
        ("CT", channel(-1024, 1800), 3, "ct"),
        ("CT", channel(0, 255), 3, "unknown"),  # 8-bit pictures of a CT are no Hounsfield units
        ("image", channel(-1024, 1023), 3, "ct"),
        ("image", channel(-1024.0, 1023.0, integral=False), 3, "unknown"),
        ("MR T1", channel(0, 255), 3, "mr"),
        ("FLAIR", channel(0, 4000), 3, "mr"),
        ("PET", channel(0, 20), 3, "pet"),
        ("X-ray", channel(0, 255), 2, "xray"),
        ("green", channel(0, 255), 2, "rgb"),
        ("image", channel(0, 255), 2, "picture"),
        (
            "contact",
            channel(0, 4000),
            3,
            "unknown",
        ),  # a name is matched by whole words: no "ct" in "contact"
    ],
)
def test_kind_of_a_channel(name, facts, dimensions, kind):
    found, because = guess_kind(name, [facts], dimensions=dimensions)
    assert found == kind
    assert because


def write_dataset(folder, cases=5):
    written = []
    for n in range(cases):
        image, annotation = make_case(seed=n)
        write_volume(Volume(image.array[:1], image.geometry), folder / f"c{n}.nii.gz")
        write_labels(annotation, folder / f"c{n}_labels.nii.gz")
        written.append(
            Case(
                id=f"c{n}",
                patient=None,
                images={"T1": folder / f"c{n}.nii.gz"},
                annotation=folder / f"c{n}_labels.nii.gz",
            )
        )
    return Dataset(
        name="known",
        root=folder,
        layout="table",
        cases=tuple(written),
        channels=("T1",),
        labels=TABLE,
    )


def test_threads_do_not_change_the_fingerprint(tmp_path):
    dataset = write_dataset(tmp_path)
    seen = []
    one = make_fingerprint(dataset, threads=1, progress=lambda *step: seen.append(step))
    three = make_fingerprint(dataset, threads=3)
    assert one.model_dump_json() == three.model_dump_json()
    assert type(one).model_validate_json(one.model_dump_json()) == one
    assert seen == [(n + 1, 5, f"c{n}") for n in range(5)]
    assert [case.id for case in make_fingerprint(dataset, cases=["c3", "c1"]).cases] == ["c3", "c1"]


def test_what_cannot_be_fingerprinted(tmp_path):
    dataset = write_dataset(tmp_path, cases=1)
    with pytest.raises(UsageError, match="no annotated case 'c7'"):
        make_fingerprint(dataset, cases=["c7"])
    with pytest.raises(UsageError, match="no annotated case"):
        make_fingerprint(dataset, cases=[])
    unlabelled = Dataset(
        name="x", root=tmp_path, layout="table", cases=dataset.cases, channels=("T1",), labels=None
    )
    with pytest.raises(LabelError, match="neither a label table nor classes"):
        make_fingerprint(unlabelled)
