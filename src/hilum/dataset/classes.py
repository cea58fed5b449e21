"""The classes of a classification, and the labels that name them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.errors import LabelError

SEPARATOR = "|"
"""Between the classes of a case that has several: "Effusion|Mass"; the empty label has none."""

ClassKind = Literal["exclusive", "ordinal", "multilabel"]


class ClassTable(BaseModel):
    """Every class of a data set, in the order of the outputs.

    Of two exclusive classes the second is the positive one: sensitivity, ROC and decision curves
    are about it. Ordinal classes are grades, lowest first. Multi-label classes are findings, of
    which a case has any number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1)
    kind: ClassKind = "exclusive"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse classes of one name, too few of them, and names that hold the separator."""
        if len(set(self.names)) < len(self.names) or not all(self.names):
            raise LabelError(
                f"the classes {list(self.names)} are not all distinct and named",
                needed="distinct names that are not empty",
                cure="give each class a name of its own",
            )
        if self.kind != "multilabel" and len(self.names) < 2:
            raise LabelError(
                f"there is only one class, {self.names[0]!r}",
                needed="at least two classes",
                cure="name the other classes too",
            )
        if self.kind == "multilabel" and any(SEPARATOR in name for name in self.names):
            raise LabelError(
                f"the classes {list(self.names)} hold the character {SEPARATOR!r}",
                needed=f"names without {SEPARATOR!r}, which stands between the findings of a case",
                cure="rename these classes",
            )
        return self

    @property
    def outputs(self) -> int:
        """Number of network outputs: one a class.

        Of ordinal classes one a step from a grade to the next.
        """
        return len(self.names) - 1 if self.kind == "ordinal" else len(self.names)

    @property
    def binary(self) -> bool:
        """True if there are two classes, of which every case has one."""
        return self.kind != "multilabel" and len(self.names) == 2

    def indicators(self, label: str) -> tuple[bool, ...]:
        """Return for each class whether a label names it.

        Raises:
            LabelError: it names another class, or not exactly one where the classes exclude each
                other.
        """
        named = (
            [part for part in label.split(SEPARATOR) if part]
            if self.kind == "multilabel"
            else [label]
        )
        unknown = [name for name in named if name not in self.names]
        if unknown:
            raise LabelError(
                f"the class {unknown[0]!r} is not in the class table",
                needed=f"one of {', '.join(self.names)}",
                cure="correct the label, or use the class table that belongs to these labels",
            )
        return tuple(name in named for name in self.names)

    def index(self, label: str) -> int:
        """Return the number of the class that a label names; exclusive and ordinal classes only.

        Raises:
            LabelError: it names another class, or there may be several.
        """
        if self.kind == "multilabel":
            raise LabelError(
                "the classes are multilabel: a case may have several",
                needed="exclusive or ordinal classes",
                cure="indicators(label)",
            )
        return self.indicators(label).index(True)
