"""Fixtures of the node's tests: a tiny model, and nodes that are stopped in the end."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "inference"))

from node_samples import config_of

from hilum.node import Node
from hilum.plan.plan import Normalisation
from hilum.volume import LabelTable
from inference_toys import real_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a small network with fixed random weights, which finds something everywhere."""
    folder = tmp_path_factory.mktemp("model") / "toy"
    table = LabelTable.from_names({1: "liver"})
    scale = Normalisation(kind="unit", upper=400.0)
    real_model(seed=3, labels=table, normalisation=(scale,)).save(folder)
    return folder


@pytest.fixture
def start(tmp_path, model):
    """Start a node in this process; it is stopped when the test ends."""
    running = []

    def begin(*, retry_dead=False, **changes):
        config = config_of(changes.pop("folder", tmp_path / "node"), model, **changes)
        running.append(Node(config, retry_dead=retry_dead))
        return running[-1]

    yield begin
    for node in running:
        node.stop()
