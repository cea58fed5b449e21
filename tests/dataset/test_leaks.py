"""The leak audit: copies are planted and found, whatever was done to them; strangers are not."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_samples import as_picture, block, oblique, tissue
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, gaussian_filter, rotate, zoom
from test_leak_columns import table_of

from hilum.dataset import (
    Audit,
    Case,
    Fold,
    audit,
    describe_folds,
    make_folds,
    open_dataset,
)
from hilum.dataset.folds import merge_overlapping
from hilum.dataset.leaks import audit_of
from hilum.dataset.leaks import candidates as candidates_module
from hilum.dataset.leaks.align import align, likeness, points, sample
from hilum.dataset.leaks.candidates import candidates
from hilum.dataset.leaks.pictures import matching_pictures
from hilum.dataset.leaks.record import Pair, Predictor
from hilum.dataset.leaks.thumbnail import averaging, look, thumbnail
from hilum.dataset.leaks.volumes import matching_volumes
from hilum.examples import make_abdomen_dataset
from hilum.io import write_volume
from hilum.volume import CANONICAL, Geometry, Volume, reorient

STRANGERS = 24


def small(*arrays):
    return np.stack([thumbnail(as_picture(array)) for array in arrays]).astype(np.float32)


def strangers():
    return [tissue(seed) for seed in range(STRANGERS)]


def noisy(array, sigma=6):
    return np.clip(array + np.random.default_rng(1).normal(0, sigma, array.shape), 0, 255).astype(
        np.uint8
    )


COPIES = {
    "the same": lambda a: a,
    "brighter": lambda a: (255 * (a / 255.0) ** 0.6).astype(np.uint8),
    "noise": noisy,
    "half the size": lambda a: zoom(a.astype(float), 0.5, order=1),
    "another shape": lambda a: zoom(a.astype(float), (1.0, 0.8), order=1),
    "blurred": lambda a: gaussian_filter(a.astype(float), 0.8),
    "mirrored": lambda a: a[:, ::-1],
    "mirrored upside down": lambda a: a[::-1],
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda a: a[::-1, ::-1],
    "turned by 6 degrees": lambda a: rotate(a.astype(float), 6, reshape=False, order=1),
    "cut": lambda a: a[6:92, 4:104],
    "cut and mirrored": lambda a: a[6:92, 4:104][:, ::-1],
    "padded": lambda a: np.pad(a, 10),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copied_picture_is_found_among_strangers(name):
    arrays = [*strangers(), COPIES[name](tissue(5))]
    (match,) = matching_pictures(small(*arrays), 96)
    assert (match.one, match.other) == (5, STRANGERS)
    assert match.likeness >= 0.75
    assert match.mirrored is ("mirrored" in name)
    if name.startswith(("turned", "mirrored")):
        assert match.how == name
    elif name == "cut":
        assert match.how == "1.12 times the size"
    elif name == "the same":
        assert match.how == ""
        assert match.likeness == pytest.approx(1.0, abs=1e-3)


def test_a_body_on_an_empty_ground_is_found_wherever_it_lies():
    def body(seed, scale=1.0, move=(0, 0), angle=0.0):
        y, x = np.mgrid[-48:48, -56:56]
        inside = (y / (24 + seed % 7)) ** 2 + (x / (32 + seed % 11)) ** 2 < 1
        array = np.where(inside, 60 + tissue(seed, coarse=8.0) / 2, 0)
        turned = rotate(array, angle, reshape=False, order=1)
        matrix = np.eye(2) / scale
        middle = np.array([47.5, 55.5])
        return affine_transform(turned, matrix, middle - matrix @ (middle + move), order=1)

    arrays = [*(body(seed) for seed in range(STRANGERS)), body(7, 0.8, (12, -9), 8.0)[:, ::-1]]
    (match,) = matching_pictures(small(*arrays), 96)
    assert (match.one, match.other, match.mirrored) == (7, STRANGERS, True)
    turned, scaled = (
        float(found)
        for found in re.findall(r"turned by (\d+) degrees, ([\d.]+) times the size", match.how)[0]
    )
    assert (turned, scaled) == (pytest.approx(8, abs=1.5), pytest.approx(0.8, abs=0.02))


def test_strangers_and_noise_are_no_copies():
    assert matching_pictures(small(*strangers()), 96) == ()
    rng = np.random.default_rng(0)
    assert (
        matching_pictures(
            small(*(rng.integers(0, 255, (64, 64)).astype(np.uint8) for _ in range(20))), 64
        )
        == ()
    )
    assert matching_pictures(small(tissue(0)), 96) == ()
    assert matching_volumes(np.zeros((1, 32, 32, 32), np.float32), 40) == ()


def test_small_pictures_must_be_more_alike():
    tiny = [tissue(seed, (28, 28), 3.0) for seed in range(STRANGERS)]
    matches = matching_pictures(small(*tiny, noisy(tiny[3], 2)), 28)
    assert [(match.one, match.other) for match in matches] == [(3, STRANGERS)]


def test_many_copies_hang_together():
    arrays = [*strangers(), *(noisy(tissue(2), sigma) for sigma in range(1, 9))]
    matches = matching_pictures(small(*arrays), 96)
    (group,) = merge_overlapping((str(match.one), str(match.other)) for match in matches)
    assert len(group) == 9


def test_parts_are_not_looked_for_in_large_sets(monkeypatch):
    pictures = small(*strangers(), tissue(5)[6:92, 4:104])
    monkeypatch.setattr(candidates_module, "PARTS_LIMIT", 3)
    fewer = candidates(pictures)
    monkeypatch.undo()
    assert len(fewer.one) < len(candidates(pictures).one)
    assert (fewer.one < fewer.other).all()


# --- laying one over the other
# ----------------------------------------------------------------------------------------


def test_sampling_is_scipys_interpolation():
    picture = gaussian_filter(np.random.default_rng(0).normal(size=(16, 16)), 1.0).astype(
        np.float32
    )
    pose = np.array([[0.6, -0.2, 0.05], [0.15, 0.6, -0.1]])
    values, inside = sample(picture[None], pose[None])
    shift = (picture.shape[0] - 1) / 2
    matrix = pose[:, :2]
    offset = shift - matrix @ np.array([shift, shift]) + pose[:, 2] * 8
    expected = affine_transform(picture, matrix, offset, order=1)
    assert inside.all()
    assert np.allclose(values.reshape(16, 16), expected, atol=1e-4)
    _, inside = sample(picture[None], np.array([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]))
    assert inside.mean() == pytest.approx(0.75)
    assert points(4)[0, 0] == -0.75


@given(
    st.integers(0, 5),
    st.floats(-0.06, 0.06),
    st.floats(-0.06, 0.06),
    st.floats(-4, 4),
    st.floats(0.95, 1.05),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_a_pose_is_found_again(seed, y, x, degrees, scale):
    fixed = small(tissue(seed))
    angle = np.deg2rad(degrees)
    pose = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), y],
            [scale * np.sin(angle), scale * np.cos(angle), x],
        ]
    )
    moving = sample(fixed, np.linalg.inv(np.vstack([pose, [0, 0, 1]]))[None, :2])[0].reshape(
        1, 64, 64
    )
    found, correlation = align(fixed, moving, np.eye(3)[None, :2], steps=12)
    assert np.allclose(found[0], pose, atol=0.02)
    assert correlation[0] > 0.97
    assert likeness(fixed, moving, found, block=8)[0] > 0.8


def test_pictures_that_do_not_overlap_are_not_alike():
    fixed = small(tissue(0))
    away = np.array([[[1.0, 0.0, 1.9], [0.0, 1.0, 0.0]]])
    assert align(fixed, fixed, away, steps=0)[1][0] == -2
    assert likeness(fixed, fixed, away, block=8)[0] == -1


def test_averaging_keeps_the_mean_and_is_exact_for_whole_parts():
    values = np.random.default_rng(0).normal(size=12)
    assert np.allclose(averaging(12, 4) @ values, values.reshape(4, 3).mean(axis=1), atol=1e-6)
    assert np.allclose(averaging(3, 6) @ values[:3], np.repeat(values[:3], 2), atol=1e-6)
    assert (averaging(7, 5) @ np.ones(7)).mean() == pytest.approx(1.0)


# --- volumes
# ----------------------------------------------------------------------------------------


def whole(array, geometry=None):
    return Volume(array[None], geometry or oblique(array.shape, angle=0.0))


def shrunk(*volumes):
    return np.stack([thumbnail(volume) for volume in volumes]).astype(np.float32)


@pytest.mark.parametrize(
    ("copy", "how"),
    [
        (lambda a: a, ""),
        (lambda a: zoom(a.astype(float), (0.6, 1.3, 0.9), order=1), ""),
        (lambda a: a * 0.5 + 7 + np.random.default_rng(0).normal(0, 10, a.shape), ""),
        (lambda a: a[:, :, ::-1], "mirrored left to right"),
        (lambda a: a[::-1, ::-1], "mirrored head to foot and front to back"),
    ],
)
def test_a_copied_volume_is_found_among_strangers(copy, how):
    volumes = [whole(block(seed)) for seed in range(12)]
    found = matching_volumes(shrunk(*volumes, whole(copy(block(4)))), 36)
    assert [(match.one, match.other, match.how, match.mirrored) for match in found] == [
        (4, 12, how, bool(how))
    ]


def test_the_order_of_a_volumes_axes_does_not_matter():
    volume = whole(block(3))
    assert volume.geometry.orientation == CANONICAL
    assert np.array_equal(thumbnail(reorient(volume, "RPI")), thumbnail(volume))


def test_thumbnails_of_odd_images():
    assert thumbnail(as_picture(np.full((9, 9), 3.0))) is None
    holes = tissue(0).astype(float)
    holes[3, 4] = np.nan
    assert np.isfinite(thumbnail(as_picture(holes))).all()
    colour = np.stack([tissue(0), 255 - tissue(1), np.zeros((96, 112), np.uint8)])
    assert thumbnail(as_picture(colour)).shape == (64, 64)


# --- the whole
# ----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """Thirty pictures of thirty people; sick ones are wider.

    3 and 20 are one picture, 4 is mirrored in 21, 5 is zoomed in 22.
    """
    for n in range(30):
        array = tissue(n, (96, 96) if n % 2 else (96, 112))
        array = {
            20: tissue(3, (96, 96)),
            21: tissue(4)[:, ::-1],
            22: tissue(5, (96, 96))[5:91, 5:91],
        }.get(n, array)
        write_volume(as_picture(array), tmp_path / "images" / f"p{n:02d}.png")
    rows = [
        f"p{n:02d}.png,P{n},{'well' if n % 2 else 'sick'},{'val' if n > 19 else 'train'}"
        for n in range(30)
    ]
    (tmp_path / "cases.csv").write_text("\n".join(["image,patient,label,split", *rows]))
    return tmp_path


GROUPS = (("p03", "p20"), ("p04", "p21"), ("p05", "p22"))


def test_audit_of_a_folder(root):
    seen = []
    dataset = open_dataset(root)
    found = audit(dataset, progress=lambda *done: seen.append(done))
    assert seen[-1] == (30, 30, "p29")
    assert found.compared == 30
    assert [(pair.one, pair.other, pair.kind) for pair in found.pairs] == [
        ("p03", "p20", "exact"),
        ("p04", "p21", "mirrored"),
        ("p05", "p22", "near"),
    ]
    assert found.groups == found.split_groups == GROUPS
    (width,) = (one for one in found.predictors if one.column == "width of the image")
    assert (width.origin, width.restates) == ("image", False)
    assert (
        "3 groups of near-duplicates on both sides of the split: p03 = p20, p04 = p21 and 1 more"
        in found.sentences
    )
    assert any(
        "6 of 30 images are near-duplicates in 3 groups (3 pairs, 1 exact, 1 mirrored)" in text
        for text in found.sentences
    )
    assert Audit.model_validate_json(found.model_dump_json()) == found
    folds = make_folds(replace(dataset, splits=()), 5, together=found.groups)
    again = audit(dataset, folds=folds)
    assert again.split_groups == ()
    assert again.groups == GROUPS


def test_audit_keeps_to_its_limit_and_passes_over_what_cannot_be_read(root):
    dataset = open_dataset(root)
    found = audit(dataset, limit_gb=1e-6)
    assert (found.compared, found.groups, found.split_groups) == (30, GROUPS[:1], GROUPS[:1])
    assert [(pair.one, pair.other, pair.kind) for pair in found.pairs] == [("p03", "p20", "exact")]
    (said,) = (
        text for text in found.sentences if "more than the 1e-06 GB that are read for it" in text
    )
    assert (
        "only copies of files were looked for, byte for byte; `hilum check` looks for"
        " near-duplicates too" in said
    )
    (root / "images" / "p03.png").unlink()
    assert any("p03 cannot be read" in text for text in audit(dataset, limit_gb=1e-6).sentences)
    (root / "images" / "p03.png").write_bytes(b"no picture")
    found = audit(dataset)
    assert found.groups == GROUPS[1:]
    assert any("p03 cannot be read" in text for text in found.sentences)


def test_patients_on_both_sides_are_said(root):
    dataset = open_dataset(root)
    cases = tuple(
        replace(case, patient="P0" if case.id in {"p01", "p25"} else case.patient)
        for case in dataset.cases
    )
    found = audit_of(replace(dataset, cases=cases), ())
    assert [(shared.patient, shared.cases) for shared in found.split_patients] == [
        ("P0", ("p00", "p01", "p25"))
    ]
    assert found.sentences[0] == "1 patient on both sides of the split: P0"
    inside = (Fold(("p00", "p01", "p25"), ("p02",)),)
    assert audit_of(replace(dataset, cases=cases), (), folds=inside).split_patients == ()


def test_a_follow_up_of_a_patient_needs_no_sentence(root):
    dataset = open_dataset(root)
    one = {"p04": "P4", "p21": "P4", "p05": "P5", "p22": "P5", "p03": "P3", "p20": "P3"}
    cases = tuple(replace(case, patient=one.get(case.id, case.patient)) for case in dataset.cases)
    labelled = {"p21": "sick", "p20": "well"}  # p05 and p22 are labelled in two ways
    cases = tuple(replace(case, label=labelled.get(case.id, case.label)) for case in cases)
    found = audit(replace(dataset, cases=cases, splits=()))
    assert found.groups == GROUPS
    assert found.harmless_groups == GROUPS[:2]
    assert (
        "4 of 30 images are near-duplicates in 2 groups (2 pairs, 1 exact)" in found.sentences
    )  # copies to the voxel are said
    assert audit(replace(dataset, cases=cases)).harmless_groups == ()  # torn by the given split


def test_the_synthetic_data_of_the_demo_need_no_sentence(tmp_path):
    dataset = open_dataset(make_abdomen_dataset(tmp_path / "abdomen", cases=4, tests=0))
    found = audit(dataset)
    assert found.groups == found.harmless_groups == (("abdomen_001", "abdomen_002"),)
    assert found.sentences == ()
    assert "near-duplicates" not in describe_folds(
        dataset, make_folds(dataset, 2, together=found.groups), together=found.groups
    )


def test_archives_are_measured_once(tmp_path):
    images = np.stack([tissue(n, (40, 40)) for n in range(6)])
    np.savez(tmp_path / "toy.npz", train_images=images, train_labels=np.arange(6)[:, None] % 2)
    dataset = open_dataset(tmp_path / "toy.npz")
    size = (tmp_path / "toy.npz").stat().st_size
    assert audit(dataset, limit_gb=1.01 * size / 1e9).compared == 6
    unread = audit(dataset, limit_gb=0.99 * size / 1e9)
    assert unread.compared == 0
    assert "they were not compared; `hilum check`" in unread.notes[0]


def test_copies_of_files_are_found_for_few_reads(tmp_path, monkeypatch):
    """Sizes first, then three parts, then all: only what may be a copy is read."""
    from hilum.dataset.leaks import files

    random = np.random.default_rng(0)
    air = bytes(100_000)
    inside = random.bytes(300_000)
    other = inside[:100_000] + b"x" + inside[100_001:]  # differs where none of the three parts lies
    contents = {
        "a": air + inside + air,
        "b": air + inside + air,
        "almost": air + other + air,
        "middle": air + random.bytes(300_000) + air,
        "longer": air + inside + air + b"0",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.nii").write_bytes(content)
    for name, changed in (("s1", b""), ("s2", b""), ("s3", b"y")):
        (tmp_path / name).mkdir()
        for number in range(3):
            written = f"{number if name != 's2' else 2 - number}.dcm"  # a copy under other names
            (tmp_path / name / written).write_bytes(bytes([number]) * 50_000 + (changed or b"z"))
    images = {name: (tmp_path / f"{name}.nii",) for name in contents} | {
        name: (tmp_path / name,) for name in ("s1", "s2", "s3")
    }
    images |= {"two": (tmp_path / "a.nii", tmp_path / "b.nii"), "gone": (tmp_path / "gone.nii",)}
    cases = [
        Case(id=name, patient=None, images=dict(zip("xy", paths, strict=False)))
        for name, paths in images.items()
    ]
    cases.append(Case(id="part", patient=None, images={"x": Path("set.npz#train/1")}))
    whole, seen = [], []
    hashed = files.file_hash
    monkeypatch.setattr(files, "file_hash", lambda file: (whole.append(file.stem), hashed(file))[1])
    found = files.file_copies(cases, progress=lambda *done: seen.append(done))
    assert found.groups == (("a", "b"), ("s1", "s2"))
    assert (found.compared, found.archived, found.unread) == (9, ("part",), ("gone",))
    assert {"a", "b", "almost"} <= set(whole)
    assert not {"middle", "longer"} & set(whole)
    assert seen[-1][0] == seen[-1][1] == 5
    monkeypatch.setattr(
        files, "_hash_of_parts", lambda *_: (_ for _ in ()).throw(OSError("torn out"))
    )
    assert files.file_copies(cases).groups == ()


def test_large_sets_say_what_was_not_looked_for(monkeypatch):
    from hilum.dataset.leaks import audit_of as judge

    module = __import__("sys").modules["hilum.dataset.leaks.audit"]
    monkeypatch.setattr(module, "PARTS_LIMIT", 3)
    looks = [look(f"c{n}", as_picture(tissue(n)), Path("x.png")) for n in range(4)]
    dataset = table_of(["a", "b", "a", "b"], {})
    assert any(
        "parts cut out of pictures were not looked for" in note
        for note in judge(dataset, looks).notes
    )


def test_volumes_and_pictures_are_not_compared_with_each_other():
    looks = [
        look("v", whole(block(0)), Path("v.nii.gz")),
        look("w", whole(block(0).copy() + 1), Path("w.nii.gz")),
    ]
    looks += [
        look("p", as_picture(tissue(0)), Path("p.png")),
        look("q", as_picture(noisy(tissue(0), 1)), Path("q.png")),
    ]
    looks += [
        look("c", as_picture(np.zeros((8, 8))), Path("c.png")),
        look("d", as_picture(np.zeros((8, 8))), Path("d.png")),
    ]
    found = audit_of(table_of(["a", "b"], {}), looks)
    assert [(pair.one, pair.other) for pair in found.pairs] == [("p", "q"), ("v", "w")]
    assert looks[0].facts["number of slices"] == "20"
    assert looks[0].facts["format of the file"] == ".nii.gz"
    assert "number of slices" not in looks[2].facts


def test_words_for_little(root):
    assert Audit(compared=3).sentences == ()
    pair = Pair(one="a", other="b", kind="near", likeness=0.9)
    assert Audit(compared=3, pairs=(pair,), groups=(("a", "b"),)).sentences == (
        "2 of 3 images are near-duplicates in 1 group (1 pair)",
    )
    one = Predictor(
        column="grade",
        origin="table",
        target="x",
        auroc=1,
        low=1,
        high=1,
        surely_above=1,
        cases=3,
        restates=True,
    )
    assert Audit(compared=3, predictors=(one,)).sentences == ("grade restates the label",)
    flat = Volume(np.zeros((1, 1, 4, 4)), Geometry.from_spacing((1, 4, 4)))
    assert look("a", flat, Path("folder")).facts["format of the file"] == "DICOM"


def test_pairs_of_one_header_are_no_copies(tmp_path):
    from hilum.dataset.leaks.files import file_copies

    cases = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.hdr").write_bytes(b"one header for all")
        (tmp_path / f"{name}.img").write_bytes((b"b" if name == "c" else name.encode()) * 1000)
        cases.append(Case(id=name, patient=None, images={"x": tmp_path / f"{name}.hdr"}))
    assert file_copies(cases).groups == (("b", "c"),)
