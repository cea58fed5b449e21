"""The case store.

Blocks equal slices, writing is all or nothing, building resumes and names the case that fails.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.dataset import Case, Dataset
from hilum.errors import (
    DataError,
    FormatError,
    GeometryError,
    HilumError,
    ResourceError,
    UsageError,
)
from hilum.io import read_volume, write_labels, write_volume
from hilum.plan import Hardware, Overrides, make_fingerprint, make_plan
from hilum.plan.plan import Decision
from hilum.preprocess import OUTSIDE, CaseStore, Restore, build_store
from hilum.preprocess import store as store_module
from hilum.volume import Box, Geometry, LabelTable, Volume

SHAPE = (70, 33, 90)  # more than one chunk along two axes
TABLE = LabelTable.from_names({1: "organ", 3: "tumour"}, ignore=9)


def restore_of(shape):
    return Restore(Geometry.from_spacing(shape), "SPL", Box.whole(shape), shape)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    generator = np.random.default_rng(1)
    image = generator.normal(size=(2, *SHAPE)).astype(np.float32)
    target = np.zeros(SHAPE, dtype=np.uint8)
    target[10:40, 5:25, 20:60] = 1  # 24,000 voxels: more than are kept
    target[60:63, 30:33, 80:90] = 3
    target[0, 0] = 9
    store = CaseStore(tmp_path_factory.mktemp("store"))
    store.write("a", image, target, restore_of(SHAPE), ignore=9, key="k")
    return store, image, target


def test_reads_back_what_was_written(stored):
    store, image, target = stored
    case = store.open("a")
    assert np.array_equal(case.image, image)
    assert np.array_equal(case.target, target)
    assert case.target.dtype == np.int16
    assert (case.shape, case.channels, case.restore) == (SHAPE, 2, restore_of(SHAPE))
    assert store.ids() == ("a",)
    assert store.has("a")
    assert store.has("a", key="k")
    assert not store.has("a", key="other")


def test_foreground_lists_voxels_of_each_label(stored):
    store, _, target = stored
    foreground = store.open("a").foreground
    assert set(foreground) == {1, 3}
    assert foreground[1].shape == (10_000, 3)
    assert foreground[3].shape == (90, 3)
    for label, at in foreground.items():
        assert at.dtype == np.int32
        assert (target[tuple(at.T)] == label).all()
        assert len(np.unique(at, axis=0)) == len(at)


def expected_patch(array, start, shape, fill):
    out = np.full((*array.shape[:-3], *shape), fill, dtype=array.dtype)
    for index in np.ndindex(*shape):
        at = tuple(s + i for s, i in zip(start, index, strict=True))
        if all(0 <= a < n for a, n in zip(at, array.shape[-3:], strict=True)):
            out[(..., *index)] = array[(..., *at)]
    return out


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    start=st.tuples(st.integers(-9, 75), st.integers(-9, 40), st.integers(-9, 95)),
    shape=st.tuples(*[st.integers(1, 8)] * 3),
)
def test_a_patch_is_the_slice_padded(stored, start, shape):
    store, image, target = stored
    got_image, got_target = store.open("a").patch(start, shape)
    assert np.array_equal(got_image, expected_patch(image, start, shape, 0.0))
    assert np.array_equal(
        got_target, expected_patch(target.astype(np.int16), start, shape, OUTSIDE)
    )


def test_threads_may_share_a_case(stored):
    store, image, _ = stored
    case = store.open("a")

    def read(seed):
        generator = np.random.default_rng(seed)
        starts = [generator.integers(0, 30, 3) for _ in range(20)]
        return all(
            np.array_equal(
                case.patch((z, 0, x), (40, 33, 40))[0], image[:, z : z + 40, :, x : x + 40]
            )
            for z, _, x in starts
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_shapes_must_agree_and_cases_must_exist(tmp_path):
    store = CaseStore(tmp_path)
    with pytest.raises(DataError, match="case b has an image"):
        store.write(
            "b",
            np.zeros((1, 2, 3, 4), np.float32),
            np.zeros((2, 3, 5), np.uint8),
            restore_of((2, 3, 4)),
        )
    with pytest.raises(UsageError, match="case 'b' is not in"):
        store.open("b")
    assert store.ids() == ()


def test_an_interrupted_write_leaves_no_case(tmp_path, monkeypatch):
    store = CaseStore(tmp_path)
    shape = (3, 4, 5)
    store.write(
        "a", np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8), restore_of(shape)
    )

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.np, "save", full, raising=True)
    with pytest.raises(ResourceError, match="no space left"):
        store.write(
            "a", np.ones((1, *shape), np.float32), np.ones(shape, np.uint8), restore_of(shape)
        )
    assert not store.has("a")
    assert not list(tmp_path.glob(".part*"))


def test_a_full_disk_under_blosc2(tmp_path, monkeypatch):
    import blosc2

    def full(*_, **__):
        raise RuntimeError("Could not build empty array")

    store, shape = CaseStore(tmp_path), (3, 4, 5)
    monkeypatch.setattr(blosc2, "asarray", full)
    with pytest.raises(RuntimeError, match="Could not build"):
        store.write(
            "a", np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8), restore_of(shape)
        )
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3}))
    with pytest.raises(ResourceError, match="no space left while writing"):
        store.write(
            "a", np.zeros((1, *shape), np.float32), np.zeros(shape, np.uint8), restore_of(shape)
        )


@pytest.mark.parametrize("label", [32767, 40000, 200_000_000])
def test_large_label_ids_are_stored(tmp_path, label):
    store, shape = CaseStore(tmp_path), (3, 4, 5)
    target = np.zeros(shape, np.int32)
    target[1, 2, 3] = label
    store.write("a", np.zeros((1, *shape), np.float32), target, restore_of(shape))
    case = store.open("a")
    assert np.array_equal(case.target, target)
    assert list(case.foreground) == [label]
    _, patch = case.patch((0, 1, 2), (3, 4, 4))
    assert (patch[1, 1, 1], patch[0, 3, 0]) == (label, OUTSIDE)


def write_dataset(folder, cases=4):
    written = []
    for n in range(cases):
        generator = np.random.default_rng(n)
        geometry = Geometry.from_spacing(
            (9 + n, 14, 12), (2.0, 1.0, 1.0 + 0.1 * n), origin=(n, -3.0, 8.0)
        )
        array = generator.normal(100, 20, (1, *geometry.shape)).astype(np.float32)
        labels = np.zeros(array.shape, dtype=np.uint8)
        labels[:, 2:6, 3:9, 4:9] = 1
        write_volume(Volume(array, geometry), folder / f"c{n}.nii.gz")
        write_labels(Volume(labels, geometry), folder / f"c{n}_labels.nii.gz")
        written.append(
            Case(
                id=f"c{n}",
                patient=None,
                images={"T1": folder / f"c{n}.nii.gz"},
                annotation=folder / f"c{n}_labels.nii.gz",
            )
        )
    return Dataset(
        name="toy",
        root=folder,
        layout="table",
        cases=tuple(written),
        channels=("T1",),
        labels=TABLE,
    )


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    dataset = write_dataset(folder)
    plan = make_plan(
        make_fingerprint(dataset),
        Hardware(),
        overrides=Overrides(dimensions=3, spacing=(1.6, 1.1, 1.1)),
    )
    return dataset, plan


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_plan_and_data_give_the_same_bytes(data, tmp_path):
    dataset, plan = data
    ids = [case.id for case in dataset.cases]
    one = build_store(dataset, plan, tmp_path / "one", ids, threads=1)
    build_store(
        dataset,
        type(plan).model_validate_json(plan.model_dump_json()),
        tmp_path / "two",
        ids[::-1],
        threads=3,
    )
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert one.ids() == tuple(ids)


def test_building_resumes(data, tmp_path):
    dataset, plan = data
    ids = [case.id for case in dataset.cases]
    seen = []
    store = build_store(
        dataset, plan, tmp_path / "s", ids, progress=lambda *step: seen.append(step)
    )
    assert seen == [(n + 1, 4, case) for n, case in enumerate(ids)]
    times = {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    build_store(
        dataset,
        plan.model_copy(update={"batch": Decision(value=5, because="x")}),
        tmp_path / "s",
        ids,
    )
    assert times == {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    changed = dataset["c1"].images["T1"]
    changed.touch()
    build_store(dataset, plan, tmp_path / "s", ids)
    assert times == {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    image, facts = read_volume(changed), changed.stat()
    write_volume(image.with_array(image.array + 1), changed)
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    build_store(dataset, plan, tmp_path / "s", ids)
    newer = {
        name for name, time in times.items() if (store.folder / name).stat().st_mtime_ns != time
    }
    assert newer == {"c1.json", "c1.image.b2nd", "c1.target.b2nd", "c1.foreground.npy"}
    before = store.open("c0").shape
    build_store(
        dataset,
        plan.model_copy(update={"spacing": Decision(value=(3.0, 3.0, 3.0), because="x")}),
        tmp_path / "s",
        ids,
    )
    assert store.open("c0").shape != before


def test_a_label_lost_on_the_networks_grid_is_said(data, tmp_path, caplog):
    dataset, plan = data
    fine = Geometry.from_spacing((32, 64, 64), (0.5, 0.25, 0.25))
    array = np.zeros((1, 32, 64, 64), np.uint8)
    array[0, 4:28, 8:40, 8:40] = 1
    array[0, 6, 50, 50] = 3  # one voxel, a hundredth of the plan's
    write_volume(Volume(array.astype(np.float32), fine), tmp_path / "fine.nii.gz")
    write_labels(Volume(array, fine), tmp_path / "fine_labels.nii.gz")
    case = Case("fine", None, {"T1": tmp_path / "fine.nii.gz"}, tmp_path / "fine_labels.nii.gz")
    larger = Dataset(
        "d", tmp_path, "table", (*dataset.cases, case), dataset.channels, dataset.labels
    )
    coarse = plan.model_copy(update={"spacing": Decision(value=(3.0, 2.0, 2.0), because="coarse")})
    for _ in range(2):  # built, then found there
        caplog.clear()
        store = build_store(larger, coarse, tmp_path / "store", ["fine"])
        assert store.lost("fine") == (3,)
        assert (
            "is lost in 1 of 1 cases (fine): no voxel is left at the plan's spacing" in caplog.text
        )


def test_a_bad_case_is_named_and_the_others_stay(data, tmp_path):
    dataset, plan = data
    ids = [case.id for case in dataset.cases]
    dataset["c2"].images["T1"].write_bytes(b"this is no image")
    with pytest.raises(HilumError, match="c2"):
        build_store(dataset, plan, tmp_path / "s", ids, threads=1)
    store = CaseStore(tmp_path / "s")
    assert set(store.ids()) >= {"c0", "c1"}
    assert "c2" not in store.ids()
    with pytest.raises(UsageError, match="no annotated case 'zz'"):
        build_store(dataset, plan, tmp_path / "s", ["zz"])


def test_errors_keep_their_kind_and_gain_the_case(data, tmp_path, monkeypatch):
    dataset, plan = data
    import hilum.dataset as rooms

    labels = Volume(np.zeros((1, 2, 2, 2), np.uint8), Geometry.from_spacing((2, 2, 2)))
    monkeypatch.setattr(rooms, "read_annotation", lambda _: labels)
    with pytest.raises(GeometryError, match="case c0: the annotation of shape"):
        build_store(dataset, plan, tmp_path / "s", ["c0"])

    def no_memory(_):
        raise MemoryError

    monkeypatch.setattr(rooms, "read_annotation", no_memory)
    with pytest.raises(ResourceError, match="not enough memory to preprocess case c0"):
        build_store(dataset, plan, tmp_path / "s", ["c0"])

    def unreadable(_):
        raise FormatError("half a file")

    monkeypatch.setattr(rooms, "read_annotation", unreadable)
    with pytest.raises(FormatError, match="case c0: half a file"):
        build_store(dataset, plan, tmp_path / "s", ["c0"])


def test_the_record_is_plain_json(stored):
    store, _, _ = stored
    record = json.loads((store.folder / "a.json").read_text())
    assert record["key"] == "k"
    assert record["restore"]["shape"] == list(SHAPE)


def test_a_changed_file_changes_the_stamp_whatever_its_name(tmp_path):
    """A "#" is a place in an archive only where no file has that name; folders may have one too."""
    folder = tmp_path / "site #1"
    folder.mkdir()
    for name, reference in (
        ("a#2.nii.gz", "a#2.nii.gz"),
        ("set.npz", "set.npz#train/7"),
        ("set#3.npz", "set#3.npz#val/0"),
    ):
        file = folder / name
        file.write_bytes(b"1")
        case = Case("a", None, {"CT": folder / reference})
        before = store_module.content_stamp(case)
        os.utime(file, (1, 1))
        assert store_module.content_stamp(case) == before
        facts = file.stat()
        file.write_bytes(b"2")
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert store_module.content_stamp(case) != before
