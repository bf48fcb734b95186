"""Connection manager: the record that each side sends first on a flow between two IPCPs (paper 5.3, spec/connections).

Used by the control plane of unicast and broadcast IPCPs and by `ocap`; pure functions. A record names the component that the flow
is for and the protocol that this component speaks. One record is one packet, of at most 127 octets, because the prototype
reads into 128.

Additions (fields that a prototype skips, and that are absent unless set): the reason of a refused connection, with an errno; of a
broadcast IPCP, which has no address, an id of its own, and that of its tree; the keep-alive time-out that an initiator offers and a
responder grants; and the number of the link that an initiator makes, or makes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ouroboros.wire import MalformedPacket, UnsendablePacket, must, text

from . import connmgr_pb2, proto
from .address import MAX_ADDRESS

MAX_REASON = 90  # octets: a refusal has no other field
MAX_RECORD = 127  # octets, sent
_MAX_READ = 128  # octets, read
_WHAT = "connection record"


class Syntax(IntEnum):
    """How the messages of a component's protocol are written."""

    PROTOBUF = 0
    ASN1 = 1
    FIXED = 2


@dataclass(frozen=True, slots=True)
class Record:
    """A component: its name, its protocol, and the address of its IPCP in the layer (0: none).

    `syntax` is a plain number: an unknown peer may send any. Of Python broadcast IPCPs: `member` and `tree` (0: not set).
    `timeout`, ms, is that of keep-alives (0: none offered or granted). `reason` comes with a refusal, and perhaps `error`, its errno.
    `link` is the initiator's number of the link, the same in each attempt to make it again (0: not known).
    """

    component: str = ""
    protocol: str = ""
    version: int = 0
    syntax: int = Syntax.PROTOBUF
    address: int = 0
    reason: str = ""
    member: int = 0
    tree: int = 0
    timeout: int = 0
    error: int = 0
    link: int = 0


UNKNOWN = Record()  # the answer to a request for a component that is not there
ENROLMENT = Record("Enrollment", "OEP", 1)
BROADCAST = Record("Data Transfer")  # of a broadcast IPCP


def refusal(reason: str, error: int = 0) -> Record:
    """The same answer, with the reason; a text that is too long is cut."""
    return Record(reason=reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore"), error=error)


def management(address: int) -> Record:
    """The component that disseminates link state."""
    return Record("Management", "LSP", 1, Syntax.PROTOBUF, address)


def data_transfer(address: int) -> Record:
    """The data transfer component of a unicast IPCP."""
    return Record("Data Transfer", "dtp", 1, Syntax.FIXED, address)


def decode(packet: bytes) -> Record:
    """The record in a packet. Raises MalformedPacket."""
    message = proto.parse(connmgr_pb2.Record, packet, _WHAT, most=_MAX_READ)
    if message.address > MAX_ADDRESS:
        raise MalformedPacket(_WHAT, f"nobody has the address {message.address:#x}")
    return Record(
        text(message.comp_name, _WHAT, "the name of the component"),
        text(message.protocol, _WHAT, "the name of the protocol"),
        message.pref_version,
        message.pref_syntax,
        message.address,
        text(message.reason, _WHAT, "the reason"),
        message.member,
        message.tree,
        message.timeout,
        message.error,
        message.link,
    )


def encode(record: Record) -> bytes:
    """The record as a packet. Raises UnsendablePacket."""
    what = f"a {_WHAT}"
    must(0 <= record.address <= MAX_ADDRESS, what, f"nobody has the address {record.address:#x}")
    message = connmgr_pb2.Record(
        comp_name=_octets(record.component, what),
        protocol=_octets(record.protocol, what),
        pref_version=proto.fits(record.version, 32, what, "the version", signed=True),
        pref_syntax=proto.fits(record.syntax, 32, what, "the syntax", signed=True),
        address=record.address,
    )
    _add_ours(message, record, what)
    return proto.serialize(message, what, most=MAX_RECORD)


def _add_ours(message: connmgr_pb2.Record, record: Record, what: str) -> None:
    if record.reason:
        message.reason = _octets(record.reason, what)
    if record.member:
        message.member = proto.fits(record.member, 64, what, "the id")
    if record.tree:
        message.tree = proto.fits(record.tree, 64, what, "the id of the tree")
    if record.timeout:
        message.timeout = proto.fits(record.timeout, 32, what, "the time-out")
    if record.error:
        message.error = proto.fits(record.error, 12, what, "the errno")
    if record.link:
        message.link = proto.fits(record.link, 64, what, "the number of the link")


def _octets(name: str, what: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise UnsendablePacket(what, f"{name!r} has no UTF-8") from None
