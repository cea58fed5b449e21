"""Options that several commands share, each typed once."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Task(StrEnum):
    """Tasks that can be learnt."""

    segmentation = "segmentation"
    classification = "classification"


Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Data set: nnU-Net raw or Decathlon folder, images/ and masks/, CSV table, .npz.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as JSON on standard output; messages go to standard error."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
TaskOption = Annotated[
    Task | None,
    typer.Option(help="What to learn. Default: found out from the data.", show_default=False),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="Column of classes; several times: columns of 0 and 1, a finding each.",
        show_default=False,
    ),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND|A,B",
        help=(
            "exclusive, ordinal or multilabel: whether a case has one class, a grade or several; or"
            " the classes to learn, benign,malignant: cases of others are left out."
        ),
        show_default=False,
    ),
]
PositiveOption = Annotated[
    str | None, typer.Option(help="Which of two classes is the positive one.", show_default=False)
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        help="Of a classifier: backbone, inflated, acs, slices, resnet3d.", show_default=False
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(help="Of a classifier: any backbone of timm, by name.", show_default=False),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="First weights of a classifier: pretrained, none, or a file.", show_default=False
    ),
]
StagesOption = Annotated[
    str | None,
    typer.Option(
        help="Fine-tuning: probe, head, two (head, then all), top (head, then top blocks), all.",
        show_default=False,
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option(help="What a classifier sees: whole, middle, centre, mask.", show_default=False),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help=(
            "Wall-clock minutes of one fold, everything but the look for leaks included. Left out,"
            " the plan decides."
        ),
        show_default=False,
    ),
]
Patients = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help=r"The patient in a case's id, e.g. '(Image_\d+)', where no table names patients.",
        show_default=False,
    ),
]


def _with_unit(amount: str) -> str:
    """An amount of memory; a bare number is one of GB, in every command alike."""
    return f"{amount}GB" if re.fullmatch(r"\s*\d+(\.\d+)?\s*", amount) else amount


def _gigabytes(amount: str) -> float:
    """An amount of memory in GB: "8", "8GB", "500MB"."""
    try:
        return float(amount)  # what is no amount, as -2, is refused where all options are checked
    except ValueError:
        from hilum import api

        return api.gigabytes(amount)


Memory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Memory that may be used, as 8 or 8GB. [default: what there is]",
        parser=_gigabytes,
        show_default=False,
    ),
]
HeldMemory = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="What may be held, as 4 or 4GB. [default: 3/4 of what is free]",
        parser=_with_unit,
        show_default=False,
    ),
]


def labelling_of(
    task: Task | None, label: list[str] | None, classes: list[str] | None, positive: str | None
) -> Any:
    """The options about labels as `hilum.api.Labelling`."""
    from hilum import api

    return api.Labelling(
        task=None if task is None else task.value,
        label=None if not label else label[0] if len(label) == 1 else tuple(label),
        classes=tuple(classes) if classes else None,
        positive=positive,
    )
