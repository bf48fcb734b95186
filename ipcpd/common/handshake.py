"""Connection establishment: the first packets of two IPCPs on a flow between them (paper 2.8, 5.3; spec/connections).

Two machines without I/O, one for each side; records and `now` (seconds, monotonic) go in, the packet to send and the outcome come
out. Each side waits 1 s for the other's record. The initiator requires its own protocol, version and syntax; the responder sends
its own record whatever those are, and the empty record when it does not have the component, or refuses the connection.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ipcpd.wire import connmgr
from ipcpd.wire.connmgr import Record
from ouroboros.errors import EAUTH
from ouroboros.rpc.service import Refusal
from ouroboros.wire import MalformedPacket

MAX_ERRNO = 4095
HANDSHAKE_TIMEOUT = 1.0
"""Seconds to wait for the record of the other side."""


def printable(text: str) -> str:
    """A text from a peer, fit for a log or a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _kind(of: Record) -> str:
    return "unicast" if of.protocol else "broadcast"


def differs(own: Record, theirs: Record) -> str:
    """Why two components cannot be connected; "" when they can."""
    if theirs.protocol != own.protocol:
        if theirs.component == own.component and not (
            theirs.protocol and own.protocol
        ):  # broadcast layers have none
            return f"it is in a {_kind(theirs)} layer, and this IPCP in a {_kind(own)} layer"
        return f'it speaks protocol "{printable(theirs.protocol)}" and not "{own.protocol}"'
    if theirs.version != own.version:
        return f"it speaks version {theirs.version} of {own.protocol or 'the protocol'} and not {own.version}"
    if theirs.syntax != own.syntax:
        return f"it writes {own.protocol or 'the protocol'} in syntax {theirs.syntax} and not {own.syntax}"
    return ""


@dataclass(slots=True)
class Initiator:
    """The side that allocated the flow to `dst`: sends its record first."""

    own: Record
    dst: str
    now: float
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = self.now + HANDSHAKE_TIMEOUT

    def begin(self) -> bytes:
        """The packet to send."""
        return connmgr.encode(self.own)

    def receive(self, packet: bytes) -> Record:
        """The record of the other side. Raises Refusal when there is no connection."""
        try:
            theirs = connmgr.decode(packet)
        except MalformedPacket as error:
            raise Refusal(errno.EPROTO, f'"{self.dst}" does not answer as an IPCP: {error}') from None
        if theirs.reason:
            number = theirs.error if 0 < theirs.error <= MAX_ERRNO else errno.ECONNREFUSED
            raise Refusal(number, f'"{self.dst}" refuses: {printable(theirs.reason)}')
        if not theirs.component:
            raise Refusal(
                errno.ECONNREFUSED, f'"{self.dst}" has no component "{self.own.component}" to connect to'
            )
        reason = differs(self.own, theirs)
        if reason:
            raise Refusal(errno.EPROTONOSUPPORT, f'"{self.dst}" cannot be connected: {reason}')
        return theirs

    def expired(self) -> Refusal:
        """The refusal for a deadline that has expired."""
        return Refusal(
            errno.ETIMEDOUT,
            f'"{self.dst}" took the flow and said nothing for {HANDSHAKE_TIMEOUT:g} s; is it an IPCP, and member of a layer?',
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The packet that the responder sends; the connection is established when `component` is not None."""

    packet: bytes
    theirs: Record
    component: str | None
    reason: str = ""


@dataclass(slots=True)
class Responder:
    """The side that accepted the flow. `records` are the IPCP's components by name, `admit` may refuse with a reason. With
    an `objection` to the initiator, the responder refuses it whatever its record is."""

    records: Mapping[str, Record]
    admit: Callable[[Record], str]
    answer_for: Callable[[Record, Record], Record]
    now: float
    objection: str = ""
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = self.now + HANDSHAKE_TIMEOUT

    def receive(self, packet: bytes) -> Answer:
        """The answer to the record of the other side. Raises MalformedPacket: then no answer is sent."""
        theirs = connmgr.decode(packet)
        if self.objection:  # first: a refused peer must not learn which components exist
            return Answer(
                connmgr.encode(connmgr.refusal(self.objection, EAUTH)), theirs, None, self.objection
            )
        own = self.records.get(theirs.component)
        if own is None:
            reason = f'there is no component "{printable(theirs.component)}" here'
            return Answer(connmgr.encode(connmgr.UNKNOWN), theirs, None, reason)
        reason = differs(own, theirs)
        if reason:  # the initiator finds the difference in the responder's record
            return Answer(connmgr.encode(own), theirs, None, reason)
        reason = self.admit(theirs)
        if reason:
            return Answer(connmgr.encode(connmgr.refusal(reason)), theirs, None, reason)
        return Answer(connmgr.encode(self.answer_for(own, theirs)), theirs, own.component)
