"""Receiving by DICOM's network protocol: storage of anything, echo, storage commitment."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from socketserver import TCPServer
from typing import TYPE_CHECKING, cast

from pynetdicom import AE, evt
from pynetdicom import _config as network
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from hilum.dicom.network import checked_uid, file_header, holds_image, read_key
from hilum.errors import ResourceError
from hilum.node.commitment import COMMITMENT_CLASS
from hilum.node.delivery import server_context
from hilum.node.instances import (
    NOT_UNDERSTOOD,
    OTHER_INSTANCE,
    OUT_OF_RESOURCES,
    SUCCESS,
    IncomingFile,
    InstanceFolder,
)

if TYPE_CHECKING:
    from io import BytesIO

    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.transport import AssociationSocket

    from hilum.dicom.network import InstanceKey
    from hilum.node.config import NodeConfig
    from hilum.node.queue import Queue
    from hilum.node.status import Counters

MAXIMUM_PDU_BYTES = 131072
_MOST_AT_ONCE = 2**21  # some senders take no notice of what was agreed
_ECHO_CLASS = "1.2.840.10008.1.1"
_REQUEST_COMMITMENT = 1
_FAILURE = 0x0110
_NO_SUCH_ACTION = 0x0123

_log = logging.getLogger("hilum")


class Receiver:
    """Listens for associations and stores what they send.

    A status of success is sent when the instance is on the disk itself and in the queue.

    Raises:
        ResourceError: the port cannot be listened on.
    """

    def __init__(
        self, config: NodeConfig, folder: InstanceFolder, queue: Queue, counters: Counters
    ) -> None:
        """Listen on the port, and accept associations from now on."""
        self._config, self._folder, self._queue = config, folder, queue
        self._counters = counters
        network.UNRESTRICTED_STORAGE_SERVICE = True  # any SOP class in any transfer syntax
        network.LOG_HANDLER_LEVEL = "none"
        for library in ("pynetdicom", "pydicom"):  # their messages quote what was received
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._entity = AE(config.title)
        self._entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
        self._entity.maximum_associations = config.associations
        self._entity.require_calling_aet = list(config.allow)
        self._entity.add_supported_context(_ECHO_CLASS)
        self._entity.add_supported_context(COMMITMENT_CLASS)
        self._server = self._listen()
        threading.Thread(target=self._server.serve_forever, name="receive", daemon=True).start()

    def _listen(self) -> ThreadedAssociationServer:
        """Bind the port, with a handler for each kind of message."""
        config = self._config
        try:
            return self._entity.make_server(
                (config.host, config.port),
                ssl_context=None if config.tls is None else server_context(config.tls),
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_ACTION, self._promise),
                    (evt.EVT_CONN_CLOSE, lambda event: _dimse(event).discard_unfinished()),
                    (evt.EVT_REJECTED, self._note_rejection),
                ],
                server_class=ThreadedAssociationServer,
                request_handler=_handler_of(self._folder),
            )
        except OSError as error:
            raise ResourceError(
                f"port {config.port} cannot be listened on"
                f"{f' at {config.host}' if config.host else ''}: {error.strerror}",
                cure="choose another port, or end the program that has it; host must be an address"
                " of this machine",
            ) from error

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End the associations and stop listening; what was not acknowledged will be sent again."""
        TCPServer.shutdown(self._server)  # pynetdicom's own fails for servers of make_server
        self._server.server_close()
        for association in self._server.active_associations:
            association.abort()

    def _store(self, event: Event) -> int:
        """Keep an instance, and return the status for its sender."""
        incoming = self._incoming(event)
        try:
            status = self._keep(
                incoming, checked_uid(cast("C_STORE", event.request).AffectedSOPInstanceUID)
            )
        except (OSError, sqlite3.Error) as error:
            status = OUT_OF_RESOURCES
            _log.error("an instance was refused, the sender may try again later: %s", _kind(error))
        if status == SUCCESS:
            self._counters.received(incoming.bytes)
        else:
            incoming.discard()
            self._counters.refused(status)
        return status

    def _incoming(self, event: Event) -> IncomingFile:
        """Return the file of a request; a small one may have come in one piece with its command."""
        request = cast("C_STORE", event.request)
        data = request.DataSet
        if isinstance(data, IncomingFile):
            _dimse(event).unfinished.discard(data)
            return data
        return _file_for(
            self._folder,
            request.AffectedSOPClassUID,
            request.AffectedSOPInstanceUID,
            event.context.transfer_syntax,
            b"" if data is None else data.getvalue(),
        )

    def _keep(self, incoming: IncomingFile, instance: str) -> int:
        """Put a received file on the disk and into the queue; return the status to answer with."""
        error = incoming.to_disk()
        if error is not None:
            raise error
        key = read_key(incoming.path)
        if key is None or not instance:
            _log.warning("an instance was refused: no UIDs that can be used")
            return NOT_UNDERSTOOD
        if key.instance != instance:
            _log.warning("an instance was refused: its data set has another UID than was announced")
            return OTHER_INSTANCE
        with self._folder.arriving(key.study):
            self._enter(incoming, key)
        return SUCCESS

    def _enter(self, incoming: IncomingFile, key: InstanceKey) -> None:
        """Keep a file and enter it into the queue."""
        known = self._folder.path(key.study, key.instance).exists()
        if known and not self._folder.holds_same(incoming, key):
            # so that what ends between the two files and the queue leaves it to be entered
            self._queue.withdraw_instance(key.study, key.instance)
        new = self._folder.keep(incoming, key)
        if new or not self._queue.has_instance(key.study, key.instance):
            image = holds_image(key.sop_class) and not self._queue.is_own_result(key.instance)
            self._queue.add_instance(
                key.study, key.instance, key.sop_class, image=image, now=time.time()
            )

    def _promise(self, event: Event) -> tuple[int, None]:
        """Take a request for storage commitment; the confirmation comes by another association."""
        title = str(event.assoc.requestor.ae_title).strip()
        if event.action_type != _REQUEST_COMMITMENT:
            return _NO_SUCH_ACTION, None
        if self._config.address_of(title) is None:
            _log.warning("storage commitment refused: no address for %s among the peers", title)
            return _FAILURE, None
        request = event.action_information
        pairs = [
            (str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID))
            for one in request.ReferencedSOPSequence
        ]
        self._queue.add_commitment(str(request.TransactionUID), title, pairs, time.time())
        return SUCCESS, None

    def _note_rejection(self, event: Event) -> None:
        title = str(event.assoc.requestor.ae_title).strip()
        _log.warning("connection refused: %s (%s)", title, event.assoc.requestor.address)


class _StreamingDimse(DIMSEServiceProvider):
    """Sends the data sets of C-STORE requests to files while they arrive."""

    def __init__(self, association: Association, folder: InstanceFolder) -> None:
        super().__init__(association)
        self._folder = folder
        self.unfinished = set[IncomingFile]()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments of a message."""
        super().receive_primitive(primitive)
        message = self.message  # None where it is complete
        if isinstance(message, C_STORE_RQ) and not isinstance(message.data_set, IncomingFile):
            command = message.command_set
            accepted = {one.context_id: one for one in self.assoc.accepted_contexts}
            context = accepted.get(message.context_id)  # of another one pynetdicom aborts
            message.data_set = _file_for(
                self._folder,
                command.get("AffectedSOPClassUID"),
                command.get("AffectedSOPInstanceUID"),
                None if context is None else context.transfer_syntax[0],
                cast("BytesIO", message.data_set).getvalue(),
            )
            self.unfinished.add(message.data_set)

    def discard_unfinished(self) -> None:
        """Remove what has arrived and is not being kept: nobody takes it any more."""
        while self.unfinished:
            self.unfinished.pop().discard()


def _dimse(event: Event) -> _StreamingDimse:
    """Return what receives the messages of an event's association."""
    return cast("_StreamingDimse", event.assoc.dimse)


def _handler_of(folder: InstanceFolder) -> type[RequestHandler]:
    """Make the class that pynetdicom makes associations with."""

    class StreamingHandler(RequestHandler):
        def _create_association(self) -> Association:
            """Make an association that writes what arrives to files at once."""
            association = super()._create_association()
            association.dimse = _StreamingDimse(association, folder)
            if association.dul.socket is not None:
                _bound_messages(association.dul.socket)
            return association

    return StreamingHandler


def _bound_messages(socket: AssociationSocket) -> None:
    """Let a connection end that announces more at once than was agreed: it would be held whole."""
    receive = socket.recv

    def bounded(nr_bytes: int) -> bytearray:
        if nr_bytes > _MOST_AT_ONCE:
            socket.close()
            return bytearray()
        return receive(nr_bytes)

    socket.recv = bounded  # type: ignore[method-assign]  # pynetdicom makes the socket itself


def _file_for(
    folder: InstanceFolder, sop_class: object, instance: object, syntax: object, begun: bytes
) -> IncomingFile:
    """Make the file of an instance with what has arrived of it."""
    uids = [checked_uid(one) for one in (sop_class, instance, syntax)]
    # without its UIDs an instance is refused in the end, and needs no header
    header = file_header(*uids) if all(uids) else b""
    file = IncomingFile(folder.incoming, header, folder.has_space)
    if begun:
        file.write(begun)
    return file


def _kind(error: OSError | sqlite3.Error) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
