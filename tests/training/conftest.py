"""Shared fixtures of the tests of training: a tiny data set, its plan, a fold and its store."""

import pytest
from training_samples import opened

from hilum.dataset import make_folds
from hilum.preprocess import build_store


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    dataset, plan = opened(folder / "data")
    fold = make_folds(dataset, 5)[0]
    return dataset, plan, fold, build_store(dataset, plan, folder / "store", fold.train)
