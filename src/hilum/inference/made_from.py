"""Inputs of a prediction as hashes, with which an existing prediction is checked."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hilum.dataset.annotation import annotation_files
from hilum.dataset.channels import arrange_channels
from hilum.inference.manifest import UNSAVED
from hilum.io.content import content_hash, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hilum.dataset.case import Case
    from hilum.inference.case_predictor import CasePredictor
    from hilum.inference.prediction_writer import P

_INPUTS = ("model", "image", "region", "point")


def made_from(predictor: CasePredictor[P], case: Case) -> dict[str, str]:
    """Return the model, options and file hashes that a case's prediction depends on, by name.

    Raises:
        FormatError: a file cannot be read.
        DataError: the case has other channels than the model.
    """
    model = predictor.model.id
    if model == UNSAVED:
        hashed = hashlib.sha256(predictor.model.plan.model_dump_json().encode())
        for network in getattr(predictor.model, "networks", ()):
            for tensor in network.state_dict().values():
                hashed.update(tensor.cpu().numpy().tobytes())
        model = hashed.hexdigest()
    found = {"model": model, **predictor.prediction_options}
    case = arrange_channels(case, predictor.model.plan.channels)
    found["image"] = digest(([content_hash(file) for file in case.images.values()], case.positions))
    if predictor.asks_annotated:
        found["region"] = digest([content_hash(file) for file in annotation_files(case.region)])
        found["point"] = str(case.centre_mm)
    return found


def changes(now: Mapping[str, str], before: Iterable[Mapping[str, str]]) -> str:
    """Explain why a case is predicted again; "" where the prediction was made from the same.

    Args:
        now: what it would be made from.
        before: what each of its files was made from.
    """
    differ: list[str] = []
    for one in before:
        if not one:
            return "what they were made from is not recorded"
        names = [name for name in {**now, **one} if now.get(name) != one.get(name)]
        differ += [f"the {name} changed" for name in names if name in _INPUTS]
        options = [
            f"{name} {one.get(name, 'none')} to {now.get(name, 'none')}"
            for name in names
            if name not in _INPUTS
        ]
        differ += [f"options changed ({', '.join(options)})"] if options else []
    return " and ".join(dict.fromkeys(differ))
