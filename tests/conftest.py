"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "any machine", deadline=None
)  # an example may take long where other programs run
settings.load_profile("any machine")
torch.set_num_threads(
    1
)  # the suite runs in parallel processes; their thread pools would fight for the cores

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of public data sets beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout: the public data sets are not here")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Length of the test of random folder trees."""
    parser.addoption(
        "--trees",
        type=int,
        default=300,
        help="random folder trees of test_random_trees.py (2000: 15 minutes)",
    )
