"""The meaning of the integers of a label map."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.errors import LabelError

MOST_LABELS = 255
"""Labels that a network can learn, the background among them: its target keeps 8 bits a voxel, one
value for ignored ones."""


LARGEST_ID = 2**31 - 1
"""The largest label id, as label maps keep 32 bits a voxel."""


_COLOURS = (
    *((228, 26, 28), (77, 175, 74), (55, 126, 184), (255, 127, 0)),
    *((152, 78, 163), (255, 255, 51), (166, 86, 40), (247, 129, 191)),
)


class Label(BaseModel):
    """One integer and its meaning.

    `code` is (value, scheme, meaning) as in DICOM's coded concepts, e.g. ("10200004", "SCT",
    "Liver"); `colour` is sRGB 0..255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(ge=0, le=LARGEST_ID)
    name: str = Field(min_length=1)
    code: tuple[str, str, str] | None = None
    colour: tuple[int, int, int] | None = None


class Region(BaseModel):
    """A named union of labels that is learnt as one output (regions may overlap)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    labels: tuple[int, ...] = Field(min_length=1)


class LabelTable(BaseModel):
    """Every label of a data set, background (id 0) first, then by id.

    `regions`, where given, are what the network learns (one sigmoid output each) instead of
    exclusive labels (softmax). Decoding writes regions one after the other, so later ones win:
    region *n* writes `decode_ids[n]`, nnU-Net's regions_class_order. `ignore` is the id of voxels
    that were not annotated; it is never learnt, scored or predicted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[Label, ...]
    regions: tuple[Region, ...] = ()
    decode_ids: tuple[int, ...] = ()
    ignore: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse ids, names, regions and an ignore id that contradict each other."""
        ids = [label.id for label in self.labels]
        if ids != sorted(set(ids)) or not ids or ids[0] != 0:
            raise LabelError(
                f"the label ids {ids} do not rise from 0, or one is there twice",
                needed="distinct ids in rising order, beginning with 0 for the background",
                cure="number the labels from 0, the background, upwards",
            )
        names = [" ".join(label.name.casefold().split()) for label in self.labels]
        if twice := [
            f"{label.id} {label.name}"
            for label, name in zip(self.labels, names, strict=True)
            if names.count(name) > 1
        ]:
            raise LabelError(
                f"several labels have one name: {', '.join(twice)}",
                needed="names that differ in more than case and blanks",
                cure="rename one of them",
            )
        if self.ignore is not None and self.ignore in ids:
            raise LabelError(
                f"the ignore id {self.ignore} is also a label",
                needed="an id of its own for ignored voxels",
                cure="give it another number, in the label maps too",
            )
        unknown = {i for region in self.regions for i in region.labels} - set(ids)
        if unknown:
            raise LabelError(
                f"the regions name labels {sorted(unknown)} that the label table does not have",
                needed=f"labels among {ids}",
                cure="add these labels, or take them out of the regions",
            )
        if len(self.decode_ids) != len(self.regions) or not set(self.decode_ids) <= set(ids):
            raise LabelError(
                f"decode_ids is {self.decode_ids} for {len(self.regions)} regions",
                needed="one known label id for each region",
                cure="name for each region the label that its voxels get, smallest region last",
            )
        return self

    @classmethod
    def from_names(cls, names: dict[int, str], *, ignore: int | None = None) -> LabelTable:
        """Build a table of exclusive labels; background is added where it is missing."""
        full = {0: "background"} | names
        return cls(labels=tuple(Label(id=i, name=full[i]) for i in sorted(full)), ignore=ignore)

    def refuse_unlearnable(self, source: str) -> None:
        """Raise where no network can learn these labels.

        Args:
            source: of the labels, for the message.

        Raises:
            LabelError: there is no label beside the background, or there are more than
                `MOST_LABELS`.
        """
        if len(self.labels) > MOST_LABELS:
            raise LabelError(
                f"{source} has {len(self.labels)} labels with the background",
                needed=f"at most {MOST_LABELS}",
                cure="join labels, or train several models for a part of them each",
            )
        if not self.foreground:
            raise LabelError(
                f"{source} has no label beside the background",
                needed="annotations that hold labels above 0",
                cure=(
                    "`hilum check DATA` lists what each annotation holds instead, `hilum check DATA"
                    " --fix DIR` mends it where that is safe"
                ),
            )

    @property
    def ids(self) -> tuple[int, ...]:
        """Label ids, background first."""
        return tuple(label.id for label in self.labels)

    @property
    def colours(self) -> dict[int, tuple[int, int, int]]:
        """The colour of each foreground label: its own, or one of a list of distinct colours.

        Beyond the list hues are a golden angle apart.
        """
        colours = {}
        for number, label in enumerate(self.foreground):
            red, green, blue = hsv_to_rgb(number * 0.618034 % 1.0, 0.75, 0.95)
            distinct = round(255 * red), round(255 * green), round(255 * blue)
            listed = _COLOURS[number] if number < len(_COLOURS) else distinct
            colours[label.id] = label.colour or listed
        return colours

    @property
    def foreground(self) -> tuple[Label, ...]:
        """Labels without the background."""
        return self.labels[1:]

    @property
    def exclusive(self) -> bool:
        """True if the network learns exclusive labels (softmax) and not regions (sigmoid)."""
        return not self.regions

    @property
    def outputs(self) -> int:
        """Number of network outputs K: all labels with the background, or the regions."""
        return len(self.labels) if self.exclusive else len(self.regions)

    @property
    def scored(self) -> tuple[Region, ...]:
        """The regions that evaluation scores: those given, else each foreground label."""
        return self.regions or tuple(
            Region(name=label.name, labels=(label.id,)) for label in self.foreground
        )
