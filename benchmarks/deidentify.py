"""Nested multi-frame files de-identified per second, and identifiers that each program leaves."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from _common import write_result
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from collections.abc import Callable

NAME, PATIENT, DAY, TITLE, SECRET = (
    "Mustermann",
    "PID-774411",
    "20240305",
    "SCANROOM7",
    "zqxprivate",
)


def one(**values: object) -> Sequence:
    """A sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def frame(number: int) -> Dataset:
    """One frame's groups and private block, about 110 elements in 20 sequences, as XA50 has."""
    moment = f"{DAY}1011{number % 60:02d}.{number:06d}"
    groups = Dataset()
    groups.FrameContentSequence = one(
        FrameReferenceDateTime=moment,
        FrameAcquisitionDateTime=moment,
        FrameAcquisitionDuration=2000.0,
        DimensionIndexValues=[1, number + 1],
        TemporalPositionIndex=number + 1,
        StackID="1",
        InStackPositionNumber=number + 1,
        FrameComments=f"frame of {NAME}",
    )
    groups.PlanePositionSequence = one(ImagePositionPatient=[0, 0, float(number)])
    groups.PlaneOrientationSequence = one(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    groups.PixelMeasuresSequence = one(SliceThickness="3", PixelSpacing=[3, 3])
    groups.FrameVOILUTSequence = one(WindowCenter="600", WindowWidth="1200")
    groups.PixelValueTransformationSequence = one(
        RescaleIntercept="0", RescaleSlope="1", RescaleType="US"
    )
    groups.MREchoSequence = one(EffectiveEchoTime=30.0)
    groups.MRModifierSequence = one(
        InversionRecovery="NO",
        FlowCompensation="NONE",
        Spoiling="RF",
        T2Preparation="NO",
        SpatialPresaturation="NONE",
        PartialFourier="NO",
        ParallelAcquisition="YES",
        ParallelReductionFactorInPlane=2.0,
    )
    groups.MRImageFrameTypeSequence = one(
        FrameType=["ORIGINAL", "PRIMARY", "FMRI", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        ComplexImageComponent="MAGNITUDE",
    )
    groups.MRTimingAndRelatedParametersSequence = one(
        RepetitionTime="2000", FlipAngle="90", EchoTrainLength=64, RFEchoTrainLength=0
    )
    groups.MRFOVGeometrySequence = one(
        InPlanePhaseEncodingDirection="COLUMN",
        MRAcquisitionFrequencyEncodingSteps=64,
        PercentSampling="100",
    )
    groups.MRAveragesSequence = one(NumberOfAverages="1")
    groups.MRReceiveCoilSequence = one(
        ReceiveCoilName="HeadNeck_20", ReceiveCoilType="MULTICOIL", QuadratureReceiveCoil="NO"
    )
    groups.FrameAnatomySequence = one(
        FrameLaterality="U",
        AnatomicRegionSequence=one(
            CodeValue="T-A0100", CodingSchemeDesignator="SRT", CodeMeaning="Brain"
        ),
    )
    inner = Dataset()
    block = inner.private_block(0x0021, "SIEMENS MR SDS 01", create=True)
    for offset in range(1, 40):
        vr, value = (
            ("DS", f"{number * offset / 7:.6g}"),
            ("LO", f"{SECRET} {number} {offset}"),
            ("CS", "NONE"),
            ("SH", f"v{offset}"),
            ("FD", float(number * offset)),
        )[offset % 5]
        block.add_new(offset, vr, value)
    outer = groups.private_block(0x0021, "SIEMENS MR SDI 02", create=True)
    outer.add_new(0xFE, "SQ", Sequence([inner]))
    return groups


def write_source(path: Path, frames: int, size: int = 64) -> str:
    """Write an enhanced MR file; gives its SOP Instance UID."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.SourceApplicationEntityTitle = TITLE
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedMRImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{NAME}^Erika", PATIENT, "19610203"
    ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.StudyID = "F", DAY, "101112", "77"
    ds.ContentDate, ds.ContentTime, ds.AcquisitionDateTime = DAY, "101500", f"{DAY}101300.25"
    ds.AccessionNumber, ds.ReferringPhysicianName = "ACC55512", "Doe^John"
    ds.InstitutionName, ds.StationName, ds.DeviceSerialNumber = "General Hospital", "MR7", "99123"
    ds.Modality, ds.SeriesDescription, ds.FrameOfReferenceUID = "MR", "ep2d_bold", generate_uid()
    ds.SeriesNumber, ds.InstanceNumber, ds.NumberOfFrames = 1, 1, frames
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SharedFunctionalGroupsSequence = one(PixelMeasuresSequence=one(SliceThickness="3"))
    ds.PerFrameFunctionalGroupsSequence = Sequence([frame(number) for number in range(frames)])
    rng = np.random.default_rng(0)
    ds.PixelData = rng.integers(0, 1000, size * size * frames, dtype=np.uint16).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return str(ds.SOPInstanceUID)


def with_hilum(*, search: bool, workers: int | None) -> Callable[[Path, Path], None]:
    """De-identify a folder by hilum."""
    from hilum import deidentify

    def run(source: Path, out: Path) -> None:
        deidentify(source, out, key=out.with_name("key"), search=search, workers=workers)

    return run


def with_dicognito(source: Path, out: Path) -> None:
    """De-identify a folder by dicognito, one Anonymizer for all files."""
    anonymizer = import_module("dicognito.anonymizer").Anonymizer()
    for path in source.iterdir():
        ds = dcmread(path)
        anonymizer.anonymize(ds)
        ds.save_as(out / path.name)


def with_dicom_anonymizer(source: Path, out: Path) -> None:
    """De-identify a folder by dicom-anonymizer."""
    anonymize = import_module("dicomanonymizer.simpledicomanonymizer").anonymize_dicom_file
    for path in source.iterdir():
        anonymize(str(path), str(out / path.name))


def with_deid(source: Path, out: Path) -> None:
    """De-identify a folder by deid's own recipe."""
    dicom = import_module("deid.dicom")
    files = [str(path) for path in source.iterdir()]
    dicom.replace_identifiers(
        dicom_files=files,
        ids=dicom.get_identifiers(files),
        deid="dicom",
        save=True,
        output_folder=str(out),
        overwrite=True,
    )


PEERS = {
    "dicognito": ("dicognito", with_dicognito),
    "dicom-anonymizer": ("dicomanonymizer", with_dicom_anonymizer),
    "deid": ("deid", with_deid),
}


def left_in(out: Path, uids: list[str]) -> list[str]:
    """Name the planted kinds of identifiers that stand in the bytes of the output."""
    whole = b"".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())
    planted = {
        "name": [NAME],
        "patient id": [PATIENT],
        "date": [DAY],
        "UID": uids,
        "private": [SECRET],
        "AE title": [TITLE],
    }
    return [
        kind for kind, words in planted.items() if any(word.encode() in whole for word in words)
    ]


def measure(
    run: Callable[[Path, Path], None], sources: list[Path], uids: list[str], runs: int
) -> dict[str, object]:
    """Time a program over a folder; gives files a second and what it left."""
    rates, used = [], []
    for _ in range(runs):
        with TemporaryDirectory() as folder:
            place, out = Path(folder) / "in", Path(folder) / "out"
            place.mkdir()
            out.mkdir()
            for path in sources:
                (place / path.name).symlink_to(path)
            begun, spent = time.perf_counter(), time.process_time()
            run(place, out)
            rates.append(len(sources) / (time.perf_counter() - begun))
            used.append((time.process_time() - spent) / len(sources))
            left = left_in(out, uids)
    return {
        "files_per_second": round(statistics.median(rates), 1),
        "all": [round(rate, 1) for rate in rates],
        "processor_ms_per_file": round(1000 * statistics.median(used), 1),
        "files": len(sources),
        "left": left,
    }


def main() -> None:
    """Measure hilum, and those peers that are installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer-files", type=int, default=4)
    options = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sources = [Path(folder) / f"{number}.dcm" for number in range(options.files)]
        uids = [write_source(path, options.frames) for path in sources]
        print(f"{options.files} files of {sources[0].stat().st_size:,} bytes")
        for name, run in {
            "hilum, first pass, 1 process": with_hilum(search=False, workers=1),
            "hilum, both passes, 1 process": with_hilum(search=True, workers=1),
            "hilum, first pass, all processors": with_hilum(search=False, workers=None),
            "hilum, both passes, all processors": with_hilum(search=True, workers=None),
        }.items():
            results[name] = measure(run, sources, uids, options.runs)
            print(name, results[name])
        for name, (module, run) in PEERS.items():
            try:
                import_module(module)
            except ImportError:
                print(f"{name}: not installed (pip install {name})")
                continue
            few = options.peer_files
            results[name] = measure(run, sources[:few], uids[:few], 1)
            print(name, results[name])
    write_result("deidentify", results)


if __name__ == "__main__":
    main()
