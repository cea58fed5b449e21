"""Base of every record of an evaluation."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _nan_for_null(value: object) -> object:
    return math.nan if value is None else value


Figure = Annotated[float, BeforeValidator(_nan_for_null)]
"""A number, or NaN where it is undefined; JSON writes null."""


class Record(BaseModel):
    """A frozen record that refuses unknown fields and writes NaN as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
