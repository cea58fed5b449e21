"""Strides and kernels of the stages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.plan.planner.topology import make_topology


def test_hippocampus_as_nnunet_plans_it():
    topology = make_topology((36, 50, 35), (1.0, 1.0, 1.0), dimensions=3, max_stages=6)
    assert topology.patch == (40, 56, 40)
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernels == ((3, 3, 3),) * 4


def test_coarse_axis_is_halved_later_and_convolved_later():
    # nnU-Net on prostate (3.6 x 0.625 x 0.625 mm, patch 20 x 320 x 256): two in-plane stages first
    topology = make_topology((20, 320, 256), (3.6, 0.625, 0.625), dimensions=3, max_stages=7)
    assert topology.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert topology.patch == (20, 320, 256)


def test_two_dimensions_leave_z_alone():
    topology = make_topology((1, 100, 37), (1.0, 1.0, 1.0), dimensions=2, max_stages=8)
    assert all(stride[0] == 1 for stride in topology.strides)
    assert all(kernel[0] == 1 for kernel in topology.kernels)
    assert topology.patch[0] == 1


def test_a_tiny_patch_still_has_two_stages():
    topology = make_topology((3, 5, 5), (1.0, 1.0, 1.0), dimensions=3, max_stages=6)
    assert topology.stages == 2
    assert topology.patch == (4, 6, 6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    patch=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8.0)] * 3),
    dimensions=st.sampled_from([2, 3]),
    stages=st.integers(2, 8),
)
def test_the_patch_is_what_the_strides_divide(patch, spacing, dimensions, stages):
    if dimensions == 2:
        patch = (1, *patch[1:])
    topology = make_topology(patch, spacing, dimensions=dimensions, max_stages=stages)
    assert 2 <= topology.stages <= stages
    assert len(topology.kernels) == topology.stages
    assert topology.strides[0] == (1, 1, 1)
    for axis in range(3):
        divisor = 1
        for stride in topology.strides:
            divisor *= stride[axis]
        assert topology.patch[axis] % divisor == 0
        assert patch[axis] <= topology.patch[axis] < patch[axis] + divisor
        growing = [kernel[axis] for kernel in topology.kernels]
        assert growing == sorted(growing)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_are_treated_alike(axis):
    patch, spacing = [64, 64, 64], [1.0, 1.0, 1.0]
    patch[axis], spacing[axis] = 16, 4.0
    topology = make_topology(patch, spacing, dimensions=3, max_stages=6)
    assert topology.strides[1][axis] == 1
    assert [stride for i, stride in enumerate(topology.strides[1]) if i != axis] == [2, 2]
