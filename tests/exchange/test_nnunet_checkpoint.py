"""A checkpoint is read as torch reads it, and nothing that a hostile file wants is done."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from hilum.errors import ModelError
from hilum.exchange.nnunet.checkpoint import StoredTensor, read_checkpoint


def honest():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return {
        "network_weights": OrderedDict(
            a=base,
            part=base[1:, ::2],
            turned=base.t(),
            half=base.half(),
            brain=base.bfloat16(),
            count=torch.tensor(7),
            empty=torch.zeros(0, 3),
            parameter=torch.nn.Parameter(base + 1),
        ),
        "optimizer_state": {
            "state": {0: {"momentum_buffer": base * 2}},
            "param_groups": [{"lr": 0.01, "params": [0]}],
        },
        "logging": {"dice": [[np.float64(0.25), np.float32(0.5)]], "epochs": [np.int64(3)]},
        "init_args": {
            "plans": {"a": [1, None, "x"]},
            "device": torch.device("cuda", 0),
            "shape": torch.Size([2, 3]),
        },
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "dtype": torch.float32,
    }


def test_it_reads_what_torch_reads(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save(honest(), path)
    notes, weights = read_checkpoint(path, "network_weights")
    expected = torch.load(path, weights_only=False)["network_weights"]
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor.detach()), name
        assert weights[name].dtype == tensor.dtype
    assert notes["logging"] == {"dice": [[None, None]], "epochs": [None]}  # nothing reads them
    assert notes["init_args"] == {
        "plans": {"a": [1, None, "x"]},
        "device": None,
        "shape": (2, 3),
    }
    assert notes["inference_allowed_mirroring_axes"] == (0, 1, 2)
    stored = notes["optimizer_state"]["state"][0]["momentum_buffer"]
    assert isinstance(stored, StoredTensor)
    assert stored.shape == (4, 6)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def rewritten(path, replace=None, **entries):
    """The archive again, its description run through `replace`, entries added or exchanged."""
    with zipfile.ZipFile(path) as archive:
        read = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in read:
            short = name.partition("/")[2]
            made = (
                replace(data)
                if replace and short == "data.pkl"
                else entries.get(short.replace("/", "_"), data)
            )
            archive.writestr(name, made)


@pytest.mark.parametrize("place", ["network_weights", "logging"])
@pytest.mark.parametrize(
    "evil",
    [
        lambda file: Evil(os.system, f"touch {file}"),
        lambda file: Evil(eval, f"open({str(file)!r}, 'w')"),
        lambda file: Evil(getattr, str(file), "upper"),
        lambda file: np.array([Evil(os.system, f"touch {file}")], dtype=object),
        lambda file: np.zeros(3),
    ],
)
def test_a_name_outside_the_list_is_refused_and_nothing_is_run(tmp_path, place, evil):
    path, sentinel = tmp_path / "checkpoint_final.pth", tmp_path / "was_run"
    checkpoint = honest()
    checkpoint[place]["evil"] = evil(sentinel)
    torch.save(checkpoint, path)
    with pytest.raises(ModelError, match=r"nothing of the file was run"):
        read_checkpoint(path, "network_weights")
    assert not sentinel.exists()


def description(path, data):
    """A checkpoint whose description is these bytes."""
    torch.save(honest(), path)
    rewritten(path, replace=lambda _: data)


HOSTILE = {
    "not a pickle": b"\x80\x02nonsense",
    "empty": b"",
    "no dictionary": pickle.dumps([1, 2], 2),
    "an endless string": b"\x80\x02\x8d" + b"\xff" * 7 + b"\x7f" + b"a.",
    "a huge memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "an extension": b"\x80\x02\x82\x01.",
    "a state for a function": b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00ax\x01\x00\x00\x00bsb.",
    "bytes in another encoding": (
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."
    ),
    "an object dtype": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.",
    "a storage that is none": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)))tR.",
    "a persistent id that is none": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "deep": b"\x80\x02" + b"(" * 100_000 + b"t" * 99_999 + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions_are_refused(tmp_path, name):
    path = tmp_path / "checkpoint_final.pth"
    description(path, HOSTILE[name])
    with pytest.raises(ModelError):
        read_checkpoint(path, "network_weights")


def tensor_of(count, *, offset=0, shape=(2, 3), strides=(3, 1)):
    """The description of a checkpoint with one tensor of a storage of so many elements."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj is Storage else None

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                Storage,
                offset,
                shape,
                strides,
                False,
                OrderedDict(),
            )

    file = io.BytesIO()
    Pickler(file, 2).dump({"network_weights": {"a": Tensor()}})
    return file.getvalue()


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        ({"count": 24, "offset": 20}, "needs more than the 24 elements of its storage"),
        (
            {"count": 24, "shape": (1000, 1000, 1000, 1000), "strides": (0, 0, 0, 0)},
            "needs more than the 24 elements of its storage",
        ),
        ({"count": 24, "shape": (-2, 3)}, r"no whole number from 0 to 2\*\*48 \(int\)"),
        ({"count": 24, "shape": (2,)}, "a tensor has 1 axes and 2 strides"),
        ({"count": 24, "shape": (1,) * 17, "strides": (1,) * 17}, "has 17 axes, more than 16"),
        ({"count": 24, "strides": None}, "has no storage, shape or strides"),
        ({"count": 24, "offset": -1}, r"no whole number from 0 to 2\*\*48 \(int\)"),
        ({"count": 2**40, "shape": (2**40,), "strides": (1,)}, "that share their numbers"),
        ({"count": 6}, "storage 0 is 96 bytes long"),
        ({"count": "many"}, r"no whole number from 0 to 2\*\*48 \(str\)"),
    ],
)
def test_hostile_sizes_are_refused(tmp_path, tensor, says):
    path = tmp_path / "checkpoint_final.pth"
    description(path, tensor_of(24))
    assert read_checkpoint(path, "network_weights")[1]["a"].shape == (
        2,
        3,
    )  # the honest one is read
    description(path, tensor_of(**tensor))
    with pytest.raises(ModelError, match=says):
        read_checkpoint(path, "network_weights")


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save(honest(), path)
    with zipfile.ZipFile(path) as archive:
        read = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in read:
            archive.writestr(name, data)
    with pytest.raises(ModelError, match="compressed"):
        read_checkpoint(path, "network_weights")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/weights", b"")
    with pytest.raises(ModelError, match="without a checkpoint"):
        read_checkpoint(path, "network_weights")
    torch.save(honest(), path)
    rewritten(path, byteorder=b"big")
    with pytest.raises(ModelError, match="little-endian"):
        read_checkpoint(path, "network_weights")
    torch.save(honest(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(path, "network_weights")


def test_older_formats_are_refused_with_a_cure(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save(honest(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match="not in the zip format") as refused:
        read_checkpoint(path, "network_weights")
    assert "torch.save(torch.load" in str(refused.value.cure)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "none.pth", "network_weights")


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"model": {}}, path)
    with pytest.raises(ModelError, match="without 'network_weights'"):
        read_checkpoint(path, "network_weights")
    torch.save({"network_weights": {"a": 3}}, path)
    with pytest.raises(ModelError, match="no tensor"):
        read_checkpoint(path, "network_weights")


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word


LAUGHS = b"".join(
    b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60)
)
LAUGHS = (
    b"Nq\x00" + LAUGHS
)  # 60 tuples, each of two that are the one before: 2^60 parts if written out
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x18tQ"
)
BOMBS = {
    "a byte array": b"\x96" + (40 * 2**30).to_bytes(8, "little"),
    "a deep tuple as a key": b"})" + b"\x85" * 1_000_000 + b"K\x01s.",
    "a deep tuple": b")" + b"\x85" * 1_000_000 + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "laughs": LAUGHS + b".",
    "laughs for a device": LAUGHS + b"\x85q\x7fctorch\ndevice\nh\x7fR.",
    "laughs for a storage": LAUGHS + b"Q.",
    "laughs for a numpy type": LAUGHS + b"\x85q\x7fcnumpy\ndtype\nh\x7fR.",
    "laughs for a size": LAUGHS + TENSOR + b"(" + STORAGE + b"K\x00" + b"h\x3c" * 2 + b"tR.",
    "laughs as a key": b"}" + LAUGHS + b"Ns.",
    "a long text many times": (
        b"](" + text(b"a" * 1_000_000) + b"q\x00" + b"h\x00" * 1_000_000 + b"e."
    ),
    "copies of a long text": (
        b"c_codecs\nencode\nq\x01"
        + text(b"a" * 1_000_000)
        + b"\x85q\x00"
        + b"h\x01h\x00R" * 100_000
        + b"."
    ),
    "copies of a long list": (
        b"ctorch\nSize\nq\x01]q\x02("
        + b"N" * 1_000_000
        + b"e\x85q\x00"
        + b"h\x01h\x00R" * 100_000
        + b"."
    ),
    "lists": b"]" * 60_000_000 + b".",
    "marks": b"(" * 60_000_000 + b".",
    "dictionaries in order": b"ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 15_000_000 + b".",
}
READ = """
import resource, sys
from hilum.errors import ModelError
from hilum.exchange.nnunet.checkpoint import read_checkpoint
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
for path in sys.argv[1:]:
    try:
        read_checkpoint(path, "network_weights")
    except ModelError as error:
        print("refused", str(error)[:1000].replace(chr(10), " "), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_few_bytes_cannot_fill_memory_or_end_the_process(tmp_path):
    paths = []
    for name, data in BOMBS.items():
        paths.append(tmp_path / f"{name}.pth")
        description(paths[-1], b"\x80\x02" + data)
    paths.append(tmp_path / "one storage by many names.pth")
    base = torch.zeros(1_000_000)
    torch.save({"network_weights": {str(n): base[n:] for n in range(10_000)}}, paths[-1])
    ended = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    said = ended.stdout.splitlines()
    assert ended.returncode == 0, (ended.returncode, said, ended.stderr[-1000:])
    assert len(said) == len(paths)
    assert not [line for line in said if "Memory" in line]
    for path, line in zip(paths, said, strict=True):
        assert path.name in line


def test_one_tensor_by_many_names_is_held_once(tmp_path):
    path, base = tmp_path / "checkpoint_final.pth", torch.zeros(1_000_000)
    torch.save({"network_weights": {str(n): base for n in range(1000)}}, path)
    weights = read_checkpoint(path, "network_weights")[1]
    assert len(weights) == 1000
    assert len({tensor.data_ptr() for tensor in weights.values()}) == 1
