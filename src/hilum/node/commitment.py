"""Confirming storage commitments (DICOM PS3.4 J): the instances are on this node's disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.errors import ResourceError
from hilum.node.delivery import associate

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from hilum.node.config import Peer
    from hilum.node.instances import InstanceFolder
    from hilum.node.queue import Commitment, Queue

COMMITMENT_CLASS = "1.2.840.10008.1.20.1"
_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_ALL_KEPT, _SOME_MISSING = 1, 2
_NO_SUCH_INSTANCE = 0x0112


def confirm(
    commitment: Commitment, peer: Peer, title: str, folder: InstanceFolder, queue: Queue
) -> None:
    """Tell who asked which instances are kept and which are not here.

    Raises:
        ResourceError: it cannot be reached, or does not take the report.
    """
    from pynetdicom import build_context, build_role

    report, event_type = _report(commitment, folder, queue)
    association = associate(
        peer,
        title,
        [build_context(COMMITMENT_CLASS)],
        roles=[build_role(COMMITMENT_CLASS, scp_role=True)],
    )
    try:
        status, _ = association.send_n_event_report(
            report, event_type, COMMITMENT_CLASS, _COMMITMENT_INSTANCE
        )
    except (ValueError, RuntimeError) as error:
        raise ResourceError(f"{peer.title} takes no report: {error}") from error
    finally:
        association.release()
    if not status or status.Status != 0:
        raise ResourceError(f"{peer.title} did not acknowledge the report")


def _report(commitment: Commitment, folder: InstanceFolder, queue: Queue) -> tuple[Dataset, int]:
    from pydicom.dataset import Dataset

    kept, missing = [], []
    for sop_class, instance in commitment.instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        studies = queue.studies_of(instance, sop_class)
        if any(folder.path(study, instance).is_file() for study in studies):
            kept.append(item)
        else:
            item.FailureReason = _NO_SUCH_INSTANCE
            missing.append(item)
    report = Dataset()
    report.TransactionUID = commitment.transaction
    if kept:
        report.ReferencedSOPSequence = kept
    if missing:
        report.FailedSOPSequence = missing
    return report, _SOME_MISSING if missing else _ALL_KEPT
