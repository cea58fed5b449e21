"""Labels that no training case of a fold holds are named before the network learns."""

from types import SimpleNamespace

import pytest

from hilum.dataset import Case, ClassTable, Dataset, Fold
from hilum.pipelines.classification import Classification
from hilum.pipelines.segmentation import Segmentation
from hilum.training.options import Listener
from hilum.training.run import names_absent
from hilum.training.task import TrainingData
from hilum.volume import LabelTable

TABLE = LabelTable.from_names({1: "organ", 2: "tumour", 3: "vessel"})


class Heard(Listener):
    def __init__(self):
        self.said = []

    def say(self, sentence):
        self.said.append(sentence)


def data(tmp_path, labels):
    cases = tuple(
        Case(id=name, patient=None, images={}, label=label) for name, label in labels.items()
    )
    return Dataset("x", tmp_path, "table", cases, ("CT",), None)


def segmentation(held):
    store = SimpleNamespace(open=lambda case: SimpleNamespace(foreground=dict.fromkeys(held[case])))
    return SimpleNamespace(labels=TABLE), store


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ({"a": (1, 2), "b": (3,)}, None),
        ({"a": (1,), "b": (1,)}, "tumour, vessel"),
        ({"a": (), "b": ()}, "organ, tumour, vessel"),
    ],
)
def test_labels_that_no_training_case_holds(tmp_path, held, named):
    plan, store = segmentation(held)
    heard = Heard()
    found = names_absent(
        TrainingData(data(tmp_path, {}), plan, store, {}),
        Segmentation(),
        [(3, Fold(("a", "b"), ("c",)))],
        heard,
    )
    wanted = (
        f"Attention: no training case of fold 3 holds {named}: what is not there cannot be learnt."
    )
    assert found == tuple(heard.said) == ((wanted,) if named else ())


def test_classes_that_no_training_case_has(tmp_path):
    classes = ClassTable(names=("benign", "malignant"), kind="exclusive")
    plan = SimpleNamespace(classes=classes)
    dataset = data(tmp_path, {"a": "benign", "b": "benign", "c": "malignant"})
    folds = [(0, Fold(("a", "b"), ("c",))), (1, Fold(("a", "c"), ("b",)))]
    trained = TrainingData(dataset, plan, SimpleNamespace(), {})
    found = names_absent(trained, Classification(), folds, Heard())
    assert found == (
        (
            "Attention: no training case of fold 0 holds malignant: what is not there cannot be"
            " learnt."
        ),
    )
