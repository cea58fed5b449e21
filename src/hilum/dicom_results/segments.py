"""Labels described as segments: name, codes, colour, and who found them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom_results.concepts import concepts_of
from hilum.dicom_results.producer import MANUFACTURER
from hilum.dicom_results.remarks import remark
from hilum.dicom_results.uids import tracking_uid
from hilum.errors import some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code

    from hilum.dicom_results.concepts import Concept
    from hilum.dicom_results.producer import Producer
    from hilum.volume import LabelTable

_CHARACTERS = 64
"""Most characters of a segment's label."""
_TEXT = 1024
"""Most characters of its description."""


def describe_segments(
    table: LabelTable,
    numbers: Mapping[int, int],
    series: str,
    producer: Producer,
    descriptions: Mapping[int, str],
) -> list[SegmentDescription]:
    """Describe each label beside the background.

    Args:
        table: the labels.
        numbers: number of the segment of each label id.
        series: SeriesInstanceUID of the source, for tracking UIDs.
        producer: the model.
        descriptions: words about a segment, by label id.
    """
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    described, generic = [], []
    for label in table.foreground:
        concepts = concepts_of(label)
        generic += [label.name] if concepts.generic else []
        segment = SegmentDescription(
            segment_number=numbers[label.id],
            segment_label=label.name[:_CHARACTERS],
            segmented_property_category=_code(concepts.category),
            segmented_property_type=_code(concepts.kind),
            algorithm_type="AUTOMATIC",
            algorithm_identification=AlgorithmIdentificationSequence(
                name=f"hilum model {producer.model}"[:_CHARACTERS],
                family=codes.cid7162.ArtificialIntelligence,
                version=producer.version,
                source=MANUFACTURER,
            ),
            tracking_uid=tracking_uid(series, producer.model, label.name),
            tracking_id=label.name[:_CHARACTERS],
            anatomic_regions=None if concepts.region is None else [_code(concepts.region)],
            display_color=CIELabColor.from_rgb(*table.colours[label.id]),
        )
        if words := descriptions.get(label.id):
            segment.SegmentDescription = words[:_TEXT]
        if concepts.modifiers:
            kind = segment.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [
                CodedConcept(*one) for one in concepts.modifiers
            ]
        described.append(segment)
    if generic:
        remark(
            series,
            f"no SNOMED CT code for {some(generic)}: written as tissue, with the name as the"
            " segment's label; a code in the label table is taken",
        )
    return described


def _code(concept: Concept) -> Code:
    """Make pydicom's record of a concept."""
    from pydicom.sr.coding import Code

    value, scheme, meaning = concept
    return Code(value, scheme, meaning)
