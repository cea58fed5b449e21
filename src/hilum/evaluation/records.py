"""Base of every record of an evaluation."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number, or NaN where it is undefined; JSON writes null."""


class Record(BaseModel):
    """A frozen record that refuses unknown fields and writes NaN as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
