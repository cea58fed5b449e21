"""Prediction of a segmentation for one case, and its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import DataError, UsageError, find_named
from hilum.files import OutputFolder, image_suffix
from hilum.files.names import PICTURE_SUFFIXES
from hilum.inference.case_predictor import Seconds
from hilum.inference.dicom import formats as dicom
from hilum.inference.dicom.names import (
    KEY_IMAGES,
    PAGE,
    REPORT,
    SEGMENTATION,
    SEGMENTATIONS,
    STRUCTURES,
    refuse_for_formats,
    segmentation_among,
)
from hilum.inference.prediction_writer import PredictionWriter
from hilum.io import inspect_file, write_labels, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from hilum.dataset.case import Case
    from hilum.dicom_results.seg import Kind
    from hilum.inference.confidence import CaseConfidence
    from hilum.inference.dicom.measure import MeasuredCase
    from hilum.inference.dicom.source import DicomSource
    from hilum.volume import LabelTable, Volume


AUTO = "auto"
"""The name of the format that follows the image."""
PROBABILITIES, CONTOURS = "probabilities", "contours"
"""Ends of the names of volumes beside the labels."""
MOST_IN_PICTURES = 2**16 - 1
"""The largest label that a picture of 16 bits holds."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's prediction for one case, on the case's own grid.

    Args:
        case: the case's id, and the stem of its files.
        labels: (1, Z, Y, X) integers, ids of `table`.
        probabilities: (K, Z, Y, X) float32, one an output of the network, where they were asked
            for; else None.
        table: what the integers mean.
        model: id of the trained model.
        seconds: how long each part took.
        patches: how many the network saw, and how many it need not see, by name; see
            `hilum.inference.empty`.
        unlike: what in the image is unlike the training data, see `hilum.inference.unlike`.
        picture: whether "auto" writes the labels as a picture, see `written_as_picture`.
        files: the file or DICOM folder of each channel; none where it was given as a volume.
        confidence: intervals of volumes, expected Dice and contours; None where the model carries
            none.
        contours: (R, Z, Y, X) uint8, one channel a scored region: 2 within the inner contour, 1
            between both; where they were asked for.
    """

    case: str
    labels: Volume
    table: LabelTable
    model: str
    probabilities: Volume | None = None
    seconds: Seconds = field(default_factory=Seconds)
    patches: Mapping[str, int] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    picture: bool = False
    files: tuple[Path, ...] = ()
    confidence: CaseConfidence | None = None
    contours: Volume | None = None

    @cached_property
    def dicom_source(self) -> DicomSource:
        """The DICOM series that it was predicted from.

        Raises:
            DataError: it was predicted from something else, or the series cannot be read.
        """
        from hilum.inference.dicom.source import DicomSource

        return DicomSource.open(self.case, self.files)

    @cached_property
    def measured(self) -> MeasuredCase:
        """The labels on the frames of the DICOM series that they were predicted from, measured.

        Raises:
            DataError: it was predicted from something else, or the series cannot be read.
        """
        from hilum.inference.dicom.measure import MeasuredCase

        return MeasuredCase.of(self)

    @property
    def _beside(self) -> dict[str, Volume]:
        """Volumes that are written beside the labels, by the end of their name."""
        both = {PROBABILITIES: self.probabilities, CONTOURS: self.contours}
        return {name: volume for name, volume in both.items() if volume is not None}

    def save(self, path: Path | str, *, formats: Sequence[str] = (AUTO,)) -> tuple[Path, ...]:
        """Write the labels, and the probabilities where there are any.

        Args:
            path: a file with an image suffix (then the suffix is the format), or a folder, made
                where it is missing, for `<case>.nii.gz` and so on.
            formats: among `FORMATS`, for a folder; "auto" is PNG for a picture, NIfTI for all else.

        Returns:
            The files written, each complete or not there at all.

        Raises:
            UsageError: a format that does not exist, or a file in the way that hilum did not write.
            ResourceError: another process writes to the folder.
            DataError: a DICOM format of a case that is no DICOM.
        """
        path = Path(path)
        one_file = bool(image_suffix(path)) and not path.is_dir()
        chosen = _choose_formats(formats, picture=self.picture)
        with OutputFolder(path.parent if one_file else path, "predict") as out:
            if one_file:
                out.refuse_foreign([path])
                write_labels(self.labels, path, table=self.table)
                files: tuple[Path, ...] = (path,)
            else:
                out.refuse_foreign(label_files(self.case, chosen, self._beside))
                files = tuple(file for one in chosen for file in one.write(self, path, formats))
            out.record(*files)
        return files


@dataclass(frozen=True)
class PredictionFormat:
    """One way to write a prediction.

    Args:
        suffix: the labels are in `<case><suffix>`.
        beside: probabilities and contours are in `<case>_probabilities<suffix>` and
            `<case>_contours<suffix>` of this suffix, as pictures hold no fractions; None: they are
            not written.
        write: writes into a folder and returns its files; given the names of all formats that are
            written, as one may refer to another.
        more: suffixes of further files that a case may have.
    """

    suffix: str
    beside: str | None
    write: Callable[[Prediction, Path, Collection[str]], tuple[Path, ...]]
    more: tuple[str, ...] = ()


def _image(suffix: str) -> PredictionFormat:
    """Make the format that writes label maps, and probabilities, as images of a suffix."""
    beside = ".nii.gz" if suffix in PICTURE_SUFFIXES else suffix

    def write(
        prediction: Prediction,
        folder: Path,
        together: Collection[str],  # noqa: ARG001  (refers to no other file)
    ) -> tuple[Path, ...]:
        labels = folder / f"{prediction.case}{suffix}"
        write_labels(prediction.labels, labels, table=prediction.table)
        files = [labels]
        for name, volume in prediction._beside.items():  # noqa: SLF001  (the same file)
            files.append(folder / f"{prediction.case}_{name}{beside}")
            write_volume(volume, files[-1])
        return tuple(files)

    return PredictionFormat(suffix, beside, write)


def _segmentation(kind: Kind) -> PredictionFormat:
    """Make the format that writes label maps as DICOM Segmentations of a kind."""
    return PredictionFormat(
        SEGMENTATION,
        None,
        lambda prediction, folder, _: dicom.write_segmentation(prediction, folder, kind),
    )


FORMATS: dict[str, PredictionFormat] = {
    "nifti": _image(".nii.gz"),
    "nrrd": _image(".nrrd"),
    "mha": _image(".mha"),
    "png": _image(".png"),
    "tiff": _image(".tif"),
    **{name: _segmentation(kind) for name, kind in SEGMENTATIONS.items()},
    "dicom-rtstruct": PredictionFormat(
        STRUCTURES, None, lambda prediction, folder, _: dicom.write_structures(prediction, folder)
    ),
    "dicom-sr": PredictionFormat(REPORT, None, dicom.write_report),
    "dicom-sc": PredictionFormat(
        KEY_IMAGES[0],
        None,
        lambda prediction, folder, _: dicom.write_key_images(prediction, folder),
        more=KEY_IMAGES[1:],
    ),
    "dicom-pdf": PredictionFormat(
        PAGE, None, lambda prediction, folder, _: dicom.write_page(prediction, folder)
    ),
}
"""Formats of a prediction, by the name users give."""


def label_files(
    case: str, formats: Collection[PredictionFormat], more: Collection[str]
) -> tuple[str, ...]:
    """Name a segmentation's files, those that it may have included.

    Args:
        case: its id.
        formats: in which it is written.
        more: among `PROBABILITIES` and `CONTOURS`, what is written beside the labels.
    """
    beside = [f"{case}_{name}{one.beside}" for one in formats if one.beside for name in more]
    own = [f"{case}{suffix}" for one in formats for suffix in (one.suffix, *one.more)]
    return tuple(dict.fromkeys([*own, *beside]))


def written_as_picture(files: Sequence[Path], table: LabelTable) -> bool:
    """Return whether "auto" writes a picture: the image is one page whose pixels hold the ids."""
    if (
        not files
        or max(table.ids) > MOST_IN_PICTURES
        or any(image_suffix(file) not in PICTURE_SUFFIXES for file in files)
    ):
        return False
    try:
        return all(inspect_file(file).geometry.is_2d for file in files)
    except DataError:
        return False  # reading it will say what is wrong


def _choose_formats(names: Sequence[str], *, picture: bool) -> list[PredictionFormat]:
    """Return the formats of these names; "auto" is PNG for a picture, else NIfTI."""
    usual = "png" if picture else "nifti"
    segmentation_among(names)
    return [
        find_named("format", "formats", usual if name == AUTO else name, FORMATS) for name in names
    ]


class LabelWriter(PredictionWriter[Prediction]):
    """Writes label maps to a folder, one file a case and format.

    Args:
        out: the folder, held.
        formats: among `FORMATS`.
        table: what the integers mean; written beside them as labels.json.
        more: among `PROBABILITIES` and `CONTOURS`, what is written too.

    Raises:
        UsageError: a format that does not exist or cannot hold the labels, or label maps with other
            labels in the folder.
    """

    def __init__(
        self, out: OutputFolder, formats: Sequence[str], table: LabelTable, more: Collection[str]
    ) -> None:
        self._more, self._formats, self._labels = more, tuple(formats), table
        _choose_formats(formats, picture=False)
        if {"png", "tiff"} & set(formats) and max(table.ids) > MOST_IN_PICTURES:
            raise UsageError(
                f"a picture cannot hold the label {max(table.ids)}",
                needed=f"labels of at most {MOST_IN_PICTURES}",
                cure="formats='nifti'",
            )
        super().__init__(out, "labels.json", table.model_dump_json(indent=2) + "\n")

    def names(self, case: Case) -> tuple[str, ...]:
        """Name the files that will be written for a case."""
        picture = written_as_picture(tuple(case.images.values()), self._labels)
        chosen = _choose_formats(self._formats, picture=picture)
        return label_files(case.id, chosen, self._more)

    def own_names(self, case: Case) -> tuple[str, ...]:
        """Name those that always are there."""
        picture = written_as_picture(tuple(case.images.values()), self._labels)
        chosen = _choose_formats(self._formats, picture=picture)
        always = [replace(one, more=()) for one in chosen]
        return label_files(case.id, always, self._more)

    def refuse(self, case: Case) -> None:
        """Refuse a case that is no DICOM where a DICOM format is asked for."""
        refuse_for_formats(case, self._formats)

    def earlier(self, case: str) -> tuple[Path, ...]:
        """Name what may be there of a case's predictions, in any format."""
        names = label_files(case, FORMATS.values(), (PROBABILITIES, CONTOURS))
        return tuple(self.out.path / name for name in names)

    def write(
        self,
        prediction: Prediction,
        # recorded with the files
        made_from: dict[str, str],  # noqa: ARG002
    ) -> tuple[Path, ...]:
        """Write one prediction, and before the first one what the integers mean."""
        self.write_table()
        formats = _choose_formats(self._formats, picture=prediction.picture)
        return tuple(
            dict.fromkeys(
                file
                for one in formats
                for file in one.write(prediction, self.out.path, self._formats)
            )
        )
