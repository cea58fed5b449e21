"""Options of a classification's labels, as the user gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from hilum.dataset.classes import ClassKind
from hilum.errors import UsageError, did_you_mean, unknown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

TASKS = ("segmentation", "classification")


@dataclass(frozen=True)
class LabelOptions:
    """Options of a data set's labels.

    Args:
        label: columns that hold the label; () leaves it to their names.
        kind: of the classes; None leaves it to the values.
        task: "segmentation" or "classification"; None leaves it to whether there are masks.
        positive: which of two classes is the positive one; None leaves it to their names.
        only: the classes that are learnt, where not all are; cases of the others are left out.
    """

    label: tuple[str, ...] = ()
    kind: ClassKind | None = None
    task: str | None = None
    positive: str | None = None
    only: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        label: str | Sequence[str] | None,
        classes: str | Sequence[str] | None,
        task: str | None,
        positive: str | None,
    ) -> LabelOptions:
        """Look at the words that were typed.

        Args:
            label: columns.
            classes: a kind of classes, the names of those that are learnt, or both; several names
                with commas between them too.
            task: see the class.
            positive: see the class.

        Raises:
            UsageError: a word that is not known, two kinds, one class only, or a segmentation that
                is asked for classes.
        """
        known = {one: one for one in get_args(ClassKind)}
        words = (classes,) if isinstance(classes, str) else tuple(classes or ())
        kinds = tuple(dict.fromkeys(word for word in words if word in known))
        rest = [word for word in words if word not in known]
        only = tuple(
            dict.fromkeys(name.strip() for word in rest for name in word.split(",") if name.strip())
        )
        if len(kinds) > 1 or len(only) == 1 or (words and not (kinds or only)):
            raise UsageError(
                f"classes={', '.join(map(repr, words))} names neither a kind nor two classes",
                needed=f"one of {', '.join(known)}, or the names of at least two classes",
                cure=did_you_mean(only[0], known) if only else "classes='benign,malignant'",
            )
        if task is not None and task not in TASKS:
            raise unknown_name("task", "task", task, TASKS)
        columns = (label,) if isinstance(label, str) else tuple(label or ())
        options = cls(columns, known[kinds[0]] if kinds else None, task, positive, only)
        if task == "segmentation" and options.classification:
            raise UsageError(
                "a segmentation has no label column, no kind of classes and no positive class",
                needed="either task segmentation, or classes",
                cure="task='classification', or leave label, classes and positive out",
            )
        return options

    @property
    def classification(self) -> bool:
        """True if classes are asked for."""
        return self.task == "classification" or bool(
            self.label or self.kind or self.positive or self.only
        )
