"""A flow end: its packets, and waiting for them; its flags, time-outs and descriptors (docs/reference/api.md).

This module of the library offers `End`, which has a handle of C and needs no IRMd; `Flow` allocates ends. Reading and writing run once
per packet, and do as little as possible: the work is done in C, without the GIL (`dataplane/src/flow_raw.c`, `frcp_io.c`). C never sleeps inside a read or a write:
it returns EMUSTSLEEP, and Python, which has signals to handle, sleeps (also in C) and tries again.

A method takes the handle of its flow once, before anything else, and each call of C checks it: when another thread has
deallocated the flow meanwhile the method raises FlowNotAllocatedException, even if the object has another flow by then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from errno import EAGAIN, EBADF, EMSGSIZE, ENOBUFS, ENOTSUP, ETIMEDOUT
from functools import partial
from threading import RLock
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

from . import arguments, buffers
from .dataplane._dataplane import ffi, lib
from .errors import (
    ENOTALLOC,
    FlowDownException,
    FlowNotAllocatedException,
    FlowPeerException,
    FlowTimeout,
    error,
)
from .fccntl import ACCESS_MODE, ALL_PROPERTIES, FlowProperties
from .linger import LINGER_TIMEOUT
from .owner import Owner

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from .dataplane._dataplane import struct_flow
    from .library import Library
    from .qos import QoSSpec

NO_FLOW = lib.flow_none()
"""The handle of an object without a flow: C takes it and answers ENOTALLOC, so that there is no NULL to check."""

MUST_SLEEP: int = -lib.EMUSTSLEEP
_EREADAHEAD: int = -lib.EREADAHEAD
_ENOBUFS = -ENOBUFS
_FIRST_SLEEP = 20_000_000
"""ns. A signal that arrives between Python's last check and the sleep is seen after the first, short, sleep."""

_read = lib.flow_read
_write = lib.flow_write
_read_into = lib.flow_read_into
_readv = lib.flow_readv
_writev = lib.flow_writev
_from_buffer = ffi.from_buffer
_take = buffers.spare.pop
_give = buffers.spare.append
_Burst = buffers.Burst
_READAHEAD: int = lib.FLOW_READAHEAD
switching = RLock()
"""Guards the handle of an object, its queue of packets and its eventfds, and C's view of that queue: taken once per
flow and once per burst. A signal handler or a finaliser may interrupt its owner and take it again."""
_MOMENT = 50e-6  # s; another thread has returned from C, and waits for the GIL
_COUNT = 2048  # octets of a read without an argument
_LARGE = 8192  # octets above which a burst is written packet by packet: joining would copy too much


def _forked() -> None:
    global switching
    switching = RLock()


os.register_at_fork(after_in_child=_forked)


_FOR_GOOD = lib.END_PEER | lib.END_DECLARED | lib.DOWN_IRMD | lib.DOWN_PEER_CORRUPT | lib.DOWN_UNACKNOWLEDGED
"""Why a flow can be down independently of its link."""


class _Wait:
    """How long a blocking call may still sleep."""

    __slots__ = ("deadline", "last", "until")

    def __init__(self, timeout: int | None) -> None:
        now = monotonic_ns()
        self.last = False  # the time is over, but an event arrived that is worth a last attempt
        self.deadline = -1 if timeout is None else now + timeout
        self.until = now + _FIRST_SLEEP
        if timeout is not None and self.deadline < self.until:
            self.until = self.deadline

    def sleep(self, handle: struct_flow, writing: bool) -> bool:
        """Sleep once. False when the time is over."""
        result = lib.flow_sleep(handle, writing, self.until)
        if self.last or (result == -ETIMEDOUT and self.until == self.deadline):
            return False
        self.last = 0 <= self.deadline <= monotonic_ns()
        self.until = self.deadline
        return True


class End(Owner):
    """A flow end: its handle, and the packets and events of that. `Flow` allocates it."""

    __slots__ = (
        "_error",
        "_eventfd",
        "_fd",
        "_front",
        "_handle",
        "_instance",
        "_library",
        "_linger",
        "_pending",
        "_qos",
        "_rcv_timeout",
        "_set",
        "_snd_timeout",
        "_whole",
        "_writable_eventfd",
    )

    def __init__(self) -> None:
        self._handle: struct_flow = NO_FLOW
        self._fd = -1
        self._instance = 0  # of this use of the descriptor: messages name it by both
        self._library: Library | None = None
        self._pending = False  # an asynchronous allocation goes on
        self._error: OSError | None = None  # how it ended, if badly
        # Packets before those in the ring: read ahead, the rest of one read in part, its end mark (b"").
        self._front: deque[bytes] = deque()
        self._whole = False  # NoPartialRead
        self._rcv_timeout: int | None = None  # ns
        self._snd_timeout: int | None = None
        self._qos: QoSSpec | None = None
        self._linger: float | None = None
        self._eventfd = -1
        self._writable_eventfd = -1
        self._set: Any = None

    @property
    def allocated(self) -> bool:
        """Whether there is a flow; False while an asynchronous allocation goes on, and after it has failed."""
        self._poll_outcome()
        return self._handle is not NO_FLOW

    def _poll_outcome(self) -> None:
        """Update the outcome of an asynchronous allocation."""

    # ------------------------------------------------------------ writing

    def write(self, buf: ReadableBuffer, count: int | None = None) -> int:
        """Write one packet: `buf`, or its first `count` octets. Returns the number of octets.

        Blocks while the FIFO is full, within `snd_timeout`. An empty packet is a keep-alive: it travels
        and is never read. Raises FlowTimeout, BlockingIOError (EAGAIN) on a non-blocking flow, FlowDownException,
        FlowException with EMSGSIZE above `max_packet` octets, MemoryError (ENOMEM) when the packet pool is
        exhausted, FlowPermissionException on a read-only flow.
        """
        if count is not None:
            buf = prefix(buf, count)
        data: Any = buf if type(buf) is bytes else octets("buf", buf)
        handle = self._handle
        n: int = _write(handle, data, len(data))
        if n < 0:
            return self._write_again(handle, n, data)
        return n

    def _write_again(self, handle: struct_flow, result: int, data: Any) -> int:
        try:
            n = self._again(handle, result, True, lambda: _write(handle, data, len(data)))
        except BaseException:
            _let_go(data)
            raise
        return self.write(data) if n == _EREADAHEAD else n

    def _write_within(self, data: Any, seconds: float) -> int:
        """Write one packet, and wait no longer than the given time, even if `snd_timeout` is longer."""
        handle, data = self._handle, _from_buffer(data)
        wait = _Wait(int(seconds * 1e9))
        while (n := _write(handle, data, len(data))) == MUST_SLEEP:
            if not wait.sleep(handle, True):
                _let_go(data)
                raise FlowTimeout(ETIMEDOUT, f"flow {self._fd}: its peer takes nothing for {seconds:g} s")
        return int(n) if n >= 0 else self._write_again(handle, n, data)

    def writev(self, packets: Sequence[ReadableBuffer]) -> int:
        """Write many packets with one call. Returns the number of packets written.

        A blocking flow writes them all; when the time is over, or on a non-blocking flow, those that it had space for.
        Errors as for `write`, if not even the first could be written.
        """
        handle = self._handle
        try:
            total = len(packets)
            if not total:
                return 0
            if buffers.octets(packets[0]) > _LARGE:
                return self._write_each(_listed(packets))
            data, each, lengths = buffers.join(packets)
        except (TypeError, ValueError, BufferError, LookupError):
            return self._write_each(_listed(packets))  # a slice of an array cannot be joined
        done: int = _writev(handle, data, lengths, each, total)
        if done == total:
            return done
        if self._retry(done):
            return self.writev(packets)
        return self._writev_rest(handle, _from_buffer(data), each, lengths, total, done)

    def _writev_rest(
        self, handle: struct_flow, data: Any, each: int, lengths: Any, total: int, result: int
    ) -> int:
        done = offset = 0
        wait: _Wait | None = None
        while True:
            if result > 0:
                offset += each * result if lengths == ffi.NULL else sum(lengths[done : done + result])
                done += result
                if done == total:
                    return done
                wait = None
            elif result != MUST_SLEEP:
                if done:
                    return done
                raise self._failure(result)
            else:
                wait = wait or _Wait(self._snd_timeout)
                if not wait.sleep(handle, True):
                    if done:
                        return done
                    raise self._timed_out(True)
            remaining = lengths + done if lengths != ffi.NULL else ffi.NULL
            result = _writev(handle, data + offset, remaining, each, total - done)

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
        """Write a text as one packet, in UTF-8, as it is: no line end is added."""
        return self.write(arguments.text("line", line).encode())

    # ------------------------------------------------------------ reading

    def read(self, count: int = _COUNT) -> bytes:
        """Read up to `count` octets of the packet at the front.

        A longer packet is read in parts; when a read takes exactly the rest of it, the next one returns b"" as the
        end mark. (`recv` always returns a whole packet.) With NoPartialRead a packet longer than `count` is dropped
        and raises FlowException with EMSGSIZE, and there are no end marks.
        Blocks until there is a packet, within `rcv_timeout`. Raises FlowTimeout, BlockingIOError (EAGAIN)
        on a non-blocking flow, and once everything received before has been read FlowDownException, or
        FlowPeerException when the peer has timed out.
        """
        if count is not _COUNT and type(count) is not int:
            count = arguments.integer("count", count)
        handle = self._handle
        front = self._front
        if front:
            try:
                packet = front.popleft()
            except IndexError:
                return self.read(count)  # another thread was faster
            if not front:
                _note_readahead(handle, front)
        elif count > 0:
            packet = self._next(handle, front)
        elif count:
            arguments.integer("count", count)
        else:
            return b""
        return packet if len(packet) < count else self._cut(handle, front, packet, count)

    def _next(self, handle: struct_flow, front: deque[bytes]) -> bytes:
        """The packet at the front of the ring; when several wait, some of them are read ahead, into `front`.

        When another thread has deallocated the flow meanwhile, they are dropped.
        """
        try:
            burst = _take()
        except IndexError:
            burst = _Burst()
        n = _read(handle, burst.c)
        if n < 0:
            n, burst = self._next_again(handle, n, burst)
            if n == _EREADAHEAD:
                _give(burst)
                return self.recv()
        if n < _READAHEAD:
            packet: bytes = burst.view[:n]
        else:
            packet, *others = burst.packets(n - _READAHEAD)
            with switching:
                if self._handle is handle:
                    front.extend(others)
                    handle.readahead_pending = 1
                handle.readahead_owner = 0
        _give(burst)
        return packet

    def _next_again(self, handle: struct_flow, n: int, burst: buffers.Burst) -> tuple[int, buffers.Burst]:
        while True:
            n = self._again(handle, n, False, lambda c=burst.c: _read(handle, c))
            if n == _ENOBUFS:
                burst = _Burst(burst.first)
                n = _read(handle, burst.c)
            else:
                return n, burst

    def _readahead_elsewhere(self, handle: struct_flow, wait: _Wait) -> bool:
        """Another thread reads ahead: whether its packets are not in `front` yet, after a moment for that thread."""
        if self._front:
            return False
        _note_readahead(handle, self._front)
        sleep(_MOMENT)
        if self._front:
            return False
        if 0 <= wait.deadline <= monotonic_ns():
            raise self._timed_out(False)
        flags = lib.flow_get_flags(handle)
        if flags < 0:
            raise self._failure(flags)
        if flags & FlowProperties.NonBlockingRead:
            raise self._failure(-EAGAIN)
        return True

    def _front_changed(self) -> None:
        """A packet was read in part: threads that wait for events may have looked while no queue held it."""
        owner = self._library
        if owner is not None and (self._set is not None or self._eventfd >= 0):
            lib.events_raise(owner.events, self._fd)

    def _cut(self, handle: struct_flow, front: deque[bytes], packet: bytes, count: int) -> bytes:
        """The first `count` octets of a packet that is not shorter than that; the rest, or the end mark, is kept."""
        if count < 0:
            front.appendleft(packet)
            arguments.integer("count", count)
        if len(packet) > count:
            if self._whole:
                raise error(
                    EMSGSIZE, f"flow {self._fd}: dropped a packet of {len(packet)} octets, not {count}"
                )
            front.appendleft(packet[count:])
        elif packet and not self._whole:
            front.appendleft(b"")
        _note_readahead(handle, front)
        self._front_changed()
        return packet[:count]

    def read_into(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer, without a copy in between. Returns the number of octets; else as `read`."""
        view = octets("buffer", buffer, writable=True)
        handle = self._handle
        front = self._front
        if not front:
            if not len(view):
                return 0
            n: int = _read_into(handle, view, len(view))
            if n < 0:
                n = self._again(handle, n, False, lambda: _read_into(handle, view, len(view)))
                if n == _EREADAHEAD:
                    return self.read_into(buffer)
            if n >= 0:
                if n == len(view) and not self._whole:
                    front.appendleft(b"")
                return n
        packet = self.read(len(view))
        ffi.memmove(view, packet, len(packet))
        return len(packet)

    def _read_octets(self, view: memoryview) -> int:
        """Read a packet, or the rest of one, into a buffer; octets that do not fit stay, and no end is marked."""
        packets: list[bytes] = []
        handle = self._handle
        front = self._front
        while front and not packets:
            packets = _take_readahead(handle, front, 1)
        if not packets:
            data = _from_buffer(view, require_writable=True)
            n: int = _read_into(handle, data, len(data))
            if n < 0:
                n = self._again(handle, n, False, lambda: _read_into(handle, data, len(data)))
            if n >= 0:
                return n
            return self._read_octets(view)
        n = min(len(view), len(packets[0]))
        view[:n] = packets[0][:n]
        if n < len(packets[0]):
            front.appendleft(packets[0][n:])
            _note_readahead(handle, front)
            self._front_changed()
        return n

    def readv(self, max_packets: int = 64) -> list[bytes]:
        """Read whole packets with one call: at least one, at most `max_packets`, and no more than are waiting.

        Blocks for the first as `read` does, with the same errors. The rest of a packet that was read in part comes
        as a packet of its own.
        """
        if type(max_packets) is not int or max_packets < 1:
            max_packets = arguments.integer("max_packets", max_packets, 1)
        handle = self._handle
        front = self._front
        if front and (packets := _take_readahead(handle, front, max_packets)):
            return packets
        count = min(max_packets, buffers.BURST_PACKETS)
        try:
            burst = _take()
        except IndexError:
            burst = _Burst()
        n = _readv(handle, burst.c, count)
        while n < 0:
            n = self._again(handle, n, False, lambda c=burst.c: _readv(handle, c, count))
            if n == _EREADAHEAD:
                _give(burst)
                return self.readv(max_packets)
            if n == _ENOBUFS:
                burst = _Burst(burst.first)
                n = _readv(handle, burst.c, count)
        packets = burst.packets(n)
        _give(burst)
        return packets

    def recv(self) -> bytes:
        """Read one whole packet of any size. Blocks and raises as `read` does."""
        handle = self._handle
        front = self._front
        while front:
            if packets := _take_readahead(handle, front, 1):
                return packets[0]
        return self._next(handle, front)

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

    # ------------------------------------------------------------ attributes

    @property
    def fd(self) -> int:
        """The flow descriptor: 64 or more, unique in this process (paper 2.7); -1 without a flow."""
        return self._fd if self._handle is not NO_FLOW or self._pending else -1

    @property
    def qos(self) -> QoSSpec:
        """The QoS of the flow."""
        self._pinned()
        assert self._qos is not None
        return self._qos

    @property
    def max_packet(self) -> int:
        """Largest packet that can be written, in octets (paper 2.7: MPS)."""
        return int(self._pinned().max_packet)

    @property
    def linger_timeout(self) -> float:
        """Seconds for which deallocation, and the end of the process, wait without any progress of the peer: by default the QoS's
        time-out of the peer, 5 s at most. 0: they do not wait. Setting None sets the default."""
        if self._linger is not None:
            return self._linger
        timeout = self._qos.timeout / 1000 if self._qos is not None else 0
        return min(timeout, LINGER_TIMEOUT) or LINGER_TIMEOUT

    @linger_timeout.setter
    def linger_timeout(self, timeo: float | None) -> None:
        arguments.seconds("linger_timeout", timeo)
        self._linger = timeo

    @property
    def down(self) -> bool:
        """Whether the flow is down; packets received before can still be read."""
        return bool(lib.flow_is_down(self._handle))

    @property
    def link_down(self) -> bool:
        """Whether the flow is down because the link of its layer is: it goes on when that is up again."""
        why = lib.flow_down_cause(self._handle)
        return bool(why & lib.END_LINK) and not why & _FOR_GOOD

    def _pinned(self) -> struct_flow:
        """The handle, for the whole of a call: C finds out when another thread deallocates the flow meanwhile."""
        self._poll_outcome()
        handle = self._handle
        if handle is NO_FLOW:
            raise self._failure(-ENOTALLOC)
        return handle

    def _still(self, handle: struct_flow) -> None:
        """Raises FlowNotAllocatedException unless this is still the handle: for calls that take several steps."""
        if self._handle is not handle or handle is NO_FLOW:
            raise FlowNotAllocatedException()

    # ------------------------------------------------------------ control

    def settimeout(self, timeo: float | None) -> None:
        """Set `rcv_timeout` and `snd_timeout`, in seconds; None: for ever. As of sockets, 0 makes the flow non-blocking."""
        arguments.seconds("timeo", timeo)
        self.blocking = timeo is None or timeo > 0
        if self.blocking:
            self.rcv_timeout = self.snd_timeout = timeo

    def gettimeout(self) -> float | None:
        """The time that a read may wait, in seconds; None: for ever; 0: the flow is non-blocking."""
        return self.rcv_timeout if self.blocking else 0.0

    @property
    def rcv_timeout(self) -> float | None:
        """Seconds that a read may block; None: for ever."""
        return None if self._rcv_timeout is None else self._rcv_timeout / 1e9

    @rcv_timeout.setter
    def rcv_timeout(self, timeo: float | None) -> None:
        self._rcv_timeout = arguments.seconds("rcv_timeout", timeo)

    @property
    def snd_timeout(self) -> float | None:
        """Seconds that a write may block; None: for ever."""
        return None if self._snd_timeout is None else self._snd_timeout / 1e9

    @snd_timeout.setter
    def snd_timeout(self, timeo: float | None) -> None:
        self._snd_timeout = arguments.seconds("snd_timeout", timeo)

    @property
    def flags(self) -> FlowProperties:
        """Access mode, blocking and partial reads (fccntl). Setting Down declares the flow down at both ends."""
        handle = self._pinned()
        flags = FlowProperties(self._checked(lib.flow_get_flags(handle)))
        return flags | FlowProperties.Down if lib.flow_is_down(handle) else flags

    @flags.setter
    def flags(self, flags: FlowProperties) -> None:
        arguments.flags("flags", flags, ALL_PROPERTIES, "FlowProperties")
        if int(flags) & ACCESS_MODE == ACCESS_MODE:
            arguments.wrong_value(
                "flags", "one access mode: WriteOnly and ReadWrite together are none", flags
            )
        handle, owner = self._pinned(), self._library
        self._checked(lib.flow_set_flags(handle, int(flags) & ~int(FlowProperties.Down)))
        self._whole = bool(flags & FlowProperties.NoPartialRead)
        lib.flow_declare(handle, bool(flags & FlowProperties.Down))
        if owner is not None:
            lib.events_raise(owner.events, self._fd)  # for sets of this process that contain the flow

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
        handle = self._pinned()
        counts = ffi.new("uint64_t[2]")
        lib.flow_queues(handle, counts, counts + 1)
        return int(counts[0]) + sum(map(bool, list(self._front))), int(counts[1])

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable while there may be a packet, or the flow is down.

        Read until BlockingIOError to clear it.
        """
        self._poll_outcome()
        with switching:
            if self._eventfd < 0:
                self._eventfd = self._eventfd_by(lib.process_poll_flow)
            return self._eventfd

    def _eventfd_by(self, poll: Callable[[Any, Any, int], int]) -> int:
        """A new eventfd that C signals, for this flow."""
        handle, owner = self._pinned(), self._library
        assert owner is not None
        eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        result = poll(owner.process, handle, eventfd)
        if result < 0:
            os.close(eventfd)
            raise self._failure(result)
        return eventfd

    def notify_writable(self) -> int:
        """For event loops, after a write raised BlockingIOError: a descriptor that becomes readable when the flow may be
        writable, or -1 when it is writable already. One call is one notification.
        """
        handle = self._pinned()
        with switching:
            eventfd = self._writable_eventfd
            if eventfd < 0:
                eventfd = self._writable_eventfd = self._eventfd_by(lib.process_poll_writable)
        return -1 if lib.flow_notify_writable(handle) else eventfd

    # ------------------------------------------------------------ FIN

    def write_end(self) -> None:
        """Send FIN: this end writes no more. The peer's reads raise FlowDownException after it has read everything written
        before. Reading at this end goes on. `dealloc` sends FIN too.

        For flows that lose nothing (in_order, and loss 0), between two Python members: else raises FlowException with ENOTSUP.
        """
        handle = self._pinned()
        attempt = partial(_send_fin, handle, bool(self.flags & FlowProperties.NonBlockingWrite))
        result = attempt()
        if result == -ENOTSUP:
            reliable = self.qos.in_order and not self.qos.loss
            why = (
                "its peer does not implement it"
                if reliable
                else "it may lose packets: ask for one with QOS_DATA"
            )
            raise error(ENOTSUP, f"flow {self._fd} cannot signal the end of its data: {why}")
        self._again(handle, result, True, attempt)

    @property
    def peer_ended(self) -> bool:
        """Whether the peer has sent FIN (`write_end`, `dealloc`), and everything before it has been received.

        After a FlowDownException it distinguishes the end of the stream from a failure. Always False where the peer does not
        implement FIN (see `write_end`).
        """
        return bool(lib.frcp_io_fin_received(self._handle))

    # ------------------------------------------------------------ waiting and errors

    def _again(self, handle: struct_flow, result: int, writing: bool, attempt: Any) -> int:
        """A call could not be done immediately: sleep and attempt it again, or raise its error.

        _EREADAHEAD: the caller begins anew, with the packets read ahead, or with the flow that the object has now.
        """
        wait: _Wait | None = None
        while result < 0 and result != _ENOBUFS:
            if result == _EREADAHEAD:
                wait = wait or _Wait(self._rcv_timeout)
                if not self._readahead_elsewhere(handle, wait):
                    return result
            elif result != MUST_SLEEP:
                if not self._retry(result):
                    raise self._failure(result)
                return _EREADAHEAD
            else:
                wait = wait or _Wait(self._snd_timeout if writing else self._rcv_timeout)
                if not wait.sleep(handle, writing):
                    raise self._timed_out(writing)
            result = attempt()
        return result

    def _checked(self, result: int) -> int:
        """The result of C, unless it is an error."""
        if result < 0:
            raise self._failure(result)
        return result

    def _retry(self, result: int) -> bool:
        """Whether an error occurred only because the end of an asynchronous allocation was not known."""
        return result == -ENOTALLOC and self._pending and self.allocated

    def _timed_out(self, writing: bool) -> OSError:
        seconds = ((self._snd_timeout if writing else self._rcv_timeout) or 0) / 1e9
        what = "no space to write" if writing else "no packet to read"
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
            return error(number, f"flow {self._fd} takes packets of at most {self._handle.max_packet} octets")
        owner = self._library
        return error(number, owner.explain(number, self._fd, self._handle) if owner is not None else "")


def _send_fin(handle: struct_flow, non_blocking: bool) -> int:
    result: int = lib.frcp_io_send_fin(handle)
    return MUST_SLEEP if result == -EAGAIN and not non_blocking else result


def octets(name: str, buffer: Any, *, writable: bool = False) -> Any:
    """A buffer for C. Raises TypeError, or ValueError when C shall write and its octets do not lie one behind the other."""
    try:
        return _from_buffer(buffer, require_writable=writable)
    except (TypeError, ValueError, BufferError):
        if not writable:
            return _from_buffer(_joined(name, buffer))
        arguments.not_octets(name, buffer, writable=writable)


def _joined(name: str, buffer: Any) -> bytes:
    """A copy of the octets of a buffer of any format and shape whose octets do not lie one behind the other: a slice of an array."""
    try:
        return memoryview(buffer).tobytes()
    except (TypeError, ValueError, BufferError):
        arguments.not_octets(name, buffer)


def view_of(name: str, buffer: Any, *, writable: bool = False) -> memoryview:
    """The octets of a buffer. Errors as for `octets`."""
    try:
        view = memoryview(buffer).cast("B")
    except (TypeError, ValueError, BufferError):
        if not writable:
            return memoryview(_joined(name, buffer))
        arguments.not_octets(name, buffer, writable=writable)
    if writable and view.readonly:
        arguments.not_octets(name, buffer, writable=True)
    return view


def prefix(buf: Any, count: int) -> memoryview:
    """The first `count` octets of a buffer. Raises TypeError, and ValueError when it has fewer."""
    view = view_of("buf", buf)
    takes = f"an integer from 0 to {len(view)}, the octets of buf"
    return view[: arguments.integer("count", count, 0, len(view), takes)]


def _listed(packets: Any) -> Any:
    """The packets, if they are any. Raises TypeError and ValueError that name the first one that is none."""
    if not isinstance(packets, Sequence) or isinstance(packets, (str, bytes, bytearray, memoryview)):
        arguments.wrong_type("packets", "a list or a tuple of bytes-like objects", packets)
    for at, packet in enumerate(packets):
        octets(f"packets[{at}]", packet)
    return packets


def _let_go(data: Any) -> None:
    """The buffer of a write that failed: the frames of its exception may live longer than the memory behind it, which for a file's
    buffer is that of the file."""
    if type(data) is not bytes:
        ffi.release(data)


def _note_readahead(handle: struct_flow, front: deque[bytes]) -> None:
    """Tell the event system whether packets are here, where it does not see them. The end mark is none."""
    with switching:
        if handle is not NO_FLOW:
            handle.readahead_pending = 1 if front and front[-1] else 0


def _take_readahead(handle: struct_flow, front: deque[bytes], max_packets: int) -> list[bytes]:
    """Packets read ahead; end marks mean nothing to reads of whole packets."""
    packets: list[bytes] = []
    try:
        while len(packets) < max_packets:
            packet = front.popleft()
            if packet:
                packets.append(packet)
    except IndexError:
        pass
    if not front:
        _note_readahead(handle, front)
    return packets
