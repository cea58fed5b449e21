"""Identifiers planted in all places are gone, and the report names each of them."""

import warnings
import zlib
from contextlib import contextmanager

import pydicom
import pytest
from deid_planted import plant_study
from pydicom.fileset import FileSet

from hilum import DeidentifyOptions, deidentify


@pytest.fixture(scope="module", params=["shift", "remove"])
def planted(request, tmp_path_factory):
    """A planted study, de-identified."""
    folder = tmp_path_factory.mktemp("planted")
    planter = plant_study(folder / "in")
    with quiet():
        media = FileSet()
        media.add(folder / "in" / "Qwertz_Zappa" / "9.dcm")
        media.ID = "QWERTZZAPPA"
        media.write(folder / "in" / "media")
        media._stage["t"].cleanup()
    options = DeidentifyOptions(dates=request.param)
    report = deidentify(folder / "in", folder / "out", key=folder / "key", options=options)
    return planter, report, folder


@contextmanager
def quiet():
    """Ignore that pydicom leaves temporary folders to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def output_bytes(folder):
    """All bytes of the output, deflated data sets inflated, and all names of files."""
    whole = b""
    for path in sorted((folder / "out").rglob("*")):
        whole += str(path.relative_to(folder)).encode() + b"\n"
        if path.is_file():
            raw = path.read_bytes()
            whole += raw
            if b"1.2.840.10008.1.2.1.99" in raw[:400]:
                meta = pydicom.filereader.read_file_meta_info(path)
                start = 144 + meta.FileMetaInformationGroupLength
                whole += zlib.decompressobj(-15).decompress(raw[start:])
    return whole


def test_five_hundred_planted_identifiers_are_gone(planted):
    planter, _, folder = planted
    everything = output_bytes(folder).lower()
    assert len(planter.words) + len(planter.gone) >= 500
    left = [word for word in planter.words if word.lower().encode() in everything]
    left += [word for word in planter.gone if word.lower() in everything]
    parts = [part for word in planter.words for part in word.split("^") if "^" in word]
    left += [part for part in parts if part.lower().encode() in everything]
    assert left == []


def test_report_names_each_planted_identifier(planted):
    planter, report, _ = planted
    named = {value.value for value in report.values}
    named |= {part for value in named for part in value.split("\\")}
    missing = [word for word in planter.words if word not in named and word[:8] not in named]
    assert missing == []
    assert report.found == ()
    failed = {one.source for one in report.failed}
    assert failed == ({"DICOMDIR"} if "remove" in report.options else set())
    assert report.searched == report.written


def test_not_searchable_values_are_counted(planted):
    _, report, _ = planted
    assert report.not_searchable["private"] > 0
    assert 0 not in report.not_searchable.values()


def test_dicomdir_is_rebuilt_from_the_output(planted):
    _, report, folder = planted
    if "remove" in report.options:
        return  # without a study date no record can be written, which the report says
    with quiet():
        media = FileSet(folder / "out" / "DICOMDIR")
        media._stage["t"].cleanup()
    assert len(media) == 5
    for instance in media:
        assert instance.load().SOPInstanceUID == instance.SOPInstanceUID
        assert len(instance.path.removeprefix(str(folder / "out")).split("/")) == 5
