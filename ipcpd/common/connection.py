"""Connection: the association of a component of one IPCP with that of another, over its own N-1 flow (paper 2.8).

Data of unicast and broadcast IPCPs; the connection manager makes, keeps and ends connections. The module also has the manager's
records of requested and of pending connections, and the texts that name a peer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from ipcpd.wire.address import to_text
from ipcpd.wire.connmgr import ENROLMENT, Record
from ouroboros.qos import QoSSpec
from ouroboros.rpc.messages_pb2 import QosSpec

from .handshake import Responder
from .lower import Lower


@dataclass(slots=True, eq=False)
class Connection:
    """A connection of a component of this IPCP. `peer` is the name that it was made to, "" when the peer initiated it."""

    lower: Lower
    component: str
    peer_address: int
    initiator: bool
    peer: str
    record: Record
    """The connection record of the peer."""
    since: float = 0.0
    """Monotonic time at which the connection was made, seconds."""
    lost: bool = False


@dataclass(slots=True)
class Counters:
    """Outcomes of handshakes."""

    accepted: int = 0
    initiated: int = 0
    refused: int = 0
    """Refused by this IPCP, or by the peer."""
    unauthenticated: int = 0
    """Connections that were not made because the peer's identity did not satisfy the layer's rule, or did not match its claim."""
    silent: int = 0
    """Flows on which the peer's record did not arrive before the deadline."""
    malformed: int = 0
    lost: int = 0
    superseded: int = 0
    """Connections that gave way to a new one of the same neighbour."""
    crowded: int = 0
    """Flows that were released, or refused, because too many other flows waited for their first record."""


def allow_all(_theirs: Record, _lower: Lower) -> str:
    """Admit every peer."""
    return ""


def own_record(own: Record, _theirs: Record) -> Record:
    """Answer every peer with the component's own record."""
    return own


@dataclass(slots=True, eq=False)
class Component:
    """A component that peers can connect to (see `ConnectionManager.component`)."""

    record: Record
    on_connection: Callable[[Connection], None]
    on_lost: Callable[[Connection], None] | None
    offer: Callable[[Record, QosSpec], tuple[Record, QosSpec]] | None
    admit: Callable[[Record, Lower], str] = allow_all
    answer: Callable[[Record, Record], Record] = own_record


@dataclass(slots=True, eq=False)
class DesiredConnection:
    """A connection that the user requested and has not disconnected."""

    dst: str
    component: str
    qos: QosSpec
    connection: Connection | None = None
    made: bool = False
    """The connection was established once: the manager tries again until the user disconnects it."""
    task: asyncio.Task[None] | None = None
    attempts: int = 0
    last_error: str = ""


@dataclass(slots=True, eq=False)
class Responding:
    """An accepted flow on which the first record has not arrived yet."""

    lower: Lower
    machine: Responder
    timer: asyncio.TimerHandle | None = field(default=None)


def link_of(dst: str) -> int:
    """The number of the link to the neighbour with this name: the same when this member has been restarted."""
    return int.from_bytes(blake2b(dst.encode(errors="replace"), digest_size=8).digest(), "big") or 1


def is_same_link(new: Connection, old: Connection) -> bool:
    """Whether `new` is the same link of the neighbour as `old`, made anew: both have the same component, cube, claimed address,
    come over the same layer from the same address in it, and carry the same link number of the neighbour. A path cannot be forged
    more easily than the flow, so no other member takes the place of the neighbour; and links over several layers coexist."""
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


def peer_text(connection: Connection) -> str:
    """A neighbour, for the log."""
    if connection.peer_address:
        return f"address {to_text(connection.peer_address)}"
    return "a neighbour"


def stranger(theirs: Record, lower: Lower) -> str:
    """A refused peer, for the log: the address that it claims, and the name in its verified certificate."""
    claimed = f"address {to_text(theirs.address)}" if theirs.address else "somebody"
    if not lower.peer_identity.certificate:
        return f"{claimed}, without a certificate,"
    return f'{claimed}, with a certificate for "{lower.peer_identity.name}",'


def log_level(connection: Connection) -> int:
    """DEBUG for enrolment connections: they are short, and the enrolment component logs their outcome."""
    return logging.DEBUG if connection.component == ENROLMENT.component else logging.INFO
