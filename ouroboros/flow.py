"""Flow: an object that has a flow end (paper 2.7, 4.1; docs/reference/api.md): allocation, deallocation, and the facts of the flow."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from errno import EISCONN, EPERM
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from . import arguments, end
from .cipher import cipher_name
from .dataplane._dataplane import lib
from .end import NO_FLOW, End
from .errors import (
    EIRMD,
    FlowAllocatedException,
    FlowDeallocWarning,
    FlowPermissionException,
    about,
    error,
)
from .fccntl import FlowProperties
from .library import Library, close_eventfd, library
from .linger import Leaving
from .qos import QOS_RAW, QoSSpec
from .rpc.codec import close_fds
from .rpc.messages_pb2 import Envelope, FlowAccept, FlowAlloc, FlowDone, FlowEndpoint, FlowJoin

if TYPE_CHECKING:
    from .frcp import FrcpCounters


_Left = tuple[Library, Any, int, int, list[int]]
"""The state taken from an object: the library, its handle, descriptor with its instance, and eventfds."""


class _Facts:
    """The fields of the IRMd's endpoint that a flow needs later: the message is five times as large."""

    __slots__ = ("cipher", "data", "extensions", "flow_id", "mpl_ms", "peer_certificate", "peer_name")

    def __init__(self, endpoint: FlowEndpoint) -> None:
        self.flow_id = endpoint.flow_id
        self.mpl_ms = endpoint.mpl_ms
        self.data = endpoint.data
        self.peer_certificate = endpoint.peer_certificate
        self.peer_name = endpoint.peer_name
        self.cipher = endpoint.cipher
        self.extensions = tuple(endpoint.extensions)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a flow.

    name         common name of its certificate, which the IRMd has verified; None: it has shown none
    certificate  that certificate, X.509 DER
    cipher       of encrypted packets, by its name in `enc.conf`; None when they are not encrypted
    """

    name: str | None
    certificate: bytes | None
    cipher: str | None

    @property
    def authenticated(self) -> bool:
        """Whether it has shown a certificate."""
        return self.certificate is not None

    @property
    def encrypted(self) -> bool:
        """Whether packets are encrypted."""
        return self.cipher is not None


class Flow(End):
    """A flow end (paper 2.7). `Flow()` is not allocated yet; see `alloc`, `accept`, `join`.

    A context manager: leaves by `dealloc()`. Iterating yields whole packets until the peer has left. Threads may
    share a flow. After a fork the child has none of its parent's flows.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_info",
        "_outcome_reported",
    )

    def __init__(self) -> None:
        super().__init__()
        self._outcome_reported = True  # whether the end of an asynchronous allocation has been reported
        self._info: _Facts | None = None
        self._asked: tuple[str, str] = ("", "")  # name and layer of an asynchronous allocation, for its error

    # ------------------------------------------------------------ allocation

    def alloc(
        self,
        dst: str,
        qos: QoSSpec | None = None,
        timeo: float | None = None,
        *,
        layer: str | None = None,
        require: str | Iterable[str] = (),
    ) -> QoSSpec | None:
        """Allocate a flow to the name `dst` (paper 2.11). Returns the QoS that the flow got.

        qos      what is asked for; None is QOS_RAW
        timeo    seconds; None: until the request is answered, refused or the layer gives up; <= 0: asynchronous,
                 returns None immediately
        layer    allocate over this layer only, or through the IPCP of this name; None: the IRMd chooses
        require  "encryption", "authentication", or both: otherwise there is no flow (errno ECRYPT, EAUTH). `peer` has the result
        Raises FlowException with errno ENAME when no process has registered the name, FlowTimeout, IrmdError without an IRMd,
        FlowAllocatedException when this object has a flow already. The `name` of the error is `dst`, its `layer` is `layer`.

            flow = Flow()
            flow.alloc("oecho", QOS_DATA, 2.0, require="encryption")
        """
        request = allocation(dst, qos, layer, require)
        return self._allocate(Envelope(flow_alloc=request), timeo)

    def accept(self, timeo: float | None = None) -> QoSSpec | None:
        """Wait for a flow to a name that this process is bound to (`irm bind`). Returns the QoS asked for.

        The process may be bound before or after. Times and errors as for `alloc`.
        """
        request = FlowAccept()
        return self._allocate(Envelope(flow_accept=request), timeo)

    def join(self, dst: str, timeo: float | None = None, *, qos: QoSSpec | None = None) -> QoSSpec | None:
        """Join the broadcast layer `dst` (paper 2.13). Times and errors as for `alloc`."""
        request = joining(dst, qos)
        return self._allocate(Envelope(flow_join=request), timeo)

    def _allocate(self, envelope: Envelope, timeo: float | None) -> QoSSpec | None:
        timeout_ns = arguments.seconds("timeo", timeo, None)
        self._prepare()
        body = envelope.WhichOneof("body")
        assert body is not None
        message = getattr(envelope, body)
        if timeout_ns is not None and timeout_ns <= 0:
            message.asynchronous = True
        elif timeout_ns is not None:
            message.timeout_ns = timeout_ns
        self._asked = asked_of(message)
        try:
            owner = library()
            reply, fds = owner.client.call(envelope)
            close_fds(fds)
            self._begin(owner, reply)
        except OSError as failure:
            about(failure, *self._asked)
            raise
        return self._qos

    def _prepare(self) -> None:
        if self._handle is not NO_FLOW or self._pending:
            raise FlowAllocatedException(
                EISCONN, f"this object has flow {self._fd} already; deallocate it first"
            )
        self._error = None

    def _begin(self, owner: Library, reply: Envelope) -> None:
        """Take over the IRMd's answer to an allocation."""
        with end.switching:
            pending = reply.HasField("flow_pending")
            body = reply.flow_pending if pending else reply.flow_endpoint
            try:
                self._prepare()  # threads may have allocated with one object
            except FlowAllocatedException:
                owner.give_up(body)
                raise
            if pending:
                self._library = owner
                self._fd, self._instance = body.fd, body.instance
                self._pending = True
                self._outcome_reported = False
                done = owner.await_done(self)
                if done is not None:
                    self._complete(done)
            else:
                self._attach(owner, reply.flow_endpoint)

    def _attach(self, owner: Library, endpoint: FlowEndpoint) -> None:
        handle = owner.attach(endpoint)
        self._library = owner
        self._fd, self._instance = endpoint.fd, endpoint.instance
        self._info = _Facts(endpoint)
        self._qos = QoSSpec.from_proto(endpoint.qos)
        self._handle = handle
        owner.flows[self._fd] = self

    def _complete(self, done: FlowDone) -> None:
        """An asynchronous allocation is over."""
        with end.switching:
            owner = self._library
            if not self._pending or owner is None:
                return  # given up by another thread, which has notified the IRMd
            if done.error:
                self._error = error(done.error, done.text)
                about(self._error, *self._asked)
            else:
                try:
                    self._attach(owner, done.endpoint)
                except OSError as failure:
                    self._error = failure
            self._pending = False

    def _poll_outcome(self) -> None:
        """Update the outcome of an asynchronous allocation."""
        owner = self._library
        if self._pending and owner is not None and not owner.client.run_once():
            with end.switching:
                if self._pending:
                    self._error = error(EIRMD, "the IRMd disconnected while it allocated the flow")
                    self._pending = False

    @property
    def pending(self) -> bool:
        """Whether an asynchronous allocation goes on."""
        self._poll_outcome()
        return self._pending

    @property
    def error(self) -> OSError | None:
        """Why an asynchronous allocation failed."""
        return self._error

    def dealloc(self, timeo: float | None = None) -> None:
        """Deallocate the flow, or give up its asynchronous allocation. The peer can still read all packets that it has not read.

        On a flow that loses nothing it waits until the peer has acknowledged what was written: for `timeo` seconds (0: it does
        not wait), or when that is None as long as the peer makes progress (`linger_timeout`). Then it raises FlowLingerTimeout
        with the number of octets that are not acknowledged; the library goes on sending them as long as the process runs, for
        two minutes at most. Raises FlowLingerException when the flow goes down meanwhile, FlowDeallocWarning when there is
        nothing to deallocate.
        """
        leaving = self._begin_dealloc(timeo)
        if leaving is None:
            return
        leaving.wait()
        if leaving.failure is not None:
            raise leaving.failure

    def close(self) -> None:
        """Deallocate the flow, as `dealloc()`; without a flow it does nothing, as with files and sockets."""
        with suppress(FlowDeallocWarning):
            self.dealloc()

    def _begin_dealloc(self, timeo: float | None) -> Leaving | None:
        arguments.seconds("timeo", timeo)
        left = self._leave()
        if left is None:
            raise FlowDeallocWarning("this object has no flow to deallocate")
        return self._begin_leaving(left, timeo)

    def _begin_leaving(self, left: _Left, timeo: float | None = None) -> Leaving | None:
        """Begin to leave; None: that was all."""
        owner, handle, fd, instance, eventfds = left
        if handle is NO_FLOW:
            leaving = None
            owner.release(fd, instance)  # this process owns the descriptor also after a failure
        else:
            leaving = owner.leave(handle, fd, instance, stall_timeout=self.linger_timeout, timeo=timeo)
        for eventfd in eventfds:
            close_eventfd(eventfd)
        return leaving

    def _leave(self) -> _Left | None:
        """From now on the object has no flow: one of several threads gets the former state, and closes it."""
        with end.switching:
            handle, owner = self._handle, self._library
            if owner is None or (handle is NO_FLOW and not self._pending and self._error is None):
                return None
            self._handle = NO_FLOW
            self._front = deque()
            self._whole = False
            self._pending = False
            self._error = None
            self._library = None
            if self._set is not None:
                self._set._discard(self)
            if owner.flows.get(self._fd) is self:
                del owner.flows[self._fd]
            eventfds = [fd for fd in (self._eventfd, self._writable_eventfd) if fd >= 0]
            self._eventfd = self._writable_eventfd = -1
        return owner, handle, self._fd, self._instance, eventfds

    def _abandon(self) -> Leaving | None:
        """The library is closing; it waits for all flows together."""
        left = self._leave()
        return None if left is None else self._begin_leaving(left)

    def _disown(self) -> None:
        self._front.clear()  # the parent reads the packets read ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self._leave()
        leaving = None if left is None else self._begin_leaving(left)
        if leaving is None:
            return
        if isinstance(value, KeyboardInterrupt):  # a user does not wait
            leaving.over()
            leaving.give_up()
            return
        leaving.wait()
        if value is None and leaving.failure is not None:
            raise leaving.failure

    def __del__(self) -> None:
        if self._handle is not NO_FLOW or self._pending or self._error is not None:
            if self._error is None and self._library is not None and self._library.alive:
                warnings.warn(f"{self!r} was never deallocated", ResourceWarning, source=self, stacklevel=2)
            left = self._leave()
            leaving = None if left is None else self._begin_leaving(left, 0)
            if leaving is not None:
                leaving.wait()  # not for the peer: the collector has no time

    # ------------------------------------------------------------ attributes

    @property
    def flow_id(self) -> int:
        """The flow id: unique in the system (paper 2.7)."""
        return self._endpoint().flow_id

    @property
    def mpl(self) -> float:
        """Maximum packet lifetime, in seconds (paper 2.7)."""
        return self._endpoint().mpl_ms / 1000

    @property
    def data(self) -> bytes:
        """The data that the other side sent along with the allocation."""
        return self._endpoint().data

    @property
    def peer(self) -> Peer:
        """The facts about the process at the other end: its verified name, its certificate, and whether packets are encrypted.

        with flow_alloc("oecho", require="authentication") as flow:
            print(flow.peer.name)
        """
        facts = self._endpoint()
        return Peer(facts.peer_name or None, facts.peer_certificate or None, self.cipher)

    @property
    def cipher(self) -> str | None:
        """The cipher that encrypts packets, by its name in `enc.conf`; None when they are not encrypted."""
        return cipher_name(self._endpoint().cipher) or None

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate of the process at the other end, X.509 DER; None when it has shown none.

        The IRMd has verified it: its owner signed the allocation, an authority of this system has issued it, and for the process
        that allocated the flow its common name is the requested name.
        """
        return self._endpoint().peer_certificate or None

    @property
    def frcp(self) -> FrcpCounters | None:
        """Counters and state of FRCP at this end; None on a flow without it (QoS with in_order 0)."""
        from .frcp import look

        return look(self._pinned())

    def _endpoint(self) -> _Facts:
        self._pinned()
        assert self._info is not None
        return self._info

    def __repr__(self) -> str:
        if self._handle is NO_FLOW:
            return "<Flow pending>" if self._pending else "<Flow not allocated>"
        return f"<Flow {self._fd}{' down' if self.down else ''}>"

    def ask_room(self) -> int:
        """The former name of `notify_writable`; deprecated."""
        return self.notify_writable()

    # ------------------------------------------------------------ as a stream

    def makefile(
        self,
        mode: str = "rwb",
        buffering: int = -1,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The flow as a file, as `socket.makefile` makes one: a stream of octets, or with a mode without b of text.

        mode       r, w or rw, with b for octets
        buffering  octets; 0: none, -1: 64 KiB

        Only for flows that lose nothing (in_order, and loss 0): else raises FlowException with ENOTSUP. Reading ends when the
        peer has sent FIN or has deallocated the flow; a flow that goes down otherwise raises
        FlowDownException or FlowPeerException. Closing the file writes what is buffered; the flow stays. Do not mix with
        `read` and the like, which take octets that the file would read.
        """
        from .stream import make

        return make(self, mode, buffering, encoding=encoding, errors=errors, newline=newline)

    # ------------------------------------------------------------ names of the existing binding

    def set_snd_timeout(self, timeo: float | None) -> None:
        """The same as setting `snd_timeout`."""
        self.snd_timeout = timeo

    def get_snd_timeout(self) -> float | None:
        """The same as `snd_timeout`."""
        return self.snd_timeout

    def set_rcv_timeout(self, timeo: float | None) -> None:
        """The same as setting `rcv_timeout`."""
        self.rcv_timeout = timeo

    def get_rcv_timeout(self) -> float | None:
        """The same as `rcv_timeout`."""
        return self.rcv_timeout

    def get_qos(self) -> QoSSpec:
        """The same as `qos`."""
        return self.qos

    def get_rx_queue_len(self) -> int:
        """The same as `rx_queue_len`."""
        return self.rx_queue_len

    def get_tx_queue_len(self) -> int:
        """The same as `tx_queue_len`."""
        return self.tx_queue_len

    def set_flags(self, flags: FlowProperties) -> None:
        """The same as setting `flags`."""
        self.flags = flags

    def get_flags(self) -> FlowProperties:
        """The same as `flags`."""
        return self.flags

    def set_frct_flags(self, flags: int) -> None:
        """Set the flags of FRCP (`FrctFlags`). Raises FlowPermissionException (EPERM) on a flow without FRCP, FlowValueError."""
        flags = arguments.flags("flags", flags, arguments.UINT32_MAX, "FrctFlags")
        self._with_frcp(lib.frcp_io_set_flags(self._pinned(), int(flags)))

    def get_frct_flags(self) -> int:
        """Flags of FRCP (`FrctFlags`). Raises FlowPermissionException (EPERM) on a flow without FRCP."""
        return self._with_frcp(lib.frcp_io_flags(self._pinned()))

    def _with_frcp(self, result: int) -> int:
        if result == -EPERM:
            raise FlowPermissionException(f"flow {self._fd} runs without FRCP: its QoS has no in_order")
        return self._checked(result)


def allocation(
    dst: str, qos: QoSSpec | None, layer: str | None, require: str | Iterable[str] = ()
) -> FlowAlloc:
    """The request of `alloc`. Raises TypeError and ValueError."""
    if layer is not None:
        arguments.text("layer", layer)
    request = FlowAlloc(dst=arguments.text("dst", dst), layer=layer or "", qos=_qos(qos).to_proto())
    if require:
        request.require = _requirement(require)
    return request


def _requirement(require: str | Iterable[str]) -> int:
    from .name_info import Requirement

    words = [require] if isinstance(require, str) else arguments.texts("require", require)
    try:
        return Requirement.from_words(words)
    except ValueError:
        arguments.wrong_value("require", '"encryption", "authentication", or both', require)


def asked_of(message: FlowAlloc | FlowAccept | FlowJoin) -> tuple[str, str]:
    """Name and layer of a request, for the error when it fails."""
    if isinstance(message, FlowAlloc):
        return message.dst, message.layer
    return "", message.layer if isinstance(message, FlowJoin) else ""


def joining(dst: str, qos: QoSSpec | None) -> FlowJoin:
    """The request of `join`. Raises TypeError and ValueError."""
    return FlowJoin(layer=arguments.text("dst", dst), qos=_qos(qos).to_proto())


def _qos(qos: QoSSpec | None) -> QoSSpec:
    return QOS_RAW if qos is None else arguments.instance("qos", qos, QoSSpec)
