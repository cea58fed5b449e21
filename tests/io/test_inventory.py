"""Every file below the inputs of a command is taken, left out with a reason, or not readable."""

from __future__ import annotations

import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.files import OutputFolder
from hilum.io.inventory import take_inventory

_NAMES = st.sampled_from(
    (
        "a.nii.gz",
        "b.NII",
        "c.png",
        "readme.txt",
        "LICENSE",
        ".DS_Store",
        "t.csv",
        "d.dcm",
        "e.mhd",
        "e.raw",
        "f.zip",
        "g",
        "h.xyz",
    )
)
_FOLDERS = st.lists(st.sampled_from(("x", "y", ".git", "P1", "a.b")), max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    files=st.sets(st.tuples(_FOLDERS.map(tuple), _NAMES), min_size=1, max_size=12), chosen=st.data()
)
def test_counts_add_up_in_any_tree(tmp_path_factory, files, chosen):
    root = tmp_path_factory.mktemp("tree")
    paths = [root.joinpath(*folders, name) for folders, name in sorted(files)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    visible = [path for path in paths if ".git" not in path.relative_to(root).parts[:-1]]
    hidden = {folder for path in paths for folder in path.parents if folder.name == ".git"}
    outermost = {folder for folder in hidden if not hidden & set(folder.parents)}
    taken = chosen.draw(st.lists(st.sampled_from(visible), unique=True)) if visible else []
    inventory = take_inventory([root], taken)
    pairs = sum(
        path.name == "e.raw" and path not in taken and path.with_name("e.mhd") in taken
        for path in visible
    )
    assert inventory.taken == len(taken) + pairs
    assert inventory.taken + len(inventory.others) == len(visible) + len(outermost)
    assert all(one.reason for one in inventory.others)


def test_what_may_be_an_image_is_told_from_what_is_none(tmp_path):
    names = {
        "a.nii.gz": True,
        "b.nii.bz2": True,
        "c.zip": True,
        "notes.docx": False,
        "README": False,
        "x.csv": False,
        "y": False,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "dicom").write_bytes(bytes(128) + b"DICM")
    others = {one.path.name: one.image for one in take_inventory([tmp_path], []).others}
    assert others == {**names, "dicom": True}


def test_empty_images_and_links_to_nothing_cannot_be_read(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"")
    (tmp_path / "b.nii.gz").symlink_to("nowhere")
    inventory = take_inventory([tmp_path], [])
    assert [one.reason for one in inventory.unreadable] == [
        "an empty file",
        "a link to a file that is not there: its content was not fetched",
    ]
    assert inventory.loses_images
    assert str(inventory).endswith(
        "0 taken. 2 not readable: an empty file: 1 (a.nii.gz); "
        "a link to a file that is not there: its content was not fetched: 1 (b.nii.gz)"
    )


def test_inputs_inside_each_other_count_once(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.nii.gz").write_bytes(b"x")
    inventory = take_inventory(
        [tmp_path, tmp_path / "in", tmp_path / "in/a.nii.gz"],
        [tmp_path / "in" / ".." / "in/a.nii.gz"],
    )
    assert (inventory.taken, inventory.others) == (1, ())


def test_names_that_are_no_utf8_can_be_recorded(tmp_path):
    # pathlib takes no bytes
    with open(os.fsencode(tmp_path) + b"/\xff.nii.gz", "wb") as stream:  # noqa: PTH123
        stream.write(b"x")
    record = take_inventory([tmp_path], []).record()
    assert record.left_out[0].names == ("\\udcff.nii.gz",)
    assert "udcff" in record.model_dump_json()


def test_many_files_take_seconds(tmp_path):
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for number in range(1000):
            (tmp_path / str(folder) / f"{number}.nii.gz").touch()
    images = list(tmp_path.rglob("*.nii.gz"))[::2]
    start = time.process_time()
    inventory = take_inventory([tmp_path], images)
    assert (inventory.taken, len(inventory.others)) == (5000, 5000)
    assert time.process_time() - start < 5


def test_the_record_of_an_output_folder_is_no_file_of_the_user(tmp_path):
    with OutputFolder(tmp_path, "predict") as out:
        (tmp_path / "a.nii.gz").write_bytes(b"x")
        out.record("a.nii.gz")
        assert [one.path.name for one in take_inventory([tmp_path], []).others] == ["a.nii.gz"]
