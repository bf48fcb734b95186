"""Data transfer of a unicast IPCP as its control plane sees it (`src/dt.h`; paper 5.3; spec/dt)."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from errno import EINVAL
from typing import Any, NamedTuple

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .handle import Handle
from .punt import Punt
from .relay import Relay

FLOW_ALLOCATOR = 0
"""Component that gets packets to endpoint id 0."""
DIRECTORY = 1
"""Component that gets packets to endpoint id 1."""
CONGESTION = 4
"""Component that sends congestion updates: gets (descriptor of the upper flow, level as two octets)."""
HEADER = 15
"""Octets of the header."""

Entries = Mapping[int, Sequence[int]]
"""For each destination address the descriptors of the lower flows that lead there."""


class DtCounters(NamedTuple):
    """Packets of one QoS cube. The last five were dropped, by reason."""

    received: int
    """From neighbours."""
    forwarded: int
    delivered: int
    """To flows of the layer."""
    punted: int
    """To components of this IPCP."""
    sent: int
    """From flows of the layer, and from components."""
    malformed: int
    expired: int
    """The TTL had run out."""
    no_route: int
    no_room: int
    """The next flow, or the component, did not take it."""
    unknown: int
    """There is no such endpoint."""


class FlowCounters(NamedTuple):
    """A flow of the layer, in packets."""

    received: int
    sent: int
    dropped: int
    """Received, and not taken by the process."""
    no_route: int
    marked: int
    """Received with a congestion mark."""
    updates: int
    """Congestion updates received."""
    limit: int
    """Octets that it may send in a time slot."""
    slot: int
    """The time slot, ns."""
    level: int
    """Congestion level of the last congestion update."""


class Dt:
    """Forwards between lower flows, and joins the flows of the layer to them.

    `address` is that of this member, `max_ttl` the initial TTL of packets; `congestion` switches multi-bit ECN on.
    """

    def __init__(self, relay: Relay, punt: Punt, *, address: int, max_ttl: int, congestion: bool) -> None:
        with relay.handle as within, punt.handle as to:
            dt = lib.dt_create(within, to, address, max_ttl, congestion)
        if not dt:
            raise MemoryError("no memory for data transfer")
        self.handle = Handle(dt, lib.dt_destroy, "data transfer")
        """Of `struct dt`."""

    def renumber(self, address: int) -> None:
        """Set a new address of this member."""
        with self.handle as dt:
            lib.dt_renumber(dt, address)

    def lower(self, fd: int) -> None:
        """This flow leads to a neighbour."""
        with self.handle as dt:
            result = lib.dt_lower(dt, fd)
        self._check(result, fd)

    def down(self, fd: int, down: bool) -> None:
        """A lower flow is not to be used, or may be used again: the next packet goes by it, without new tables."""
        with self.handle as dt:
            result = lib.dt_down(dt, fd, down)
        self._check(result, fd)

    def upper(
        self, fd: int, *, eid: int, cube: int, peer_eid: int | None = None, peer_address: int = 0
    ) -> None:
        """This flow belongs to the layer: packets to `eid` (its low 32 bits are `fd`) are delivered to it.

        Its own packets wait until the peer is known: give it here, or call `peer`.
        """
        with self.handle as dt:
            result = lib.dt_upper(dt, fd, eid, cube)
        self._check(result, fd)
        if peer_eid is not None:
            self.peer(fd, peer_eid=peer_eid, peer_address=peer_address)

    def peer(self, fd: int, *, peer_eid: int, peer_address: int) -> None:
        """The other end of a flow of the layer is known."""
        with self.handle as dt:
            result = lib.dt_peer(dt, fd, peer_eid, peer_address)
        self._check(result, fd)

    def table(self, cube: int, function: int, entries: Entries) -> None:
        """Replace the forwarding table of a cube, atomically. `function` is a `pff.table.Function`."""
        lists: dict[tuple[int, ...], int] = {}
        numbers = array("I", (lists.setdefault(tuple(fds), len(lists)) for fds in entries.values()))
        addresses = array("I", entries)
        lengths = array("I", map(len, lists))
        width = int(lib.FIB_FDS)
        fds = array("I", (fd for hops in lists for fd in (*hops[:width], *(0,) * (width - len(hops)))))
        fib = lib.fib_create(
            function, len(addresses), _view(addresses), _view(numbers), len(lists), _view(lengths), _view(fds)
        )
        if not fib:
            raise error(ffi.errno, f"the forwarding table of cube {cube} makes no sense")
        result = -EINVAL
        try:
            with self.handle as dt:
                result = lib.dt_table(dt, cube, fib)
        finally:
            if result < 0:
                lib.fib_destroy(fib)
        if result < 0:
            raise error(-result, f"there is no QoS cube {cube}")

    def send(self, dst: int, *, eid: int, payload: bytes, cube: int = 0) -> bool:
        """Send a packet of a component. False: there is no route, or the queue is full. Raises OSError to our own address."""
        with self.handle as dt:
            result = lib.dt_send(dt, dst, cube, eid, payload, len(payload))
        if result == -EINVAL:
            raise error(EINVAL, f"address {dst:#x} is our own, or there is no cube {cube}")
        return bool(result == 0)

    def congestion(self, fd: int, level: int) -> bool:
        """A congestion update for a flow of the layer arrived. False: there is no such flow, or no such policy."""
        with self.handle as dt:
            return bool(lib.dt_congestion(dt, fd, level) == 0)

    def counters(self) -> tuple[DtCounters, ...]:
        """Counters by cube."""
        counters = ffi.new("struct dt_counters *")
        result = []
        for cube in range(lib.CUBES):
            with self.handle as dt:
                lib.dt_read(dt, cube, counters)
            result.append(DtCounters(*(getattr(counters, name) for name in DtCounters._fields)))
        return tuple(result)

    def flow_counters(self, fd: int) -> FlowCounters:
        """Counters of a flow of the layer."""
        counters = ffi.new("struct dt_flow_counters *")
        with self.handle as dt:
            result = lib.dt_flow_read(dt, fd, counters)
        self._check(result, fd)
        return FlowCounters(*(getattr(counters, name) for name in FlowCounters._fields))

    @property
    def keepalives(self) -> int:
        """Empty packets that neighbours sent."""
        with self.handle as dt:
            return int(lib.dt_keepalives(dt))

    def close(self) -> None:
        """Give everything back; its flows stay with the relay. May be repeated."""
        self.handle.close()

    @staticmethod
    def _check(result: Any, fd: int) -> None:
        if result < 0:
            raise error(-result, f"there is no flow with descriptor {fd} that can be used so")


def _view(numbers: array[int]) -> Any:
    return ffi.from_buffer("uint32_t[]", numbers)
