"""Enhanced multi-frame files: each frame's own place and rescaling; what cannot be read."""

import numpy as np
import pydicom
import pytest
from dicom_series import items, write_enhanced
from io_support import write_series
from pydicom.dataset import Dataset

from hilum.dicom.frames import frames_of, read_image_file
from hilum.errors import FormatError, GeometryError
from hilum.io import inspect_file, read_volume
from hilum.volume import Volume


def test_each_frame_is_rescaled_by_its_own_numbers(tmp_path, volume):
    files = write_series(tmp_path / "a", volume, slope=1, intercept=-1024)

    def rescale(data):
        for number, item in enumerate(data.PerFrameFunctionalGroupsSequence):
            item.PixelValueTransformationSequence[0].RescaleSlope = number + 1
            item.PixelValueTransformationSequence[0].RescaleIntercept = -5 * number

    path = write_enhanced(tmp_path / "e.dcm", files, edit=rescale)
    stored = pydicom.dcmread(path).pixel_array.astype(int)
    read = read_volume(path)
    assert read.array.dtype == np.int16
    frames = sorted(frames_of(read_image_file(path)), key=lambda f: f.position @ f.normal)
    for z, frame in enumerate(frames):
        n = frame.index
        np.testing.assert_array_equal(read.array[0, z], stored[n] * (n + 1) - 5 * n)


def test_what_is_shared_stands_for_each_frame(tmp_path, volume):
    files = write_series(tmp_path / "a", volume)

    def share(data):
        shared = data.SharedFunctionalGroupsSequence[0]
        first = data.PerFrameFunctionalGroupsSequence[0]
        shared.PixelValueTransformationSequence = first.PixelValueTransformationSequence
        shared.MREchoSequence = items(EffectiveEchoTime=42.5)
        shared.MRDiffusionSequence = items(
            DiffusionBValue=800.0,
            DiffusionGradientDirectionSequence=items(DiffusionGradientOrientation=[0.0, 0.6, 0.8]),
        )
        for item in data.PerFrameFunctionalGroupsSequence:
            del item.PixelValueTransformationSequence

    path = write_enhanced(tmp_path / "e.dcm", files, edit=share)
    assert read_volume(path) == read_volume(tmp_path / "a")
    facts = [frame.acquisition for frame in frames_of(read_image_file(path))]
    assert {(one.echo_time, one.b_value, one.gradient) for one in facts} == {
        (42.5, 800.0, (0.0, 0.6, 0.8))
    }
    assert {one.image_type for one in facts} == {("ORIGINAL", "PRIMARY", "VOLUME", "NONE")}
    assert [one.instance_number for one in facts] == [1, 2, 3, 4]


def test_phases_of_an_enhanced_file_are_read_by_key(tmp_path, volume):
    files = write_series(tmp_path / "a", volume)
    later = volume.with_array(volume.array[:, :, ::-1] + 3)
    files += write_series(tmp_path / "b", later)
    whole = {str(pydicom.dcmread(file).PixelData): n for n, file in enumerate(files)}

    def time(data):
        size = len(data.PixelData) // 8
        for n, item in enumerate(data.PerFrameFunctionalGroupsSequence):
            pixels = data.PixelData[n * size : (n + 1) * size]
            item.FrameContentSequence[0].TemporalPositionIndex = 1 + whole[str(pixels)] // 4

    path = write_enhanced(tmp_path / "e.dcm", files, edit=time)
    with pytest.raises(
        FormatError, match=r"(?s)several volumes in one series, 2\n.*  t1: 4 slices"
    ):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(f"{path}#series/1.2.3.7/t1").array, volume.array)
    np.testing.assert_array_equal(read_volume(f"{path}#series/1.2.3.7/t2").array, later.array)


def test_a_twin_by_highdicom_is_the_same_volume(tmp_path, volume):
    import highdicom

    array = np.kron(volume.array, np.ones((1, 1, 4, 4), np.int16))
    large = Volume(array, volume.geometry.resized(array.shape[1:]))
    names = ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber")
    empty = dict.fromkeys((*names, "StudyDate", "StudyTime", "ReferringPhysicianName"), "")
    files = write_series(
        tmp_path / "a",
        large,
        **empty,
        Manufacturer="m",
        AcquisitionNumber=1,
        KVP=120,
        SeriesNumber=3,
        PositionReferenceIndicator="",
        BurnedInAnnotation="NO",
        AcquisitionDate="20240101",
        AcquisitionTime="101112",
        ContentDate="20240101",
        ContentTime="101112",
    )
    twin = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(file) for file in files], "1.2.3.8", 4, "1.2.3.9", 1
    )
    twin.save_as(tmp_path / "e.dcm")
    assert read_volume(tmp_path / "e.dcm") == read_volume(tmp_path / "a")


def remove(data):
    del data.PerFrameFunctionalGroupsSequence[-1]


def repeat(data):
    first = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
    data.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence = first


def forget(data):
    del data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


@pytest.mark.parametrize(
    ("edit", "error", "text"),
    [
        (remove, FormatError, "4 frames, and 3 items that describe frames"),
        (forget, FormatError, "ImagePositionPatient is missing"),
        (repeat, GeometryError, "1 slices at a place already taken"),
    ],
)
def test_frames_without_their_own_place_are_refused(tmp_path, volume, edit, error, text):
    files = write_series(tmp_path / "a", volume)
    path = write_enhanced(tmp_path / "e.dcm", files, edit=edit)
    with pytest.raises(error, match=rf"e\.dcm.*{text}"):
        inspect_file(path)


def test_a_cine_loop_names_the_number_of_frames_and_the_cure(tmp_path, volume):
    files = write_series(tmp_path / "a", volume, Modality="US")

    def loop(data):
        del data.PerFrameFunctionalGroupsSequence, data.SharedFunctionalGroupsSequence

    path = write_enhanced(tmp_path / "e.dcm", files, edit=loop)
    with pytest.raises(FormatError, match=r"(?s)4 frames in one file.*the one frame that is want"):
        inspect_file(path)


def test_an_x_ray_volume_is_read_by_the_places_of_its_frames(tmp_path, volume):
    files = write_series(tmp_path / "a", volume)
    path = write_enhanced(
        tmp_path / "e.dcm", files, Modality="XA", SOPClassUID="1.2.840.10008.5.1.4.1.1.13.1.1"
    )
    assert read_volume(path) == read_volume(tmp_path / "a")


def test_private_b_values_are_found(tmp_path, volume):
    (tag, value), *others = (
        ((0x0019, 0x100C), b"1000"),
        ((0x0043, 0x1039), b"1000001000\\8\\0\\0"),
    )
    files = write_series(tmp_path, volume, Modality="MR")
    for place, content in ((tag, value), *others):
        data = pydicom.dcmread(files[0])
        private = Dataset()
        private.add_new(place, "UN", content)
        data.update(private)
        data.save_as(tmp_path / "one")
        (frame,) = frames_of(read_image_file(tmp_path / "one"))
        assert frame.acquisition.b_value == 1000
