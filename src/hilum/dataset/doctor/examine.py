"""Looking at one case: its files, its voxels, its annotation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilum.dataset.annotation import DicomSegments, annotation_files, compose_masks
from hilum.dataset.conversion import convert, cutting_rule, describe, is_blurred, is_jpeg, kind_of
from hilum.dataset.doctor.finding import Finding
from hilum.dataset.grids import Grids, compare_grids, cure_of_unplaced, grid_words
from hilum.dataset.leaks.thumbnail import look, together, voxel_digest
from hilum.dicom.annotation import read_annotation
from hilum.errors import DataError, GeometryError, HilumError, LabelError, ResourceError, counted
from hilum.files import image_suffix
from hilum.files.names import PICTURE_SUFFIXES
from hilum.io import in_colours, inspect_file, palette_of, read_labels, read_volume
from hilum.io.dispatch import shares_frame
from hilum.volume import MOST_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset.annotation import Annotation
    from hilum.dataset.case import Case
    from hilum.dataset.conversion import Colour
    from hilum.dataset.leaks.thumbnail import Look
    from hilum.volume import Geometry, LabelTable, Volume

INSIDE_IMAGE = 0.99
"""Share of the annotated voxels that must lie inside the image for resampling to make sense."""


@dataclass(frozen=True)
class Examination:
    """Findings and facts of one case.

    Args:
        case: its id.
        findings: what is wrong with it alone.
        geometry: the first image's grid; None where it could not be read.
        annotation_digest: hash of the annotation's voxels, or the class; None where there is none
            or it could not be read.
        labels: label values present, without background and ignore.
        notes: what the files' readers had to assume.
        look: what the leak audit compares, with a hash of all image voxels; None where an image
            could not be read, the channels do not fit, or all voxels are equal.
        colours: the colour of each value present, where the annotation is a picture with a palette.
    """

    case: str
    findings: tuple[Finding, ...]
    geometry: Geometry | None = None
    annotation_digest: str | None = None
    labels: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    look: Look | None = None
    colours: Mapping[int, Colour] = field(default_factory=dict)


def examine(case: Case, table: LabelTable | None) -> Examination:
    """Read a case completely and say what is wrong with it.

    Args:
        case: with or without annotation.
        table: the data set's labels; None for classification.
    """
    one = _Examiner(case, table)
    if case.fault is not None:
        one.unreadable(case.fault)
    grid, seen = one.images()
    digest, labels = one.annotation(grid)
    one.region(grid)
    one.turn(grid)
    colours: Sequence[Colour] = ()
    if isinstance(case.annotation, Path) and image_suffix(case.annotation) in PICTURE_SUFFIXES:
        colours = palette_of(case.annotation) if labels else ()
    return Examination(
        case.id,
        tuple(one.findings),
        grid,
        digest,
        labels,
        tuple(one.notes),
        seen,
        {label: colours[label] for label in labels if 0 <= label < len(colours)},
    )


class _Examiner:
    """Findings and notes of one case while its files are read."""

    def __init__(self, case: Case, table: LabelTable | None) -> None:
        self.case, self.table = case, table
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def add(
        self, kind: str, found: str, cure: str | None = None, *, fixable: bool | None = None
    ) -> None:
        """Report a finding of the case."""
        self.findings.append(Finding.of(kind, found, self.case.id, cure, fixable=fixable))

    def unreadable(self, error: HilumError) -> None:
        """Report a file that cannot be read."""
        self.add("unreadable", error.found, error.cure or None)

    def images(self) -> tuple[Geometry | None, Look | None]:
        """Report faults of the images; the first one's grid and what the audit compares."""
        files = list(self.case.images.values())
        digest = hashlib.blake2b(digest_size=16)
        looks: list[Look] = []
        first: Geometry | None = None
        complete, constant = self.case.fault is None, True
        for path in dict.fromkeys(files):
            try:
                volume = read_volume(path)
            except (DataError, ResourceError) as error:
                self.unreadable(error)
                complete = False
                continue
            wanted = files.count(path)
            if wanted == len(files):
                volume = in_colours(volume, tuple(self.case.images))
            self.notes.extend(inspect_file(path).notes)
            looks.append(look(self.case.id, volume, path))
            digest.update(looks[-1].digest.encode())
            constant = self._is_constant(path, volume.array) and constant
            if volume.channels != wanted:
                complete = False
                found = (
                    f"holds {counted(volume.channels, 'channel')} where the data set has {wanted}"
                )
                self.add("channel-count", f"{path.name} {found}")
            first = first or volume.geometry
            if not volume.geometry.is_close(first):
                self._channel_grid(path, volume.geometry, files[0], first)
        usable = complete and not constant
        return first, together(looks, digest.hexdigest()) if usable else None

    def _channel_grid(self, path: Path, grid: Geometry, other: Path, first: Geometry) -> None:
        """Report a channel on another grid, unless it is resampled when it is read."""
        try:
            if shares_frame(path, grid, other, first):
                return
        except GeometryError as error:
            self.unreadable(error)
            return
        unplaced = compare_grids(first, grid) is Grids.UNPLACED
        self.add(
            "channel-grid",
            f"{path.name} lies on {grid_words(grid)}, the first channel on {grid_words(first)}",
            cure_of_unplaced(first, grid) if unplaced else None,
            fixable=not unplaced,
        )

    def _is_constant(self, path: Path, array: NDArray[np.generic]) -> bool:
        """Report NaN, Inf and images of one value; whether the image is constant."""
        wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
        if wrong:
            found = f"{wrong} of {array.size} voxels of {path.name} are NaN or infinite"
            self.add("not-finite", found, fixable=wrong < array.size)
        constant = bool((array == array.flat[0]).all())
        if constant:
            self.add("constant-image", f"every voxel of {path.name} is {array.flat[0]}")
        return constant

    def _label_map(self, source: Annotation) -> Volume:
        """Read the annotation as one label map; report voxels that several masks claim."""
        if isinstance(source, Path):
            return read_labels(source)
        if isinstance(source, DicomSegments):
            decoded = read_annotation(source.file, ids=source.ids, source=source.source)
            self.notes.extend(decoded.notes)
            return decoded.volume
        volume, overlapping = compose_masks(source)
        if overlapping:
            self.add(
                "mask-overlap",
                f"{overlapping} voxels lie in several masks of {source.name}: each belongs to the"
                " smaller mask",
            )
        return volume

    def annotation(self, grid: Geometry | None) -> tuple[str | None, frozenset[int]]:
        """Report faults of the annotation; its digest (or the class), and its labels."""
        source, table = self.case.annotation, self.table
        if source is None or table is None:
            return self.case.label, frozenset()
        try:
            volume = self._label_map(source)
        except (DataError, ResourceError) as error:
            if isinstance(error, LabelError) and isinstance(source, Path):
                return None, self._convertible(source, error, table)
            self.unreadable(error)
            return None, frozenset()
        digest = voxel_digest(volume.array)
        values = frozenset(int(value) for value in np.unique(volume.array))
        present = values - {0, table.ignore}
        if isinstance(source, Path):
            strange_jpeg = is_jpeg(source) and not values <= set(table.ids)
            if strange_jpeg or is_blurred(source, volume.array, table):
                self._check_blurred_mask(source, volume.array, table)
                return digest, frozenset(table.ids[1:])
            self._unknown_labels(source, sorted(present), table)
        if not present:
            self.add("empty-annotation", f"{source.name} has no annotated voxel")
        self._grid(annotation_files(source)[0], volume, grid)
        return digest, present

    def region(self, grid: Geometry | None) -> None:
        """Report a mask that does not say where to look."""
        source = self.case.region
        if source is None:
            return
        try:
            volume = self._label_map(source)
        except (DataError, ResourceError) as error:
            if isinstance(error, LabelError) and isinstance(source, Path):
                cure = "--fix looks where a channel reaches half the largest number"
                self.add("fractional-labels", error.found, cure)
            else:
                self.unreadable(error)
            return
        if (volume.array != 0).any():
            self._grid(annotation_files(source)[0], volume, grid)
        else:
            found = f"{source.name} is empty: it does not say where to look"
            self.add("empty-annotation", found, "draw it, or remove the case")

    def turn(self, grid: Geometry | None) -> None:
        """Warn where only the image has an EXIF orientation and the sizes fit both ways."""
        masks = annotation_files(self.case.region or self.case.annotation)
        if not masks or grid is None or not grid.is_2d:
            return
        path = next(iter(self.case.images.values()))
        try:
            image, mask = inspect_file(path), inspect_file(masks[0])
        except DataError:  # said where it was read
            return
        _, rows, columns = image.geometry.shape
        ambiguous = rows == columns or image.turned in {2, 3, 4}
        if (
            ambiguous
            and image.turned != mask.turned
            and image.geometry.shape == mask.geometry.shape
        ):
            self.add(
                "picture-turn",
                f"{path.name} is turned upright by its EXIF orientation ({image.turned}),"
                f" {masks[0].name} has none",
            )

    def _convertible(self, path: Path, error: LabelError, table: LabelTable) -> frozenset[int]:
        """Report an annotation whose numbers are no labels; the labels that can be made of them."""
        array = read_volume(path).array
        kind, conversion = kind_of(array), convert(array, table)
        cure = f"--fix {conversion.how}" if conversion is not None else None
        if cure is None and array.shape[0] == 1:
            cure = error.cure
        found = f"{path.name}: {describe(array)}" if array.shape[0] > 1 else error.found
        self.add(kind, found, cure, fixable=conversion is not None)
        present = set() if conversion is None else set(np.unique(conversion.array).tolist())
        return frozenset(present - {0, table.ignore})

    def _check_blurred_mask(
        self, path: Path, array: NDArray[np.integer], table: LabelTable
    ) -> None:
        """Report a mask of many grey values, and the rule that mends it where there is one."""
        rule = cutting_rule(array, table)
        cause = "a black and white mask was compressed or interpolated"
        if is_jpeg(path):
            cause = "JPEG compression changes labels"
        cure = "store the labels as PNG, from their origin"
        self.add(
            "fractional-labels",
            f"{path.name} holds {counted(len(np.unique(array)), 'value')}: {cause}",
            cure if rule is None else f"--fix {rule}; store labels as PNG",
            fixable=rule is not None,
        )

    def _unknown_labels(self, path: Path, present: list[int], table: LabelTable) -> None:
        """Report label values that the label table does not name."""
        unknown = [value for value in present if value not in table.ids]
        if len(present) >= MOST_LABELS:
            most = f"more than the {MOST_LABELS - 1} that can be learnt"
            self.add("too-many-labels", f"{path.name} holds {len(present)} values beside 0, {most}")
        elif unknown and unknown[0] < 0:
            self.add(
                "unknown-label",
                f"{path.name} holds {_shorten_values(unknown)}: labels are whole numbers from 0",
                'give these voxels another number: that of "ignore" in dataset.json where they are'
                " not annotated, else 0",
            )
        elif unknown:
            cure = (
                f'name them in dataset.json ("labels": {{..., "NAME": {unknown[0]}}}), or remove'
                " them from the annotation"
            )
            if {*unknown, *table.ids} == {0, 1, 255} and len(unknown) == 1:
                written = "one label is written in two ways"
                cure = f"write {table.ids[-1]} for {unknown[0]}: {written}"
            known = _shorten_values(table.ids)
            found = f"{path.name} holds {_shorten_values(unknown)}, the label table knows {known}"
            self.add("unknown-label", found, cure)

    def _grid(self, path: Path, labels: Volume, image: Geometry | None) -> None:
        """Report labels that lie on another grid than the image, by how the two grids relate."""
        relation = Grids.SAME if image is None else compare_grids(image, labels.geometry)
        if image is None or relation is Grids.SAME:
            return
        found = (
            f"{path.name} lies on {grid_words(labels.geometry)}, the image on {grid_words(image)}"
        )
        cure, fixable = "--fix resamples the annotation onto the image's grid", True
        if relation is Grids.ROUNDING:
            distance = image.distance_voxels(labels.geometry)
            apart = f"{path.name} and the image are {distance:.2g} voxels apart"
            self.add("grid-rounding", f"{apart}: the rounding of a header")
        elif relation is Grids.PICTURES:
            cure = "nothing: hilum takes the image's grid, pixel by pixel; --fix writes it down"
            note = Finding.of(
                "grid-header", found, self.case.id, f"{cure} for other tools", severity="note"
            )
            self.findings.append(note)
        elif relation is Grids.HEADER_LOST:
            self.add("grid-header", found)
        else:
            inside = share_inside(labels, image)
            if relation is Grids.UNPLACED:
                cure, fixable = cure_of_unplaced(image, labels.geometry), False
            elif inside < INSIDE_IMAGE:
                found += f"; only {inside:.0%} of the annotated voxels are inside the image"
                cure, fixable = "find the image it was drawn on, or correct its header", False
                cure += "; resampling would cut it"
            self.add("grid-mismatch", found, cure, fixable=fixable)


def _shorten_values(values: Sequence[int], shown: int = 8) -> str:
    return ", ".join(map(str, values[:shown])) + (", ..." if len(values) > shown else "")


def share_inside(labels: Volume, image: Geometry) -> float:
    """Share of the annotated voxels (not 0) whose centres lie inside another grid.

    1.0 where nothing is annotated.
    """
    indices = np.argwhere(labels.array[0] != 0)
    if not len(indices):
        return 1.0
    where = image.world_to_index(labels.geometry.index_to_world(indices))
    inside = (where >= -0.5) & (where <= np.array(image.shape) - 0.5)
    return float(inside.all(axis=1).mean())
