"""Uncertainty of a classifier: calibration, prediction sets, and out-of-distribution limits.

A part of the model folder.

::

    assurance.json          temperature, thresholds, and the numbers of the refusals
    assurance.safetensors   their arrays, one refusal a member of the ensemble
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hilum.errors import damaged_model
from hilum.files import atomic_path, atomic_write_text
from hilum.inference.refusal import Refusal
from hilum.metrics import apply_temperature, multilabel_prediction_set, prediction_set
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from hilum.dataset.classes import ClassTable

NUMBERS, ARRAYS = "assurance.json", "assurance.safetensors"
_LEAST = 1e-12


class Calibration(Record):
    """Mapping from the network's probabilities to calibrated ones.

    Args:
        temperature: the logits are divided by it (Guo et al. 2017); 1 changes nothing.
        bias: added to the logits after that, one an output; () adds nothing. Learnt where the plan
            evens out how frequent the classes are, so that the network's own probabilities are
            about other frequencies than there are.
        because: why they have these values.
        thresholds: the least probability with which a class is in the prediction set; of findings
            first those of their absence, then those of their presence.
        class_thresholds: the same for sets that keep the promise among the cases of each class.
        scale: whose probabilities the thresholds are of. The network's: a threshold on calibrated
            ones would hang on a temperature that was fitted to the very same answers. "calibrated"
            is how older models keep them.
        coverage: how often the sets hold the truth.
        class_coverage: how often, out of fold, the sets per class held each class; None where that
            is not known.
        cases: held-out cases that both were learnt from.
    """

    temperature: float = Field(default=1.0, gt=0)
    bias: tuple[float, ...] = ()
    because: str = ""
    thresholds: tuple[float, ...] = ()
    class_thresholds: tuple[float, ...] = ()
    scale: Literal["network", "calibrated"] = "calibrated"
    coverage: float = Field(default=0.9, gt=0, lt=1)
    class_coverage: tuple[float | None, ...] = ()
    cases: int = Field(default=0, ge=0)

    def apply(self, probabilities: NDArray[np.float64], table: ClassTable) -> NDArray[np.float64]:
        """Calibrate the network's probabilities (N, K)."""
        return np.asarray(
            apply_temperature(
                logits_of(probabilities, table), self.temperature, kind=table.kind, bias=self.bias
            )
        )

    def sets(
        self, probabilities: NDArray[np.float64], table: ClassTable, *, per_class: bool = False
    ) -> tuple[tuple[str, ...], ...]:
        """List the classes that each case may have.

        Of findings those that may be present. () of every case where none were learnt.

        Args:
            probabilities: (N, K), the network's own.
            table: what the classes are.
            per_class: sets that keep the promise among the cases of each class.
        """
        values, least = self._values(probabilities, table, per_class)
        if not least.size:
            return ((),) * len(values)
        if table.kind == "multilabel":
            return _name_sets(_findings(values, least)[:, :, 1], table)
        return _name_sets(prediction_set(values, least, contiguous=table.kind == "ordinal"), table)

    def certain(
        self, probabilities: NDArray[np.float64], table: ClassTable, *, per_class: bool = False
    ) -> tuple[tuple[str, ...], ...] | None:
        """List the findings of each case whose absence is ruled out.

        None of other classes, and where no thresholds were learnt.

        See `sets` for the arguments.
        """
        values, least = self._values(probabilities, table, per_class)
        if not least.size or table.kind != "multilabel":
            return None
        return _name_sets(~_findings(values, least)[:, :, 0], table)

    def _values(
        self, probabilities: NDArray[np.float64], table: ClassTable, per_class: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the probabilities that the thresholds are of, and the thresholds."""
        least = np.array(self.class_thresholds if per_class else self.thresholds)
        if self.scale == "network" or not least.size:
            return np.asarray(probabilities), least
        return self.apply(probabilities, table), least


def _findings(values: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N, K, 2): may each finding be absent, and may it be present?"""
    return multilabel_prediction_set(values, least.reshape(2, -1).T)


def _name_sets(chosen: NDArray[np.bool_], table: ClassTable) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(name for name, yes in zip(table.names, row, strict=True) if yes) for row in chosen
    )


@dataclass(frozen=True, eq=False)
class Assurance:
    """Calibration of a classifier, and the checks by which its networks refuse unlike images.

    Args:
        calibration: of the whole model.
        refusals: of each member; () where there were too few cases to learn when to refuse.
    """

    calibration: Calibration
    refusals: tuple[Refusal, ...] = ()

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write both files; return their names."""
        arrays: dict[str, NDArray[np.generic]] = {}
        numbers: list[Mapping[str, float]] = []
        for member, refusal in enumerate(self.refusals):
            own, figures = refusal.to_arrays()
            arrays |= {
                f"{member}.{name}": np.ascontiguousarray(array) for name, array in own.items()
            }
            numbers.append(figures)
        with atomic_path(folder / ARRAYS) as temporary:
            save_file(arrays, temporary)
        content = {"calibration": self.calibration.model_dump(mode="json"), "refusals": numbers}
        atomic_write_text(folder / NUMBERS, json.dumps(content, indent=2) + "\n")
        return NUMBERS, ARRAYS

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: a file is damaged.
        """
        try:
            content = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS)
            refusals = [
                Refusal.from_arrays(
                    {
                        name.partition(".")[2]: array
                        for name, array in arrays.items()
                        if name.startswith(f"{member}.")
                    },
                    numbers,
                )
                for member, numbers in enumerate(content["refusals"])
            ]
            return cls(Calibration.model_validate(content["calibration"]), tuple(refusals))
        # ValueError: also pydantic's, and JSON's
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise damaged_model(f"{folder / NUMBERS}: {error}") from error


def logits_of(probabilities: NDArray[np.float64], table: ClassTable) -> NDArray[np.float64]:
    """Compute logits (N, K') that give these probabilities (N, K).

    Of exclusive classes up to a constant.
    """
    p = np.clip(np.asarray(probabilities, dtype=np.float64), _LEAST, 1.0)
    if table.kind == "exclusive":
        return np.log(p)
    if table.kind == "ordinal":
        p = np.clip(np.cumsum(p[:, ::-1], axis=1)[:, -2::-1], _LEAST, 1.0)  # P(grade > n)
    return np.log(p) - np.log(np.clip(1.0 - p, _LEAST, 1.0))
