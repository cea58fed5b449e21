"""Images unlike the training data are answered, and it is said loudly that they are unlike."""

import json
import logging
import re
import shutil

import numpy as np
import pytest

from hilum.exchange.nnunet.plans import PlansFile, training_ranges
from hilum.inference import Predictor, RunReport, predict_many
from hilum.inference.run_report import CaseOutcome
from hilum.inference.unlike import unlike
from hilum.io import read_modality, write_volume
from hilum.plan.plan import ChannelRange, Normalisation, TrainingRanges
from hilum.volume import Geometry, Volume
from inference_toys import index_volume, make_model, make_plan


def image(low, high, shape=(20, 24, 28), spacing=(2.0, 1.0, 1.0), channels=1):
    array = (
        np.linspace(low, high, channels * int(np.prod(shape)))
        .reshape(channels, *shape)
        .astype("f4")
    )
    return Volume(array, Geometry.from_spacing(shape, spacing))


def plan(kind="mr", minimum=(0.0, 3.0), *, normalisation="case", pictures=False, name="x", **seen):
    known = TrainingRanges(
        channels=(ChannelRange(name=name, kind=kind, minimum=minimum),), pictures=pictures, **seen
    )
    made = make_plan(
        channels=(name,), normalisation=(Normalisation(kind=normalisation, upper=255.0),)
    )
    return made.model_copy(update={"seen": known})


CT = {"kind": "ct", "minimum": (-1024.0, -900.0)}


@pytest.mark.parametrize(
    ("made", "shown", "said"),
    [
        ({}, image(0, 900), None),
        ({}, image(-150, 900), None),
        ({}, image(-1024, 900), "values down to -1024 in channel x, far below the 0"),
        (CT, image(-1024, 900), None),
        (CT, image(-3024, 900), None),  # padding
        (
            CT,
            image(0, 900),
            "no value below 0 in channel x \\(CT\\), where every training image reaches -900",
        ),
        ({"kind": "ct", "minimum": (-1024.0, -80.0)}, image(0, 900), None),  # some were windowed
        (
            {},
            image(0, 255, (1, 40, 40), (1.0, 1.0, 1.0)),
            "a single picture, where the model learnt from volumes",
        ),
        (
            {"pictures": True},
            image(0, 255),
            "a volume of 20 slices, where the model learnt from single pictures",
        ),
        ({"pictures": True}, image(0, 255, (1, 40, 40), (1.0, 1.0, 1.0)), None),
        ({"pictures": True}, image(0, 255, (40, 1, 44), (1.0, 1.0, 1.0)), None),
        ({"pictures": True}, image(0, 255, (40, 44, 1), (1.0, 1.0, 1.0)), None),
        ({"normalisation": "unit", "kind": "picture"}, image(0, 255), None),
        (
            {"normalisation": "unit", "kind": "picture"},
            image(0, 40000),
            "values from 0 to 40000 .* from 0 to 255",
        ),
        (
            {"normalisation": "unit", "kind": "picture"},
            image(0, 1),
            "values from 0 to 1 .* from 0 to 255",
        ),
    ],
)
def test_each_rule(made, shown, said):
    found = unlike(shown, plan(**made))
    assert found == () if said is None else len(found) == 1
    if said:
        assert re.match(said, found[0]), found


def test_spacing_and_field_of_view_three_times_outside():
    known = {
        "spacing": ((2.0, 3.0), (1.0, 1.0), (1.0, 1.0)),
        "extent_mm": ((40.0, 60.0), (24.0, 24.0), (28.0, 30.0)),
    }
    assert unlike(image(0, 9), plan(**known)) == ()
    assert unlike(image(0, 9, spacing=(6.0, 1.0, 1.0)), plan(**known)) == ()
    far = unlike(image(0, 9, spacing=(9.5, 1.0, 1.0)), plan(**known))
    assert far == (
        "a spacing of 9.5 mm along Z, where the training images have 2 to 3 mm",
        "a field of view of 190 mm along Z, where the training images have 40 to 60 mm",
    )
    turned = image(
        0, 9, (24, 28, 20), (1.0, 1.0, 9.5)
    )  # axes are those of the body, not of the file
    directions = np.eye(3)[:, [1, 2, 0]]
    turned = Volume(
        turned.array, Geometry.from_spacing((24, 28, 20), (1.0, 1.0, 9.5), directions=directions)
    )
    assert [one.split(" of ")[0] for one in unlike(turned, plan(**known))]


def test_an_older_model_goes_by_the_names_of_its_channels():
    old = plan(name="T1 MRI").model_copy(update={"seen": None})
    assert unlike(image(0, 900), old) == ()
    assert unlike(image(-1000, 900), old) == (
        "values down to -1000 in channel T1 MRI, which MR has none of",
    )
    ct = plan(name="CT").model_copy(update={"seen": None})
    assert unlike(image(-1000, 900), ct) == ()
    assert "CT numbers of air are about -1000" in unlike(image(0, 900), ct)[0]


def test_dicom_says_what_made_it(tmp_path):
    from hilum.examples import make_abdomen_dataset

    data = make_abdomen_dataset(
        tmp_path / "data", cases=2, tests=1, shape=(10, 16, 20), structures=["liver"]
    )
    series = data / "dicomTs" / "abdomen_test_000"
    assert read_modality(series) == "CT"
    found = unlike(image(0, 9), plan(name="T2"), [series])
    assert found == ("its file says modality CT, where channel T2 of the model is MR",)
    assert unlike(image(-1000, 900), plan(**CT), [series]) == ()
    other = tmp_path / "a.nii.gz"
    write_volume(image(0, 9), other)
    assert read_modality(other) == ""


def test_the_planner_keeps_what_it_saw(tmp_path):
    from hilum import api
    from hilum.examples import make_abdomen_dataset

    data = make_abdomen_dataset(
        tmp_path / "data", cases=6, shape=(10, 16, 20), structures=["liver"]
    )
    seen = api.plan(data, device="cpu", minutes=1).seen
    assert seen.cases == 5  # those of the training
    assert seen.channels[0].kind == "ct"
    assert seen.channels[0].minimum[1] <= -900
    assert not seen.pictures
    assert len(seen.spacing) == len(seen.extent_mm) == 3


def test_a_run_warns_once_of_many_and_names_each(tmp_path, caplog):
    model = make_model()
    strange = TrainingRanges(
        channels=(ChannelRange(name="CT", kind="ct", minimum=(-1024.0, -900.0)),)
    )
    object.__setattr__(model, "plan", model.plan.model_copy(update={"seen": strange}))
    for name in "abc":
        write_volume(index_volume(), tmp_path / "in" / f"{name}.nii.gz")
    with caplog.at_level(logging.WARNING, "hilum"):
        report = predict_many(Predictor(model), [tmp_path / "in"], tmp_path / "out")
    assert [case.status for case in report.cases] == ["done"] * 3
    assert caplog.text.count("unlike the training data: no value below 0 in channel CT") == 1
    assert "2 more cases with the message of a: b, c" in caplog.text
    kept = RunReport.load(tmp_path / "out" / "run.json")
    assert all(case.unlike and "no value below 0" in case.unlike[0] for case in kept.cases)
    predict_many(Predictor(model), [tmp_path / "in"], tmp_path / "out", skip_existing=True)
    again = RunReport.load(tmp_path / "out" / "run.json")
    assert [(one.status, one.unlike) for one in again.cases] == [
        ("skipped", one.unlike) for one in kept.cases
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hilum"):
        answer = Predictor(model).predict(index_volume(), case="alone")
    assert "no value below 0" in answer.unlike[0]
    assert "alone: unlike the training data" in caplog.text


def test_what_many_fail_of_is_said_once_with_a_count(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    for name in ("case_1", "case_2", "case_3"):
        (tmp_path / "in" / f"{name}.nii.gz").write_bytes(b"no image")
    with caplog.at_level(logging.ERROR, "hilum"):
        report = predict_many(Predictor(make_model()), [tmp_path / "in"], tmp_path / "out")
    assert len(caplog.records) == 2
    assert "2 more cases with the message of case_1: case_2, case_3" in caplog.text
    assert [[case.case for case in alike] for alike in report.failures] == [
        ["case_1", "case_2", "case_3"]
    ]
    other = CaseOutcome(case="case_4", status="failed", error="another thing")
    assert len(report.model_copy(update={"cases": (*report.cases, other)}).failures) == 2


def test_nnunet_tells_what_it_kept(tmp_path):
    minima = {"0": {"min": 2.0}, "1": {"min": -1000.0}}
    plans = PlansFile(foreground_intensity_properties_per_channel=minima)
    bare = training_ranges(tmp_path, plans, ("MRI", "CT"), "source")
    assert bare.channels == (
        ChannelRange(name="MRI", kind="mr", minimum=(0.0, 2.0)),
        ChannelRange(name="CT", kind="ct"),
    )
    assert bare.spacing is None
    known = {
        "spacings": [[1.0, 2.0, 2.0], [3.0, 1.0, 2.0]],
        "shapes_after_crop": [[10, 20, 30], [10, 30, 30]],
    }
    (tmp_path / "dataset_fingerprint.json").write_text(json.dumps(known))
    seen = training_ranges(tmp_path, plans, ("MRI", "CT"), "source")
    assert seen.spacing == ((1.0, 3.0), (1.0, 2.0), (2.0, 2.0))
    assert seen.extent_mm == ((10.0, 30.0), (30.0, 40.0), (60.0, 60.0))
    for odd in (
        "[]",
        "{",
        json.dumps({"spacings": [[1, "x", 2]]}),
        json.dumps({"spacings": 4, "shapes_after_crop": [[1, 2]]}),
    ):
        (tmp_path / "dataset_fingerprint.json").write_text(odd)
        assert training_ranges(tmp_path, plans, ("MRI",), "source").spacing is None


@pytest.mark.real_data
def test_the_hippocampus_model_notices_a_picture_and_a_ct(tmp_path, real_data):
    from hilum.exchange.nnunet.plans import (
        Described,
        make_nnunet_plan,
        read_plans,
        resolve_configuration,
    )

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
        shutil.copy(real_data / "nnunet_hippocampus" / name, folder / name)
    plans, dataset = read_plans(folder)
    described = Described(
        folder, "3d_fullres", resolve_configuration(plans, "3d_fullres", "plans"), plans, dataset
    )
    made = make_nnunet_plan(described, trainer="nnUNetTrainer", mirror_axes=(), epochs=1)
    assert unlike(image(0, 900, (36, 50, 35), (1.0, 1.0, 1.0)), made) == ()
    assert "a single picture" in unlike(image(0, 255, (1, 400, 400), (1.0, 1.0, 1.0)), made)[0]
    lung = unlike(image(-1024, 900, (60, 80, 80), (5.0, 4.0, 4.0)), made)
    assert any("values down to -1024" in one for one in lung)
    assert any("field of view of 320 mm" in one for one in lung)
