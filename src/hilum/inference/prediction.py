"""The answer for one case, and how it becomes files."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hilum.errors import UsageError
from hilum.io import atomic_write_text, image_suffix, write_labels, write_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hilum.volume import LabelTable, Volume


F = TypeVar("F")


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds of the parts of one prediction."""

    read: float = 0.0
    preprocess: float = 0.0
    network: float = 0.0
    restore: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """Their sum; reading and writing may have run beside another case."""
        return self.read + self.preprocess + self.network + self.restore + self.write


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about one case, on the case's own grid.

    Args:
        case: the case's id, and the stem of its files.
        labels: (1, Z, Y, X) integers, ids of `table`.
        probabilities: (K, Z, Y, X) float32, one an output of the network, where they were asked for; else None.
        table: what the integers mean.
        model: id of the trained model.
        seconds: how long each part took.
        patches: how many the network saw, and how many it need not see, by name; see `hilum.inference.empty`.
        unlike: what in the image is unlike the training data, see `hilum.inference.unlike`.
    """

    case: str
    labels: Volume
    table: LabelTable
    model: str
    probabilities: Volume | None = None
    seconds: Seconds = field(default_factory=Seconds)
    patches: Mapping[str, int] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()

    def save(self, path: Path | str, *, formats: Sequence[str] = ("nifti",)) -> tuple[Path, ...]:
        """Write the labels, and the probabilities where there are any.

        Args:
            path: a file with an image suffix (then the suffix is the format), or a folder, made where it is missing, for
                `<case>.nii.gz` and so on.
            formats: among `FORMATS`, for a folder.

        Returns:
            The files written, each complete or not there at all.

        Raises:
            UsageError: a format that does not exist.
        """
        path = Path(path)
        if image_suffix(path) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_labels(self.labels, path)
            return (path,)
        chosen = [find_format(name, FORMATS) for name in formats]
        path.mkdir(parents=True, exist_ok=True)
        return tuple(file for one in chosen for file in one.write(self, path))


@dataclass(frozen=True)
class PredictionFormat:
    """One way to write a prediction.

    Args:
        suffix: the labels are in `<case><suffix>`.
        write: writes into a folder and returns its files.
    """

    suffix: str
    write: Callable[[Prediction, Path], tuple[Path, ...]]


def _image(suffix: str) -> PredictionFormat:
    def write(prediction: Prediction, folder: Path) -> tuple[Path, ...]:
        labels = folder / f"{prediction.case}{suffix}"
        write_labels(prediction.labels, labels)
        if prediction.probabilities is None:
            return (labels,)
        probabilities = folder / f"{prediction.case}_probabilities{suffix}"
        write_volume(prediction.probabilities, probabilities)
        return labels, probabilities

    return PredictionFormat(suffix, write)


FORMATS: dict[str, PredictionFormat] = {
    "nifti": _image(".nii.gz"),
    "nrrd": _image(".nrrd"),
    "mha": _image(".mha"),
    "png": _image(".png"),
    "tiff": _image(".tif"),
}
"""How a prediction is written, by the name users give."""


def find_format(name: str, known: Mapping[str, F]) -> F:
    """The format of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in known:
        near = get_close_matches(name, known, n=1)
        raise UsageError(f"format {name!r}", needed=", ".join(known), cure=f"--format {near[0] if near else next(iter(known))}")
    return known[name]


class LabelWriter:
    """Writes the answers of a segmentation to a folder, one file a case and format.

    Args:
        out: the folder.
        formats: among `FORMATS`.
        table: what the integers mean; written beside them as labels.json.

    Raises:
        UsageError: a format that does not exist.
    """

    def __init__(self, out: Path, formats: Sequence[str], table: LabelTable) -> None:
        self._out, self._formats, self._table, self._any = out, tuple(formats), table, False
        self._suffixes = [find_format(name, FORMATS).suffix for name in formats]

    def there(self, case: str) -> bool:
        """Whether the case's labels are there in every format."""
        return all((self._out / f"{case}{suffix}").is_file() for suffix in self._suffixes)

    def files_of(self, case: str) -> tuple[Path, ...]:
        """Whatever may be there of a case's answers, in any format."""
        return tuple(self._out / f"{case}{kind}{one.suffix}" for one in FORMATS.values() for kind in ("", "_probabilities"))

    def all_files(self) -> tuple[Path, ...]:
        """The answers that are there, to whatever case."""
        suffixes = {one.suffix for one in FORMATS.values()}
        return tuple(file for file in sorted(self._out.glob("[!.]*")) if image_suffix(file) in suffixes)

    def write(self, prediction: Prediction) -> tuple[Path, ...]:
        """Write one answer."""
        self._any = True
        return prediction.save(self._out, formats=self._formats)

    def close(self) -> None:
        """Write what the integers mean, where there are any."""
        if self._any:
            atomic_write_text(self._out / "labels.json", self._table.model_dump_json(indent=2) + "\n")
