"""export.json: what the folder of an exported model holds, and what int8 cost; no torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hilum.errors import counted
from hilum.inference.manifest import CARD, LABELS, METRICS, PLAN, Manifest
from hilum.plan.plan import Record

EXPORT, VECTORS = "export.json", "test_vectors.npz"
README, REQUIREMENTS = "README.md", "requirements.txt"


class LabelQuality(Record):
    """Cost of int8 for one label or region: mean Dice over the validation cases that define it.

    Args:
        region: its name.
        reference: of the float32 network against the annotation; None where no case has the label.
        int8: of the int8 network against the annotation.
        agreement: of the two networks' predictions with each other.
        cases: how many define it.
    """

    region: str
    reference: float | None
    int8: float | None
    agreement: float | None
    cases: int

    @property
    def in_words(self) -> str:
        """The figures for people."""
        if self.reference is None:
            return f"{self.region}: in no validation case"
        return (
            f"{self.region}: Dice {self.reference:.4f} in float32, {self.int8:.4f} in int8,"
            f" agreement {self.agreement:.4f}"
        )


class Quantisation(Record):
    """Record of an int8 model: how it was made, and what was measured before it was accepted.

    Args:
        dataset: its name.
        calibrated_on: cases whose patches set the ranges.
        patches: how many of them.
        validated_on: annotated cases on which it was compared with the float32 network.
        gate: Dice that a label may lose at most.
        labels: what was measured.
        patients: of the cases in `validated_on`; one that is not known counts for each case.
        distance: of the quantised logits from those of the float32 networks on the test vectors;
            see `TestVectors.difference`.
        method: NNCF's version and settings.
        notes: what a reader must know ("the training's own cases: the model does not say which it
            did not see").
    """

    dataset: str
    calibrated_on: tuple[str, ...]
    patches: int
    validated_on: tuple[str, ...]
    patients: int
    distance: float
    gate: float
    labels: tuple[LabelQuality, ...]
    method: str
    notes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Describe the measurements for people."""
        return (
            f"on {counted(len(self.validated_on), 'case')} of {counted(self.patients, 'patient')}: "
            + "; ".join(one.in_words for one in self.labels)
        )


class ExportManifest(Manifest):
    """export.json.

    Args:
        source: id of the model that was exported.
        stored: precision of the weights: float32, float16, or int8 (weights and convolutions).
        engines: by engine, the files of its members.
        differences: by engine, how far the written files' logits were from the test vectors', which
            are torch's in float32, or of int8 those of the quantised networks as they were
            accepted; see `TestVectors.difference`.
        quantisation: of an int8 model.
    """

    file_name: ClassVar[str] = EXPORT
    made_by: ClassVar[str] = "hilum export MODEL -o FOLDER"
    always: ClassVar[tuple[str, ...]] = (PLAN, LABELS, METRICS, CARD, VECTORS, README, REQUIREMENTS)

    source: str
    stored: str
    engines: dict[str, tuple[str, ...]] = Field(min_length=1)
    differences: dict[str, float]
    quantisation: Quantisation | None = None
