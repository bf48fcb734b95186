"""FRCP of one flow end, the machine that applications run, as an object for tests and simulators (paper 2.14).

The C machine (`dataplane/src/frcp.h`) with a Python face: packets that it sends are in `out`. In one thread, without a
clock of its own: every call takes the time, in nanoseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..dataplane._dataplane import ffi, lib
from ..errors import FlowValueError
from ..owner import Owner

NEVER: int = lib.NEVER


class Frcp(Owner):
    """An end of a flow with FRCP.

    now          time at which it begins, ns
    retransmit   whether the flow loses nothing (loss = 0)
    mpl_ms       of the layer
    timeout_ms   after which the peer is dead, 0: never
    max_packet   of the flow below, in octets, the 12 of the header included
    max_message  largest packet that is fragmented, or reassembled; 0: 1 MiB
    window       receive window in packets; a power of two, 0: 256
    first        first sequence number
    fragments    whether the other end reassembles
    selective    whether acknowledgements carry a map of the packets received out of order
    lossless     whether the flow below loses nothing
    direct       whether no layer is in between
    ends         whether the other end implements FIN
    send         called with each packet; returns whether the flow below had space. None: packets are appended to `out`.
                 An exception of `send` leaves the method that was called.

    Raises FlowValueError for an invalid configuration.
    """

    __slots__ = ("_callback", "_failure", "_piece", "_release", "c", "out", "has_space")

    def __init__(
        self,
        now: int,
        *,
        retransmit: bool = True,
        mpl_ms: int = 100,
        timeout_ms: int = 0,
        max_packet: int = 1500,
        max_message: int = 0,
        window: int = 0,
        first: int = 0,
        fragments: bool = False,
        selective: bool = False,
        lossless: bool = False,
        direct: bool = False,
        ends: bool = False,
        send: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.out: deque[bytes] = deque()
        """Packets that went out."""
        self.has_space: int | None = None
        """Packets that `out` still takes; None: any number."""
        self._failure: Exception | None = None  # raised by `send`: it cannot pass through C
        take = send or self._append

        def callback(arg: Any, header: Any, header_length: int, data: Any, length: int) -> bool:
            packet = ffi.buffer(header, header_length)[:] if header_length else b""
            try:
                return take(packet + ffi.buffer(data, length)[:] if length else packet)
            except Exception as failure:
                self._failure = failure
                return False

        self._callback = ffi.callback("frcp_send", callback)
        self._piece = ffi.new("struct frcp_piece *")
        self.c = ffi.new("struct frcp *")
        """The `struct frcp`, to look at."""
        config = {
            "mpl_ms": mpl_ms,
            "timeout_ms": timeout_ms,
            "max_packet": max_packet,
            "max_message": max_message,
            "window": window,
            "first": first,
            "retransmit": retransmit,
            "fragments": fragments,
            "selective": selective,
            "lossless": lossless,
            "direct": direct,
            "fin": ends,
        }
        if lib.frcp_init(self.c, ffi.new("struct frcp_config *", config), self._callback, ffi.NULL, now) < 0:
            raise FlowValueError(f"invalid FRCP configuration: {config}")
        self._release = ffi.gc(self.c, lib.frcp_fini)

    def _append(self, packet: bytes) -> bool:
        if self.has_space is not None:
            if not self.has_space:
                return False
            self.has_space -= 1
        self.out.append(packet)
        return True

    def write(self, data: bytes, now: int) -> int:
        """Write a packet. Returns its length, or a negative errno: EAGAIN, EMSGSIZE, EFLOWDOWN, EFLOWPEER."""
        result = int(lib.frcp_write(self.c, data, len(data), now))
        self._raise()
        return result

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def send_fin(self, now: int) -> int:
        """Nothing more will be written. 0, or a negative errno: ENOTSUP, EAGAIN, EFLOWDOWN, EFLOWPEER."""
        result = int(lib.frcp_send_fin(self.c, False, now))
        self._raise()
        return result

    def writable(self, length: int = 1) -> bool:
        """Whether a write of `length` octets would be accepted, or fail, immediately."""
        return bool(lib.frcp_writable(self.c, length))

    @property
    def max_packet(self) -> int:
        """Largest packet that can be written."""
        return int(lib.frcp_max_packet(self.c))

    def receive(self, packet: bytes, now: int, *, reader: bool = False) -> bytes | None:
        """Process a received packet. With a reader waiting, the next one in order is returned and not kept."""
        if lib.frcp_receive(self.c, packet, len(packet), now, self._piece if reader else ffi.NULL):
            # Into the very object that cffi was given: it lives as long as `packet` does.
            return bytes(ffi.buffer(self._piece.data, self._piece.length))
        return None

    def read(self, now: int) -> bytes | None:
        """The next packet, if there is one."""
        if not lib.frcp_front(self.c, self._piece):
            return None
        data = bytes(ffi.buffer(self._piece.data, self._piece.length))
        lib.frcp_pop(self.c, now)
        return data

    def run(self, now: int) -> None:
        """Do everything that is due: to be called after other calls at one time, and at the deadline."""
        lib.frcp_run(self.c, now)
        self._raise()

    @property
    def deadline(self) -> int | None:
        """When to call `run` next."""
        deadline = int(lib.frcp_deadline(self.c))
        return None if deadline == NEVER else deadline

    @property
    def down(self) -> int:
        """Why nothing goes any more, a negative errno; 0: it goes."""
        return int(self.c.down)

    @property
    def fin_received(self) -> bool:
        """Whether the other end has sent FIN, and everything before it has been received."""
        return bool(self.c.fin_received)

    @property
    def flags(self) -> int:
        """Flags of FRCP (fccntl): 1 retransmission, 2 flow control, 4 linger, 8 fragmentation, 16 reassembly."""
        return int(self.c.flags)

    @flags.setter
    def flags(self, flags: int) -> None:
        lib.frcp_set_flags(self.c, flags)

    def close(self, now: int) -> None:
        """The user deallocates; as long as it `lingers`, go on with `receive` and `run`."""
        lib.frcp_close(self.c, now)
        self._raise()

    @property
    def lingers(self) -> bool:
        """Whether there is data that should be acknowledged before the end."""
        return bool(lib.frcp_lingers(self.c))

    def quiet_time(self, now: int) -> int:
        """Seconds for which the flow below must not be used again."""
        return int(lib.frcp_quiet_time(self.c, now))
