"""Data transfer in Python, with the interface of the C (`ipcpd/dataplane/dt.py`), for tests of the control plane without the C.

    dt = FakeDt(relay, punt, address=1, max_ttl=60, congestion=False)

`relay` is that of `tests.unit.ipcpd.world`; it queues and marks no packets.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ipcpd.dataplane.dt import CONGESTION, DtCounters, FlowCounters
from ipcpd.unicast.pff.table import Function, Table
from ipcpd.wire import dt as wire
from ouroboros.wire import MalformedPacket
from tests.unit.ipcpd.world import FakePunt, FakeRelay


@dataclass
class Upper:
    """A flow of the layer."""

    eid: int
    cube: int
    peer_eid: int | None = None
    address: int = 0
    sent: int = 0
    received: int = 0
    levels: list[int] = field(default_factory=list)


class FakeDt:
    """As `Dt`; `refuse` makes `send` fail for these addresses."""

    def __init__(
        self, relay: FakeRelay, punt: FakePunt, *, address: int, max_ttl: int, congestion: bool
    ) -> None:
        self.address = address
        self.max_ttl = max_ttl
        self.policy = congestion
        self.tables: dict[int, Table] = {}
        self.lowers: dict[int, bool] = {}
        self.uppers: dict[int, Upper] = {}
        self.counts = dict.fromkeys(DtCounters._fields, 0)
        self.refuse: set[int] = set()
        self.keepalives = 0
        self.closed = False
        self._relay = relay
        self._punt = punt

    def _has(self, fd: int) -> None:
        if fd not in self._relay.ends:
            raise OSError(errno.EBADF, f"there is no flow with descriptor {fd} that can be used so")

    # ------------------------------------------------------------ what the control plane says

    def renumber(self, address: int) -> None:
        self.address = address

    def lower(self, fd: int) -> None:
        self._has(fd)
        self.lowers[fd] = True
        self._relay.role(fd, self._received)

    def down(self, fd: int, down: bool) -> None:
        if fd not in self.lowers:
            raise OSError(errno.EBADF, f"{fd} is no lower flow")
        self.lowers[fd] = not down

    def upper(self, fd: int, *, eid: int, cube: int) -> None:
        self._has(fd)
        assert eid & 0xFFFFFFFF == fd
        self.uppers[fd] = Upper(eid, cube)
        self._relay.role(fd, None)

    def peer(self, fd: int, *, peer_eid: int, peer_address: int) -> None:
        self._has(fd)
        upper = self.uppers[fd]
        upper.peer_eid, upper.address = peer_eid, peer_address
        self._relay.role(fd, lambda packet: self._emit(upper, packet))

    def table(self, cube: int, function: int, entries: Mapping[int, Sequence[int]]) -> None:
        self.tables[cube] = Table(Function(function), {a: tuple(fds) for a, fds in entries.items()})

    def send(self, dst: int, *, eid: int, payload: bytes, cube: int = 0) -> bool:
        assert dst != self.address
        if dst in self.refuse:
            return False
        return self._forward(wire.Packet(dst, eid, payload, cube, self.max_ttl))

    def congestion(self, fd: int, level: int) -> bool:
        upper = self.uppers.get(fd)
        if upper is None or not self.policy:
            return False
        upper.levels.append(level)
        return True

    def mark(self, fd: int, level: int) -> None:
        """What arrives on a flow is marked: its sender should be told."""
        self._punt.push(CONGESTION, fd, level.to_bytes(2, sys.byteorder))

    def counters(self) -> tuple[DtCounters, ...]:
        empty = dict.fromkeys(DtCounters._fields, 0)
        return tuple(DtCounters(**counts) for counts in (self.counts, empty, empty))

    def flow_counters(self, fd: int) -> FlowCounters:
        if fd not in self.uppers:
            raise OSError(errno.EBADF, f"{fd} is no flow of the layer")
        upper = self.uppers[fd]
        values = dict.fromkeys(FlowCounters._fields, 0) | {"received": upper.received, "sent": upper.sent}
        return FlowCounters(**values)

    def close(self) -> None:
        self.closed = True

    # ------------------------------------------------------------ packets

    def _next_hop(self, packet: wire.Packet) -> int | None:
        table = self.tables.get(packet.cube if packet.cube in self.tables else 0)
        unusable = {fd for fd in (table.entries.get(packet.destination, ()) if table else ())
                    if fd not in self._relay.ends or not self.lowers.get(fd)}  # fmt: skip
        return table.next_hop(packet.destination, down=unusable) if table is not None else None

    def _forward(self, packet: wire.Packet) -> bool:
        fd = self._next_hop(packet)
        if fd is None or fd not in self._relay.ends or not self.lowers.get(fd):
            self.counts["no_route"] += 1
            return False
        return self._relay.send(fd, wire.encode(packet))

    def _emit(self, upper: Upper, payload: bytes) -> None:
        assert upper.peer_eid is not None
        upper.sent += 1
        self.counts["sent"] += 1
        self._forward(wire.Packet(upper.address, upper.peer_eid, payload, upper.cube, self.max_ttl))

    def _received(self, octets: bytes) -> None:
        if not octets:
            self.keepalives += 1
            return
        self.counts["received"] += 1
        try:
            packet = wire.decode(octets)
        except MalformedPacket:
            self.counts["malformed"] += 1
            return
        if packet.destination == self.address:
            self._deliver(packet)
        elif packet.ttl <= 1:
            self.counts["expired"] += 1
        else:
            self.counts["forwarded"] += 1
            cube, ttl = packet.cube, packet.ttl - 1
            self._forward(wire.Packet(packet.destination, packet.eid, packet.payload, cube, ttl))

    def _deliver(self, packet: wire.Packet) -> None:
        if packet.eid < 2:
            self.counts["punted"] += 1
            self._punt.push(packet.eid, 0, packet.payload)
            return
        fd = packet.eid & 0xFFFFFFFF
        upper = self.uppers.get(fd)
        if upper is None or upper.eid != packet.eid or fd not in self._relay.ends:
            self.counts["unknown"] += 1
            return
        upper.received += 1
        self.counts["delivered"] += 1
        self._relay.send(fd, packet.payload)
