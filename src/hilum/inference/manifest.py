"""model.json: what a trained-model folder holds, with hashes that verify it."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, Field, JsonValue, ValidationError

from hilum.errors import COPY_AGAIN, NEWER_HILUM, ModelError, damaged_model
from hilum.files import atomic_write_text, nearest, sha256
from hilum.files.placeholder import refuse_placeholder
from hilum.plan import PLANS
from hilum.plan.plan import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from hilum.plan import Plan

R = TypeVar("R", bound=BaseModel)

MANIFEST = "model.json"
FORMAT_VERSION = 1
UNSAVED = "unsaved"
"""The id of a model that is in no folder."""
PLAN, LABELS, METRICS, CARD = "plan.json", "labels.json", "metrics.json", "MODEL_CARD.md"
_CARD_CURE = "where the change is meant, accept it: hilum.inference.seal_card(FOLDER)"


class Metric(Record):
    """One number about one label or region, with its interval where there is one."""

    region: str
    name: str
    """"dice", "hd95_mm", ..."""
    mean: float | None
    """None where no case defines it."""
    median: float | None = None
    lower: float | None = None
    upper: float | None = None
    cases: int = Field(default=0, ge=0)


WARNING = "Warning: "
"""First word of a note on a training that nobody must overlook who uses the model."""


class ModelMetrics(Record):
    """Metrics of a model, and the cases they were measured on.

    Args:
        measured_on: in words: "5-fold cross-validation over 208 cases of 208 patients".
        metrics: the numbers.
        level: of the intervals.
        notes: what a reader must know ("the ensemble itself was not measured; each case was
            predicted by one member").
    """

    measured_on: str
    metrics: tuple[Metric, ...] = ()
    level: float = 0.95
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Notes that whoever predicts with the model must see, without their first word."""
        return tuple(one.removeprefix(WARNING) for one in self.notes if one.startswith(WARNING))


class Facts(Record):
    """Facts about a model's training."""

    dataset: str
    cases: int = Field(ge=0)
    patients: int | None = None
    steps: int = Field(ge=0)
    seconds: float = Field(ge=0)
    device: str = ""
    seed: int | None = None
    details: dict[str, JsonValue] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cases_for(self, part: Literal["train", "validation"]) -> frozenset[str]:
        """List the ids of the cases that any network was trained or validated on, where known."""
        lists = [fold.get(part) for fold in self.details.values() if isinstance(fold, dict)]
        return frozenset(
            name for ids in lists if isinstance(ids, list) for name in ids if isinstance(name, str)
        )


class FileHash(Record):
    """Hash and size that a file must have."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(Record):
    """model.json. `id` is over every other field, and so over the hashes of every other file."""

    file_name: ClassVar[str] = MANIFEST
    made_by: ClassVar[str] = "hilum train DATA -o MODEL"
    always: ClassVar[tuple[str, ...]] = (PLAN, LABELS, METRICS, CARD)
    """Files that every such folder holds, beside the members."""

    format_version: int = FORMAT_VERSION
    id: str
    hilum: str
    name: str
    task: str
    created: str
    members: tuple[str, ...] = Field(min_length=1)
    files: dict[str, FileHash]
    facts: Facts | None = None

    @classmethod
    def sealed(cls, **fields: Any) -> Self:
        """Make a manifest with its id."""
        draft = cls(id="", **fields)
        return draft.model_copy(update={"id": draft.computed_id()})

    def with_files(self, files: Mapping[str, FileHash]) -> Self:
        """Make the same with other hashes, and so another id."""
        draft = self.model_copy(update={"files": dict(files)})
        return draft.model_copy(update={"id": draft.computed_id()})

    def computed_id(self) -> str:
        """Compute the value that `id` must have."""
        text = json.dumps(self.model_dump(mode="json", exclude={"id"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write it, completely or not at all."""
        atomic_write_text(folder / self.file_name, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read model.json, or what the kind of folder has in its place.

        Raises:
            ModelError: there is none, it is damaged or altered, or of a newer format.
        """
        path = folder / cls.file_name
        if not path.is_file():
            found = f"no {cls.file_name} in it"
            cure = f"{cls.made_by}; resume=True where a training was interrupted"
            if not folder.is_dir():
                found, cure = "no such folder", nearest(folder)
            elif (folder / "plans.json").is_file() and any(folder.glob("fold_*")):
                found = "the folder of an nnU-Net model"
                cure = f"hilum import nnunet {folder} -o MODEL, then give MODEL"
            raise ModelError(
                f"{folder}: {found}",
                needed=f"a folder that `{cls.made_by}` has completed",
                cure=cure,
            )
        refuse_placeholder(path, ModelError)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            version = fields["format_version"]
            if version > FORMAT_VERSION:
                raise ModelError(
                    f"{path} has format version {version}, written by hilum"
                    f" {fields.get('hilum', 'of a later version')}",
                    needed=(
                        f"format version {FORMAT_VERSION} or older for this hilum {hilum_version()}"
                    ),
                    cure=NEWER_HILUM,
                )
            manifest = cls.model_validate(fields)
        # not JSON, not text, not an object, not these fields
        except (ValueError, KeyError, TypeError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise damaged_model(f"{path}: damaged ({reason})") from error
        if manifest.id != manifest.computed_id():
            raise damaged_model(f"{path}: altered since it was written")
        return manifest

    def check_files(self, folder: Path, *, besides: Iterable[str] = ()) -> None:
        """Compare every file with its hash, except those `besides`.

        Raises:
            ModelError: the first file that is missing or altered, or that no model folder may name.
        """
        unnamed = [name for name in (*self.always, *self.members) if name not in self.files]
        if unnamed:
            raise damaged_model(f"{folder / self.file_name}: no hash for {', '.join(unnamed)}")
        for name, expected in self.files.items():
            if PurePath(name).name != name or "\\" in name:
                where = "which is not in the model folder itself"
                raise damaged_model(f"{folder / self.file_name}: names {name!r}, {where}")
            path = folder / name
            if path.is_file():
                same = path.stat().st_size == expected.bytes and sha256(path) == expected.sha256
                if same or name in besides:
                    continue
            refuse_placeholder(
                path, ModelError
            )  # only now: the network of an export is XML, as some pages are
            if not path.is_file():
                raise damaged_model(
                    f"{path}: missing", f"every file of it: {', '.join(self.files)}"
                )
            raise damaged_model(
                f"{path}: altered since it was saved (another SHA-256)",
                cure=_CARD_CURE if name == CARD else COPY_AGAIN,
            )


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, FileHash]:
    """Hash files in a folder."""
    return {
        name: FileHash(sha256=sha256(folder / name), bytes=(folder / name).stat().st_size)
        for name in names
    }


def hilum_version() -> str:
    """Return the version of hilum that is running."""
    return metadata.version("hilum")


def read_record(kind: type[R], path: Path, manifest: str) -> R:
    """Read a record from a model folder's file.

    Args:
        kind: of the record.
        path: of the file.
        manifest: the file beside it that names the version of hilum.

    Raises:
        ModelError: it does not fit this version of hilum.
    """
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            f"{path}: {error.title} does not fit this version of hilum:"
            f" {'.'.join(map(str, first['loc']))}: {first['msg']}",
            cure=f"use the version of hilum named in {manifest}",
        ) from error


def read_plan(path: Path, manifest: str) -> Plan:
    """Read the plan of whatever task; its errors are the folder's, see `read_record`.

    Raises:
        ModelError: it does not fit this version of hilum.
    """
    try:
        task = json.loads(path.read_text(encoding="utf-8"))["task"]["value"]
        kind = PLANS[task]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: Plan does not fit this version of hilum: task {error}",
            cure=f"use the version of hilum named in {manifest}",
        ) from error
    return read_record(kind, path, manifest)


M = TypeVar("M", bound=Manifest)


def read_model_folder(kind: type[M], folder: Path) -> tuple[M, Plan, ModelMetrics]:
    """Read what every model folder holds: manifest, plan and metrics, its files checked by hash.

    Raises:
        ModelError: a file is missing, altered, or of a newer version.
    """
    manifest = kind.load(folder)
    manifest.check_files(folder)
    plan = read_plan(folder / PLAN, kind.file_name)
    if read_record(type(plan.table), folder / LABELS, kind.file_name) != plan.table:
        raise ModelError(
            f"{folder}: {LABELS} and {PLAN} name different labels",
            needed="the same label table in both",
            cure="copy the folder again from where it was made",
        )
    return manifest, plan, read_record(ModelMetrics, folder / METRICS, kind.file_name)
