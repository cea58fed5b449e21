"""Configuration of a node: what it listens on, which models it runs, where results go."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hilum.dicom.rule import ANY, parse_rule
from hilum.engines.memory import parse_memory
from hilum.errors import UsageError, some, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRY_SECONDS = (30, 120, 600, 1800, 3600, 7200, 14400, 28800, 43200)
"""Seconds before each further attempt; after the last one, some 28 hours, the work is given up."""

_PEER = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@/]+):(?P<port>\d{1,5})")
_OWN = "Value error, "  # before the text of an error of ours
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Amount = Annotated[int, BeforeValidator(parse_memory)]
"""Bytes, written as "2GB"."""
Port = Annotated[int, Field(ge=0, le=65535)]
Title = Annotated[str, Field(pattern=r"^[^\\\x00-\x1f]{1,16}$")]
"""An application entity title."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Tls(_Part):
    """Files of TLS, all in PEM.

    Args:
        certificate: of this node.
        key: of the certificate.
        authority: certificates that the other side must be signed by.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


class Peer(_Part):
    """A DICOM application on the network.

    Args:
        title: its application entity title.
        host: its name or address.
        port: its port.
        tls: talk to it by TLS with these files; None: not encrypted.
    """

    title: Title
    host: str = Field(min_length=1)
    port: Port
    tls: Tls | None = None


class Destination(_Part):
    """A place that results are sent to: a peer by C-STORE, or a DICOMweb service by STOW-RS.

    Args:
        name: how models and logs call it.
        peer: for C-STORE.
        url: http or https address of the DICOMweb service.
        authority: certificates that the service must be signed by; None: those that the system
            trusts.
    """

    name: str = Field(pattern=_NAME)
    peer: Peer | None = None
    url: str | None = Field(default=None, pattern=r"^(https?|dicomwebs?)://[^/]")
    authority: Path | None = None

    @model_validator(mode="after")
    def _has_one_address(self) -> Self:
        if (self.peer is None) == (self.url is None):
            raise ValueError(f"destination {self.name} needs a peer or a url, not both")
        return self


class ServedModel(_Part):
    """A model, and the studies that it is for.

    Args:
        name: how folders, logs and metrics call it.
        folder: of the model, trained or exported.
        rule: series that it takes, in the words of `hilum predict --series`; "": the choice is the
            model's own.
        formats: of the results, see `hilum predict --format`; (): the DICOM format of its task.
        destinations: names of destinations; None: all of them.
    """

    name: str = Field(pattern=_NAME)
    folder: Path
    rule: str = ""
    formats: tuple[str, ...] = ()
    destinations: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _is_understood(self) -> Self:
        """Refuse a rule that cannot be read and formats that do not exist."""
        try:
            parse_rule(self.rule or ANY)
            if self.formats:
                _refuse_unknown(self.formats)
        except UsageError as error:
            raise ValueError(f"{error.found}; {error.cure or error.needed}") from error
        return self


def _refuse_unknown(formats: Iterable[str]) -> None:
    """Raise at a name that is no format of either task."""
    from hilum.inference.class_prediction import CLASS_FORMATS
    from hilum.inference.prediction import FORMATS

    known = {*FORMATS, *CLASS_FORMATS}
    for name in formats:
        if name not in known:
            raise unknown_name("format", "", name, sorted(known))


class NodeConfig(_Part):
    """Settings of a node.

    Args:
        folder: holds received images, queue, results and what was given up.
        models: at least one.
        title: application entity title of the node.
        host: address to listen on; "": all of this machine's.
        port: to listen on; 0: any free one.
        allow: application entity titles that may connect; empty: any.
        quiet_seconds: a study is complete when nothing of it arrived for so long.
        reserve: free bytes on the disk below which nothing is accepted.
        keep_days: images stay for so long after the results were acknowledged.
        keep_dead_days: images and reasons stay for so long after work on them was given up.
        retry_seconds: see `RETRY_SECONDS`.
        predict_minutes: a prediction that takes longer is stopped, and tried again.
        associations: connections at the same time.
        tls: listen by TLS with these files; with an authority, peers must show a certificate.
        destinations: where results go.
        peers: where storage commitments are confirmed, beside the destinations.
        device: that models run on.
        status_port: of the status page and metrics; None: there is none.
        status_host: address that the status page listens on.
    """

    folder: Path
    models: tuple[ServedModel, ...]
    title: Title = "HILUM"
    host: str = ""
    port: Port = 11112
    allow: tuple[Title, ...] = ()
    quiet_seconds: float = Field(default=60.0, gt=0)
    reserve: Amount = 2_000_000_000
    keep_days: float = Field(default=7.0, ge=0)
    keep_dead_days: float = Field(default=30.0, ge=0)
    retry_seconds: tuple[float, ...] = RETRY_SECONDS
    predict_minutes: float = Field(default=120.0, gt=0)
    associations: int = Field(default=25, ge=1)
    tls: Tls | None = None
    destinations: tuple[Destination, ...] = ()
    peers: tuple[Peer, ...] = ()
    device: str = "auto"
    status_port: Port | None = None
    status_host: str = "127.0.0.1"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse names that stand twice, destinations that are not there, and TLS without a key."""
        for names in ([one.name for one in self.models], [one.name for one in self.destinations]):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two entries are named {some(twice)}")
        wanted = {name for one in self.models for name in one.destinations or ()}
        unknown = sorted(wanted - {one.name for one in self.destinations})
        if unknown:
            raise ValueError(f"no destination is named {some(unknown)}")
        if self.tls is not None and (self.tls.certificate is None or self.tls.key is None):
            raise ValueError("tls needs a certificate and a key to listen with")
        return self

    def destinations_of(self, model: str) -> tuple[Destination, ...]:
        """List the destinations of a model's results."""
        chosen = next(one.destinations for one in self.models if one.name == model)
        return tuple(one for one in self.destinations if chosen is None or one.name in chosen)

    def address_of(self, title: str) -> Peer | None:
        """Find the peer of an application entity title."""
        known = (*self.peers, *(one.peer for one in self.destinations if one.peer is not None))
        return next((one for one in known if one.title == title), None)


def read_config(path: Path) -> dict[str, object]:
    """Read the settings of a TOML file; relative paths in it are relative to the file's folder.

    Raises:
        UsageError: there is no such file, or it is no TOML.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", cure="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no TOML file: {error}", needed="a file as in docs/how-to/pacs.md"
        ) from error
    return {key: _below(path.parent, key, value) for key, value in settings.items()}


_PATHS = ("folder", "certificate", "key", "authority")


def _below(folder: Path, key: str, value: object) -> object:
    """Make the paths among settings absolute."""
    if isinstance(value, dict):
        return {inner: _below(folder, inner, one) for inner, one in value.items()}
    if isinstance(value, list):
        return [_below(folder, key, one) if isinstance(one, dict) else one for one in value]
    return str(folder.absolute() / value) if key in _PATHS and isinstance(value, str) else value


def make_config(settings: dict[str, object]) -> NodeConfig:
    """Check settings and make the configuration.

    Raises:
        UsageError: a setting is unknown, missing or out of range.
    """
    if not settings.get("models"):
        raise UsageError(
            "the node has no model",
            needed="one model at least",
            cure="model='FOLDER', or a file of settings with [[models]] as in docs/how-to/pacs.md",
        )
    try:
        return NodeConfig.model_validate(settings)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, one['loc'])) or 'the node'}: {one['msg'].removeprefix(_OWN)}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise UsageError(
            f"settings of the node: {some(wrong)}",
            needed="settings as in docs/how-to/pacs.md",
            cure="correct them in the file or on the command line",
        ) from error


def parse_destination(text: str) -> Destination:
    """Read a destination: "PACS@10.0.0.5:104", or the address of a DICOMweb service.

    Raises:
        UsageError: it is neither.
    """
    if re.match(r"(https?|dicomwebs?)://[^/]", text):
        return Destination(
            name=re.sub(r"[^A-Za-z0-9._-]+", "-", text.partition("://")[2]), url=text
        )
    found = _PEER.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= 65535:
        raise UsageError(
            f"{text!r} is no destination",
            needed="TITLE@HOST:PORT for C-STORE, or http://... or https://... for DICOMweb",
            cure="e.g. ORTHANC@127.0.0.1:4242",
        )
    peer = Peer(title=found["title"], host=found["host"].strip("[]"), port=int(found["port"]))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", found["title"]).lstrip(".-_") or "peer"
    return Destination(name=name, peer=peer)
