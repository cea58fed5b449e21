"""The series that suits a model is chosen with reasons, and nothing is guessed where two suit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilum.dicom.choose import NONE_FULFILS, NONE_SUITS, choose
from hilum.dicom.rule import ANY, parse_rule
from hilum.dicom.score import Wanted, is_sharp, rank, score
from hilum.dicom.study import SeriesVolume
from hilum.errors import DataError, FormatError
from hilum.volume import Geometry

CT = Wanted(
    "CT",
    "ct",
    single=False,
    spacing=((1.0, 5.0), (0.6, 0.9), (0.6, 0.9)),
    extent_mm=((200.0, 500.0), (300.0, 450.0), (300.0, 450.0)),
    target=(2.5, 0.75, 0.75),
)
MR = {name: Wanted(name, "mr", single=False) for name in ("T1", "T1c", "T2", "FLAIR", "DWI", "ADC")}


def grid(slices=100, z=2.5, pixel=0.75, size=512, *, axis=0):
    """An axial grid, or one sliced along another axis."""
    spacing, shape = [pixel] * 3, [size] * 3
    spacing[axis], shape[axis] = z, slices
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, :3] = np.fliplr(np.diag(spacing[::-1]))
    order = [axis, *(n for n in range(3) if n != axis)]  # slices are along the array's first axis
    affine[:3, :3] = affine[:3, order]
    return Geometry(tuple(shape[n] for n in order), affine)


def volume(number, description="", *, modality="CT", geometry=None, for_="1.2", **facts):
    geometry = geometry or grid()
    return SeriesVolume(
        Path(f"study#series/1.2.{number}"),
        f"1.2.{number}",
        modality=modality,
        number=str(number),
        description=description,
        slices=geometry.shape[0],
        geometry=geometry,
        plane=facts.pop("plane", "axial"),
        frame_of_reference=for_,
        **facts,
    )


def chosen(volumes, *wanted, rule=None, judge=None):
    rule = None if rule is None else parse_rule(rule)
    choices = choose(volumes, wanted, where="study", rule=rule, judge=judge)
    return [int(choice.volume.number) for choice in choices]


def test_the_only_series_is_taken():
    (choice,) = choose([volume(3)], [CT], where="study")
    assert choice.because == "it is the only one"
    assert choice.volume.number == "3"


def test_other_modalities_and_refused_series_are_excluded():
    refused = volume(4, fault=FormatError("study#series/1.2.4: a localizer (scout)"))
    (choice,) = choose([volume(2, modality="PT"), volume(3), refused], [CT], where="study")
    assert choice.volume.number == "3"
    assert choice.because == "no other can be taken"
    assert [one.excluded for one in choice.scores] == [
        "",
        "modality PT, not CT",
        "a localizer (scout)",
    ]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"kernel": "B70f"}, "sharp kernel B70f (-1)"),
        (
            {"geometry": grid(200, 2.5, 0.75, 128)},
            "field of view 96 mm along Y, in training 300 to",
        ),
        ({"geometry": grid(40, 10.0)}, "spacing 10 mm along Z, in training 1 to 5 mm"),
        ({"geometry": grid(150, 3.0, axis=1), "plane": "coronal"}, "spacing 3 mm along Y"),
        ({"geometry": grid(400, 1.0)}, "1 mm along Z, where the model works at 2.5 mm"),
        ({"image_type": ("DERIVED", "SECONDARY")}, "computed from other images (DERIVED) (-1)"),
        ({"geometry": grid(5)}, "only 5 slices (-2)"),
    ],
)
def test_what_speaks_against_a_ct_series_is_said(other, reason):
    best = volume(2, kernel="B30f")
    worse = volume(3, **{"kernel": "B30f"} | other)
    (choice,) = choose([worse, best], [CT], where="study")
    assert choice.volume is best
    assert reason in choice.scores[1].words
    assert choice.because.startswith(
        "modality CT (+1); soft kernel B30f (+0.5); spacing 2.5 x 0.75"
    )


@pytest.mark.parametrize("description", ["Scout head", "Topogram 0.6", "MIP cor", "MPR sag 3.0"])
def test_scouts_and_projections_lose(description):
    assert chosen([volume(1, description), volume(2, "Abdomen 2.5")], CT) == [2]


@pytest.mark.parametrize(
    ("channel", "expected"),
    [("T1", 2), ("T1c", 3), ("T2", 4), ("FLAIR", 5), ("DWI", 7), ("ADC", 8)],
)
def test_series_of_mr_are_chosen_by_the_channels_name(channel, expected):
    study = [
        volume(1, "Survey", modality="MR", geometry=grid(3)),
        volume(2, "Ax T1 SE", modality="MR"),
        volume(3, "Ax T1 SE +Gd", modality="MR", contrast="Gadovist"),
        volume(4, "t2_tse_tra", modality="MR"),
        volume(5, "t2_flair_tra", modality="MR"),
        volume(6, "ep2d_dwi", modality="MR", b_value=0.0),
        volume(7, "ep2d_dwi", modality="MR", b_value=1000.0),
        volume(8, "ep2d_dwi ADC", modality="MR", image_type=("DERIVED", "PRIMARY", "ADC")),
    ]
    if channel == "DWI":
        study = study[:-1]
    assert chosen(study, MR[channel]) == [expected]


def test_phase_images_lose_against_magnitude():
    study = [
        volume(2, "T2 gre", modality="MR", image_type=("ORIGINAL", "PRIMARY", "P")),
        volume(3, "T2 gre", modality="MR", image_type=("ORIGINAL", "PRIMARY", "M")),
    ]
    assert chosen(study, MR["T2"]) == [3]


def test_uncorrected_pet_loses():
    pet = Wanted("PET", "pet")
    assert chosen([volume(1, "WB NAC", modality="PT"), volume(2, "WB AC", modality="PT")], pet) == [
        2
    ]


def test_pictures_are_for_models_of_pictures():
    one, many = volume(2, modality="US", geometry=grid(1)), volume(3, modality="US")
    assert chosen([one, many], Wanted("us", "us", single=True)) == [2]
    assert chosen([one, many], Wanted("us", "us", single=False)) == [3]


def test_sharp_kernels_are_no_fault_for_lungs():
    lung = Wanted("CT", "ct", purpose="lung nodules")
    found = score(volume(1, kernel="B70f"), lung)
    assert (found.points, "kernel B70f (+0)" in found.reasons) == (1.5, True)  # modality and axial


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [("B30f", False), ("B70f", True), ("Br40d", False), ("Bl57", True), ("I31f 3", False),
     ("STANDARD", False), ("LUNG", True), ("BONEPLUS", True), ("B", False), ("YC", True),
     ("FC08", False), ("FC51", True), ("", False)],
)  # fmt: skip
def test_kernels_are_sharp_or_soft(kernel, sharp):
    assert is_sharp(kernel) is sharp


def test_equal_series_are_no_choice():
    study = [volume(2, "arterial"), volume(3, "portal"), volume(4, modality="SR")]
    with pytest.raises(
        DataError,
        match=r"study: 2 series suit channel CT equally well\n  2: CT series 2 'arterial',"
        r" 100 slices, 6 points: modality CT[\s\S]*\n  4: SR[^\n]*: modality SR, not CT"
        r"[\s\S]*series='2'",
    ):
        chosen(study, CT)
    assert chosen(study, CT, rule="description~portal") == [3]
    assert chosen(study, CT, rule="2") == [2]


def test_the_models_own_check_decides_between_equal_series():
    study = [volume(2), volume(3), volume(4)]

    def judge(one):
        return () if one.number == "3" else ("values down to -3000",)

    (choice,) = choose(study, [CT], where="study", judge=judge)
    assert choice.volume.number == "3"
    assert choice.because.endswith("; alike")
    with pytest.raises(DataError, match="3 series suit channel CT equally well"):
        chosen(study, CT, judge=lambda _: ())


def test_no_suitable_series_is_an_error_that_lists_all():
    with pytest.raises(
        DataError, match=r"no series suits channel CT\n  2: MR series 2[\s\S]*not CT"
    ):
        chosen([volume(2, modality="MR"), volume(3, modality="US")], CT)
    with pytest.raises(DataError, match=r"no series fulfils 'description~liver'\n  2: CT series 2"):
        chosen([volume(2), volume(3)], CT, rule="description~liver")


def test_channels_share_a_frame_of_reference():
    study = [
        volume(2, "CT", for_="1.1", geometry=grid(100, 3.0)),
        volume(3, "CT low dose", for_="1.2", geometry=grid(100, 4.0)),
        volume(4, "PET", modality="PT", for_="1.2"),
    ]
    pet = Wanted("PET", "pet")
    assert chosen(study, pet, CT) == [4, 3]
    with pytest.raises(DataError, match="no series suits channel PET"):
        chosen(study[:2], pet, CT)


def test_one_series_is_no_two_channels():
    study = [volume(2, "t1 flair", modality="MR"), volume(3, modality="CT")]
    with pytest.raises(DataError, match="one series would be taken for two channels"):
        chosen(study, Wanted("PD", "mr"), Wanted("SWI", "mr"))


def test_two_frames_of_reference_that_suit_equally_are_no_choice():
    study = [
        volume(2 * n + place, modality=kind, for_=f"1.{n}")
        for n in (1, 2)
        for place, kind in enumerate(("CT", "PT"))
    ]
    with pytest.raises(DataError, match="series of two frames of reference suit equally"):
        chosen(study, Wanted("PET", "pet"), CT)


def test_ranks_have_the_best_first():
    scores = rank([volume(1, modality="MR"), volume(2, "MIP"), volume(3)], CT)
    assert [one.volume.number for one in scores] == ["3", "2", "1"]


PHASES = {
    2: ("Abdomen nativ 5.0", "native"),
    3: ("Abdomen arterial 5.0", "arterial"),
    4: ("Abdomen portalvenous 5.0", "portal"),
}


def phases(*numbers):
    return [volume(n, PHASES[n][0], phase=PHASES[n][1], kernel="B30f") for n in numbers]


def test_a_phase_that_nothing_asks_for_is_not_guessed():
    with pytest.raises(DataError) as caught:
        chosen(phases(2, 4), CT)
    assert "2 series suit channel CT equally well" in caught.value.found
    assert "native phase (+0)" in caught.value.found
    assert "portal phase (+0)" in caught.value.found
    assert "series='phase=native' or series='phase=portal'" in caught.value.cure
    assert chosen(phases(2, 4), CT, rule="phase=portal") == [4]


@pytest.mark.parametrize(("channel", "number"), [("CT native", 2), ("CT_arterial", 3), ("pv", 4)])
def test_the_phase_that_the_channel_is_named_by_is_taken(channel, number):
    assert chosen(phases(2, 3, 4), replace(CT, name=channel)) == [number]


def test_of_two_series_of_one_phase_the_cure_names_no_phase():
    with pytest.raises(DataError) as caught:
        chosen([*phases(4), volume(5, "portal", phase="portal", kernel="B30f")], CT)
    assert "series='4'" in caught.value.cure


SCOUT = volume(4, fault=FormatError("study#series/1.2.4: a localizer (scout)"), no_volume=True)
GAP = replace(
    volume(5, fault=FormatError("1 slice missing"), instances=frozenset({"1.2.5.1"})),
    geometry=None,
)
CUT = replace(volume(6, fault=FormatError("an image without size")), geometry=None)


@pytest.mark.parametrize(
    ("volumes", "rule", "damaged"),
    [
        ([GAP], "modality=CT and spacing<=3", True),
        ([volume(2), GAP], "spacing<=1", True),
        ([GAP], "kernel=B30f", False),
        ([GAP], "modality=MR and spacing<=3", False),
        ([GAP], "spacing<=3 and not modality=MR", True),
        ([CUT], "modality=MR", False),
        ([CUT], "kernel=B30f and not modality=MR", True),
        ([CUT], "6/acq1", True),
        ([CUT], "7", False),
        ([CUT], "modality=CT and kernel=B30f", True),
        ([replace(CUT, modality="")], "kernel=B30f", True),
        ([replace(CUT, number="")], "7", True),
        ([replace(CUT, modality="MR")], "kernel=B30f", False),
        ([SCOUT], "kernel=B30f", False),
        ([volume(2)], "spacing<=1", False),
    ],
)
def test_damage_that_may_hide_what_a_rule_asks_for_is_said(volumes, rule, damaged):
    with pytest.raises(DataError) as caught:
        chosen(volumes, CT, rule=rule)
    assert (NONE_FULFILS in caught.value.found) is not damaged
    assert ("no series that can be read fulfils" in caught.value.found) is damaged


@pytest.mark.parametrize(("one", "damaged"), [(SCOUT, False), (GAP, True), (CUT, True)])
def test_a_study_of_scouts_alone_is_for_no_model_and_not_damaged(one, damaged):
    with pytest.raises(DataError) as caught:
        chosen([one], CT, rule=ANY)
    assert (NONE_SUITS in caught.value.found) is not damaged
    assert ("no series that can be read suits" in caught.value.found) is damaged


def test_series_that_fulfil_no_rule_are_listed_without_points():
    with pytest.raises(DataError, match="no series fulfils '99'") as caught:
        chosen([*phases(2), SCOUT], CT, rule="99")
    assert "points" not in caught.value.found
    assert "4: CT series 4, 100 slices: a localizer (scout)" in caught.value.found
    assert "series='2'" in caught.value.cure
