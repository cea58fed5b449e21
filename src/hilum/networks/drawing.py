"""Initial weights from a generator that is passed, for modules of others that draw from torch's global one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Within, torch's global generator of the CPU is this one; afterwards it is as before and this one has moved on."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())
