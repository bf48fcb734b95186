"""Flows: the application's interface (paper 4.1, Listing 1; spec cli-api 4.3 and 5.1).

    with flow_alloc("oecho") as flow:
        flow.write(b"Client says hi!")
        print(flow.read())

A flow carries packets: one write is one packet, and a read returns (a part of) one. Reading and writing happen in C
without the GIL (`dataplane/`); allocating goes over RPC to the IRMd. Everything that can go wrong raises a class
of `ouroboros.errors`, all of them OSErrors with an errno.

Times are seconds (float). A time-out of None waits for ever; one of zero, or less, makes an allocation asynchronous:
the call returns at once, and FEventType.FlowAlloc tells when it is over (`ouroboros.event`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from errno import EBADF, EISCONN, EMSGSIZE, ENOBUFS, ENOTSUP, ETIMEDOUT
from time import monotonic_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import buffers
from .dataplane._dataplane import ffi, lib
from .errors import (
    EIRMD,
    ENOTALLOC,
    FlowAllocatedException,
    FlowDeallocWarning,
    FlowDownException,
    FlowException,
    FlowNotAllocatedException,
    FlowPeerException,
    FlowPermissionException,
    FlowTimeout,
    FlowValueError,
    error,
)
from .fccntl import ACCESS_MODE, Fccntl, FlowProperties, FrctFlags
from .library import Library, library
from .qos import QOS_RAW, QoSSpec
from .rpc.codec import close_fds
from .rpc.messages_pb2 import Envelope, FlowAccept, FlowAlloc, FlowDone, FlowEndpoint, FlowJoin

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = [
    "FRCT_LINGER",
    "FRCT_RESCNTL",
    "FRCT_RETRANSMIT",
    "Fccntl",
    "Flow",
    "FlowAllocatedException",
    "FlowDeallocWarning",
    "FlowDownException",
    "FlowException",
    "FlowNotAllocatedException",
    "FlowPeerException",
    "FlowPermissionException",
    "FlowProperties",
    "FlowTimeout",
    "fccntl",
    "flow_accept",
    "flow_alloc",
    "flow_dealloc",
    "flow_join",
    "flow_read",
    "flow_write",
]

FRCT_RETRANSMIT = FrctFlags.Retransmit
FRCT_RESCNTL = FrctFlags.ResControl
FRCT_LINGER = FrctFlags.Linger

_EMUSTSLEEP = -lib.EMUSTSLEEP
_ENOBUFS = -ENOBUFS
_FIRST_SLEEP = 20_000_000
"""ns. A signal that comes between Python's last look and the sleep is seen after the first, short, sleep."""

_read = lib.flow_read
_write = lib.flow_write
_readv = lib.flow_readv
_writev = lib.flow_writev
_unpack = ffi.unpack
_from_buffer = ffi.from_buffer
_spare = buffers.spare
_scratch = buffers.scratch
_SCRATCH = buffers.SCRATCH
_LARGE = 8192  # octets above which a burst is written packet by packet: joining would copy too much


class _Wait:
    """How long a blocking call may still sleep."""

    __slots__ = ("deadline", "until")

    def __init__(self, timeout: int | None) -> None:
        now = monotonic_ns()
        self.deadline = -1 if timeout is None else now + timeout
        self.until = now + _FIRST_SLEEP
        if timeout is not None and self.deadline < self.until:
            self.until = self.deadline

    def sleep(self, handle: Any, writing: bool) -> bool:
        """Sleep once. False when the time is over."""
        result = lib.flow_sleep(handle, writing, self.until)
        if result == -ETIMEDOUT and self.until == self.deadline:
            return False
        self.until = self.deadline
        return True


class Flow:
    """A flow end (paper 2.7). `Flow()` is not allocated yet; see `alloc`, `accept`, `join`.

    A context manager: leaves by `dealloc()`. Iterating yields whole packets until the peer has left. Threads may
    share a flow. After a fork the child has none of its parent's flows.
    """

    __slots__ = (
        "__weakref__",
        "_error",
        "_eventfd",
        "_fd",
        "_handle",
        "_info",
        "_library",
        "_pending",
        "_qos",
        "_rcv_timeout",
        "_room_eventfd",
        "_set",
        "_snd_timeout",
        "_told",
    )

    def __init__(self) -> None:
        self._handle: Any = ffi.NULL
        self._fd = -1
        self._library: Library | None = None
        self._pending = False
        self._told = True  # whether the end of an asynchronous allocation has been reported
        self._error: OSError | None = None  # how it ended, if badly
        self._qos: QoSSpec | None = None
        self._info: FlowEndpoint | None = None
        self._rcv_timeout: int | None = None
        self._snd_timeout: int | None = None
        self._eventfd = -1
        self._room_eventfd = -1
        self._set: Any = None

    # ------------------------------------------------------------ allocation

    def alloc(
        self, dst: str, qos: QoSSpec | None = None, timeo: float | None = None, *, layer: str | None = None
    ) -> QoSSpec | None:
        """Allocate a flow to the name `dst` (paper 2.11). Returns the QoS that the flow got.

        qos    what is asked for; None is QOS_RAW
        timeo  seconds; None: until the request is answered, refused or the layer gives up; <= 0: asynchronous,
               returns None at once
        layer  allocate over this layer only; None: the IRMd chooses
        Raises FlowException with errno ENAME when nobody knows the name, FlowTimeout, IrmdError without an IRMd,
        FlowAllocatedException when this object has a flow already.
        """
        request = FlowAlloc(dst=dst, layer=layer or "", qos=(qos or QOS_RAW).to_proto())
        return self._allocate(Envelope(flow_alloc=request), request, timeo)

    def accept(self, timeo: float | None = None) -> QoSSpec | None:
        """Wait for a flow to a name that this process is bound to (`irm bind`). Returns the QoS asked for.

        The process may be bound before or after. Times and errors as for `alloc`.
        """
        request = FlowAccept()
        return self._allocate(Envelope(flow_accept=request), request, timeo)

    def join(self, dst: str, timeo: float | None = None, *, qos: QoSSpec | None = None) -> QoSSpec | None:
        """Join the broadcast layer `dst` (paper 2.13). Times and errors as for `alloc`."""
        request = FlowJoin(layer=dst, qos=(qos or QOS_RAW).to_proto())
        return self._allocate(Envelope(flow_join=request), request, timeo)

    def _allocate(
        self, envelope: Envelope, request: FlowAlloc | FlowAccept | FlowJoin, timeo: float | None
    ) -> QoSSpec | None:
        self._prepare()
        body = envelope.WhichOneof("body")
        assert body is not None
        message = getattr(envelope, body)
        if timeo is not None and timeo <= 0:
            message.asynchronous = True
        elif timeo is not None:
            message.timeout_ns = int(timeo * 1e9)
        owner = library()
        reply, fds = owner.client.call(envelope)
        close_fds(fds)
        self._begin(owner, reply)
        return self._qos

    def _prepare(self) -> None:
        if self._handle != ffi.NULL or self._pending:
            raise FlowAllocatedException(
                EISCONN, f"this object has flow {self._fd} already; deallocate it first"
            )
        self._error = None

    def _begin(self, owner: Library, reply: Envelope) -> None:
        """Take over what the IRMd answered to an allocation."""
        self._library = owner
        if reply.HasField("flow_pending"):
            self._fd = reply.flow_pending.fd
            self._pending = True
            self._told = False
            owner.flows[self._fd] = self
        else:
            self._attach(reply.flow_endpoint)

    def _attach(self, endpoint: FlowEndpoint) -> None:
        assert self._library is not None
        self._handle = self._library.attach(endpoint)
        self._fd = endpoint.fd
        self._info = endpoint
        self._qos = QoSSpec.from_proto(endpoint.qos)
        self._library.flows[self._fd] = self

    def _complete(self, done: FlowDone) -> None:
        """An asynchronous allocation is over."""
        if not self._pending:
            return
        self._pending = False
        if done.error:
            self._error = error(done.error, done.text)
            return
        try:
            self._attach(done.endpoint)
        except OSError as failure:
            self._error = failure

    def _settle(self) -> None:
        """See what has become of an asynchronous allocation."""
        if self._pending and self._library is not None and not self._library.client.pump():
            self._pending = False
            self._error = error(EIRMD, "the IRMd has gone while it allocated the flow")

    @property
    def allocated(self) -> bool:
        """Whether there is a flow; False while an asynchronous allocation goes on, and after it has failed."""
        self._settle()
        return bool(self._handle != ffi.NULL)

    @property
    def pending(self) -> bool:
        """Whether an asynchronous allocation goes on."""
        self._settle()
        return self._pending

    @property
    def error(self) -> OSError | None:
        """Why an asynchronous allocation failed."""
        return self._error

    def dealloc(self) -> None:
        """Deallocate the flow, or give up its asynchronous allocation. What the peer has not read yet it still can.

        Raises FlowDeallocWarning when there is nothing to deallocate.
        """
        if not self._release():
            raise FlowDeallocWarning("this object has no flow to deallocate")

    def _release(self) -> bool:
        handle, owner, pending = self._handle, self._library, self._pending
        if owner is None or (handle == ffi.NULL and not pending and self._error is None):
            return False
        self._handle = ffi.NULL
        self._pending = False
        self._error = None
        self._library = None
        if self._set is not None:
            self._set._discard(self)
        if owner.flows.get(self._fd) is self:
            del owner.flows[self._fd]
        if handle != ffi.NULL:
            owner.detach(handle, self._fd)
        elif pending:
            owner.release(self._fd)
        self._close_eventfds()
        return True

    def _abandon(self) -> None:
        """The library is closing; it tells the IRMd for all flows at once."""
        handle, owner = self._handle, self._library
        self._handle = ffi.NULL
        self._pending = False
        self._library = None
        if handle != ffi.NULL and owner is not None:
            lib.process_remove(owner.process, handle)
            lib.flow_detach(handle)
        self._close_eventfds()

    def _close_eventfds(self) -> None:
        for fd in (self._eventfd, self._room_eventfd):
            if fd >= 0:
                os.close(fd)
        self._eventfd = self._room_eventfd = -1

    def __enter__(self) -> Flow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def __del__(self) -> None:
        if self._handle != ffi.NULL or self._pending:
            if self._library is not None and self._library.alive:
                warnings.warn(f"{self!r} was never deallocated", ResourceWarning, source=self, stacklevel=2)
            self._release()

    # ------------------------------------------------------------ what it is

    @property
    def fd(self) -> int:
        """The flow descriptor: 64 or more, unique in this process (paper 2.7); -1 without a flow."""
        return self._fd if self._handle != ffi.NULL or self._pending else -1

    @property
    def flow_id(self) -> int:
        """The flow id: unique in the system (paper 2.7)."""
        return self._endpoint().flow_id

    @property
    def qos(self) -> QoSSpec:
        """The QoS of the flow."""
        self._endpoint()
        assert self._qos is not None
        return self._qos

    @property
    def max_packet(self) -> int:
        """Largest packet that can be written, in octets (paper 2.7: MPS)."""
        self._endpoint()
        return int(self._handle.max_packet)

    @property
    def mpl(self) -> float:
        """Maximum packet lifetime, in seconds (paper 2.7)."""
        return self._endpoint().mpl_ms / 1000

    @property
    def data(self) -> bytes:
        """What the other side sent along with the allocation."""
        return self._endpoint().data

    @property
    def down(self) -> bool:
        """Whether the flow is down; packets that came before can still be read."""
        return bool(self._handle != ffi.NULL and lib.flow_is_down(self._handle))

    def _endpoint(self) -> FlowEndpoint:
        self._settle()
        if self._handle == ffi.NULL or self._info is None:
            raise self._failure(-ENOTALLOC)
        return self._info

    def __repr__(self) -> str:
        if self._handle == ffi.NULL:
            return "<Flow pending>" if self._pending else "<Flow not allocated>"
        return f"<Flow {self._fd}{' down' if self.down else ''}>"

    # ------------------------------------------------------------ writing

    def write(self, buf: ReadableBuffer, count: int | None = None) -> int:
        """Write one packet: `buf`, or its first `count` octets. Returns the number of octets.

        Blocks while the FIFO is full, as long as `snd_timeout` says. An empty packet is a keep-alive: it travels
        and is never read. Raises FlowTimeout, BlockingIOError (EAGAIN) on a non-blocking flow, FlowDownException,
        FlowException with EMSGSIZE above `max_packet` octets, MemoryError (ENOMEM) when the packet pool is
        exhausted, FlowPermissionException on a read-only flow.
        """
        if count is not None:
            buf = memoryview(buf).cast("B")[:count]
        data: Any = buf if type(buf) is bytes else _from_buffer(buf)
        n: int = _write(self._handle, data, len(data))
        if n < 0:
            return self._again(n, True, lambda: _write(self._handle, data, len(data)))
        return n

    def writev(self, packets: Sequence[ReadableBuffer]) -> int:
        """Write many packets with one call. Returns how many were written.

        A blocking flow writes them all; when the time is over, or on a non-blocking flow, those that found room.
        Errors as for `write`, if not even the first could be written.
        """
        total = len(packets)
        if not total:
            return 0
        if buffers.octets(packets[0]) > _LARGE:
            return self._write_each(packets)
        data, each, lengths = buffers.join(packets)
        done: int = _writev(self._handle, data, lengths, each, total)
        if done == total:
            return done
        return self._writev_rest(_from_buffer(data), each, lengths, total, done)

    def _writev_rest(self, data: Any, each: int, lengths: Any, total: int, result: int) -> int:
        done = offset = 0
        wait: _Wait | None = None
        while True:
            if result > 0:
                offset += each * result if each else sum(lengths[done : done + result])
                done += result
                if done == total:
                    return done
                wait = None
            elif result != _EMUSTSLEEP:
                if done:
                    return done
                raise self._failure(result)
            else:
                wait = wait or _Wait(self._snd_timeout)
                if not wait.sleep(self._handle, True):
                    if done:
                        return done
                    raise self._timed_out(True)
            rest = lengths + done if lengths != ffi.NULL else ffi.NULL
            result = _writev(self._handle, data + offset, rest, each, total - done)

    def _write_each(self, packets: Sequence[ReadableBuffer]) -> int:
        done = 0
        for packet in packets:
            try:
                self.write(packet)
            except OSError:
                if done:
                    return done
                raise
            done += 1
        return done

    def writeline(self, line: str) -> int:
        """Write a line of text as one packet, in UTF-8; the line end is added when there is none."""
        return self.write((line if line.endswith("\n") else line + "\n").encode())

    # ------------------------------------------------------------ reading

    def read(self, count: int = 2048) -> bytes:
        """Read up to `count` octets of the packet at the front.

        A longer packet is read in parts; when a read takes exactly the rest of it, the next one returns b"" as the
        end mark. (`recv` always returns a whole packet.) With NoPartialRead a packet longer than `count` is dropped
        and raises FlowException with EMSGSIZE, and there are no end marks.
        Blocks until there is a packet, as long as `rcv_timeout` says. Raises FlowTimeout, BlockingIOError (EAGAIN)
        on a non-blocking flow, and once everything that came before has been read FlowDownException, or
        FlowPeerException when the peer was given up.
        """
        if count > _SCRATCH:
            return self._read_large(count)
        buf = _spare.pop() if _spare else _scratch()
        try:
            n = _read(self._handle, buf, count)
            if n < 0:
                n = self._again(n, False, lambda: _read(self._handle, buf, count))
            return _unpack(buf, n)  # type: ignore[no-any-return]
        except OverflowError:
            raise FlowValueError(f"cannot read {count} octets") from None
        finally:
            _spare.append(buf)

    def _read_large(self, count: int) -> bytes:
        data = bytearray(count)
        return bytes(data[: self.read_into(data)])

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer, without a copy in between. Returns the number of octets; else as `read`."""
        view = _from_buffer(buffer, require_writable=True)
        n: int = _read(self._handle, view, len(view))
        if n < 0:
            return self._again(n, False, lambda: _read(self._handle, view, len(view)))
        return n

    def readv(self, max_packets: int = 64) -> list[bytes]:
        """Read whole packets with one call: at least one, at most `max_packets`, as many as are there.

        Blocks for the first as `read` does, with the same errors. The rest of a packet that was read in part comes
        as a packet of its own.
        """
        return self._readv(min(max_packets, buffers.BURST_PACKETS))

    def recv(self) -> bytes:
        """Read one whole packet, whatever its size. Blocks and raises as `read` does."""
        return self._readv(1)[0]

    def _readv(self, count: int) -> list[bytes]:
        if count < 1:
            raise FlowValueError(f"cannot read {count} packets")
        burst = buffers.burst()
        try:
            n = self._fill(burst, count)
            if n == _ENOBUFS:
                burst = buffers.Burst(burst.lengths[0])
                n = self._fill(burst, count)
            return burst.packets(n)
        finally:
            buffers.spare_bursts.append(burst)

    def _fill(self, burst: buffers.Burst, count: int) -> int:
        """Read a burst: number of packets, or -ENOBUFS when the first is longer than the buffer."""
        n: int = _readv(self._handle, burst.buffer, burst.size, burst.lengths, count, burst.each)
        if n < 0 and n != _ENOBUFS:
            args = burst.buffer, burst.size, burst.lengths, count, burst.each
            n = self._again(n, False, lambda: _readv(self._handle, *args))
        return n

    def readline(self) -> str:
        """Read one packet as a line of text in UTF-8."""
        return self.recv().decode()

    def __iter__(self) -> Iterator[bytes]:
        """Whole packets, until the peer has left."""
        while True:
            try:
                packets = self.readv()
            except FlowPeerException:
                raise
            except FlowDownException:
                return
            yield from packets

    # ------------------------------------------------------------ waiting and errors

    def _again(self, result: int, writing: bool, attempt: Any) -> int:
        """A call could not be done at once: sleep and attempt it again, or raise what is wrong."""
        wait: _Wait | None = None
        while result < 0 and result != _ENOBUFS:
            if result != _EMUSTSLEEP:
                if not self._retry(result):
                    raise self._failure(result)
            else:
                wait = wait or _Wait(self._snd_timeout if writing else self._rcv_timeout)
                if not wait.sleep(self._handle, writing):
                    raise self._timed_out(writing)
            result = attempt()
        return result

    def _retry(self, result: int) -> bool:
        """Whether an error came only because an asynchronous allocation was not known to be over."""
        return result == -ENOTALLOC and self._pending and self.allocated

    def _timed_out(self, writing: bool) -> OSError:
        seconds = ((self._snd_timeout if writing else self._rcv_timeout) or 0) / 1e9
        what = "no room to write" if writing else "no packet to read"
        return FlowTimeout(ETIMEDOUT, f"flow {self._fd}: {what} within {seconds:g} s")

    def _failure(self, result: int) -> OSError:
        number = -result
        if self._error is not None:
            return self._error
        if number == ENOTALLOC and self._pending:
            return FlowNotAllocatedException(number, f"flow {self._fd} is still being allocated")
        if number == EBADF:
            return FlowNotAllocatedException(number, f"flow {self._fd} belongs to the parent process")
        if number == EMSGSIZE:
            return error(
                number, f"flow {self._fd}: the packet is too long (flow takes {self.max_packet} octets)"
            )
        text = self._library.explain(number, self._fd) if self._library is not None else ""
        return error(number, text)

    # ------------------------------------------------------------ control

    @property
    def rcv_timeout(self) -> float | None:
        """Seconds that a read may block; None: for ever."""
        return None if self._rcv_timeout is None else self._rcv_timeout / 1e9

    @rcv_timeout.setter
    def rcv_timeout(self, timeo: float | None) -> None:
        self._rcv_timeout = _nanoseconds(timeo)

    @property
    def snd_timeout(self) -> float | None:
        """Seconds that a write may block; None: for ever."""
        return None if self._snd_timeout is None else self._snd_timeout / 1e9

    @snd_timeout.setter
    def snd_timeout(self, timeo: float | None) -> None:
        self._snd_timeout = _nanoseconds(timeo)

    @property
    def flags(self) -> FlowProperties:
        """Access mode, blocking and partial reads (fccntl). Setting Down declares the flow down at both ends."""
        self._endpoint()
        flags = FlowProperties(lib.flow_get_flags(self._handle))
        return flags | FlowProperties.Down if self.down else flags

    @flags.setter
    def flags(self, flags: FlowProperties) -> None:
        self._endpoint()
        if int(flags) & ACCESS_MODE == ACCESS_MODE:
            raise FlowValueError("WriteOnly and ReadWrite together are no access mode")
        lib.flow_set_flags(self._handle, int(flags) & ~int(FlowProperties.Down))
        lib.flow_declare(self._handle, bool(flags & FlowProperties.Down))

    @property
    def blocking(self) -> bool:
        """Whether reads and writes wait."""
        return not self.flags & FlowProperties.NonBlocking

    @blocking.setter
    def blocking(self, blocking: bool) -> None:
        flags = self.flags & ~FlowProperties.NonBlocking & ~FlowProperties.Down
        self.flags = flags if blocking else flags | FlowProperties.NonBlocking

    @property
    def rx_queue_len(self) -> int:
        """Packets waiting to be read."""
        return self._queues()[0]

    @property
    def tx_queue_len(self) -> int:
        """Packets written that the other side has not taken yet."""
        return self._queues()[1]

    def _queues(self) -> tuple[int, int]:
        self._endpoint()
        counts = ffi.new("uint64_t[2]")
        lib.flow_queues(self._handle, counts, counts + 1)
        return int(counts[0]), int(counts[1])

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable while there may be a packet, or the flow is down.

        Read until BlockingIOError to clear it.
        """
        self._endpoint()
        if self._eventfd < 0:
            assert self._library is not None
            self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            lib.process_poll_flow(self._library.process, self._handle, self._eventfd)
        return self._eventfd

    def ask_room(self) -> int:
        """For event loops, after a write raised BlockingIOError: a descriptor that becomes readable when there may be
        room, or -1 when there is room already. Ask again each time.
        """
        self._endpoint()
        if self._room_eventfd < 0:
            assert self._library is not None
            self._room_eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            lib.process_poll_room(self._library.process, self._handle, self._room_eventfd)
        try:
            os.eventfd_read(self._room_eventfd)
        except BlockingIOError:
            pass  # was clear already
        return -1 if lib.flow_ask_room(self._handle) else self._room_eventfd

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
        """Set the flags of FRCP. Raises FlowPermissionException (EPERM): this flow runs without FRCP."""
        self._endpoint()
        raise FlowPermissionException(
            f"flow {self._fd} runs without FRCP: nothing to retransmit on this path"
        )

    def get_frct_flags(self) -> int:
        """Flags of FRCP. Raises FlowPermissionException (EPERM): this flow runs without FRCP."""
        self._endpoint()
        raise FlowPermissionException(
            f"flow {self._fd} runs without FRCP: nothing to retransmit on this path"
        )


def _nanoseconds(timeo: float | None) -> int | None:
    if timeo is None:
        return None
    if not timeo >= 0:
        raise FlowValueError(f"a time-out of {timeo} s makes no sense; None waits for ever")
    return int(timeo * 1e9)


# ---------------------------------------------------------------- paper Listing 1


def flow_alloc(
    dst: str, qos: QoSSpec | None = None, timeo: float | None = None, *, layer: str | None = None
) -> Flow:
    """Allocate a flow to a name; see `Flow.alloc`."""
    flow = Flow()
    flow.alloc(dst, qos, timeo, layer=layer)
    return flow


def flow_accept(timeo: float | None = None) -> Flow:
    """Wait for a flow; see `Flow.accept`."""
    flow = Flow()
    flow.accept(timeo)
    return flow


def flow_join(dst: str, qos: QoSSpec | None = None, timeo: float | None = None) -> Flow:
    """Join a broadcast layer; see `Flow.join`."""
    flow = Flow()
    flow.join(dst, timeo, qos=qos)
    return flow


def flow_dealloc(flow: Flow) -> None:
    """Deallocate a flow; see `Flow.dealloc`."""
    flow.dealloc()


def flow_write(flow: Flow, buf: ReadableBuffer, count: int | None = None) -> int:
    """Write one packet; see `Flow.write`."""
    return flow.write(buf, count)


def flow_read(flow: Flow, count: int = 2048) -> bytes:
    """Read (a part of) one packet; see `Flow.read`."""
    return flow.read(count)


def fccntl(flow: Flow, cmd: int, arg: Any = None) -> Any:
    """Control a flow: `fccntl(flow, Fccntl.FLOWSRCVTIMEO, 0.5)` (spec cli-api 4.4).

    Getters return the value, setters None. Time-outs are seconds, None clears one. Getting a time-out that is not set
    raises FlowPermissionException (EPERM); an unknown command raises FlowException with ENOTSUP.
    """
    if cmd in (Fccntl.FLOWGRCVTIMEO, Fccntl.FLOWGSNDTIMEO):
        timeo = flow.rcv_timeout if cmd == Fccntl.FLOWGRCVTIMEO else flow.snd_timeout
        if timeo is None:
            raise FlowPermissionException(f"flow {flow.fd} has no such time-out set")
        return timeo
    if cmd in _GETTERS:
        return getattr(flow, _GETTERS[Fccntl(cmd)])
    if cmd == Fccntl.FRCTGFLAGS:
        return flow.get_frct_flags()
    if cmd == Fccntl.FRCTSFLAGS:
        return flow.set_frct_flags(arg)
    if cmd not in _SETTERS:
        raise error(ENOTSUP, f"fccntl has no command {cmd:#o}")
    if cmd == Fccntl.FLOWSFLAGS:
        arg = FlowProperties(arg)
    setattr(flow, _SETTERS[Fccntl(cmd)], arg)
    return None


_GETTERS = {
    Fccntl.FLOWGQOSSPEC: "qos",
    Fccntl.FLOWGFLAGS: "flags",
    Fccntl.FLOWGRXQLEN: "rx_queue_len",
    Fccntl.FLOWGTXQLEN: "tx_queue_len",
}

_SETTERS = {
    Fccntl.FLOWSRCVTIMEO: "rcv_timeout",
    Fccntl.FLOWSSNDTIMEO: "snd_timeout",
    Fccntl.FLOWSFLAGS: "flags",
}
