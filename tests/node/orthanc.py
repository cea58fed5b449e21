"""A real Orthanc with its DICOMweb plug-in, on free loopback ports, in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path

import pytest
from node_samples import free_port, wait_until

from programs import require

PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")


def dicomweb_plugin() -> str:
    """Return the plug-in's file; without it skip the test, in CI fail it."""
    for folder in PLUGINS:
        for path in sorted(Path(folder).glob("libOrthancDicomWeb.so*")):
            return str(path)
    return require("libOrthancDicomWeb.so")


class Orthanc:
    """A running Orthanc.

    Args:
        folder: for its configuration, storage and log.
        peers: by name, application entity title and port of others on this machine.
    """

    title = "ORTHANC"

    def __init__(self, folder: Path, peers: dict[str, tuple[str, int]] | None = None) -> None:
        self.http, self.port = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "hilum-test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [dicomweb_plugin()],
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.port,
            "DicomAet": self.title,
            "UnknownSopClassAccepted": True,
            "DicomModalities": {
                name: [title, "127.0.0.1", port] for name, (title, port) in (peers or {}).items()
            },
            "StableAge": 1,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.log = folder / "orthanc.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [require("Orthanc"), str(folder / "orthanc.json")],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self.get("/system"), what="Orthanc")

    @property
    def web(self) -> str:
        """The address of its DICOMweb service."""
        return f"dicomweb://127.0.0.1:{self.http}/dicom-web"

    @property
    def destination(self) -> str:
        """Its address for C-STORE."""
        return f"{self.title}@127.0.0.1:{self.port}"

    def get(self, path: str):
        """Read JSON of its own interface."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """Read a file by its own interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as reply:
            return reply.read()

    def post(self, path: str, body: object, method: str = "POST") -> bytes:
        """Send JSON, or a file's bytes, to its own interface; return its reply."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.http}{path}"
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  (made just above)
            return reply.read()

    def add(self, *files: Path) -> None:
        """Store files, as if they had come from a scanner."""
        for file in files:
            self.post("/instances", file.read_bytes())

    def series(self, modality: str) -> list[dict]:
        """List the series of a modality, with their instances."""
        found = [self.get(f"/series/{one}") for one in self.get("/series")]
        return [one for one in found if one["MainDicomTags"].get("Modality") == modality]

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def orthanc(tmp_path):
    """An Orthanc without peers."""
    running = Orthanc(tmp_path / "orthanc")
    yield running
    running.stop()
