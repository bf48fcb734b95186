"""Link state as the C prototype does it (spec/link-state 3, 4, 5), with its weaknesses, as a neighbour for Python members.

It has no withdrawals and no weights, drops messages that are not 24 octets long, adopts other members' entries about its own links, and computes anew
when it receives a link that it does not know and at no other time: not when an entry ages out, and not when a neighbour that it knows
connects anew. The interface is that of `ipcpd.unicast.link_state.LinkState`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ipcpd.unicast.link_state import TablesChanged
from ipcpd.unicast.lsdb import Lsdb
from ipcpd.unicast.pff import simple
from ipcpd.unicast.pff.table import Table
from ipcpd.unicast.routing import link_state
from ipcpd.wire.lsm import Lsm
from ouroboros.cubes import CUBES
from ouroboros.ipcp_config import LinkStateConfig
from ouroboros.qos import QoSSpec


@dataclass(slots=True)
class Stored:
    """An entry of its database."""

    sequence: int
    updated: float


@dataclass(slots=True, kw_only=True)
class Prototype:
    """The machine of one member that runs the C prototype."""

    address: int
    config: LinkStateConfig
    now: float = 0.0
    tables: tuple[Table, ...] = field(default_factory=lambda: tuple(simple.table({}, {}) for _ in CUBES))
    _entries: dict[tuple[int, int], Stored] = field(default_factory=dict)
    _dt: dict[int, int] = field(default_factory=dict)  # descriptor by address
    _mgmt: dict[int, int] = field(default_factory=dict)
    _packets: list[tuple[int, Lsm]] = field(default_factory=list)
    _events: list[TablesChanged] = field(default_factory=list)
    _next: float = 0.0

    def __post_init__(self) -> None:
        self._next = self.now + self.config.t_update

    @property
    def deadline(self) -> float:
        """The next scan of the database."""
        return self._next

    @property
    def lsdb(self) -> Lsdb:
        """The database in the form of a Python member's, for the invariants."""
        lsdb = Lsdb(self.config.t_timeo)
        for (target, source), stored in self._entries.items():
            lsdb.accept(Lsm(source, target, stored.sequence), stored.updated)
        return lsdb

    def take_packets(self) -> list[tuple[int, Lsm]]:
        """What to send."""
        packets, self._packets = self._packets, []
        return packets

    def take_events(self) -> list[TablesChanged]:
        """The events so far."""
        events, self._events = self._events, []
        return events

    def dt_added(self, address: int, fd: int, qos: QoSSpec, now: float) -> None:
        """A data transfer flow is there; of two to the same neighbour the last one counts."""
        self._flood(Lsm(self.address, address, 0))
        self._dt[address] = fd
        if (address, self.address) not in self._entries:
            self._entries[address, self.address] = Stored(0, now)
            self._compute()

    def mgmt_added(self, address: int, fd: int, now: float) -> None:
        """A management flow is there."""
        self._mgmt[fd] = address
        for target, source in sorted(self._entries):
            self._packets.append((fd, Lsm(source, target, self._entries[target, source].sequence)))

    def receive(self, fd: int, message: Lsm, now: float) -> None:
        """A message has come in."""
        if message.extended:
            return
        link = message.target, message.source
        stored = self._entries.get(link)
        if stored is not None and message.sequence <= stored.sequence:
            return
        self._entries[link] = Stored(message.sequence, now)
        self._flood(message, but=fd)
        if stored is None:
            self._compute()

    def timer(self, now: float) -> None:
        """Refresh own entries and drop old ones."""
        if now < self._next:
            return
        self._next = now + self.config.t_update
        for (target, source), stored in list(self._entries.items()):
            if now - stored.updated > self.config.t_timeo:
                del self._entries[target, source]
            elif source == self.address:
                stored.sequence += 1
                stored.updated = now
                self._flood(Lsm(source, target, stored.sequence))

    def _flood(self, message: Lsm, *, but: int | None = None) -> None:
        self._packets += [(fd, message) for fd in self._mgmt if fd != but]

    def _compute(self) -> None:
        view = self.lsdb.graph.views()[0]
        neighbours = {address: (fd,) for address, fd in self._dt.items()}
        table = simple.table(link_state.routes(view, self.address), neighbours)
        self.tables = (table,) * len(CUBES)
        self._events.append(TablesChanged(self.tables))
