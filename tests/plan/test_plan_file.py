"""Plans as files that people edit."""

import json
from pathlib import Path

import pytest

import hilum.plan
from hilum.errors import UsageError
from hilum.plan import load_plan, make_plan, parse_plan, plan_schema, save_plan
from hilum.plan.case_facts import measure_case
from hilum.plan.fingerprint import summarise


@pytest.fixture(scope="module")
def plan():
    import numpy as np

    from hilum.volume import Geometry, LabelTable, Volume

    table = LabelTable.from_names({1: "organ"})
    geometry = Geometry.from_spacing((20, 30, 25), (2.0, 1.0, 1.0))
    image = Volume(np.random.default_rng(0).normal(size=(1, 20, 30, 25)).astype("f4"), geometry)
    labels = Volume((image.array > 1.5).astype("u1"), geometry)
    return make_plan(
        summarise(
            "toy", ("T1",), table, [measure_case("a", image, labels, table=table, channels=("T1",))]
        )
    )


def edited(plan, **changes):
    fields = json.loads(plan.model_dump_json())
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = fields
        for part in parents:
            at = at[part]
        at[last] = value
    return json.dumps(fields)


def test_round_trip(plan, tmp_path):
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    before = (tmp_path / "plan.json").read_bytes()
    save_plan(load_plan(tmp_path / "plan.json"), tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_bytes() == before


def test_a_bare_value_is_a_decision_edited_by_hand(plan):
    changed = parse_plan(edited(plan, batch=7, overlap=0.25, spacing=None, patch=[24, 32, 32]))
    assert changed.batch.value == 7
    assert changed.batch.because == "edited by hand"
    assert changed.spacing.value is None
    assert changed.patch.value == (24, 32, 32)
    assert changed.network == plan.network


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bacth": 4}, r"unknown field 'bacth', did you mean 'batch'\?"),
        (
            {"network__value__feature": [16]},
            r"unknown field 'network.value.feature', did you mean 'features'\?",
        ),
        ({"augmentation__value__rotation": 3}, r"did you mean 'rotation_degrees'\?"),
        (
            {"hardware__qqq": 3},
            "unknown field 'hardware.qqq', known are device, memory_gb, minutes",
        ),
        ({"batch__value": "many"}, 'batch.value is "many": input should be a valid integer'),
        ({"overlap__because": ""}, "overlap.because"),
        ({"crop__value": "all"}, "crop.value is \"all\": input should be 'none' or 'nonzero'"),
        ({"patch__value": [24, 33, 32]}, "33 is not a multiple of"),
        ({"orientation__value": "ABC"}, "orientation.value"),
        ({"network__value__in_channels": 3}, "1 channels, but the network takes 3"),
        ({"network__value__out_channels": 3}, "the label table has 2 outputs, the network 3"),
        ({"dimensions__value": 2}, "a 2D plan with a 3D network"),
        ({"network__value__kernels": []}, "stages of features need"),
        ({"labels__ignore": 1}, "ignore id 1 is also a label"),
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
    ],
)
def test_edits_that_cannot_be(plan, changes, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse_plan(edited(plan, **changes))


def test_missing_fields_files_and_json(plan, tmp_path):
    fields = json.loads(plan.model_dump_json())
    del fields["steps"]
    with pytest.raises(UsageError, match="field 'steps' is missing"):
        parse_plan(json.dumps(fields))
    with pytest.raises(UsageError, match="no JSON: Expecting value in line 1"):
        parse_plan("nonsense")
    with pytest.raises(UsageError, match="version None"):
        parse_plan("[1, 2]")
    with pytest.raises(UsageError, match="cannot be read"):
        load_plan(tmp_path / "none.json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_plans_that_an_editor_saved_anew(plan, tmp_path, encoding):
    text = (
        json.dumps({**json.loads(plan.model_dump_json()), "batch": 4})
        .replace('"steps"', ' "steps"')
        .replace("\n", "\r\n")
    )
    (tmp_path / "plan.json").write_bytes(text.encode(encoding))
    assert load_plan(tmp_path / "plan.json") == parse_plan(text)


def test_all_problems_are_named_at_once(plan):
    with pytest.raises(UsageError) as caught:
        parse_plan(edited(plan, bacth=4, overlop=1))
    assert "bacth" in str(caught.value)
    assert "overlop" in str(caught.value)


def test_shipped_schema_is_current():
    shipped = Path(hilum.plan.__file__).with_name("plan.schema.json")
    command = (
        'python -c "import json, hilum.plan as p; print(json.dumps(p.plan_schema(), indent=2))" >'
        " src/hilum/plan/plan.schema.json"
    )
    assert json.loads(shipped.read_text()) == plan_schema(), (
        f"the plan's fields changed; write the schema anew: {command}"
    )
