"""`hilum predict MODEL dicomweb://... --study UID --store` with a real Orthanc."""

import pytest
from node_samples import make_study, study_uid
from orthanc import orthanc  # noqa: F401

from hilum import api
from hilum.errors import UsageError


def test_a_study_is_fetched_and_predicted(orthanc, model, tmp_path):  # noqa: F811
    files = make_study(tmp_path / "study")
    orthanc.add(*files)
    uid = study_uid(files)
    report = api.predict(model, orthanc.web, tmp_path / "out", study=uid, device="cpu")
    assert [one.status for one in report.cases] == ["done"]
    assert (tmp_path / "out" / f"{uid}.nii.gz").is_file()
    local = api.predict(model, files[0].parent, tmp_path / "local", device="cpu")
    from hilum.io import read_labels

    fetched = read_labels(tmp_path / "out" / f"{uid}.nii.gz")
    assert fetched.array.any()
    assert fetched == read_labels(tmp_path / "local" / local.cases[0].files[0])


def test_results_are_stored_where_the_study_came_from(orthanc, model, tmp_path):  # noqa: F811
    files = make_study(tmp_path / "study")
    orthanc.add(*files)
    uid = study_uid(files)
    for number in range(2):  # the second time it is the same instance
        out = tmp_path / f"out{number}"
        api.predict(model, orthanc.web, out, study=uid, store=True, device="cpu")
    (series,) = orthanc.series("SEG")
    assert len(series["Instances"]) == 1
    (study,) = orthanc.get("/studies?expand")
    assert study["MainDicomTags"]["StudyInstanceUID"] == uid


def test_results_without_dicom_cannot_be_stored(orthanc, model, tmp_path):  # noqa: F811
    files = make_study(tmp_path / "study")
    orthanc.add(*files)
    with pytest.raises(UsageError, match="no DICOM file among the results"):
        api.predict(
            model,
            orthanc.web,
            tmp_path / "out",
            study=study_uid(files),
            store=True,
            formats=["nifti"],
            device="cpu",
        )


def test_services_and_studies_belong_together(model, tmp_path):
    files = make_study(tmp_path / "study")
    calls = [
        ({"inputs": "dicomweb://127.0.0.1:1/x"}, "service was given without a study"),
        (
            {"inputs": ["dicomweb://h/x", files[0]], "study": "1.2"},
            "service was given among other inputs",
        ),
        ({"inputs": files[0].parent, "study": "1.2"}, "study='1.2' was given for files"),
        ({"inputs": files[0].parent, "store": True}, "store=True was given for files"),
    ]
    for number, (options, message) in enumerate(calls):
        with pytest.raises(UsageError, match=message):
            api.predict(model, out=tmp_path / f"out{number}", device="cpu", **options)
