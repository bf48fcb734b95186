"""Connection: what a component of one IPCP has with that of another, over an N-1 flow of its own (paper 2.8).

Data of unicast and broadcast IPCPs; the connection manager makes, keeps and ends them. With it what the manager knows of
connections that are wanted, or may come about, and the words for those at their other end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from ipcpd.unicast.wire.address import to_text
from ipcpd.unicast.wire.connmgr import ENROLMENT, Record
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import QosSpec

from .handshake import Responder
from .lower import Lower


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts to connect again, seconds: the first, doubled each time, up to the longest."""

    first: float = 0.5
    most: float = 30.0

    def after(self, attempt: int) -> float:
        """The pause before the attempt with this number, from 0 up."""
        return min(self.first * 2.0 ** min(attempt, 32), self.most)


@dataclass(slots=True, eq=False)
class Connection:
    """A connection of one of our components. `peer` is the name that it was made to, "" when the other side made it."""

    lower: Lower
    component: str
    peer_address: int
    initiator: bool
    peer: str
    record: Record
    """What the other side said of itself."""
    since: float = 0.0
    """Monotonic time at which it was made, seconds."""
    lost: bool = False


@dataclass(slots=True)
class Counters:
    """What became of handshakes."""

    accepted: int = 0
    initiated: int = 0
    refused: int = 0
    """By us, or by the other side."""
    unauthenticated: int = 0
    """Those that were not made because who was there has not shown what the layer requires."""
    silent: int = 0
    """Flows on which nothing was said in time."""
    malformed: int = 0
    lost: int = 0
    superseded: int = 0
    """Connections that gave way to a new one of the same neighbour."""
    crowded: int = 0
    """Flows that were given up, or refused, because too many others had sent nothing yet."""


def welcome(_theirs: Record, _lower: Lower) -> str:
    """Everybody may connect."""
    return ""


def own_record(own: Record, _theirs: Record) -> Record:
    """Whoever connects gets our record."""
    return own


@dataclass(slots=True, eq=False)
class Component:
    """A component that others can connect to (see `ConnectionManager.component`)."""

    record: Record
    on_connection: Callable[[Connection], None]
    on_lost: Callable[[Connection], None] | None
    offer: Callable[[Record, QosSpec], tuple[Record, QosSpec]] | None
    admit: Callable[[Record, Lower], str] = welcome
    answer: Callable[[Record, Record], Record] = own_record


@dataclass(slots=True, eq=False)
class Wanted:
    """A connection that the user asked for, and has not taken back."""

    dst: str
    component: str
    qos: QosSpec
    connection: Connection | None = None
    made: bool = False
    """It was there once: it is tried again until the user takes it back."""
    task: asyncio.Task[None] | None = None
    attempts: int = 0
    trouble: str = ""


@dataclass(slots=True, eq=False)
class Responding:
    """A flow that was accepted, and on which the first record has not come yet."""

    lower: Lower
    machine: Responder
    timer: asyncio.TimerHandle | None = field(default=None)


def link_of(dst: str) -> int:
    """The number of the link to the neighbour with this name: the same when this member has been restarted."""
    return int.from_bytes(blake2b(dst.encode(errors="replace"), digest_size=8).digest(), "big") or 1


def is_same_link(new: Connection, old: Connection) -> bool:
    """Whether the neighbour has made with `new` the link anew that `old` is: the same component and cube, the same claim to an
    address, over the same layer from the same address in it, and by the neighbour's own number the same link. A path cannot be
    forged more easily than the flow, so no other member takes the place of the neighbour; and links over several layers coexist."""
    return bool(new.peer_address and new.lower.path) and _link(new) == _link(old)


def _link(connection: Connection) -> tuple[str, int, int, bytes, int]:
    lower = connection.lower
    return (
        connection.component,
        connection.peer_address,
        cube_of(lower.qos),
        lower.path,
        connection.record.link,
    )


def cube_of(qos: QosSpec) -> int:
    """The QoS cube that a flow with this specification is in."""
    return QoSSpec.from_proto(qos).cube


def whom(connection: Connection) -> str:
    """A neighbour, for the log."""
    if connection.peer_address:
        return f"address {to_text(connection.peer_address)}"
    return "a neighbour"


def stranger(theirs: Record, lower: Lower) -> str:
    """Somebody who is refused: whom he claims to be, and who it is for certain."""
    claimed = f"address {to_text(theirs.address)}" if theirs.address else "somebody"
    if not lower.peer_identity.certificate:
        return f"{claimed}, without a certificate,"
    return f'{claimed}, with a certificate for "{lower.peer_identity.name}",'


def log_level(connection: Connection) -> int:
    """Enrolments come and go, and say what became of them themselves."""
    return logging.DEBUG if connection.component == ENROLMENT.component else logging.INFO
