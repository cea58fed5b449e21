"""Confirming storage commitments (DICOM PS3.4 J): the instances are on this node's disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.dicom.network import commitment_report
from hilum.errors import ResourceError
from hilum.node.delivery import associate

if TYPE_CHECKING:
    from hilum.node.config import Peer
    from hilum.node.instances import InstanceFolder
    from hilum.node.queue import Commitment, Queue

COMMITMENT_CLASS = "1.2.840.10008.1.20.1"
_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_ALL_KEPT, _SOME_MISSING = 1, 2


def confirm(
    commitment: Commitment, peer: Peer, title: str, folder: InstanceFolder, queue: Queue
) -> None:
    """Tell who asked which instances are kept and which are not here.

    Raises:
        ResourceError: it cannot be reached, or does not take the report.
    """
    from pynetdicom import build_context, build_role

    kept, missing = _sort(commitment, folder, queue)
    report = commitment_report(commitment.transaction, kept, missing)
    association = associate(
        peer,
        title,
        [build_context(COMMITMENT_CLASS)],
        roles=[build_role(COMMITMENT_CLASS, scp_role=True)],
    )
    try:
        status, _ = association.send_n_event_report(
            report, _SOME_MISSING if missing else _ALL_KEPT, COMMITMENT_CLASS, _COMMITMENT_INSTANCE
        )
    except (ValueError, RuntimeError) as error:
        raise ResourceError(f"{peer.title} takes no report: {error}") from error
    finally:
        association.release()
    if not status or status.Status != 0:
        raise ResourceError(f"{peer.title} did not acknowledge the report")


def _sort(
    commitment: Commitment, folder: InstanceFolder, queue: Queue
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Divide the instances into those on the disk and those that are not."""
    kept: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    for sop_class, instance in commitment.instances:
        studies = queue.studies_of(instance, sop_class)
        here = any(folder.path(study, instance).is_file() for study in studies)
        (kept if here else missing).append((sop_class, instance))
    return kept, missing
