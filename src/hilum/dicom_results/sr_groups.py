"""The measurement groups of a structured report (PS3.16 TID 1411 and 1501).

They are written so that viewers which read less than the standard allows show them: a tracking
identifier by which OHIF takes a bidirectional measurement for one of its own, coordinates as the
first thing below its numbers, something below every number, and a tracking UID of its own for every
group, as OHIF joins groups with one UID and fails on numbers without coordinates among others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hilum.dicom_results.codes import code_of_name, coded, private_code
from hilum.dicom_results.uids import tracking_uid

if TYPE_CHECKING:
    from highdicom import sr

    from hilum.dicom_results.findings import (
        Bidirectional,
        ClassFinding,
        Classification,
        Finding,
        SegReference,
        Site,
    )
    from hilum.dicom_results.repair import SourceImages
    from hilum.metrics import Diameter

    Group = (
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations
        | sr.MeasurementsAndQualitativeEvaluations
    )

HYDRATED = "Cornerstone3DTools@^0.1.0:Bidirectional"
"""Beginning of the tracking identifier that OHIF takes for a bidirectional measurement."""


@dataclass(frozen=True)
class GroupMaker:
    """Makes the groups of one report.

    Args:
        source: the images.
        model: id of the model.
        algorithm: what each group says of the model.
        seg: the SEG of the same findings; None where there is none.
    """

    source: SourceImages
    model: str
    algorithm: sr.AlgorithmIdentification
    seg: SegReference | None

    def of_finding(self, finding: Finding) -> list[Group]:
        """Make the group of a finding's volume, and that of its diameters where it has any."""
        groups = [self._volume(finding)]
        if finding.diameters is not None:
            groups.append(self._diameters(finding, finding.diameters))
        return groups

    def of_classification(
        self, found: Classification
    ) -> list[sr.MeasurementsAndQualitativeEvaluations]:
        """Make a group a class, and one of the image as a whole where anything is known of it."""
        groups = [self._class(one) for one in found.classes]
        numbers, verdicts = [], []
        if found.coverage is not None:
            numbers.append(_number("coverage", found.coverage, method="conformal"))
        if found.distance is not None:
            numbers.append(_number("distance", found.distance, method="features"))
        if found.unlike is not None:
            verdicts.append(
                _verdict("unlike_check", private_code("unlike" if found.unlike else "like"))
            )
        if numbers or verdicts:
            groups.append(self._group("Image", measurements=numbers, evaluations=verdicts))
        return groups

    def _volume(self, finding: Finding) -> Group:
        """Make the group of a volume: it refers to the segment, or else to the images alone."""
        from highdicom import sr
        from pydicom.sr.codedict import codes

        if not finding.frames:
            absent = sr.QualitativeEvaluation(
                coded("705057003", "SCT", "Presence"), coded("2667000", "SCT", "Absent")
            )
            return self._group(
                finding.name, code=finding.code, site=finding.site, evaluations=[absent]
            )
        measurements = []
        if finding.volume_mm3 is not None:
            method, unit = codes.DCM.SumOfSegmentedVoxelMethodForVolume, codes.UCUM.CubicMillimeter
            measurements.append(
                sr.Measurement(codes.SCT.Volume, finding.volume_mm3, unit, method=method)
            )
        if finding.area_mm2 is not None:
            method, unit = private_code("pixels"), codes.UCUM.SquareMillimeter
            measurements.append(
                sr.Measurement(codes.SCT.Area, finding.area_mm2, unit, method=method)
            )
        if finding.components is not None:
            measurements.append(_number("components", finding.components, method="connectivity"))
        segment = None if self.seg is None else self.seg.segments.get(finding.label)
        if self.seg is None or segment is None:
            return self._group(
                finding.name,
                code=finding.code,
                site=finding.site,
                measurements=measurements,
                frames=finding.frames,
            )
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(finding.name),
            referenced_segment=sr.ReferencedSegment(
                self.seg.sop_class,
                self.seg.instance,
                segment,
                source_series=sr.SourceSeriesForSegmentation(self.source.series),
            ),
            finding_type=coded(*finding.code),
            finding_sites=_sites(finding.site),
            algorithm_id=self.algorithm,
            measurements=measurements,
        )

    def _diameters(
        self, finding: Finding, found: Bidirectional
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        """Make the group of a bidirectional measurement, with its coordinates on one frame.

        TID 1410 allows no coordinates below its numbers; viewers read them in TID 1501.
        """
        lines = (("103339001", "Long Axis", found.long), ("103340004", "Short Axis", found.short))
        return self._group(
            f"{HYDRATED}:{finding.name}",
            code=finding.code,
            site=finding.site,
            measurements=[
                self._line(coded(value, "SCT", meaning), line, found.frame)
                for value, meaning, line in lines
            ],
        )

    def _line(self, name: sr.CodedConcept, line: Diameter, frame: int) -> sr.Measurement:
        """Make the number of a line, with its ends on a source frame.

        DICOM counts (column, row) from the corner of the first pixel, whose centre is (.5, .5).
        """
        import numpy as np
        from highdicom import sr
        from pydicom.sr.codedict import codes

        plane = self.source.planes[frame]
        ends = np.array([line.start, line.end])[:, ::-1] + 0.5
        image = sr.SourceImageForRegion(
            plane.header.SOPClassUID,
            plane.header.SOPInstanceUID,
            None if plane.number is None else [plane.number],
        )
        return sr.Measurement(
            name,
            line.length_mm,
            codes.UCUM.Millimeter,
            referenced_coordinates=[sr.CoordinatesForMeasurement("POLYLINE", ends, image)],
        )

    def _class(self, found: ClassFinding) -> sr.MeasurementsAndQualitativeEvaluations:
        """Make the group of a class."""
        numbers = [_number("probability", found.probability, method="output")]
        if found.calibrated is not None:
            numbers.append(_number("calibrated", found.calibrated, method="calibration"))
        verdicts = [_yes_or_no("predicted", found.called)]
        if found.in_set is not None:
            verdicts.append(_yes_or_no("prediction_set", found.in_set))
        return self._group(
            f"Class {found.name}",
            code=code_of_name(found.name),
            measurements=numbers,
            evaluations=verdicts,
        )

    def _group(
        self,
        name: str,
        *,
        code: tuple[str, str, str] | None = None,
        site: Site | None = None,
        measurements: list[sr.Measurement] | None = None,
        evaluations: list[sr.QualitativeEvaluation] | None = None,
        frames: tuple[int, ...] = (),
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        """Make a group that refers to frames of the source."""
        from highdicom import sr

        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking(name),
            finding_type=None if code is None else coded(*code),
            finding_sites=_sites(site),
            algorithm_id=self.algorithm,
            measurements=measurements or None,
            qualitative_evaluations=evaluations or None,
            source_images=self._images(frames) or None,
        )

    def _images(self, frames: tuple[int, ...]) -> list[sr.SourceImageForMeasurementGroup]:
        """Refer to frames: one reference a file, with frame numbers where it has several."""
        from highdicom import sr

        planes: dict[tuple[str, str], list[int]] = {}
        for plane in (self.source.planes[frame] for frame in frames):
            key = str(plane.header.SOPClassUID), str(plane.header.SOPInstanceUID)
            planes.setdefault(key, []).extend([] if plane.number is None else [plane.number])
        return [
            sr.SourceImageForMeasurementGroup(sop_class, instance, numbers or None)
            for (sop_class, instance), numbers in planes.items()
        ]

    def _tracking(self, name: str) -> sr.TrackingIdentifier:
        from highdicom import sr

        uid = tracking_uid(self.source.series, self.model, name)
        return sr.TrackingIdentifier(uid=uid, identifier=name)


def _sites(site: Site | None) -> list[sr.FindingSite] | None:
    """Make the content item of a finding's site."""
    from highdicom import sr

    if site is None:
        return None
    side = None if site.side is None else coded(*site.side)
    return [sr.FindingSite(anatomic_location=coded(*site.region), laterality=side)]


def _number(name: str, value: float, *, method: str) -> sr.Measurement:
    """Make a number of hilum's own without a unit, with how it was made below it."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(
        private_code(name), value, codes.UCUM.NoUnits, method=private_code(method)
    )


def _yes_or_no(name: str, value: bool) -> sr.QualitativeEvaluation:
    words = coded("373066001", "SCT", "Yes") if value else coded("373067005", "SCT", "No")
    return _verdict(name, words)


def _verdict(name: str, value: sr.CodedConcept) -> sr.QualitativeEvaluation:
    from highdicom import sr

    return sr.QualitativeEvaluation(private_code(name), value)
