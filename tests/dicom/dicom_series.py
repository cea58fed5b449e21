"""Series as scanners write them: an enhanced twin of a classic series, PET, tilted gantries."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

SHARED = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit")
SAME = (
    *("PixelRepresentation", "Rows", "Columns", "Modality", "FrameOfReferenceUID"),
    *("StudyInstanceUID", "PatientID", *SHARED),
)


def items(**values):
    """A sequence of one item."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def write_enhanced(path, files, *, seed=1, edit=None, **tags):
    """Write the frames of single-frame files into one enhanced file, in a random order."""
    slices = [pydicom.dcmread(file) for file in files]
    slices = [slices[n] for n in np.random.default_rng(seed).permutation(len(slices))]
    first, data = slices[0], Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.77"
    data.SeriesInstanceUID, data.NumberOfFrames = "1.2.3.7", len(slices)
    for keyword in SAME:
        setattr(data, keyword, first[keyword].value)
    shared = Dataset()
    shared.PlaneOrientationSequence = items(ImageOrientationPatient=first.ImageOrientationPatient)
    shared.PixelMeasuresSequence = items(
        PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness
    )
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence([_frame(one) for one in slices])
    data.PixelData = b"".join(one.PixelData for one in slices)
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    if edit is not None:
        edit(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def _frame(one):
    """The functional groups of one frame."""
    item = Dataset()
    item.PlanePositionSequence = items(ImagePositionPatient=one.ImagePositionPatient)
    item.PixelValueTransformationSequence = items(
        RescaleSlope=one.RescaleSlope, RescaleIntercept=one.RescaleIntercept, RescaleType="HU"
    )
    item.FrameContentSequence = items(StackID="1", TemporalPositionIndex=1)
    item.CTImageFrameTypeSequence = items(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    return item


def turned_in_plane(data, *, swap, rows, columns):
    """Store the same image with its rows and columns exchanged, or counted from the other end."""
    pixels = data.pixel_array
    position = np.array(data.ImagePositionPatient, float)
    along = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
    steps = np.array(data.PixelSpacing, float)
    if rows:
        position = position + (pixels.shape[0] - 1) * steps[0] * along[1]
        pixels, along = pixels[::-1], np.array([along[0], -along[1]])
    if columns:
        position = position + (pixels.shape[1] - 1) * steps[1] * along[0]
        pixels, along = pixels[:, ::-1], np.array([-along[0], along[1]])
    if swap:
        pixels, along, steps = pixels.T, along[::-1], steps[::-1]
    data.Rows, data.Columns = pixels.shape
    data.ImagePositionPatient = [f"{v:.10g}" for v in position]
    data.ImageOrientationPatient = [f"{v:.10g}" for v in along.ravel()]
    data.PixelSpacing = [f"{v:.10g}" for v in steps]
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
