"""Fingerprints of classifications, by hand."""

from classification_toys import (
    TWO,
)
from hilum.plan import (
    Fingerprint,
    Hardware,
)
from hilum.plan.case_facts import CaseFacts, ChannelFacts, Intensities
from hilum.plan.fingerprint import ChannelSummary
from hilum.volume import LabelTable

VALUES = Intensities(
    count=9, mean=99.0, std=35.0, minimum=-50.0, p00_5=-18.0, p50=100.0, p99_5=203.0, maximum=400.0
)


GPU = Hardware(device="cuda", memory_gb=24)


def case(n, shape, spacing=(1.0, 1.0, 1.0), *, label="benign", mask=None, centred=False):
    channel = ChannelFacts(minimum=0, maximum=900, nonzero=1.0, integral=True, foreground=VALUES)
    return CaseFacts(
        id=f"c{n}",
        shape=shape,
        spacing=spacing,
        orientation="SPL",
        nonzero_shape=shape,
        channels=(channel,),
        labels=(),
        annotated=mask is not None,
        label=label,
        region_mm=mask,
        centred=centred,
    )


def fingerprint(cases, classes=TWO, *, kind="ct", foreground=VALUES):
    summary = ChannelSummary(
        name="CT", kind=kind, kind_because="its name says so", foreground=foreground, whole=VALUES
    )
    labels = LabelTable.from_names({1: "region"})
    return Fingerprint(
        name="toy",
        channels=(summary,),
        task="classification",
        labels=labels,
        classes=classes,
        cases=tuple(cases),
    )


def labels_in_turn(n, classes=TWO):
    return [classes.names[number % len(classes.names)] for number in range(n)]


def pictures(shape=(1, 700, 1000), n=40, *, labels=None, classes=TWO, kind="rgb"):
    return fingerprint(
        [case(i, shape, label=one) for i, one in enumerate(labels or labels_in_turn(n, classes))],
        classes,
        kind=kind,
    )


def volumes(n=40, shape=(60, 100, 100), spacing=(1.25, 0.7, 0.7), **more):
    return fingerprint(
        [case(i, shape, spacing, label=one, **more) for i, one in enumerate(labels_in_turn(n))]
    )
