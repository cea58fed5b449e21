"""Interface of a predictor, and of the writer of its predictions, whatever the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from hilum.dataset.case import Case
    from hilum.inference.engines.engine import Engine
    from hilum.inference.inputs import Source
    from hilum.inference.manifest import Facts
    from hilum.inference.memory_plan import Size
    from hilum.inference.prediction import Seconds
    from hilum.inference.predictor import Prepared
    from hilum.io import OutputFolder
    from hilum.plan import Plan


class CasePrediction(Protocol):
    """A model's prediction for one case."""

    @property
    def case(self) -> str:
        """The case's id, and the stem of its files."""
        ...

    @property
    def seconds(self) -> Seconds:
        """Wall-clock seconds of its parts."""
        ...

    @property
    def patches(self) -> Mapping[str, int]:
        """Patches that the network ran and that it was spared, by name."""
        ...


P = TypeVar("P", bound=CasePrediction)
P_contra = TypeVar("P_contra", contravariant=True)


class PredictionWriter(Protocol[P_contra]):
    """Writes predictions of many cases to a folder."""

    table_file: str
    """The file that says what labels or classes mean."""

    def names(self, case: Case) -> tuple[str, ...]:
        """Name the files that will be written for a case."""
        ...

    def there(self, case: Case) -> bool:
        """Say that an earlier run wrote the case's prediction in every format."""
        ...

    def made_from(self, case: Case) -> list[dict[str, str]]:
        """Return the hashes of the inputs of each existing file of a case."""
        ...

    def earlier(self, case: str) -> tuple[Path, ...]:
        """Name the files that earlier predictions of a case may have left, in any format."""
        ...

    def kept_rows(self, cases: Collection[str]) -> tuple[int, tuple[str, ...]]:
        """Count the rows of other cases that its table keeps, and list the models of all rows."""
        ...

    def write(self, prediction: P_contra, made_from: dict[str, str]) -> tuple[Path, ...]:
        """Write one prediction and return its files."""
        ...

    def write_table(self) -> None:
        """Write `table_file` where it is needed and missing."""
        ...

    def close(self) -> None:
        """Write what belongs to all cases together."""
        ...


class PredictorModel(Protocol):
    """A model as `predict_many` knows it."""

    @property
    def plan(self) -> Plan:
        """Every decision of the model."""
        ...

    @property
    def id(self) -> str:
        """Of the folder it came from."""
        ...

    @property
    def facts(self) -> Facts | None:
        """Facts about its training, where they are known."""
        ...


class CasePredictor(Protocol[P]):
    """A model that is ready to predict cases of its task."""

    usual_formats: tuple[str, ...]
    asks_annotated: bool
    """Whether also the annotated cases of a data set are predicted, where others are not."""

    @property
    def model(self) -> PredictorModel:
        """The model."""
        ...

    @property
    def engine(self) -> Engine:
        """Runs the network."""
        ...

    @property
    def memory_gb(self) -> float | None:
        """Memory limit of this process, in GiB; None: there is none."""
        ...

    @property
    def run_options(self) -> dict[str, JsonValue]:
        """The options that run.json names."""
        ...

    @property
    def prediction_options(self) -> dict[str, str]:
        """The options that a prediction depends on, by name."""
        ...

    def writer(
        self, out: OutputFolder, formats: Sequence[str], *, probabilities: bool
    ) -> PredictionWriter[P]:
        """Make the writer of predictions to a folder."""
        ...

    def refuse_all(self, cases: Sequence[Case]) -> None:
        """Refuse cases before anything is read where all lack what the model needs."""
        ...

    def size(self, source: Case) -> Size | None:
        """Return the size of a case from its files' headers; None where it is not known."""
        ...

    def reserve(self, expected: Size | None, before: Prepared | None) -> int | None:
        """Bytes of memory for reading a case while another runs; None: it has to wait."""
        ...

    def predict(self, source: Source, *, case: str | None = None, probabilities: bool = False) -> P:
        """Predict one case, whatever it is read from."""
        ...

    def prepare(self, source: Case) -> Prepared:
        """Read and preprocess a case."""
        ...

    def predict_prepared(
        self,
        prepared: Prepared,
        *,
        probabilities: bool = False,
        reserve: int = 0,
        progress: Callable[[int, int], None] | None = None,
        scratch: Path | None = None,
    ) -> P:
        """Predict a preprocessed case."""
        ...
