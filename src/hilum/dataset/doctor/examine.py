"""Looking at one case: its files, its voxels, its annotation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hilum.dataset.annotation import MaskFiles, annotation_files
from hilum.dataset.conversion import convert, cutting_rule, describe, is_blurred, is_jpeg, kind_of
from hilum.dataset.doctor.finding import Finding
from hilum.dataset.doctor.masks import examine_masks
from hilum.dataset.grids import Grids, compare_grids, cure_of_unplaced, grid_words
from hilum.dataset.leaks.thumbnail import look, together, voxel_digest
from hilum.errors import DataError, HilumError, LabelError, ResourceError
from hilum.io import image_suffix, in_colours, inspect_file, palette_of, read_labels, read_volume
from hilum.io.files import PICTURE_SUFFIXES
from hilum.volume import MOST_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from hilum.dataset.case import Case
    from hilum.dataset.conversion import Colour
    from hilum.dataset.leaks.thumbnail import Look
    from hilum.volume import Geometry, LabelTable, Volume

INSIDE_IMAGE = 0.99
"""Share of the annotated voxels that must lie inside the image for resampling to make sense."""
_CURES = {
    "coloured-labels": (
        'give each label its colour in a labels.json in the folder: {"labels": [{"id": 0, "name":'
        ' "background"}, {"id": 1, "name": "NAME", "colour": [255, 0, 0]}]}; colours between these,'
        " from smoothing or JPEG, must be removed first"
    ),
    "layered-labels": (
        "store one label map, an integer a voxel; where structures overlap, decide which one a"
        " voxel belongs to"
    ),
}


@dataclass(frozen=True)
class Examination:
    """Findings and facts of one case.

    Args:
        case: its id.
        findings: what is wrong with it alone.
        geometry: the first image's grid; None where it could not be read.
        image_digest: hash of all image voxels; None where one could not be read or all are equal.
        annotation_digest: hash of the annotation's voxels, or the class; None where there is none
            or it could not be read.
        labels: label values present, without background and ignore.
        colours: the colour of each value present, where the annotation is a picture with a palette.
        notes: what the files' readers had to assume.
        look: what the leak audit compares; None where an image could not be read, or the channels
            do not fit.
    """

    case: str
    findings: tuple[Finding, ...]
    geometry: Geometry | None = None
    image_digest: str | None = None
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
    findings: list[Finding] = [] if case.fault is None else [_unreadable(case.id, case.fault)]
    images = _images(case, findings)
    annotation_digest, labels = case.label, frozenset[int]()
    if isinstance(case.annotation, MaskFiles):
        volume, annotation_digest, labels, wrong = examine_masks(case.id, case.annotation)
        findings += wrong
        if volume is not None and images.geometry is not None:
            findings += _grid_findings(
                case.id, annotation_files(case.annotation)[0], volume, images.geometry
            )
    elif case.annotation is not None and table is not None:
        annotation_digest, labels = _annotation(
            case.id, case.annotation, images.geometry, table, findings
        )
    if isinstance(case.region, MaskFiles):
        findings += examine_masks(case.id, case.region)[-1]
    elif case.region is not None:
        _region(case.id, case.region, images.geometry, findings)
    drawn = annotation_files(case.region or case.annotation)
    if drawn and images.geometry is not None and images.geometry.is_2d:
        _turn(case, drawn[0], findings)
    colours = _palette_of(case, labels)
    return Examination(
        case.id,
        tuple(findings),
        images.geometry,
        images.digest,
        annotation_digest,
        labels,
        images.notes,
        images.look,
        colours,
    )


def _palette_of(case: Case, labels: frozenset[int]) -> dict[int, Colour]:
    """The colour of each label that a picture with a palette holds."""
    if (
        not labels
        or not isinstance(case.annotation, Path)
        or image_suffix(case.annotation) not in PICTURE_SUFFIXES
    ):
        return {}
    colours = palette_of(case.annotation)
    return {label: colours[label] for label in labels if label < len(colours)}


@dataclass(frozen=True)
class _ImageFacts:
    """Facts of the images of a case."""

    geometry: Geometry | None
    digest: str | None
    notes: tuple[str, ...]
    look: Look | None


def _images(case: Case, findings: list[Finding]) -> _ImageFacts:
    files = list(case.images.values())
    digest = hashlib.blake2b(digest_size=16)
    looks: list[Look] = []
    first: Geometry | None = None
    notes: list[str] = []
    complete, constant = case.fault is None, True
    for path in dict.fromkeys(files):
        try:
            volume = read_volume(path)
        except (DataError, ResourceError) as error:
            findings.append(_unreadable(case.id, error))
            complete = False
            continue
        volume = (
            in_colours(volume, tuple(case.images)) if files.count(path) == len(files) else volume
        )
        notes.extend(inspect_file(path).notes)
        looks.append(look(case.id, volume, path))
        digest.update(looks[-1].digest.encode())
        constant = _voxels(case.id, path, volume.array, findings) and constant
        complete = _channels(case.id, path, volume, files.count(path), findings) and complete
        if first is None:
            first = volume.geometry
        elif not volume.geometry.is_close(first):
            findings.append(_channel_grid(case.id, path, volume.geometry, first))
    whole = digest.hexdigest() if complete and not constant else None
    return _ImageFacts(
        first, whole, tuple(notes), together(looks, whole) if whole is not None else None
    )


def _unreadable(case: str, error: HilumError) -> Finding:
    cure = error.cure or "restore the file from its origin, or leave the case out (--fix does)"
    return Finding.error(case, "unreadable", error.found, cure, fixable=True)


def _channels(case: str, path: Path, volume: Volume, wanted: int, findings: list[Finding]) -> bool:
    if volume.channels == wanted:
        return True
    findings.append(
        Finding.error(
            case,
            "channel-count",
            f"{path.name} holds {volume.channels} channels where the data set has {wanted}",
            "store every case with the same channels, or leave the case out (--fix does)",
            fixable=True,
        )
    )
    return False


def _channel_grid(case: str, path: Path, geometry: Geometry, first: Geometry) -> Finding:
    placed = compare_grids(first, geometry) is not Grids.UNPLACED
    return Finding.error(
        case,
        "channel-grid",
        f"{path.name} lies on {grid_words(geometry)}, the first channel on {grid_words(first)}",
        (
            "--fix resamples it onto the first channel's grid"
            if placed
            else cure_of_unplaced(first, geometry)
        ),
        fixable=placed,
    )


def _voxels(case: str, path: Path, array: NDArray[Any], findings: list[Finding]) -> bool:
    """Report NaN, Inf and images of one value; whether the image is constant."""
    if array.dtype.kind == "f":
        wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
        if wrong:
            findings.append(
                Finding.error(
                    case,
                    "not-finite",
                    f"{wrong} of {array.size} voxels of {path.name} are NaN or infinite",
                    "--fix sets them to the smallest finite value of their channel",
                    fixable=wrong < array.size,
                )
            )
    constant = bool((array == array.flat[0]).all())
    if constant:
        findings.append(
            Finding.warning(
                case,
                "constant-image",
                f"every voxel of {path.name} is {array.flat[0]}",
                "restore the image from its origin, or remove the case",
            )
        )
    return constant


def _annotation(
    case: str, path: Path, geometry: Geometry | None, table: LabelTable, findings: list[Finding]
) -> tuple[str | None, frozenset[int]]:
    try:
        volume = read_labels(path)
    except LabelError as error:
        return None, _no_labels(case, path, error, table, findings)
    except (DataError, ResourceError) as error:
        findings.append(_unreadable(case, error))
        return None, frozenset()
    values = {int(value) for value in np.unique(volume.array)}
    if is_blurred(path, volume.array, table) or (is_jpeg(path) and not values <= set(table.ids)):
        findings.append(_blurred(case, path, volume.array, table))
        return voxel_digest(volume.array), frozenset(table.ids[1:])
    foreground = values - {0} - ({table.ignore} if table.ignore is not None else set())
    findings.extend(_label_findings(case, path, foreground, table))
    if geometry is not None:
        findings.extend(_grid_findings(case, path, volume, geometry))
    return voxel_digest(volume.array), frozenset(foreground)


def _region(case: str, path: Path, geometry: Geometry | None, findings: list[Finding]) -> None:
    """Report a mask that does not say where to look."""
    try:
        volume = read_labels(path)
    except LabelError as error:
        cure = "--fix looks where a channel reaches half the largest number"
        findings.append(Finding.error(case, "fractional-labels", error.found, cure, fixable=True))
        return
    except (DataError, ResourceError) as error:
        findings.append(_unreadable(case, error))
        return
    if not (volume.array != 0).any():
        findings.append(
            Finding.warning(
                case,
                "empty-annotation",
                f"{path.name} is empty: it does not say where to look",
                "draw it, or remove the case",
            )
        )
    elif geometry is not None:
        findings.extend(_grid_findings(case, path, volume, geometry))


def _turn(case: Case, mask: Path, findings: list[Finding]) -> None:
    """Warn where only the image has an EXIF orientation and the sizes fit both ways."""
    path = next(iter(case.images.values()))
    try:
        image, annotation = inspect_file(path), inspect_file(mask)
    except DataError:  # said where it was read
        return
    _, rows, columns = image.geometry.shape
    ambiguous = rows == columns or image.turned in {2, 3, 4}
    if (
        image.turned == annotation.turned
        or image.geometry.shape != annotation.geometry.shape
        or not ambiguous
    ):
        return
    findings.append(
        Finding.warning(
            case.id,
            "picture-turn",
            (
                f"{path.name} is turned upright by its EXIF orientation ({image.turned}),"
                f" {mask.name} has none"
            ),
            (
                "look at one of them: some tools draw on the picture as it is stored; turn the"
                " annotation if it does not fit"
            ),
        )
    )


def _no_labels(
    case: str, path: Path, error: LabelError, table: LabelTable, findings: list[Finding]
) -> frozenset[int]:
    """Report an annotation whose numbers are no labels; the labels that can be made of them."""
    array = read_volume(path).array
    kind, conversion = kind_of(array), convert(array, table)
    cure = _CURES.get(kind, error.cure) if conversion is None else f"--fix {conversion.how}"
    found = f"{path.name}: {describe(array)}" if array.shape[0] > 1 else error.found
    fixable = conversion is not None
    findings.append(Finding.error(case, kind, found, cure, fixable=fixable))
    present = set() if conversion is None else set(np.unique(conversion.array).tolist())
    return frozenset(present - {0, table.ignore})


def _blurred(case: str, path: Path, array: NDArray[Any], table: LabelTable) -> Finding:
    rule = cutting_rule(array, table)
    cause = (
        "JPEG compression changes labels"
        if is_jpeg(path)
        else "a black and white mask was compressed or interpolated"
    )
    return Finding.error(
        case,
        "fractional-labels",
        f"{path.name} holds {len(np.unique(array))} values: {cause}",
        (
            "store the labels as PNG, from their origin"
            if rule is None
            else f"--fix {rule}; store labels as PNG"
        ),
        fixable=rule is not None,
    )


def _label_findings(
    case: str, path: Path, foreground: set[int], table: LabelTable
) -> list[Finding]:
    findings = []
    unknown = sorted(foreground - set(table.ids))
    if len(foreground) >= MOST_LABELS:
        findings.append(
            Finding.error(
                case,
                "too-many-labels",
                (
                    f"{path.name} holds {len(foreground)} values beside 0, more than the"
                    f" {MOST_LABELS - 1} that can be learnt"
                ),
                "look whether it is an image that was taken for an annotation",
            )
        )
    elif unknown and unknown[0] < 0:
        findings.append(
            Finding.error(
                case,
                "unknown-label",
                f"{path.name} holds {_shown(unknown)}: labels are whole numbers from 0",
                (
                    'give these voxels another number: that of "ignore" in dataset.json where they'
                    " are not annotated, else 0"
                ),
            )
        )
    elif unknown:
        names = (
            f'name them in dataset.json ("labels": {{..., "NAME": {unknown[0]}}}), or remove them'
            " from the annotation"
        )
        two_ways = {*unknown, *table.ids} == {0, 1, 255} and len(unknown) == 1
        findings.append(
            Finding.error(
                case,
                "unknown-label",
                (f"{path.name} holds {_shown(unknown)}, the label table knows {_shown(table.ids)}"),
                (
                    f"write {table.ids[-1]} for {unknown[0]}: one label is written in two ways"
                    if two_ways
                    else names
                ),
            )
        )
    if not foreground:
        findings.append(
            Finding.warning(
                case,
                "empty-annotation",
                f"{path.name} has no annotated voxel",
                ("nothing if the case is a healthy one; otherwise annotate it, or remove the case"),
            )
        )
    return findings


def _shown(values: Sequence[int], shown: int = 8) -> str:
    return ", ".join(map(str, values[:shown])) + (", ..." if len(values) > shown else "")


def _grid_findings(case: str, path: Path, labels: Volume, image: Geometry) -> list[Finding]:
    relation = compare_grids(image, labels.geometry)
    if relation is Grids.SAME:
        return []
    both = f"{path.name} lies on {grid_words(labels.geometry)}, the image on {grid_words(image)}"
    if relation is Grids.ROUNDING:
        found = (
            f"{path.name} and the image are {image.distance_voxels(labels.geometry):.2g} voxels"
            " apart: the rounding of a header"
        )
        cure = "nothing: hilum takes the image's grid; --fix writes it down for other tools"
        return [Finding.note(case, "grid-rounding", found, cure, fixable=True)]
    if relation is Grids.PICTURES:
        cure = (
            "nothing: hilum takes the image's grid, pixel by pixel; --fix writes it down for other"
            " tools"
        )
        return [Finding.note(case, "grid-header", both, cure, fixable=True)]
    if relation is Grids.HEADER_LOST:
        cure = (
            "--fix gives it the image's grid, voxel by voxel: look at one case afterwards, it could"
            " still be flipped"
        )
        return [Finding.error(case, "grid-header", both, cure, fixable=True)]
    inside = share_inside(labels, image)
    cure, fixable = "--fix resamples the annotation onto the image's grid", True
    if relation is Grids.UNPLACED:
        cure, fixable = cure_of_unplaced(image, labels.geometry), False
    elif inside < INSIDE_IMAGE:
        both = f"{both}; only {inside:.0%} of the annotated voxels are inside the image"
        cure, fixable = (
            "find the image it was drawn on, or correct its header; resampling would cut it",
            False,
        )
    return [Finding.error(case, "grid-mismatch", both, cure, fixable=fixable)]


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
