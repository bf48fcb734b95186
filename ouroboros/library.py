"""The Ouroboros state of this process: its connection to the IRMd, its shared memory, its flows by descriptor.

Made on first use, so that importing the library needs no IRMd (docs/design/overview.md). When the IRMd has exited, flows of
the old connection stay down and the next call that needs one makes a new connection. A forked child starts with
nothing: it does not inherit its parent's flows.
"""

from __future__ import annotations

import atexit
import os
import resource
import threading
import weakref
from collections.abc import Callable
from errno import ENOMEM
from typing import TYPE_CHECKING, Any, Protocol

from .dataplane._dataplane import ffi, lib
from .dataplane.resources import Resources
from .errors import EFLOWDOWN, EFLOWPEER, ENOTALLOC, OuroborosError, error
from .extension import Extension
from .linger import Leaving, Lingering
from .owner import Owner
from .rpc import limits
from .rpc.client import Client
from .rpc.codec import close_fds
from .rpc.messages_pb2 import Envelope, FlowDealloc, FlowDone, FlowEndpoint, FlowPending, Hello

if TYPE_CHECKING:
    from .dataplane._dataplane import struct_flow

_WINDOW = 2048  # packets
_WINDOW_OTHERS = 512  # for a peer that does not bound its packets in flight by the round trip
_DIRECT_OCTETS = 1 << 20  # waiting packets in shared memory should fit a processor's cache


def _peer_timeout(endpoint: FlowEndpoint) -> int:
    """Milliseconds after which the peer times out; 0: never.

    On a direct flow the IRMd reports the peer's exit, and a peer that is stopped, by a debugger for example, has not exited.
    """
    timeout: int = endpoint.qos.timeout
    return 0 if endpoint.direct else min(timeout, 0x7FFFFFFF)


class FlowObject(Protocol):
    """The part of a `Flow` that its library uses."""

    _fd: int
    _instance: int

    def _complete(self, done: FlowDone) -> None:
        """Its asynchronous allocation is over."""

    def _abandon(self) -> Leaving | None:
        """The library is closing."""

    def _disown(self) -> None:
        """The process has forked, and the flow is the parent's."""


class Library(Owner):
    """One connection of this process to an IRMd, and the objects received over it."""

    def __init__(self) -> None:
        _raise_descriptor_limit()
        self.client = Client.connect(Hello.APPLICATION, layout_version=lib.LAYOUT_VERSION)
        self.resources = Resources(ffi, lib)
        self.flows: weakref.WeakValueDictionary[int, FlowObject] = weakref.WeakValueDictionary()
        self.late = 0
        """Outcomes of allocations that had been given up when they arrived."""
        self._lock = threading.RLock()  # a signal handler may allocate
        self._outcomes: dict[int, FlowDone | None] = {}
        self.lingering = Lingering()
        self._closed = False
        try:
            self._begin_session()
        except BaseException:
            self.client.close()
            self.resources.close()
            raise

    def _begin_session(self) -> None:
        """Map the objects of the welcome message, and start the thread that watches the IRMd. Raises OSError."""
        welcome = self.client.welcome
        try:
            self.resources.learn(Envelope(welcome=welcome), self.client.welcome_fds)
        finally:
            close_fds(self.client.welcome_fds)
        self.events = self.resources.region(welcome.events)
        process = lib.process_create(self.events)
        if not process:
            raise error(
                ffi.errno or ENOMEM, "no memory, or no descriptor, for what this process has of Ouroboros"
            )
        self.process = process
        self.client.on_message = self._received
        self.client.on_notification = self._notified
        self.client.on_orphan = self._orphaned
        result = lib.process_watch(self.process, self.client.fileno())
        if result < 0:
            raise error(-result, "cannot start the thread that watches the IRMd")

    @property
    def alive(self) -> bool:
        """Whether the IRMd is there and this process is the one that connected to it."""
        return not self._closed and not self.client.closed and not lib.process_is_orphan(self.process)

    # ------------------------------------------------------------ flows

    def attach(self, endpoint: FlowEndpoint) -> struct_flow:
        """`struct flow *` of an end that the IRMd has described; its objects have been mapped already."""
        try:
            wrong = limits.check(endpoint)
            if wrong is not None:
                raise error(wrong.errno, f"the IRMd described flow {endpoint.flow_id} wrongly: {wrong.text}")
            key = self.resources.key(endpoint)
            with self.resources.held:
                handle = lib.flow_attach(*self.resources.end(endpoint))
            if not handle:
                raise error(ENOTALLOC, f"the IRMd described flow {endpoint.flow_id} wrongly")
        except BaseException:
            self.release(endpoint.fd, endpoint.instance)
            raise
        try:
            self._begin(handle, endpoint, key)
            lib.process_add(self.process, handle)
        except BaseException:
            lib.flow_detach(handle)
            lib.flow_destroy(handle)
            self.release(endpoint.fd, endpoint.instance)
            raise
        # Freed when it is detached, and the last thread that uses it has let go of it.
        return ffi.gc(handle, lib.flow_destroy)

    def _begin(self, handle: struct_flow, endpoint: FlowEndpoint, key: Any) -> None:
        """Set up protection and FRCP or keep-alives: a flow without them is not usable. Raises OSError."""
        result = 0
        if endpoint.cipher or endpoint.check:
            result = lib.flow_protect(handle, endpoint.cipher, key, endpoint.check)
        if result >= 0 and endpoint.qos.in_order:
            result = self._begin_frcp(handle, endpoint)
        elif result >= 0:
            lib.flow_keep_alive(handle, _peer_timeout(endpoint))
        if result < 0:
            raise error(
                -result, f"flow {endpoint.flow_id} cannot be set up with its encryption, check and QoS"
            )

    @staticmethod
    def _begin_frcp(handle: struct_flow, endpoint: FlowEndpoint) -> int:
        """Configure FRCP from the QoS (paper 5.1; spec/frcp FRCP-1) and the granted extensions."""
        config = {
            "mpl_ms": endpoint.mpl_ms,
            "window": _WINDOW
            if Extension.SELECTIVE in endpoint.extensions and endpoint.qos.loss == 0
            else _WINDOW_OTHERS,
            "octets": _DIRECT_OCTETS if endpoint.direct else 0,
            "timeout_ms": _peer_timeout(endpoint),
            "first": int.from_bytes(os.urandom(4)),
            "retransmit": endpoint.qos.loss == 0,
            "fragments": Extension.FRAGMENTATION in endpoint.extensions,
            "selective": Extension.SELECTIVE in endpoint.extensions,
            "lossless": endpoint.inside,
            "direct": endpoint.direct,
            "fin": Extension.END in endpoint.extensions,
        }
        return int(lib.frcp_io_begin(handle, ffi.new("struct frcp_config *", config)))

    def leave(
        self, handle: struct_flow, fd: int, instance: int, *, stall_timeout: float, timeo: float | None = None
    ) -> Leaving:
        """Begin to leave a flow (linger.py); its eventfds may be closed."""
        lib.process_unpoll(self.process, handle)
        return Leaving(self, handle, fd, instance, stall_timeout=stall_timeout, timeo=timeo)

    def let_go(self, handle: struct_flow) -> None:
        """Let go of a flow, lingering or not."""
        lib.process_remove(self.process, handle)
        lib.flow_detach(handle)

    def release(self, fd: int, instance: int, quiet: int = 0) -> None:
        """Tell the IRMd that this use of a descriptor has ended, and for how many seconds its layer should not use its endpoint
        again."""
        try:
            self.client.notify(Envelope(flow_dealloc=FlowDealloc(fd=fd, instance=instance, quiet_s=quiet)))
        except OuroborosError:
            pass  # the flow ended with the IRMd

    def explain(self, number: int, fd: int, handle: struct_flow) -> str:
        """Why a call on a flow failed, where the reason is not in the number."""
        if number not in (EFLOWDOWN, EFLOWPEER):
            return ""
        why = lib.flow_down_cause(handle)
        if why & lib.DOWN_IRMD or lib.process_is_orphan(
            self.process
        ):  # the flow learns it before the process does
            return f"flow {fd} is down: the IRMd has disconnected; start it with `irmd`, then allocate again"
        if why & lib.END_PEER:
            return f"the peer of flow {fd} does not answer any more: no packet has arrived from it for the timeout of the QoS"
        if why & lib.DOWN_UNACKNOWLEDGED:
            return f"flow {fd} is down: its peer has not acknowledged retransmitted packets for two minutes"
        if why & lib.DOWN_PEER_CORRUPT:
            return f"flow {fd} is down: its peer wrote an invalid index into their shared memory"
        if why & lib.END_DECLARED:
            return f"flow {fd} is down: one of its two ends has declared it down; clear FlowProperties.Down to go on"
        if why & lib.END_LINK:
            return f"flow {fd} is down: the link of its layer is down; the flow goes on when that is up again"
        return f"flow {fd} is down: its peer has left"

    # ------------------------------------------------------------ messages of the IRMd

    def _notified(self, envelope: Envelope, fds: list[int]) -> None:
        close_fds(fds)
        body = envelope.WhichOneof("body")
        if body == "flow_done":
            self._done(envelope.flow_done)
        elif body == "segment_gone":
            self.resources.release(envelope.segment_gone)

    def _done(self, done: FlowDone) -> None:
        with self._lock:
            flow = self.flows.get(done.fd)
            if flow is None or flow._instance != done.instance:
                if done.instance in self._outcomes:
                    self._outcomes[done.instance] = done
                else:
                    self.late += 1  # it was given up meanwhile, and its descriptor with it
                return
        flow._complete(done)

    def await_done(self, flow: FlowObject) -> FlowDone | None:
        """From now on `flow` gets the outcome of its asynchronous allocation; returned here when it has arrived already."""
        with self._lock:
            self.flows[flow._fd] = flow
            return self._outcomes.pop(flow._instance, None)

    def _received(self, envelope: Envelope, fds: list[int]) -> None:
        """Every message, in the order of arrival. Another thread may receive the outcome of an asynchronous allocation before the one
        that asked has its Flow ready."""
        if envelope.HasField("flow_pending"):
            self._outcomes[envelope.flow_pending.instance] = None
        self.resources.learn_or_remember(envelope, fds)

    def _orphaned(self, envelope: Envelope, fds: list[int]) -> None:
        """A reply arrived after its caller had given up: give the flow back."""
        close_fds(fds)
        if envelope.HasField("flow_endpoint"):
            self.give_up(envelope.flow_endpoint)
        elif envelope.HasField("flow_pending"):
            self.give_up(envelope.flow_pending)

    def give_up(self, granted: FlowEndpoint | FlowPending) -> None:
        """Give back the flow of an allocation whose caller has given up."""
        with self._lock:
            self._outcomes.pop(granted.instance, None)
        self.release(granted.fd, granted.instance)

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Deallocate every flow and close the connection."""
        if self._closed:
            return
        self._closed = True
        leaving = [flow._abandon() for flow in list(self.flows.values())]
        try:
            self.lingering.wait_all([one for one in leaving if one is not None])
        finally:
            self._stop()

    def _stop(self) -> None:
        lib.process_stop(self.process)
        self.client.close()

    def disown(self) -> None:
        """In a forked child: the parent owns the connection and the flows."""
        self._closed = True
        for flow in list(self.flows.values()):
            flow._disown()
        self.client.abandon()


_lock = threading.RLock()
_library: Library | None = None


def library() -> Library:
    """The process's connection; made now if there is none. Raises IrmdError with the places where an IRMd was looked for."""
    global _library
    current = _library
    if current is not None and current.alive:
        return current
    with _lock:
        if _library is None or not _library.alive:
            if _library is not None:
                lib.process_stop(_library.process)
            _library = Library()
        return _library


closing: list[Callable[[int], None]] = []
"""Called with an eventfd that is about to be closed: event loops that wait on it let go of it, and look again."""


def close_eventfd(fd: int) -> None:
    """Close the eventfd of a flow or a set; another file may get its number immediately."""
    for notify in closing:
        notify(fd)
    os.close(fd)


def _raise_descriptor_limit() -> None:
    """Flows that are polled, and peers, cost descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            pass  # the kernel's own limit is lower, and has to suffice


def _forked() -> None:
    global _library, _lock
    _lock = threading.RLock()
    if _library is not None:
        _library.disown()
        _library = None


@atexit.register
def _exit() -> None:
    if _library is not None:
        _library.close()


os.register_at_fork(after_in_child=_forked)
