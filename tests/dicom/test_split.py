"""Frames of one series are divided into groups that can be one volume each."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from dicom_frames import AXIAL, CORONAL, SAGITTAL, frame
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from hilum.dicom.split import mixture_notes, split

DEPTHS = (0.0, 5.0, 10.0, 15.0, 20.0)


def stacks(values, name, *, depths=DEPTHS, **more):
    """One stack for each value of a fact."""
    return [
        frame(depth, 100 * n + round(depth), **{name: value}, **more)
        for n, value in enumerate(values)
        for depth in depths
    ]


def shuffled(frames):
    order = np.random.default_rng(0).permutation(len(frames))
    return [frames[n] for n in order]


def keys(frames):
    found = split(shuffled(frames))
    assert sum(len(group.frames) for group in found.groups) + len(found.aside) == len(frames)
    return {group.key: len(group.frames) for group in found.groups}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("number", ("1", "2"), {"acq1", "acq2"}),
        ("echo_number", (1, 2, 3), {"echo1", "echo2", "echo3"}),
        ("echo_time", (4.92, 7.38), {"te4.92", "te7.38"}),
        ("b_value", (0.0, 500.0, 1000.0), {"b0", "b500", "b1000"}),
        ("temporal_position", (1, 2), {"t1", "t2"}),
        ("kernel", ("B30f", "B70f"), {"kernel-b30f", "kernel-b70f"}),
        ("stack", ("1", "2"), {"stack1", "stack2"}),
        ("inversion_time", (200.0, 800.0), {"ti200", "ti800"}),
        ("kvp", (80.0, 140.0), {"kvp80", "kvp140"}),
        ("contrast", ("", "Ultravist"), {"part1", "contrast-ultravist"}),
        ("thickness", (3.0, 5.0), {"thick3", "thick5"}),
        (
            "image_type",
            (("ORIGINAL", "PRIMARY", "M", "FFE"), ("ORIGINAL", "PRIMARY", "P", "FFE")),
            {"m", "p"},
        ),
        (
            "image_type",
            (("ORIGINAL", "PRIMARY", "OTHER"), ("DERIVED", "SECONDARY", "OTHER")),
            {"original-primary", "derived-secondary"},
        ),
    ],
)
def test_stacks_in_one_place_are_told_apart(name, values, expected):
    found = keys(stacks(values, name))
    assert found == dict.fromkeys(expected, len(DEPTHS))


def test_labels_say_what_is_special():
    groups = split(stacks((0.0, 1000.0), "b_value", modality="MR")).groups
    assert {group.label for group in groups} == {"b-value 0", "b-value 1000"}


def test_one_stack_is_not_divided_whatever_its_headers_say():
    frames = [
        frame(depth, number=str(n // 2), acquisition_time=f"08000{n}", trigger_time=40.0 + n)
        for n, depth in enumerate(DEPTHS)
    ]
    (group,) = split(frames).groups
    assert (group.key, group.label, len(group.frames)) == ("", "", 5)


def in_turn(name, *values, count=6, **more):
    """Slices of even distances that take turns in the values of a fact."""
    return [
        frame(5.0 * n, n, **{name: values[n % len(values)]}, **more) for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("b_value", (0.0, 1000.0), {"b0", "b1000"}),
        ("echo_number", (1, 2), {"echo1", "echo2"}),
        ("echo_time", (4.9, 7.4), {"te4.9", "te7.4"}),
        ("kernel", ("B30f", "B70f"), {"kernel-b30f", "kernel-b70f"}),
        ("temporal_position", (1, 2), {"t1", "t2"}),
        ("image_type", (("ORIGINAL", "PRIMARY", "M"), ("ORIGINAL", "PRIMARY", "P")), {"m", "p"}),
    ],
)
def test_even_slices_that_take_turns_are_several_volumes(name, values, expected):
    assert keys(in_turn(name, *values)) == dict.fromkeys(expected, 3)


def test_even_slices_that_take_turns_in_two_facts_are_four_volumes():
    frames = [
        frame(5.0 * n, n, b_value=(0.0, 800.0)[n % 2], echo_number=1 + n // 2 % 2)
        for n in range(16)
    ]
    assert keys(frames) == dict.fromkeys(("echo1-b0", "echo1-b800", "echo2-b0", "echo2-b800"), 4)


@pytest.mark.parametrize("ends", [1, 2])
def test_slices_at_the_ends_that_differ_stay_in_their_volume(ends):
    frames = [
        frame(2.0 * n, n, contrast="Iomeron" if ends <= n < 20 - ends else "") for n in range(20)
    ]
    assert keys(frames) == {"": 20}


SHORT = [
    ("abba", {"": 4}),  # outer slices that another kernel or no contrast agent makes differ
    ("abbba", {"": 5}),
    ("abbbba", {"": 6}),
    ("aab", {"": 3}),
    ("aba", {"": 3}),  # three slices are no evidence of turns
    ("aabb", {"": 4}),
    ("abcba", {"": 5}),
    ("abab", {"contrast-a": 2, "contrast-b": 2}),
    ("ababa", {"contrast-a": 3, "contrast-b": 2}),
    ("abcabc", {"": 6}),
    ("abcabcabc", dict.fromkeys(("contrast-a", "contrast-b", "contrast-c"), 3)),
]


@pytest.mark.parametrize(("agents", "expected"), SHORT)
def test_few_slices_are_divided_only_where_each_takes_its_turn(agents, expected):
    assert keys([frame(8.0 * n, n, contrast=one) for n, one in enumerate(agents)]) == expected


def test_planes_of_a_short_survey_stay_whole():
    """Three planes of five slices, the outer ones at another echo time, as a survey has them."""
    times = (1.5, 2.3, 2.3, 2.3, 1.5)
    frames = [
        frame(10.0 * n, 10 * plane + n, plane=axes, echo_time=time)
        for plane, axes in enumerate((AXIAL, CORONAL, SAGITTAL))
        for n, time in enumerate(times)
    ]
    assert keys(frames) == {"axial": 5, "coronal": 5, "sagittal": 5}


def test_two_contrasts_of_two_slices_in_one_place_are_two_volumes():
    assert keys(stacks(("", "Gadovist"), "contrast", depths=(0.0, 5.0))) == {
        "part1": 2, "contrast-gadovist": 2
    }  # fmt: skip


def test_packages_of_interleaved_slices_are_one_volume():
    """Acquisitions and trigger times take turns in one volume of interleaved slices."""
    assert keys(in_turn("number", "1", "2")) == {"": 6}
    assert keys(in_turn("trigger_time", 40.0, 80.0)) == {"": 6}


def test_slices_of_one_volume_that_differ_are_said_to():
    frames = [frame(5.0 * n, n, kernel="B30f" if n < 4 else "B70f") for n in range(7)]
    assert keys(frames) == {"": 7}
    assert mixture_notes(frames) == (
        "slices of one volume differ in kernel: B30f (4), B70f (3)",
    )  # fmt: skip
    measured = [frame(5.0 * n, n, echo_time=4.9 + n / 100) for n in range(7)]
    assert mixture_notes(measured) == ()


def test_phases_of_the_heart_are_ranked_at_each_place():
    frames = [
        frame(depth, 10 * phase + k, trigger_time=43.0 * phase + 0.7 * k)
        for phase in range(3)
        for k, depth in enumerate(DEPTHS)
    ]
    found = split(shuffled(frames)).groups
    assert [len(group.frames) for group in found] == [5, 5, 5]
    for group in found:
        assert len({one.acquisition.instance_number // 10 for one in group.frames}) == 1


def test_echoes_of_phase_and_magnitude_need_two_facts():
    frames = [
        frame(depth, 1000 * echo + 100 * (part == "P") + round(depth), echo_number=echo,
              image_type=("ORIGINAL", "PRIMARY", part))
        for echo in (1, 2) for part in "MP" for depth in DEPTHS
    ]  # fmt: skip
    assert keys(frames) == dict.fromkeys(("echo1-m", "echo1-p", "echo2-m", "echo2-p"), 5)


def test_directions_of_diffusion_are_told_apart():
    directions = [(), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]
    frames = [
        frame(depth, 100 * n + round(depth), b_value=1000.0 if n else 0.0, gradient=direction)
        for n, direction in enumerate(directions)
        for depth in DEPTHS
    ]
    assert keys(frames) == dict.fromkeys(("b0", "b1000-dir1", "b1000-dir2"), 5)


def test_planes_sizes_and_pixels_make_groups():
    scouts = [frame(depth, 100 * n + round(depth), plane=plane)
              for n, plane in enumerate((AXIAL, CORONAL, SAGITTAL))
              for depth in DEPTHS[:3]]  # fmt: skip
    assert keys(scouts) == {"axial": 3, "coronal": 3, "sagittal": 3}
    sizes = stacks(((8, 6), (16, 12)), "shape")
    assert keys(sizes) == {"8x6": 5, "16x12": 5}
    pixels = stacks(((1.0, 1.0), (0.5, 0.5)), "pixel_spacing")
    assert keys(pixels) == {"px1": 5, "px0.5": 5}


def test_two_thicknesses_in_turn_make_two_groups():
    frames = [frame(4.0 * k, k, thickness=4.0) for k in range(4)]
    frames += [frame(14.0 + 7.0 * k, 10 + k, thickness=7.0) for k in range(4)]
    assert keys(frames) == {"thick4": 4, "thick7": 4}


def test_distances_that_change_make_two_groups():
    depths = [0.0, 4.0, 8.0, 12.0, 19.0, 26.0, 33.0]
    found = split([frame(d, n) for n, d in enumerate(depths)]).groups
    assert sorted(len(group.frames) for group in found) == [3, 4]


def test_a_missing_slice_does_not_divide():
    depths = [0.0, 5.0, 10.0, 20.0, 25.0, 30.0]
    assert keys([frame(d, n) for n, d in enumerate(depths)]) == {"": 6}
    depths = [0.0, 5.0, 10.0, 20.0, 30.0, 40.0]  # every other one missing at the end
    assert keys([frame(d, n) for n, d in enumerate(depths)]) == {"": 6}


def test_a_phase_that_lacks_a_slice_keeps_the_others_whole():
    frames = stacks(("1", "2"), "number")
    del frames[2]
    assert keys(frames) == {"acq1": 4, "acq2": 5}


def test_numbers_that_run_through_all_places_divide():
    frames = [frame(depth, 5 * phase + k) for phase in range(2) for k, depth in enumerate(DEPTHS)]
    found = split(shuffled(frames)).groups
    assert [group.key for group in found] == ["part1", "part2"]
    assert {one.acquisition.instance_number for one in found[0].frames} == set(range(5))


def test_places_taken_twice_without_a_reason_stay_together():
    order = (0, 7, 2, 9, 4, 5, 6, 1, 8, 3)  # numbers that run through nothing
    frames = [frame(DEPTHS[k % 5], order[k]) for k in range(10)]
    assert keys(frames) == {"": 10}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, r"a localizer \(scout\)"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7"}, "a picture of a screen"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7.4"}, "a picture of a screen"),
        ({"samples": 3}, "a picture of a screen"),
    ],
)
def test_scouts_and_screens_are_set_apart(facts, reason):
    found = split([*[frame(depth) for depth in DEPTHS], frame(7.0, 99, **facts)])
    assert [len(group.frames) for group in found.groups] == [5]
    ((one, why),) = found.aside
    assert one.acquisition.instance_number == 99
    assert why.startswith(reason.replace("\\", ""))


def test_colours_of_ultrasound_are_no_screens():
    assert split([frame(0.0, samples=3, modality="US")]).aside == ()


def write(path, value, *, syntax=None, pixels=None):
    """A small DICOM file with pixels of one value, or with these compressed pixels."""
    import pydicom
    from pydicom.dataset import FileMetaDataset

    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    data.Rows, data.Columns, data.SamplesPerPixel = 8, 6, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels or np.full((8, 6), value, np.uint16).tobytes()
    data["PixelData"].is_undefined_length = pixels is not None
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    data.save_as(path, enforce_file_format=True)
    return path


def test_copies_are_set_apart_by_place_and_pixels(tmp_path):
    first, same, other = (write(tmp_path / f"{n}.dcm", value) for n, value in enumerate((7, 7, 8)))
    frames = [frame(depth) for depth in DEPTHS[1:]]
    kept, again = frame(0.0, 50, path=first), frame(0.0, 60, path=same)
    found = split([kept, again, *frames])
    assert [len(group.frames) for group in found.groups] == [5]
    assert found.aside == ((again, "a copy: the same pixels as 0.dcm"),)
    again = frame(0.0, 61, path=same, image=kept.instance)
    assert split([kept, again, *frames]).aside[0][1] == "a copy: the same image as 0.dcm"
    unlike = split([kept, frame(0.0, 60, path=other), *frames])
    assert unlike.aside == ()
    assert sum(len(group.frames) for group in unlike.groups) == 6


def test_copies_are_found_by_the_decoder_that_reads_volumes(tmp_path):
    """Pydicom's own decodes no JPEG of 8 bits where the header says 16."""
    code = imagecodecs.ljpeg_encode(np.arange(48, dtype=np.uint8).reshape(8, 6), bitspersample=8)
    paths = [
        write(tmp_path / f"{n}.dcm", 0, syntax=JPEGLosslessSV1, pixels=encapsulate([code]))
        for n in range(2)
    ]
    frames = [frame(0.0, 50 + n, path=path) for n, path in enumerate(paths)]
    found = split([*frames, *[frame(depth) for depth in DEPTHS[1:]]])
    assert found.aside == ((frames[1], "a copy: the same pixels as 0.dcm"),)


def test_equal_pixels_of_two_time_points_are_no_copies(tmp_path):
    """Empty slices at the ends of a body are alike at every time."""
    path = write(tmp_path / "0.dcm", 0)
    frames = [frame(d, 100 * t + round(d), path=path, temporal_position=t)
              for t in (1, 2) for d in DEPTHS]  # fmt: skip
    assert keys(frames) == {"t1": 5, "t2": 5}


def test_keys_do_not_depend_on_the_order_of_files():
    frames = stacks((0.0, 500.0, 1000.0), "b_value")
    found = [{g.key: {f.path for f in g.frames} for g in split(shuffled(frames)).groups}
             for _ in range(3)]  # fmt: skip
    assert found[0] == found[1] == found[2]
