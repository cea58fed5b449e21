"""PET: the factor from stored activity to standardised uptake values by body weight (SUVbw).

The rules are those of QIBA's pseudo-code (Quantitative Imaging Biomarkers Alliance, "SUV vendor-
neutral pseudo-code") and PS3.3 C.8.9.1.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from hilum.dicom.header import number_of, text_of, texts_of
from hilum.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from hilum.dicom.frames import ImageFile

_PHILIPS_SUV, _PHILIPS_ACTIVITY = 0x7053_1000, 0x7053_1009
_GE_SCAN_START = 0x0009_100D
SUV_TAGS: tuple[str | int, ...] = (
    *("Units", "CorrectedImage", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime"),
    *("AcquisitionDateTime", "RadiopharmaceuticalInformationSequence", "SUVType"),
    *(_PHILIPS_SUV, _PHILIPS_ACTIVITY, _GE_SCAN_START),
)
"""Elements of a header that are needed here."""

_GRAMS = 1000.0  # of a kilogram
_LEAST_DOSE = 1e5  # Bq; what is smaller was written in MBq, against the standard
_SAME = 1e-4  # part by which the factors of the files of one series may differ
_DAY = timedelta(days=1)
_FORMS = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 10: "%Y%m%d%H"}
"""Form of a date and time of so many digits; by itself strptime reads 0830 as 8:03:00."""


def suv_factors(files: Sequence[ImageFile], source: Path | str) -> tuple[list[float], str]:
    """Compute what each file's rescaled numbers are multiplied by to be SUV.

    Args:
        files: of one series, of modality PT.
        source: for errors.

    Returns:
        A factor for each file, and a note.

    Raises:
        FormatError: a field is missing, or the files disagree.
    """
    units = sorted({text_of(file.header, "Units") or "not stated" for file in files})
    if len(units) > 1:
        _refuse(source, f"pixels in several units ({', '.join(units)})", "one unit in all files")
    if units == ["GML"]:
        kinds = {text_of(file.header, "SUVType") for file in files} - {"", "BW"}
        if kinds:  # by other than body weight, which is in g/ml as well (PS3.3 C.8.9.1)
            _refuse(source, f"uptake of the type {', '.join(sorted(kinds))}", "SUVType BW")
        return [1.0] * len(files), ""
    if units == ["CNTS"]:
        factors = [_of_counts(file.header, files, source) for file in files]
        return factors, "counts were converted to SUV by body weight (Philips' factor)"
    if units != ["BQML"]:
        _refuse(source, f"PET pixels in the unit {units[0]}", "Units BQML, GML or CNTS")
    factors = [_of_activity(file.header, files, source) for file in files]
    if max(factors) > min(factors) * (1 + _SAME):
        _refuse(
            source,
            "PET files that disagree about dose, weight or start",
            "the same dose, weight and start in all files of a series",
        )
    return factors, "activity (Bq/ml) was converted to SUV by body weight"


def _of_counts(header: Dataset, files: Sequence[ImageFile], source: Path | str) -> float:
    """Return the factor of pixels that are counts."""
    factor = number_of(header, _PHILIPS_SUV)
    if factor:
        return factor
    activity = number_of(header, _PHILIPS_ACTIVITY)
    if not activity:
        _refuse(source, "PET pixels in counts", "Philips' factor in (7053,1000) or (7053,1009)")
    return activity * _of_activity(header, files, source)


def _of_activity(header: Dataset, files: Sequence[ImageFile], source: Path | str) -> float:
    """Return the factor of pixels that are activity in Bq/ml."""
    corrected = texts_of(header, "CorrectedImage")
    if corrected and not {"ATTN", "DECY"} <= set(corrected):
        listed = ", ".join(corrected)
        _refuse(source, f"PET corrected for {listed} only", "corrections ATTN and DECY")
    drug = next(iter(header.get("RadiopharmaceuticalInformationSequence") or ()), None)
    weight = _needed(header, "PatientWeight", source)
    if drug is None:
        _refuse(source, "PET without RadiopharmaceuticalInformationSequence", "dose and time in it")
    dose = _needed(drug, "RadionuclideTotalDose", source)
    if dose < _LEAST_DOSE:
        _refuse(source, f"RadionuclideTotalDose {dose:g}, too small for Bq", "the dose in Bq")
    match text_of(header, "DecayCorrection"):
        case "ADMIN":
            decayed = dose
        case "START":
            half_life = _needed(drug, "RadionuclideHalfLife", source)
            passed = (_scan_start(files, source) - _injection(drug, files, source)).total_seconds()
            if not 0 <= passed <= _DAY.total_seconds():
                _refuse(
                    source,
                    f"an injection {passed / 3600:.3g} hours before the scan",
                    "one at most a day before it",
                )
            decayed = dose * 2 ** (-passed / half_life)
        case other:
            _refuse(source, f"DecayCorrection {other or 'not stated'}", "START or ADMIN")
    return weight * _GRAMS / decayed


def _needed(data: Dataset, keyword: str, source: Path | str) -> float:
    """Return a number above 0 that SUV cannot be computed without."""
    number = number_of(data, keyword)
    if number is None or not 0 < number < float("inf"):
        _refuse(source, f"PET without {keyword}", f"{keyword}, for SUV by body weight")
    return number


def _scan_start(files: Sequence[ImageFile], source: Path | str) -> datetime:
    """Return the time to which decay is corrected.

    The series' own time counts unless images were acquired before it: then the series was made
    later, and GE's own element or the earliest acquisition counts.
    """
    acquired = [
        moment
        for file in files
        if (moment := _moment(file.header, "AcquisitionDateTime", "Acquisition")) is not None
    ]
    series = _series_start(files, source)
    if series is not None and (not acquired or series <= min(acquired)):
        return series
    stated = text_of(files[0].header, "Manufacturer").upper().startswith("GE")
    private = _parsed(text_of(files[0].header, _GE_SCAN_START)) if stated else None
    if private is not None:
        return private
    if not acquired:
        _refuse(
            source, "PET without SeriesTime and AcquisitionTime", "the time at which the scan began"
        )
    return min(acquired)


def _series_start(files: Sequence[ImageFile], source: Path | str) -> datetime | None:
    """Return the series' own date and time; None where it does not state both."""
    stated = {
        (text_of(file.header, "SeriesDate"), text_of(file.header, "SeriesTime")) for file in files
    }
    if len(stated) > 1:
        _refuse(source, "PET files that disagree about SeriesDate and SeriesTime", "one of each")
    date, time = stated.pop()
    moment = _parsed(date + time)
    if date and time and moment is None:
        _refuse(source, f"PET of SeriesDate {date} and SeriesTime {time}", "a date and a time")
    return moment if date and time else None


def _injection(drug: Dataset, files: Sequence[ImageFile], source: Path | str) -> datetime:
    """Return when the tracer was injected; a time without date lies before the scan."""
    whole = _parsed(text_of(drug, "RadiopharmaceuticalStartDateTime"))
    if whole is not None:
        return whole
    start = _scan_start(files, source)
    moment = _parsed(start.strftime("%Y%m%d") + text_of(drug, "RadiopharmaceuticalStartTime"))
    if moment is None or not text_of(drug, "RadiopharmaceuticalStartTime"):
        _refuse(
            source,
            "PET without RadiopharmaceuticalStartTime",
            "the time of the injection, for SUV by body weight",
        )
    return moment if moment <= start else moment - _DAY


def _moment(header: Dataset, whole: str, prefix: str) -> datetime | None:
    """Read a moment of a DICOM date and time: from one element, or from two."""
    found = _parsed(text_of(header, whole)) if whole else None
    date, time = text_of(header, f"{prefix}Date"), text_of(header, f"{prefix}Time")
    if found is None and date and time:
        return _parsed(date + time)
    return found


def _parsed(text: str) -> datetime | None:
    """Parse YYYYMMDDHHMMSS.FFFFFF, minutes and seconds left out or not; None of anything else."""
    whole, _, fraction = text.replace(":", "").partition("+")[0].partition("-")[0].partition(".")
    try:
        # DICOM's local time of the scanner
        moment = datetime.strptime(whole, _FORMS[len(whole)])  # noqa: DTZ007
    except (KeyError, ValueError):
        return None
    return moment + timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def _refuse(source: Path | str, found: str, needed: str) -> NoReturn:
    """Raise at a series whose uptake cannot be computed."""
    raise FormatError(
        f"{source}: {found}; no SUV can be computed",
        needed=needed,
        cure=(
            "write the missing fields into the files; or convert the series to NIfTI in the unit"
            " that the model was trained on"
        ),
    )
