"""Settings of the node: from a file, from the command line, and what is wrong with them."""

import pytest

from hilum.errors import ModelError, ResourceError, UsageError
from hilum.node import Node, make_config, parse_destination, read_config
from hilum.node.config import Tls
from hilum.node.delivery import client_context, retry_after

FILE = """
folder = "spool"
title = "LIVER"
allow = ["CT1", "PACS"]
reserve = "5GB"

[[models]]
name = "liver"
folder = "models/liver"
rule = "modality=CT"
formats = ["dicom-seg", "dicom-sr"]
destinations = ["pacs"]

[[destinations]]
name = "pacs"
peer = {title = "PACS", host = "10.0.0.5", port = 104}

[[destinations]]
name = "archive"
url = "https://archive/dicom-web"
"""


def test_files_give_settings_with_paths_beside_them(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(FILE)
    config = make_config(read_config(path))
    assert config.folder == tmp_path / "spool"
    assert config.models[0].folder == tmp_path / "models" / "liver"
    assert config.reserve == 5_000_000_000
    assert [one.name for one in config.destinations_of("liver")] == ["pacs"]
    assert config.address_of("PACS").host == "10.0.0.5"
    assert config.address_of("OTHER") is None


MODEL = {"folder": "x", "models": [{"name": "m", "folder": "m"}]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, r"(?s)the node has no model.*model='FOLDER', or a file of settings"),
        (
            {"models": [{"name": "m", "folder": "m", "rule": "modaliti=CT"}]},
            "node: models.0: the rule .*did you mean modality",
        ),
        (
            {"models": [{"name": "m", "folder": "m", "formats": ["dicom-sge"]}]},
            "'dicom-sge' is not known; did you mean 'dicom-seg'",
        ),
        ({"port": 70000}, "port: Input should be less than or equal to 65535"),
        ({"quiet": 3}, "quiet: Extra inputs are not permitted"),
        ({"title": "A" * 17}, "title: String should match"),
        ({"models": MODEL["models"] * 2}, "two entries are named m"),
        (
            {"models": [{"name": "m", "folder": "m", "destinations": ["p"]}]},
            "no destination is named p",
        ),
        ({"destinations": [{"name": "p"}]}, "destination p needs a peer or a url"),
        ({"tls": {"key": "k.pem"}}, "tls needs a certificate and a key"),
        ({"reserve": "much"}, "memory='much' is no amount"),
    ],
)
def test_settings_that_are_wrong_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        make_config(MODEL | changes)


def test_files_that_are_no_settings_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"node\.toml: no such file"):
        read_config(tmp_path / "node.toml")
    (tmp_path / "node.toml").write_text("title = ")
    with pytest.raises(UsageError, match="is no TOML file"):
        read_config(tmp_path / "node.toml")


def test_destinations_are_read_from_one_word():
    peer = parse_destination("PACS@10.0.0.5:104").peer
    assert (peer.title, peer.host, peer.port) == ("PACS", "10.0.0.5", 104)
    assert parse_destination("PACS@[::1]:104").peer.host == "::1"
    assert parse_destination("dicomweb://h:1/x").url == "dicomweb://h:1/x"
    assert parse_destination("https://h:1/x").name == "h-1-x"
    for wrong in ("PACS", "PACS@h", "PACS@h:0", "PACS@h:99999", "ftp://h", "@h:1"):
        with pytest.raises(UsageError, match="destination"):
            parse_destination(wrong)


def test_attempts_follow_the_schedule():
    assert [retry_after(n, (1.0, 5.0)) for n in (1, 2, 3)] == [1.0, 5.0, None]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("modle", r"(?s)modle: no such folder.*did you mean .*model\?"),
        ("model", r"(?s)model: no model.json in it.*`hilum train DATA -o MODEL` has completed"),
    ],
)
def test_models_that_are_not_there_are_named(tmp_path, name, message):
    (tmp_path / "model").mkdir()
    models = [{"name": "m", "folder": str(tmp_path / name)}]
    config = make_config(MODEL | {"folder": str(tmp_path / "node"), "models": models})
    with pytest.raises(ModelError, match=message):
        Node(config)


def test_a_folder_is_used_by_one_node(start):
    start()
    with pytest.raises(ResourceError, match="is in use by another node"):
        start()


def test_ports_in_use_are_named(start, tmp_path):
    node = start()
    with pytest.raises(ResourceError, match=f"port {node.port} cannot be listened on"):
        start(port=node.port, folder=tmp_path / "other")
    with pytest.raises(ResourceError, match=f"port {node.port} cannot be listened on"):
        start(status_port=node.port, folder=tmp_path / "third")


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ResourceError, match=r"TLS cannot use .*ca\.pem"):
        client_context(Tls(authority=tmp_path / "ca.pem"))
