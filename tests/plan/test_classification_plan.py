"""The plan of a classification.

Each decision on data whose right answer is known, what users fix, and what cannot be.
"""

import json
from dataclasses import fields

import numpy as np
import pytest
from class_fingerprints import GPU, case, fingerprint, labels_in_turn, pictures, volumes
from pydantic import ValidationError

from classification_toys import (
    FINDINGS,
    GRADES,
    TABLES,
    THREE,
    TWO,
    changed,
    class_plan,
    write_cubes,
)
from hilum.api import NetworkOptions
from hilum.dataset import ClassTable, open_dataset
from hilum.errors import UsageError
from hilum.plan import (
    STAGES,
    Hardware,
    Overrides,
    load_plan,
    make_fingerprint,
    make_plan,
    parse_plan,
    save_plan,
)
from hilum.plan.classification import ClassLossSpec, RegionSpec, Stage, WeightsSpec
from hilum.plan.planner.classification import class_counts, class_weights, plan_classification
from hilum.plan.planner.overrides import OF_ONE_TASK
from hilum.plan.planner.sizing import USABLE

# --- what is seen
# ------------------------------------------------------------------------------


def test_pictures():
    plan = make_plan(pictures())
    assert plan.dimensions.value == 2
    assert plan.orientation.value == "source"
    assert plan.region.value == RegionSpec(kind="whole")
    assert plan.spacing.value is None
    assert plan.patch.value == (
        1,
        160,
        224,
    )  # 224 across, 700 / 1000 of it is 157, up to a multiple of 32
    assert plan.network.value.kind == "backbone"
    assert plan.network.value.backbone == "tf_efficientnet_lite0"
    assert plan.network.value.out_channels == 2
    assert plan.weights.value == WeightsSpec(origin="pretrained")
    assert plan.stages.value == STAGES["two"]
    assert plan.augmentation.value.mirror_axes == (2,)
    assert plan.augmentation.value.rotation_degrees == (15.0, 0.0, 0.0)
    assert [one.kind for one in plan.normalisation.value] == ["case"]
    assert all(decision.because.strip() for decision in plan.decisions.values())
    assert len(plan.decisions) == 19
    assert make_plan(pictures(), GPU).patch.value == (1, 224, 320)


def test_small_pictures_are_not_blown_up_to_the_usual_size():
    plan = make_plan(pictures((1, 28, 28)))
    assert plan.patch.value == (1, 96, 96)
    assert "made for larger pictures" in plan.patch.because
    assert plan.augmentation.value.intensity_probability == plan.loss.value.mixup == 0
    assert make_plan(pictures()).loss.value.mixup > 0


def test_whole_volumes():
    plan = make_plan(volumes())
    assert plan.dimensions.value == 3
    assert plan.region.value.kind == "whole"
    assert plan.patch.value == (64, 64, 64)  # 75 x 70 x 70 mm, and at most 64 voxels on a CPU
    assert (plan.network.value.kind, plan.network.value.norm) == ("resnet3d", "batch")
    assert plan.network.value.features == (16, 32, 64, 128)
    assert plan.weights.value.origin == "random"
    assert make_plan(volumes(), GPU).network.value.kind == "resnet3d"
    assert plan.augmentation.value.scale == (1.0, 1.0)
    assert "nothing says where to look" in plan.region.because
    assert plan.augmentation.value.mirror_axes == (2,)
    small = make_plan(volumes(shape=(16, 28, 20), spacing=(1.0, 1.0, 1.0)))
    assert small.patch.value == (
        24,
        32,
        24,
    )  # 28 voxels, up to 32; 16 and 20 of 28 in proportion, up to eights


def test_windows_of_pictures_without_a_scale_are_in_pixels():
    plan = make_plan(
        fingerprint([case(i, (1, 400, 500), mask=(1.0, 60.0, 50.0)) for i in range(40)])
    )
    assert "at most 60 pixels wide" in plan.patch.because
    assert "no scale is known" in plan.spacing.because
    assert " mm" not in plan.patch.because + plan.spacing.because + plan.augmentation.because
    scanned = make_plan(
        fingerprint(
            [case(i, (1, 400, 500), (1.0, 0.1, 0.1), mask=(1.0, 6.0, 5.0)) for i in range(40)]
        )
    )
    assert "at most 6 mm wide" in scanned.patch.because


def test_the_whole_image_is_seen_for_the_true_reason():
    wide = make_plan(volumes(mask=(60.0, 60.0, 50.0))).region  # of 75 x 70 x 70 mm
    assert wide.value.kind == "whole"
    assert "every case has a mask, but the masks usually span more than 50%" in wide.because
    few = make_plan(
        fingerprint(
            [case(i, (60, 99, 99), mask=(9.0, 9.0, 9.0) if i < 3 else None) for i in range(20)]
        )
    ).region
    assert few.value.kind == "whole"
    assert "a mask for only 3 of 20 cases, and a window needs the same of every case" in few.because
    assert "nothing says where to look" not in wide.because + few.because


def test_small_masks_make_a_window_around_them():
    """20 mm wide: 1.3 times that is 26, with 4 mm around it 28 mm: 40 voxels of 0.7 mm.

    And 22.4, so 24, of the slices' 1.25.
    """
    plan = make_plan(volumes(mask=(15.0, 20.0, 12.0)))
    assert plan.region.value == RegionSpec(kind="mask", mask_channel=True)
    assert plan.patch.value == (24, 40, 40)
    assert plan.spacing.value == pytest.approx((1.25, 0.7, 0.7))
    assert "thicker" in plan.spacing.because
    assert plan.augmentation.value.scale == plan.augmentation.value.gamma == (1.0, 1.0)
    thick = make_plan(volumes(spacing=(5.0, 0.7, 0.7), mask=(15.0, 20.0, 12.0)))
    assert thick.spacing.value == pytest.approx((1.4, 0.7, 0.7))  # at most twice as thick as wide
    assert plan.inputs == plan.network.value.in_channels == 2
    assert plan.augmentation.value.mirror_axes == (0, 1, 2)
    assert "28 mm" in plan.patch.because
    wide = make_plan(volumes(mask=(40.0, 60.0, 50.0), shape=(200, 400, 400)), GPU)
    assert wide.patch.value == (64, 96, 96)
    assert wide.spacing.value == pytest.approx(
        (1.25, 78 / 96, 78 / 96)
    )  # 60 mm: 1.3 times that is 78
    outlier = [
        case(i, (60, 100, 100), (1.0, 1.0, 1.0), mask=(9.0, 10.0 if i else 90.0, 9.0))
        for i in range(100)
    ]
    assert make_plan(fingerprint(outlier)).patch.value == (
        24,
        24,
        24,
    )  # 95 % are 10 mm: 18 mm, up to 24


def paced(seconds_a_voxel):
    """A machine on which a step costs so much a voxel of the batch.

    And the sizes at which that was asked.
    """
    asked = []

    def measure(network, patch, batch):
        asked.append(patch)
        return seconds_a_voxel * np.prod(patch) * batch

    return measure, asked


@pytest.mark.parametrize(
    ("seconds", "side"),
    [
        (0.05 / 224**2, 192),
        (0.075 / 224**2, 160),
        (0.2 / 224**2, 96),
        (9 / 224**2, 96),
        (0.01 / 224**2, 224),
    ],
)
def test_minutes_make_the_input_as_large_as_enough_inputs_can_be_seen(seconds, side):
    """40 cases: 6,000 inputs are wanted.

    5 minutes of which USABLE are steps allow 6,000 of 0.0425 s at USABLE .85.
    """
    measure, asked = paced(seconds)
    plan = make_plan(pictures((1, 900, 900)), Hardware(minutes=5.0), measure=measure)
    budget = 5 * 60 * USABLE / 6000
    assert plan.patch.value == (1, side, side)
    assert asked == [(1, 96, 96)]  # the dear sizes are not tried
    if side not in {224, 96}:
        assert seconds * side**2 <= budget < seconds * (side + 32) ** 2
    assert ("inputs (6,000 are wanted" in plan.patch.because) == (side < 224)


def test_a_fixed_input_and_a_probe_are_not_made_smaller():
    measure, _ = paced(1.0)
    slow = Hardware(minutes=1.0)
    fixed = make_plan(
        pictures((1, 900, 900)), slow, measure=measure, overrides=Overrides(patch=(1, 224, 224))
    )
    assert fixed.patch.value == (1, 224, 224)
    probe = make_plan(
        pictures((1, 900, 900)),
        slow,
        measure=measure,
        overrides=Overrides(stages=STAGES["probe"]),
    )
    assert probe.patch.value == (1, 224, 224)


def test_masks_that_fill_the_image_or_are_not_everywhere_say_nothing():
    assert make_plan(volumes(mask=(60.0, 60.0, 60.0))).region.value.kind == "whole"
    some = [case(i, (60, 100, 100), mask=(9.0, 9.0, 9.0) if i else None) for i in range(20)]
    assert make_plan(fingerprint(some)).region.value.kind == "whole"


def test_points_make_a_window_around_them():
    plan = make_plan(volumes(centred=True))
    assert plan.region.value == RegionSpec(kind="centre")
    assert plan.patch.value == (56, 64, 64)
    assert plan.spacing.value == pytest.approx(
        (1.25, 70 / 64, 70 / 64)
    )  # 70 mm, the shortest side, in 64 voxels
    both = make_plan(volumes(centred=True, mask=(9.0, 9.0, 9.0)))
    assert both.region.value.kind == "mask"
    asked = make_plan(
        volumes(mask=(15.0, 20.0, 12.0)), overrides=Overrides(region=RegionSpec(kind="middle"))
    )
    assert asked.patch.value == (
        24,
        40,
        40,
    )  # as wide as the masks ask for, though they are not seen
    assert asked.inputs == 1


def test_what_is_measured_of_a_data_set(tmp_path):
    """The cubes are 4 x 5 x 4 voxels of 2 x 1 x 1.5 mm."""
    found = make_fingerprint(open_dataset(write_cubes(tmp_path, cases=6), task="classification"))
    assert found.task == "classification"
    assert found.classes == TWO
    assert {one.region_mm for one in found.cases} == {(8.0, 5.0, 6.0)}
    assert all(one.centred for one in found.cases)
    assert [one.label for one in found.cases] == ["benign", "malignant"] * 3
    assert class_counts(found, TWO) == (3, 3)
    plan = make_plan(found)
    assert plan.region.value.kind == "mask"
    assert plan.patch.value == (
        8,
        16,
        16,
    )  # 8 mm and 4 on either side, in voxels of 2, 1 and 1.5 mm, up to eights


# --- how it learns
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "classes", "balance"),
    [
        (["benign"] * 40 + ["malignant"] * 4, TWO, "sampling"),
        (["benign"] * 36 + ["malignant"] * 4, TWO, "none"),
        (
            ["cyst"] * 20 + ["adenoma"] * 20,
            THREE,
            "none",
        ),  # a class without a case is not rare, it is missing
        (["mass"] * 30 + ["effusion"] + ["nodule"] * 2, FINDINGS, "none"),
        (["I"] * 30 + ["II"] * 9 + ["III"] * 9 + ["IV"] * 3, GRADES, "sampling"),
    ],
)
def test_rare_classes_are_drawn_more_often(labels, classes, balance):
    plan = make_plan(pictures(labels=labels, classes=classes))
    assert plan.balance.value == balance
    assert f"{classes.names[0]} " in plan.balance.because
    assert plan.loss.value.class_weights is None


def test_the_loss_is_softened_where_cases_are_few():
    few, many = make_plan(pictures()), make_plan(pictures(n=5000))
    assert few.loss.value == ClassLossSpec(label_smoothing=0.05, mixup=0.2)
    assert many.loss.value == ClassLossSpec(label_smoothing=0.05)
    assert make_plan(pictures(classes=FINDINGS)).loss.value.label_smoothing == 0
    assert make_plan(pictures(classes=GRADES)).network.value.out_channels == 3


@pytest.mark.parametrize(("n", "batch"), [(6, 2), (40, 10), (4000, 32)])
def test_a_batch_is_at_most_a_quarter_of_the_cases(n, batch):
    assert make_plan(pictures(n=n)).batch.value == batch


def test_steps_follow_the_time_or_the_cases():
    measure, _ = paced(1e-7)
    timed = make_plan(pictures(), Hardware(minutes=5), measure=measure)
    assert timed.steps.value == pytest.approx(5 * 60 * USABLE / (1e-7 * 160 * 224 * 10), abs=1)
    assert "measured" in timed.steps.because
    assert (
        make_plan(pictures(n=40)).steps.value == 300
    )  # 40 passes over 40 cases in tens would be 160
    assert make_plan(pictures(n=2000)).steps.value == 40 * 2000 // 32


def test_what_is_named_after_a_side_is_not_mirrored_into_the_other():
    for names, axes in (
        (("left", "right"), ()),
        (("left lung", "right_lung"), ()),
        (("bright", "dark"), (2,)),
        (("upper", "lower"), (2,)),
    ):
        plan = make_plan(pictures(classes=ClassTable(names=names)))
        assert plan.augmentation.value.mirror_axes == axes, names
    sided = ClassTable(names=("upper lobe", "lower lobe"))
    cases = [
        case(i, (60, 100, 100), label=sided.names[i % 2], mask=(9.0, 9.0, 9.0)) for i in range(20)
    ]
    plan = make_plan(fingerprint(cases, sided))
    assert plan.augmentation.value.mirror_axes == (1, 2)
    assert "named after sides" in plan.augmentation.because
    whole = make_plan(volumes(mask=(9.0, 9.0, 9.0)), overrides=Overrides(region=RegionSpec()))
    assert whole.augmentation.value.mirror_axes == (2,)  # up and down of a whole body are not alike


# --- what users fix
# ------------------------------------------------------------------------------


def planned(data, **asked):
    return make_plan(data, overrides=NetworkOptions(**asked).overrides())


def test_what_users_fix_is_followed_and_what_hangs_on_it_too():
    scratch = planned(volumes(), weights="none")
    assert scratch.network.value.kind == "resnet3d"
    assert scratch.stages.value == STAGES["all"]
    assert planned(volumes(), kind="resnet3d").weights.value.origin == "random"
    own = planned(volumes(), backbone="resnet18", weights="none")
    assert (own.network.value.kind, own.network.value.backbone) == ("acs", "resnet18")
    turned = planned(volumes(), weights="pretrained")
    assert (turned.network.value.kind, turned.stages.value) == ("acs", STAGES["all"])
    assert planned(volumes(), kind="slices", weights="pretrained").stages.value == STAGES["two"]
    file = planned(pictures(), backbone="resnet18", weights="/data/best.pth")
    assert file.weights.value == WeightsSpec(origin="pretrained", file="/data/best.pth")
    assert planned(volumes(), kind="slices").network.value.planes == "three"
    assert "asked for by the user" in planned(volumes(), kind="slices").network.because
    assert planned(pictures(), stages="probe").stages.value == (
        Stage(share=1.0, released=1, probe=True),
    )
    masked = planned(volumes(), region="mask")
    assert masked.region.value.mask_channel
    assert masked.network.value.in_channels == 2
    assert planned(volumes(mask=(9.0, 9.0, 9.0)), region="whole").spacing.value is None
    more = NetworkOptions(region="middle").overrides(Overrides(steps=7, patch=(1, 64, 64)))
    assert (make_plan(pictures(), overrides=more).steps.value, more.region.kind) == (7, "middle")
    assert NetworkOptions().overrides() is None


def test_every_way_of_fine_tuning_is_a_whole_one():
    for name, stages in STAGES.items():
        assert sum(stage.share for stage in stages) == pytest.approx(1), name
        assert planned(pictures(), stages=name).stages.value == stages
        assert [stage.released for stage in stages][:1] == [None if name == "all" else 1]


def test_balance_by_weights_puts_weights_into_the_loss():
    from sklearn.utils.class_weight import compute_class_weight

    labels = ["cyst"] * 30 + ["adenoma"] * 6 + ["carcinoma"] * 4
    data = pictures(labels=labels, classes=THREE)
    plan = make_plan(data, overrides=Overrides(balance="weights"))
    expected = compute_class_weight("balanced", classes=np.array(THREE.names), y=labels)
    np.testing.assert_allclose(plan.loss.value.class_weights, expected)
    # steps: 9 of 20 are above I, 5 above II, 1 above III, so 1/9, 1/5, 1 over their mean
    grades = ["I"] * 11 + ["II"] * 4 + ["III"] * 4 + ["IV"]
    inverse = np.array([1 / 9, 1 / 5, 1])
    np.testing.assert_allclose(
        class_weights(pictures(labels=grades, classes=GRADES), GRADES), inverse / inverse.mean()
    )
    # 12 of 20 have an effusion, so 8 are the rarer answer; 2 have a mass, and none a nodule
    found = ["effusion"] * 10 + ["effusion|mass"] * 2 + [""] * 8
    inverse = np.array([1 / 8, 1 / 2, 1])
    np.testing.assert_allclose(
        class_weights(pictures(labels=found, classes=FINDINGS), FINDINGS), inverse / inverse.mean()
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"stages": "tow"},
            r"stages 'tow'[\s\S]*probe, head, two, top, all[\s\S]*did you mean stages='two'\?",
        ),
        ({"region": "moon"}, r"region 'moon'[\s\S]*whole, middle, centre, mask"),
        (
            {"kind": "residual_unet"},
            r"network='residual_unet' is not possible for a classification[\s\S]*network='acs'",
        ),
        (
            {"kind": "resnet3d", "weights": "pretrained"},
            "pretrained weights for a resnet3d, which has no backbone",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked, message):
    with pytest.raises(UsageError, match=message):
        planned(volumes(), **asked)


@pytest.mark.parametrize("kind", ["acs", "resnet3d", "residual_unet"])
def test_pictures_have_backbones_only(kind):
    with pytest.raises(UsageError, match=r"classification in 2D\nNeeded: backbone\n") as caught:
        planned(pictures(), kind=kind)
    assert caught.value.cure == "network='backbone'"
    assert planned(pictures(), kind="backbone").network.value.kind == "backbone"


def test_what_does_not_go_together_is_refused_and_a_fault_of_ours_is_not_blamed_on_the_user():
    with pytest.raises(
        UsageError, match=r"these options contradict each other: a mask channel with region 'whole'"
    ):
        make_plan(volumes(), overrides=Overrides(region=RegionSpec(mask_channel=True)))
    with pytest.raises(UsageError, match="a 2D plan with a 2D network and patch"):
        make_plan(pictures(), overrides=Overrides(patch=(4, 64, 64)))
    with pytest.raises(UsageError, match="toy has no classes"):
        plan_classification(
            fingerprint([case(0, (9, 9, 9))], None),
            Hardware(),
            measure=None,
            precision=class_plan().precision,
            overrides=Overrides(),
        )
    with pytest.raises(ValidationError):
        make_plan(volumes(), Hardware(), precision=class_plan().balance)


def test_what_a_task_does_not_have_is_refused():
    values = {
        "width": 8,
        "loss": 1,
        "overlap": 0.5,
        "backbone": "resnet18",
        "weights": 1,
        "region": 1,
        "stages": 1,
    }
    values |= {"class_loss": 1, "balance": "none"}
    assert {name for names in OF_ONE_TASK.values() for name in names} == set(values)
    assert set(values) < {one.name for one in fields(Overrides)}
    segmentation = fingerprint([case(0, (9, 9, 9))], None).model_copy(
        update={"task": "segmentation"}
    )
    for name in OF_ONE_TASK["classification"]:
        with pytest.raises(
            UsageError, match=rf"{name} was fixed, which a segm[\s\S]*task='classification'"
        ):
            make_plan(segmentation, overrides=Overrides(**{name: values[name]}))
    for name in OF_ONE_TASK["segmentation"]:
        with pytest.raises(
            UsageError, match=rf"{name} was fixed, which a class[\s\S]*task='segmentation'"
        ):
            make_plan(volumes(), overrides=Overrides(**{name: values[name]}))


# --- as a file
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_round_trip(kind, tmp_path):
    plan = make_plan(pictures(classes=TABLES[kind], labels=labels_in_turn(20, TABLES[kind])))
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    before = (tmp_path / "plan.json").read_bytes()
    save_plan(load_plan(tmp_path / "plan.json"), tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_bytes() == before


def edited(plan, **changes):
    content = json.loads(plan.model_dump_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = content
        for part in parents:
            at = at[int(part) if part.isdigit() else part]
        at[last] = value
    return json.dumps(content)


@pytest.fixture(scope="module")
def plan():
    return make_plan(
        volumes(mask=(15.0, 20.0, 12.0)), overrides=Overrides(network="acs", stages=STAGES["two"])
    )


def test_a_bare_value_is_a_decision_edited_by_hand(plan):
    stages = [{"share": 0.5, "released": 1}, {"share": 0.5}]
    bare = {
        "batch": 7,
        "stages": stages,
        "region": {"kind": "mask", "mask_channel": True},
        "weights": {"origin": "pretrained"},
    }
    made = parse_plan(edited(plan, **bare))
    assert made.batch.value == 7
    assert made.stages.value == (Stage(share=0.5, released=1), Stage(share=0.5))
    assert made.region.value == plan.region.value
    assert made.stages.because == made.region.because == made.weights.because == "edited by hand"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stagse": 4}, r"unknown field 'stagse', did you mean 'stages'\?"),
        ({"overlap": 0.5}, "unknown field 'overlap'"),
        (
            {"stages__value__0__relased": 1},
            r"unknown field 'stages.value.0.relased', did you mean 'released'\?",
        ),
        ({"loss__value__mixpu": 0.1}, r"unknown field 'loss.value.mixpu', did you mean 'mixup'\?"),
        (
            {"network__value__backbon": "x"},
            r"unknown field 'network.value.backbon', did you mean 'backbone'\?",
        ),
        (
            {"region__value__kind": "moon"},
            r'region.value.kind is "moon": input should be \'whole\', \'mask\'',
        ),
        (
            {"task__value": "clasification"},
            r"task 'clasification'[\s\S]*did you mean 'classification'\?",
        ),
        ({"task__value": "segmentation"}, "unknown field 'classes'"),
        (
            {"region__value__kind": "middle"},
            "a mask channel with region 'middle': it needs region 'mask'",
        ),
        ({"spacing__value": None}, "region 'mask' without a spacing: a window has a size in mm"),
        ({"stages__value": []}, "0 stages whose shares sum to 0, not to 1"),
        ({"stages__value__1__share": 0.5}, "2 stages whose shares sum to 0.65, not to 1"),
        ({"stages__value__0__probe": True}, "a probe beside other stages"),
        (
            {"stages__value__0__released": 0},
            "stages.value.0.released is 0: input should be greater than or equal to 1",
        ),
        ({"loss__value__class_weights": [1.0, 2.0, 3.0]}, "3 class weights for 2 outputs"),
        ({"balance__value": "weights"}, "balance by weights without class_weights in the loss"),
        ({"loss__value__label_smoothing": 1.0}, "loss.value.label_smoothing is 1.0"),
        ({"network__value__in_channels": 1}, "2 channels, but the network takes 1"),
        ({"network__value__out_channels": 3}, "the label table has 2 outputs, the network 3"),
        ({"network__value__backbone": ""}, "pretrained weights for a acs, which has no backbone"),
        ({"dimensions__value": 2}, "a 2D plan with a 3D network"),
        ({"classes__names": ["benign", "benign"]}, "distinct names"),
        ({"version": 2}, "version 2"),
    ],
)
def test_edits_that_cannot_be(plan, changes, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse_plan(edited(plan, **changes))


def test_all_problems_are_named_at_once(plan):
    with pytest.raises(UsageError, match=r"stagse[\s\S]*balanse"):
        parse_plan(edited(plan, stagse=4, balanse="none"))


def test_what_a_plan_says_of_itself():
    plan = class_plan(
        GRADES, channels=("T1", "T2"), region=RegionSpec(kind="mask", mask_channel=True)
    )
    assert plan.table is plan.classes
    assert plan.inputs == 3
    assert plan.network.value.title == "resnet3d, width 4"
    assert changed(plan, batch=3).batch.value == 3
    assert "classes" not in plan.decisions
