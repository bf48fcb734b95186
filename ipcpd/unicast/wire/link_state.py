"""Link state: the message that announces a link (paper 5.3, wire-unicast 4.1).

Used by the control plane of the unicast IPCP and by `ocap`; pure functions. One message is one packet of a management flow: 24
octets, big-endian. It announces the link in one direction; both ends have to announce it. The prototype ignores packets of
any other length, so there is room for messages that only we understand: `ipcpd.unicast.lsm`.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from ouroboros.wire import MalformedPacket, must, pack

from .address import legal_address

_LAYOUT = Struct(">QQQ")
LENGTH = _LAYOUT.size
_WHAT = "link state message"


@dataclass(frozen=True, slots=True)
class LinkState:
    """The member `source` has a link to its neighbour `destination`; a higher `sequence` is newer."""

    destination: int
    source: int
    sequence: int


def decode(packet: bytes) -> LinkState:
    """The message. Raises MalformedPacket."""
    if len(packet) != LENGTH:
        raise MalformedPacket(_WHAT, f"{len(packet)} octets and not {LENGTH}")
    message = LinkState(*_LAYOUT.unpack(packet))
    if not (legal_address(message.destination) and legal_address(message.source)):
        raise MalformedPacket(_WHAT, f"no link goes from {message.source:#x} to {message.destination:#x}")
    if message.destination == message.source:
        raise MalformedPacket(_WHAT, f"a link from {message.source:#x} to itself")
    return message


def encode(message: LinkState) -> bytes:
    """The message as a packet. Raises UnsendablePacket."""
    what, m = f"a {_WHAT}", message
    must(legal_address(m.destination), what, f"nobody has the address {m.destination:#x}")
    must(legal_address(m.source), what, f"nobody has the address {m.source:#x}")
    must(m.destination != m.source, what, f"a link from {m.source:#x} to itself")
    return pack(_LAYOUT, what, m.destination, m.source, m.sequence)
