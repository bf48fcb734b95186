"""Flows and sets of flows as coroutines: the calls of `ouroboros.dev` and `ouroboros.event` (docs/reference/api.md).

On the event loops' threads; flows of several event loops may live in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from .. import arguments, dev, event
from ..errors import (
    FlowDeallocWarning,
    FlowDownException,
    FlowEventTimeout,
    FlowLingerException,
    FlowPeerException,
    FlowTimeout,
    FlowWouldBlock,
    about,
)
from ..event import FEventQueue, FEventType
from ..fccntl import ALL_PROPERTIES, FlowProperties
from ..flow import Peer, allocation, asked_of, joining
from ..library import Library, closing, library
from ..linger import Leaving
from ..owner import Owner
from ..qos import QoSSpec
from ..rpc.codec import close_fds
from ..rpc.messages_pb2 import Envelope, FlowAccept

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.01  # s between two looks whether a peer has acknowledged everything


_Waiting = list[asyncio.Future[None]]

_waiting: dict[int, dict[asyncio.AbstractEventLoop, _Waiting]] = {}
"""Futures of the tasks that wait for a descriptor to be readable, by descriptor and event loop."""

_lock = RLock()
"""Guards `_waiting`: event loops run in several threads, and any thread may close a flow."""


async def _readable(fd: int, current: Callable[[], int]) -> None:
    """Wait until a descriptor is readable, or is closed. Any number of tasks may wait for the same one.

    `current` returns the descriptor that the flow or the set has now, -1 once it has none: a thread that closes it takes it
    away first, then looks here, and then closes it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    with _lock:
        if current() != fd:
            return
        waiting = _waiting.setdefault(fd, {}).setdefault(loop, [])
        waiting.append(future)
        if len(waiting) == 1:
            loop.add_reader(fd, _resolve, waiting)
    try:
        await future
    finally:
        with _lock:
            waiting.remove(future)
            if not waiting and _waiting.get(fd, {}).get(loop) is waiting:
                _stop_watching(fd, loop)


def _stop_watching(fd: int, loop: asyncio.AbstractEventLoop) -> None:
    loops = _waiting[fd]
    del loops[loop]
    if not loops:
        del _waiting[fd]
    loop.remove_reader(fd)


def _resolve(waiting: _Waiting) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


def _closing(fd: int) -> None:
    """A flow or a set is about to close its descriptor: the tasks that wait for it look once more."""
    with _lock:
        loops = list(_waiting.get(fd, {}).items())
    for loop, waiting in loops:
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            _closed(fd, loop, waiting)
        elif not loop.is_closed():
            try:
                loop.call_soon_threadsafe(_closed, fd, loop, waiting)
            except RuntimeError:
                pass  # the loop was closed between the two lines


def _closed(fd: int, loop: asyncio.AbstractEventLoop, waiting: _Waiting) -> None:
    with _lock:
        if _waiting.get(fd, {}).get(loop) is waiting:
            _stop_watching(fd, loop)
        futures = list(waiting)
    _resolve(futures)


closing.append(_closing)


# ---------------------------------------------------------------- requests to the IRMd


class _Receiver:
    """Receives replies for one event loop, while it has requests outstanding."""

    _of: dict[tuple[asyncio.AbstractEventLoop, Library], _Receiver] = {}

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Library) -> None:
        self._key = loop, owner
        self._users = 0

    @classmethod
    def enter(cls, loop: asyncio.AbstractEventLoop, owner: Library) -> _Receiver:
        receiver = cls._of.get((loop, owner))
        if receiver is None:
            receiver = cls._of[loop, owner] = cls(loop, owner)
            loop.add_reader(owner.client.fileno(), receiver._run_once)
        receiver._users += 1
        return receiver

    def _run_once(self) -> None:
        loop, owner = self._key
        if not owner.client.run_once():
            loop.remove_reader(owner.client.fileno())

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            loop, owner = self._key
            del self._of[self._key]
            if owner.client.fileno() >= 0:
                loop.remove_reader(owner.client.fileno())


async def _call(owner: Library, envelope: Envelope) -> Envelope:
    """Send a request; returns its reply. Cancellation withdraws the request, and releases the flow of a reply that arrives anyhow."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Envelope] = loop.create_future()

    def settle(reply: Envelope | None, failure: BaseException | None) -> None:
        if future.cancelled():
            if reply is not None:
                owner.release(reply.flow_endpoint.fd, reply.flow_endpoint.instance)
        elif reply is not None:
            future.set_result(reply)
        else:
            assert failure is not None
            future.set_exception(failure)

    def completed(reply: Envelope | None, fds: list[int], failure: BaseException | None) -> None:
        close_fds(fds)
        try:
            loop.call_soon_threadsafe(settle, reply, failure)
        except RuntimeError:
            # The loop is closed: no caller waits for the flow any more.
            if reply is not None:
                owner.release(reply.flow_endpoint.fd, reply.flow_endpoint.instance)

    receiver = _Receiver.enter(loop, owner)
    try:
        number = owner.client.submit(envelope, completed)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                endpoint = future.result().flow_endpoint
                owner.release(endpoint.fd, endpoint.instance)
            else:
                future.cancel()
                owner.client.cancel(number)
            raise
    finally:
        receiver.leave()


# ---------------------------------------------------------------- flows


async def _left(leaving: Leaving) -> OSError | None:
    """Wait until an end is closed; raises an error with the octets that its peer has not acknowledged."""
    pause = _FIRST_PAUSE
    try:
        while not leaving.over():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
    finally:
        leaving.give_back()
    return leaving.failure


class Flow(Owner):
    """A flow end for asyncio; see `ouroboros.dev.Flow`. An async context manager, and an async iterator over packets."""

    __slots__ = ("_flow",)

    def __init__(self, flow: dev.Flow | None = None) -> None:
        """A flow end that is not allocated yet, or an allocated one of `ouroboros.dev`, made non-blocking."""
        self._flow = dev.Flow() if flow is None else arguments.instance("flow", flow, dev.Flow)
        if flow is not None:
            self._flow.blocking = False

    @property
    def flow(self) -> dev.Flow:
        """The flow underneath, for its properties; it is non-blocking."""
        return self._flow

    @property
    def fd(self) -> int:
        """The flow descriptor."""
        return self._flow.fd

    @property
    def qos(self) -> QoSSpec:
        """The QoS of the flow."""
        return self._flow.qos

    @property
    def max_packet(self) -> int:
        """Largest packet that can be written, in octets."""
        return self._flow.max_packet

    @property
    def linger_timeout(self) -> float:
        """Seconds without progress by the peer for which leaving the flow waits; as `dev.Flow.linger_timeout`."""
        return self._flow.linger_timeout

    @linger_timeout.setter
    def linger_timeout(self, timeo: float | None) -> None:
        self._flow.linger_timeout = timeo

    @property
    def peer(self) -> Peer:
        """The facts about the process at the other end; as `dev.Flow.peer`."""
        return self._flow.peer

    @property
    def peer_certificate(self) -> bytes | None:
        """The verified certificate of the other end, X.509 DER, or None; as `dev.Flow.peer_certificate`."""
        return self._flow.peer_certificate

    @property
    def flags(self) -> FlowProperties:
        """Access mode and partial reads; it stays non-blocking."""
        return self._flow.flags

    @flags.setter
    def flags(self, flags: FlowProperties) -> None:
        known = arguments.flags("flags", flags, ALL_PROPERTIES, "FlowProperties")
        self._flow.flags = FlowProperties(known) | FlowProperties.NonBlocking

    def __repr__(self) -> str:
        return repr(self._flow)

    # ------------------------------------------------------------ allocation

    async def alloc(
        self,
        dst: str,
        qos: QoSSpec | None = None,
        timeo: float | None = None,
        *,
        layer: str | None = None,
        require: str | Iterable[str] = (),
    ) -> QoSSpec:
        """Allocate a flow to a name; as `dev.Flow.alloc`, with a time-out in seconds (None: none of one's own)."""
        return await self._allocate(Envelope(flow_alloc=allocation(dst, qos, layer, require)), timeo)

    async def accept(self, timeo: float | None = None) -> QoSSpec:
        """Wait for a flow; as `dev.Flow.accept`."""
        return await self._allocate(Envelope(flow_accept=FlowAccept()), timeo)

    async def join(self, dst: str, timeo: float | None = None, *, qos: QoSSpec | None = None) -> QoSSpec:
        """Join a broadcast layer; as `dev.Flow.join`."""
        return await self._allocate(Envelope(flow_join=joining(dst, qos)), timeo)

    async def _allocate(self, envelope: Envelope, timeo: float | None) -> QoSSpec:
        timeout_ns = arguments.seconds("timeo", timeo)
        self._flow._prepare()
        body = envelope.WhichOneof("body")
        assert body is not None
        if timeout_ns is not None:
            getattr(envelope, body).timeout_ns = max(1, timeout_ns)
        try:
            owner = library()
            reply = await _call(owner, envelope)
            self._flow._begin(owner, reply)
        except OSError as failure:
            about(failure, *asked_of(getattr(envelope, body)))
            raise
        self._flow.blocking = False
        return self._flow.qos

    async def dealloc(self, timeo: float | None = None) -> None:
        """Deallocate the flow; as `dev.Flow.dealloc`. Other tasks go on while it waits for acknowledgements; cancelled, it waits no
        longer."""
        leaving = self._flow._begin_dealloc(timeo)
        failure = None if leaving is None else await _left(leaving)
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Deallocate the flow; without one it does nothing. As `dev.Flow.close`."""
        with suppress(FlowDeallocWarning):
            await self.dealloc()

    async def __aenter__(self) -> Flow:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.dealloc(0 if isinstance(value, asyncio.CancelledError) else None)
        except (FlowDeallocWarning, FlowLingerException) as failure:
            if value is None and isinstance(failure, FlowLingerException):
                raise

    # ------------------------------------------------------------ packets

    async def read(self, count: int = 2048) -> bytes:
        """Read up to `count` octets of the packet at the front; as `dev.Flow.read`."""
        return await self._reading(lambda: self._flow.read(count))

    async def read_into(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer; as `dev.Flow.read_into`."""
        return await self._reading(lambda: self._flow.read_into(buffer))

    async def readv(self, max_packets: int = 64) -> list[bytes]:
        """Read whole packets, at least one; as `dev.Flow.readv`."""
        return await self._reading(lambda: self._flow.readv(max_packets))

    async def recv(self) -> bytes:
        """Read one whole packet; as `dev.Flow.recv`."""
        return await self._reading(self._flow.recv)

    async def readline(self) -> str:
        """Read one packet as a line of text in UTF-8."""
        return (await self.recv()).decode()

    async def write(self, buf: ReadableBuffer, count: int | None = None) -> int:
        """Write one packet; as `dev.Flow.write`."""
        return await self._writing(lambda: self._flow.write(buf, count))

    async def writev(self, packets: Sequence[ReadableBuffer]) -> int:
        """Write many packets, all of them; cancelled, those written so far are. As `dev.Flow.writev`."""
        if not isinstance(packets, Sequence):
            arguments.wrong_type("packets", "a list or a tuple of bytes-like objects", packets)
        done = 0
        while done < len(packets):
            remaining = packets[done:] if done else packets
            done += await self._writing(lambda remaining=remaining: self._flow.writev(remaining))  # type: ignore[misc]
        return done

    async def write_end(self) -> None:
        """Say that this end writes no more; as `dev.Flow.write_end`."""
        await self._writing(self._flow.write_end)

    async def writeline(self, line: str) -> int:
        """Write a text as one packet, in UTF-8, as it is; as `dev.Flow.writeline`."""
        return await self.write(arguments.text("line", line).encode())

    async def _reading(self, attempt: Callable[[], T]) -> T:
        handle = self._flow._handle
        async with asyncio.timeout(self._flow.rcv_timeout) as limit:
            while True:
                self._flow._still(handle)
                try:
                    return attempt()
                except FlowWouldBlock:
                    pass
                try:
                    await _readable(self._flow.fileno(), lambda: self._flow._eventfd)
                except asyncio.CancelledError:
                    if limit.expired():
                        raise self._flow._timed_out(False) from None
                    raise

    async def _writing(self, attempt: Callable[[], T]) -> T:
        handle = self._flow._handle
        async with asyncio.timeout(self._flow.snd_timeout) as limit:
            while True:
                self._flow._still(handle)
                try:
                    return attempt()
                except FlowWouldBlock:
                    fd = self._flow.notify_writable()
                if fd < 0:
                    continue
                try:
                    await _readable(fd, lambda: self._flow._writable_eventfd)
                except asyncio.CancelledError:
                    if limit.expired():
                        raise self._flow._timed_out(True) from None
                    raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Whole packets, until the peer has left."""
        while True:
            try:
                packets = await self.readv()
            except FlowPeerException:
                raise
            except FlowDownException:
                return
            for packet in packets:
                yield packet


async def flow_alloc(
    dst: str,
    qos: QoSSpec | None = None,
    timeo: float | None = None,
    *,
    layer: str | None = None,
    require: str | Iterable[str] = (),
) -> Flow:
    """Allocate a flow to a name; see `Flow.alloc`."""
    flow = Flow()
    await flow.alloc(dst, qos, timeo, layer=layer, require=require)
    return flow


async def flow_accept(timeo: float | None = None) -> Flow:
    """Wait for a flow; see `Flow.accept`."""
    flow = Flow()
    await flow.accept(timeo)
    return flow


async def flow_join(dst: str, qos: QoSSpec | None = None, timeo: float | None = None) -> Flow:
    """Join a broadcast layer; see `Flow.join`."""
    flow = Flow()
    await flow.join(dst, timeo, qos=qos)
    return flow


# ---------------------------------------------------------------- events


def _below(flow: dev.Flow | Flow) -> dev.Flow:
    return flow.flow if isinstance(flow, Flow) else flow


class FlowSet(event.FlowSet):
    """A flow set for asyncio: members are flows of this module; `async for flow, event in flows` yields events."""

    def __init__(self, flows: Sequence[Flow] = ()) -> None:
        self._wrappers: dict[dev.Flow, Flow] = {}
        super().__init__(flows)  # type: ignore[arg-type]

    def add(self, flow: dev.Flow | Flow) -> None:
        """Add a flow; see `event.FlowSet.add`."""
        super().add(_below(flow))
        if isinstance(flow, Flow):
            self._wrappers[flow.flow] = flow

    def remove(self, flow: dev.Flow | Flow) -> None:
        """Take a flow out."""
        super().remove(_below(flow))

    def has(self, flow: dev.Flow | Flow) -> bool:
        """Whether the flow is in the set."""
        return super().has(_below(flow))

    def __contains__(self, flow: object) -> bool:
        return super().__contains__(flow.flow if isinstance(flow, Flow) else flow)

    def _discard(self, flow: dev.Flow) -> None:
        self._wrappers.pop(flow, None)
        super()._discard(flow)

    async def events(self, timeo: float | None = None) -> list[tuple[Flow, FEventType]]:
        """Wait for events, at least one. Raises FlowEventTimeout after `timeo` seconds."""
        arguments.seconds("timeo", timeo)
        queue = FEventQueue()
        try:
            async with asyncio.timeout(timeo):
                while True:
                    try:
                        self.wait(queue, 0)
                        return [(self._wrappers.get(flow) or Flow(flow), kind) for flow, kind in queue]
                    except FlowEventTimeout:
                        await _readable(self.fileno(), lambda: self._eventfd)
        except TimeoutError as late:
            if isinstance(late, FlowTimeout):
                raise
            raise FlowEventTimeout(f"no event on {len(self)} flows within {timeo:g} s") from None

    async def __aiter__(self) -> AsyncIterator[tuple[Flow, FEventType]]:
        while True:
            for found in await self.events():
                yield found
