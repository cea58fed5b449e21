"""Sending results: to a peer by C-STORE, to a DICOMweb service by STOW-RS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from hilum.dicom.network import read_instance
from hilum.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
    from pynetdicom.presentation import PresentationContext

    from hilum.node.config import Destination, Peer, Tls

CONNECT_SECONDS = 15
REPLY_SECONDS = 120
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


def deliver(path: Path, destination: Destination, title: str) -> None:
    """Send one DICOM file; returns when the destination has acknowledged it.

    Raises:
        ResourceError: it could not be reached, or did not accept the file.
    """
    if destination.peer is not None:
        store_by_dimse(path, destination.peer, title)
        return
    from hilum.dicom.web import WebService

    WebService(destination.url or "", authority=destination.authority).store([path])


def store_by_dimse(path: Path, peer: Peer, title: str) -> None:
    """Send one DICOM file to a peer by C-STORE.

    Raises:
        ResourceError: see `deliver`.
    """
    from pynetdicom import build_context

    data, sop_class, syntax = read_instance(path)
    syntaxes = list(dict.fromkeys([syntax, *(_UNCOMPRESSED if syntax in _UNCOMPRESSED else ())]))
    context = build_context(sop_class, syntaxes)
    association = associate(peer, title, [context])
    try:
        status = association.send_c_store(data)
    # pynetdicom: no context for the file, or the peer went away
    except (ValueError, RuntimeError) as error:
        raise ResourceError(f"{peer.title} does not take the file: {error}") from error
    finally:
        association.release()
    code = status.get("Status") if status else None
    if code is None:
        raise ResourceError(f"{peer.title} did not reply within {REPLY_SECONDS} seconds")
    if code != 0 and not 0xB000 <= code <= 0xBFFF:  # a warning is an acknowledgement
        raise ResourceError(f"{peer.title} refused the file with status 0x{code:04X}")


def associate(
    peer: Peer,
    title: str,
    contexts: list[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Association:
    """Connect to a peer.

    Raises:
        ResourceError: it cannot be reached, or refuses.
    """
    from pynetdicom import AE

    entity = AE(title)
    entity.connection_timeout = entity.acse_timeout = CONNECT_SECONDS
    entity.dimse_timeout = entity.network_timeout = REPLY_SECONDS
    tls = None if peer.tls is None else (client_context(peer.tls), peer.host)
    association = entity.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.title,
        ext_neg=list(roles),
        tls_args=tls,
    )
    if association.is_established:
        return association
    what = "cannot be reached, or takes no objects of this kind"
    if association.is_rejected:
        what = f"refuses connections of {title}"
    raise ResourceError(f"{peer.title} at {peer.host}:{peer.port} {what}")


def server_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of a server; with an authority, clients must show a certificate.

    Raises:
        ResourceError: a file is missing or no certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, tls)
    if tls.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of a client, which checks the server's certificate and name.

    Raises:
        ResourceError: a file is missing or no certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    """Load certificates and key into a TLS context."""
    try:
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority is not None:
            context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(one) for one in (tls.certificate, tls.key, tls.authority) if one)
        raise ResourceError(
            f"TLS cannot use {named}: {error}", needed="files in PEM that belong together"
        ) from error


def retry_after(attempts: int, schedule: tuple[float, ...]) -> float | None:
    """Return the seconds until the next attempt; None when there is none left."""
    return schedule[attempts - 1] if attempts <= len(schedule) else None
