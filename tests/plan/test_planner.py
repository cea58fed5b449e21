"""Each decision on data sets whose right answer is known, and the sizing under a time budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import ResourceError, UsageError
from hilum.plan import Fingerprint, Hardware, Overrides, make_plan
from hilum.plan.case_facts import CaseFacts, ChannelFacts, Intensities, LabelFacts
from hilum.plan.fingerprint import ChannelSummary
from hilum.plan.plan import Decision
from hilum.plan.planner import sizing
from hilum.plan.planner.grid import Grid, fit_patch
from hilum.plan.segmentation import LossSpec
from hilum.volume import LabelTable

VALUES = Intensities(
    count=9, mean=99.0, std=35.0, minimum=-50.0, p00_5=-18.0, p50=100.0, p99_5=203.0, maximum=400.0
)
CENTRE = (0.5, 0.5, 0.5)


def label(number, voxels=4000, ml=4.0, centroid=CENTRE, components=1):
    return LabelFacts(
        id=number,
        voxels=voxels,
        volume_ml=ml,
        components=components,
        piece_ml=ml / components,
        centroid=centroid,
    )


def case(n, shape, spacing, labels=(), *, nonzero=None, orientation="SPL"):
    channel = ChannelFacts(minimum=0, maximum=900, nonzero=1.0, integral=True, foreground=VALUES)
    return CaseFacts(
        id=f"c{n}",
        shape=shape,
        spacing=spacing,
        orientation=orientation,
        nonzero_shape=nonzero or shape,
        channels=(channel,),
        labels=tuple(labels),
        annotated=True,
    )


def fingerprint(cases, *, kind="mr", name="T1", names=None, foreground=VALUES):
    summary = ChannelSummary(
        name=name, kind=kind, kind_because="its name says so", foreground=foreground, whole=VALUES
    )
    table = LabelTable.from_names(names or {1: "organ"})
    return Fingerprint(name="toy", channels=(summary,), labels=table, cases=tuple(cases))


def hippocampus(**kwargs):
    shapes = [(34, 48, 33), (36, 50, 35), (36, 50, 35), (38, 53, 37)]
    names = {1: "Anterior", 2: "Posterior"}
    return fingerprint(
        [case(n, s, (1.0, 1.0, 1.0), [label(1), label(2)]) for n, s in enumerate(shapes)] * 50,
        names=names,
        **kwargs,
    )


def liver(cases=20):
    labels = [
        label(1, 1_900_000, 1600.0, (0.5, 0.4, 0.25)),
        label(2, 60_000, 50.0, (0.5, 0.4, 0.25), components=2),
    ]
    each = [
        case(n, (120 + n, 512, 512), (1.6 + 0.05 * n, 0.74, 0.74), labels) for n in range(cases)
    ]
    return fingerprint(each, kind="ct", name="CT", names={1: "liver", 2: "tumour"})


def pictures(kind="rgb", shape=(1, 960, 999), spacing=(1.0, 1.0, 1.0), labels=None, names=None):
    return fingerprint(
        [case(n, shape, spacing, labels or [label(1)]) for n in range(6)],
        kind=kind,
        name=kind,
        names=names,
    )


def test_hippocampus():
    plan = make_plan(hippocampus())
    assert plan.dimensions.value == 3
    assert plan.orientation.value == "SPL"
    assert plan.spacing.value == (1.0, 1.0, 1.0)
    assert plan.patch.value == (40, 56, 40)
    assert plan.network.value.kind == "residual_unet"
    assert all(features % 16 == 0 for features in plan.network.value.features)
    assert [one.kind for one in plan.normalisation.value] == ["case"]
    assert plan.augmentation.value.mirror_axes == (
        2,
    )  # Anterior and Posterior forbid Y; Z has an up and a down
    assert not plan.loss.value.batch_dice
    assert all(decision.because.strip() for decision in plan.decisions.values())
    assert len(plan.decisions) == 21


def test_ct_uses_hounsfield_statistics():
    plan = make_plan(liver(), Hardware(device="cuda", memory_gb=24))
    (how,) = plan.normalisation.value
    assert (how.kind, how.lower, how.upper, how.mean, how.std) == ("ct", -18.0, 203.0, 99.0, 35.0)
    assert "-18 .. 203" in plan.normalisation.because
    assert plan.loss.value.batch_dice
    assert plan.augmentation.value.mirror_axes == ()  # the liver lies on one side
    assert "lies on one side" in plan.augmentation.because
    nothing = fingerprint(
        [case(0, (40, 40, 40), (1.0,) * 3)], kind="ct", name="CT", foreground=None
    )
    assert "nothing is annotated" in make_plan(nothing).normalisation.because


def test_a_time_limit_on_cpu_coarsens_large_cases_but_keeps_objects():
    limited = make_plan(liver(), Hardware(minutes=20))
    free = make_plan(liver(), Hardware(device="cuda", memory_gb=24))
    assert min(limited.spacing.value) > 1.2
    assert "so coarser" in limited.spacing.because
    assert free.spacing.value[1:] == (0.74, 0.74)
    tiny = fingerprint(
        [case(n, (120, 512, 512), (1.6, 0.74, 0.74), [label(1, 400, 0.05)]) for n in range(9)],
        kind="ct",
        name="CT",
    )
    diameter = (6 * 50 / np.pi) ** (1 / 3)
    assert (
        max(1e-9, make_plan(tiny, Hardware(minutes=20)).spacing.value[1])
        <= max(0.74, diameter / 6) + 0.01
    )


def test_pictures_are_2d_and_keep_their_pixels():
    plan = make_plan(pictures())
    assert plan.dimensions.value == 2
    assert plan.orientation.value == "source"
    assert plan.spacing.value is None
    assert plan.patch.value[0] == 1
    assert plan.augmentation.value.mirror_axes == (1, 2)
    assert plan.augmentation.value.rotation_degrees == (180.0, 0.0, 0.0)
    xray = make_plan(pictures(kind="xray", names={1: "left lung"}))
    assert xray.augmentation.value.mirror_axes == ()
    assert xray.augmentation.value.rotation_degrees[0] == 15.0
    sided = make_plan(
        pictures(names={1: "left lung", 2: "right lung"}, labels=[label(1), label(2)])
    )
    assert sided.augmentation.value.rotation_degrees[0] == 15.0  # half a turn would exchange them
    scaled = make_plan(pictures(spacing=(1.0, 0.2, 0.2)))
    assert scaled.spacing.value == (1.0, 0.2, 0.2)


@pytest.mark.parametrize("kind", ["rgb", "picture", "xray", "us", "unknown"])
@pytest.mark.parametrize("dots", [(150, 300), (300, 300, 25.4)])
def test_pictures_of_mixed_resolution_keep_their_pixels(kind, dots):
    sides = [25.4 / dots[n % len(dots)] for n in range(6)]
    each = [case(n, (1, 960, 999), (1.0, side, side), [label(1)]) for n, side in enumerate(sides)]
    plan = make_plan(fingerprint(each, kind=kind, name=kind))
    assert plan.spacing.value is None
    assert f"from 1 x {min(sides):.3g} x {min(sides):.3g} mm to" in plan.spacing.because
    assert "each keeps its own pixels" in plan.spacing.because


def test_single_slices_of_a_scanner_are_resampled():
    each = [
        case(n, (1, 256, 256), (1.0, side, side), [label(1)])
        for n, side in enumerate((0.8, 0.9, 1.1))
    ]
    assert make_plan(fingerprint(each, kind="mr")).spacing.value == (1.0, 0.9, 0.9)


def test_few_slices_are_2d_with_the_slices_first():
    each = [
        case(n, (200, 220, 5), (0.5, 0.5, 6.0), [label(1)], orientation="LSP") for n in range(4)
    ]
    plan = make_plan(fingerprint(each))
    assert plan.dimensions.value == 2
    assert plan.orientation.value == "LSP"
    assert plan.spacing.value == (6.0, 0.5, 0.5)
    assert plan.patch.value[0] == 1
    assert plan.patch.value[1] >= 200
    assert 1 not in plan.augmentation.value.mirror_axes  # Y of "LSP" is up and down


def test_few_slices_without_a_scale_are_found_by_their_number():
    each = [case(n, (200, 220, 5), (1.0, 1.0, 1.0), [label(1)]) for n in range(4)]
    plan = make_plan(fingerprint(each))
    assert plan.orientation.value == "LSP"
    assert min(plan.patch.value[1:]) >= 200


def test_slices_of_a_2d_plan_count_as_data():
    """A twentieth of the data bounds the batch, and steps follow passes.

    A case of 7 slices is 7 pictures.
    """
    thick = [case(n, (7, 128, 128), (8.0, 1.0, 1.0), [label(1)]) for n in range(40)]
    single = [case(n, (1, 128, 128), (8.0, 1.0, 1.0), [label(1)]) for n in range(40)]
    hardware = Hardware(device="cuda", memory_gb=24)
    slices, pictures_only = (make_plan(fingerprint(each), hardware) for each in (thick, single))
    assert slices.batch.value == 14
    assert pictures_only.batch.value == 2
    assert "40 cases of 7 patches" in slices.steps.because


def test_coarse_axis_takes_the_tenth_percentile():
    each = [
        case(n, (30, 300, 300), (z, 0.6, 0.6), [label(1)])
        for n, z in enumerate([3.0, 3.6, 3.6, 3.6, 4.0, 4.0, 5.0])
    ]
    plan = make_plan(fingerprint(each), Hardware(device="cuda", memory_gb=24))
    assert plan.spacing.value == (
        pytest.approx(np.percentile([3.0, 3.6, 3.6, 3.6, 4.0, 4.0, 5.0], 10)),
        0.6,
        0.6,
    )
    assert "10th percentile" in plan.spacing.because
    assert plan.network.value.kernels[0] == (1, 3, 3)
    assert plan.augmentation.value.rotation_degrees == (15.0, 0.0, 0.0)


def test_mixed_spacing_takes_the_median():
    each = [case(n, (60, 60, 60), (s, s, s), [label(1)]) for n, s in enumerate([0.8, 1.0, 1.4])]
    plan = make_plan(fingerprint(each))
    assert plan.spacing.value == (1.0, 1.0, 1.0)
    assert "0.8 x 0.8 x 0.8 mm to 1.4 x 1.4 x 1.4 mm" in plan.spacing.because


def test_empty_border_is_cropped_and_left_out_of_statistics():
    each = [
        case(n, (100, 100, 100), (1.0,) * 3, [label(1)], nonzero=(80, 70, 60)) for n in range(3)
    ]
    plan = make_plan(fingerprint(each))
    assert plan.crop.value == "nonzero"
    assert plan.normalisation.value[0].kind == "case_nonzero"
    assert (
        make_plan(fingerprint(each, kind="pet", name="PET")).normalisation.value[0].kind == "case"
    )


def test_rare_foreground_is_seen_more_often():
    each = [case(n, (300, 300, 300), (1.0,) * 3, [label(1, 900, 0.9)]) for n in range(3)]
    plan = make_plan(fingerprint(each))
    assert plan.foreground_fraction.value == 0.5
    assert make_plan(hippocampus()).foreground_fraction.value == 0.33


def speed(rate):
    calls = []

    def measure(network, patch, batch):
        calls.append((network.features[0], patch, batch))
        return sizing.flops_per_step(network, patch, batch) / rate

    return measure, calls


def test_more_time_or_a_faster_device_never_gives_less():
    sizes = []
    for rate in (2e10, 1e11, 4e11, 2e12):
        measure, calls = speed(rate)
        plan = make_plan(hippocampus(), Hardware(minutes=20), measure=measure)
        assert len(calls) <= 8
        seconds = (
            sizing.flops_per_step(plan.network.value, plan.patch.value, plan.batch.value) / rate
        )
        assert plan.steps.value == pytest.approx(20 * 60 * sizing.USABLE / seconds, abs=1)
        sizes.append(
            (int(np.prod(plan.patch.value)), plan.network.value.features[0], plan.batch.value)
        )
        if sizes[-1] != min(sizes):
            assert plan.steps.value >= sizing.min_steps(plan.hardware.minutes)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_hopeless_candidates_are_not_measured():
    measure, calls = speed(1e9)
    plan = make_plan(hippocampus(), Hardware(minutes=1), measure=measure)
    assert len(calls) <= 2
    assert "(estimated)" in plan.network.because


def memory_for(voxels, rate=1e12):
    """A device that has memory for a training step of so many voxels times features."""
    timed, calls = speed(rate)

    def measure(network, patch, batch):
        seconds = timed(network, patch, batch)
        if batch * network.features[0] * int(np.prod(patch)) > voxels:
            raise ResourceError("not enough memory")
        return seconds

    return measure, calls


@pytest.mark.parametrize("minutes", [20, None])
@pytest.mark.parametrize("voxels", [40 * 56 * 40, 40 * 40 * 40])
def test_what_does_not_fit_the_device_is_not_chosen(minutes, voxels):
    measure, calls = memory_for(2 * 16 * voxels)
    plan = make_plan(hippocampus(), Hardware(minutes=minutes), measure=measure)
    width, patch, batch = plan.network.value.features[0], plan.patch.value, plan.batch.value
    assert (width, batch) == (16, 2)
    assert 0.3 * voxels < np.prod(patch) <= voxels
    assert (width, patch, batch) in calls  # it was tried
    assert minutes is None or "does not fit" in plan.network.because


@pytest.mark.parametrize("minutes", [20, None])
def test_a_device_without_memory_for_anything_is_refused(minutes):
    measure, calls = memory_for(100)
    with pytest.raises(
        ResourceError,
        match=r"(?s)not enough memory for one training step.*does not fit.*device='cpu'",
    ):
        make_plan(hippocampus(), Hardware(minutes=minutes), measure=measure)
    assert len(calls) > 1


def test_too_little_of_everything_still_gives_a_plan():
    measure, _ = speed(1e7)
    plan = make_plan(liver(), Hardware(minutes=0.1, memory_gb=0.01), measure=measure)
    assert max(plan.patch.value) <= 48
    assert plan.network.value.features[0] == 16
    assert plan.batch.value == 2


def test_labels_on_either_end_forbid_the_mirror():
    for centre in (0.2, 0.8):
        each = [
            case(n, (40, 40, 40), (1.0,) * 3, [label(1, centroid=(0.5, 0.5, centre))])
            for n in range(4)
        ]
        assert make_plan(fingerprint(each)).augmentation.value.mirror_axes == ()


def test_memory_bounds_the_patch():
    small = make_plan(liver(), Hardware(device="cuda", memory_gb=4))
    large = make_plan(liver(), Hardware(device="cuda", memory_gb=40))
    assert np.prod(small.patch.value) < np.prod(large.patch.value)
    for plan, memory in ((small, 4), (large, 40)):
        width = plan.network.value.features[0]
        assert (
            np.prod(plan.patch.value) * plan.batch.value * width * sizing.BYTES_PER_FEATURE
            <= memory * 1e9
        )


def test_overrides_are_taken_and_what_depends_on_them_follows():
    overrides = Overrides(
        spacing=(2.0, 2.0, 2.0),
        patch=(30, 30, 30),
        batch=3,
        width=48,
        network="plain_unet",
        loss=LossSpec(kind="tversky"),
        mirror_axes=(),
        steps=77,
        overlap=0.25,
    )
    bf16 = Decision(value="bfloat16", because="measured")
    plan = make_plan(hippocampus(), Hardware(minutes=5), precision=bf16, overrides=overrides)
    assert plan.spacing.value == (2.0, 2.0, 2.0)
    assert plan.patch.value == (32, 32, 32)
    assert (plan.batch.value, plan.steps.value, plan.overlap.value) == (3, 77, 0.25)
    assert plan.network.value.features[0] == 48
    assert plan.network.value.kind == "plain_unet"
    assert plan.loss.value.kind == "tversky"
    assert plan.augmentation.value.mirror_axes == ()
    assert plan.precision == bf16
    for name in (
        "spacing",
        "patch",
        "batch",
        "network",
        "loss",
        "augmentation",
        "steps",
        "overlap",
    ):
        assert "asked for by the user" in plan.decisions[name].because
    assert make_plan(hippocampus(), overrides=Overrides(dimensions=2)).patch.value[0] == 1


def test_same_fingerprint_same_plan():
    assert (
        make_plan(liver(), Hardware(minutes=9)).model_dump_json()
        == make_plan(liver(), Hardware(minutes=9)).model_dump_json()
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 400)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6.0)] * 3),
    voxels=st.integers(40_000, 3_000_000),
)
def test_a_patch_fits_its_budget(shape, spacing, voxels):
    grid = Grid(orientation="SPL", dimensions=3, spacing=spacing, median_shape=shape, cases=3)
    patch = fit_patch(grid, voxels).patch
    assert np.prod(patch) <= voxels
    assert all(p >= min(n, 16) for p, n in zip(patch, shape, strict=True))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 200)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 3.0, 7.0])] * 3),
    minutes=st.sampled_from([None, 0.5, 20.0]),
)
def test_any_data_set_gets_a_consistent_plan(shape, spacing, minutes):
    plan = make_plan(fingerprint([case(0, shape, spacing, [label(1)])]), Hardware(minutes=minutes))
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan
    assert plan.batch.value >= 1
    assert plan.steps.value >= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": (0, 8, 8)},
        {"batch": -1},
        {"spacing": (1.0, 0.0, 1.0)},
        {"overlap": 1.0},
        {"steps": 0},
    ],
)
def test_sizes_of_nothing_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Overrides(**wrong)


@pytest.mark.real_data
def test_real_hippocampus(real_data):
    from hilum.dataset import open_dataset
    from hilum.plan import make_fingerprint

    dataset = open_dataset(real_data / "hippocampus")
    plan = make_plan(make_fingerprint(dataset), Hardware(minutes=20))
    assert plan.patch.value == (40, 56, 40)
    assert plan.spacing.value == (1.0, 1.0, 1.0)
    assert plan.normalisation.value[0].kind == "case"
