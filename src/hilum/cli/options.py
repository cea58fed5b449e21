"""Options that several commands share, each defined once."""

import re
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hilum.api import Labelling


class Task(StrEnum):
    """Tasks that can be learnt."""

    segmentation = "segmentation"
    classification = "classification"


def argument(metavar: str, text: str) -> object:
    """Define a positional argument by its name in the help and its help text."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def option(text: str, *names: str, metavar: str | None = None) -> object:
    """Define an option whose help text says what happens without it."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=False)


def flag(name: str, text: str) -> object:
    """Define an option without a value."""
    return typer.Option(name, help=text)


def out_option(metavar: str, text: str) -> object:
    """Define -o/--out."""
    return option(text, "-o", "--out", metavar=metavar)


Data = Annotated[
    Path,
    argument(
        "DATA",
        "Data set: nnU-Net raw or Decathlon folder, images/ and masks/, patient or class folders,"
        " BIDS, DICOM studies with SEG or RTSTRUCT, CSV table, or MedMNIST's .npz.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as JSON on standard output; messages go to standard error."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
TaskOption = Annotated[Task | None, option("Task to learn (default: as the data suggest).")]
LabelOption = Annotated[
    list[str] | None,
    option("Column of classes; several times: one column of 0 and 1 for each finding.", "--label"),
]
ClassesOption = Annotated[
    list[str] | None,
    option(
        "Kind of classes: exclusive (one for each case), ordinal (grades) or multilabel (several"
        " for each case). Or the classes to learn, e.g. benign,malignant; cases of other classes"
        " are left out.",
        metavar="KIND|A,B",
    ),
]
PositiveOption = Annotated[
    str | None, option("Which of two classes is the positive one (default: by their names).")
]
NetworkOption = Annotated[
    str | None,
    option(
        "Network of a classifier: backbone, inflated, acs, slices, resnet3d; of a segmentation:"
        " unet, plain_unet, residual_unet."
    ),
]
BackboneOption = Annotated[
    str | None, option("Backbone of a classifier: the name of any timm model.")
]
WeightsOption = Annotated[
    str | None, option("Initial weights of a classifier: pretrained, none, or a file.")
]
StagesOption = Annotated[
    str | None,
    option(
        "What a classifier learns: probe (a linear layer on fixed features), head, two (head, then"
        " all), top (head, then top blocks), all."
    ),
]
RegionOption = Annotated[
    str | None,
    option(
        "Part of the image that a classifier gets: whole, middle (of the image), centre (a point"
        " in the table) or mask (around it)."
    ),
]
Minutes = Annotated[
    float | None,
    option(
        "Time limit of one fold in wall-clock minutes; the search for copies of images before it"
        " is not included (default: no limit, the plan decides the steps)."
    ),
]
Patients = Annotated[
    str | None,
    option(
        r"Where no table names the patients: regular expression that finds the patient in a case"
        r" id, e.g. '(Image_\d+)'.",
        metavar="REGEX",
    ),
]


def _gigabytes(text: str) -> float:
    """Return an amount of memory in GB: "8", "8GB", "500MB"."""
    with suppress(ValueError):
        return float(text)  # a negative number is refused where all options are checked
    from hilum import api

    return api.gigabytes(text)


Memory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Memory limit of training, e.g. 8 or 8GB (default: what the machine has).",
        parser=_gigabytes,
        show_default=False,
    ),
]
PredictMemory = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="Memory limit of this process, e.g. 4GB (default: 3/4 of the free memory).",
        parser=lambda text: f"{text}GB" if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else text,
        show_default=False,
    ),
]


def labelling_of(
    task: Task | None, label: list[str] | None, classes: list[str] | None, positive: str | None
) -> "Labelling":
    """Return the options about labels as `hilum.api.Labelling`."""
    from hilum import api

    return api.Labelling(
        task=None if task is None else task.value,
        label=None if not label else label[0] if len(label) == 1 else tuple(label),
        classes=tuple(classes) if classes else None,
        positive=positive,
    )
