"""Programs outside Python that some tests talk to: see scripts/programs."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PLACES = ("/usr/sbin", "/sbin")  # where Debian puts servers, not on every user's PATH


def require(program: str) -> str:
    """Return the path of a program; without it skip the test, in CI fail it."""
    found = shutil.which(program) or next(
        (f"{place}/{program}" for place in PLACES if Path(place, program).is_file()), None
    )
    if found is not None:
        return found
    leave_out(f"the program {program} is missing; scripts/programs installs it")
    return None


def leave_out(missing: str) -> NoReturn:
    """Skip the test for want of something; in CI fail it."""
    if os.environ.get("HILUM_REQUIRE_PROGRAMS"):
        pytest.fail(missing)
    pytest.skip(missing)
