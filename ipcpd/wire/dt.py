"""Data transfer: the header of every packet between neighbours (paper 5.3, spec/dt).

Used by the control plane of the unicast IPCP, by the simulator and by `ocap`; pure functions. Packets under way are forwarded
in C. Address and endpoint id are little-endian: the prototype copies them out of its memory. There is no length field and no
source address.

    destination 4 | QoS cube 1 | TTL 1 | ECN 1 | endpoint id 8 | payload
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from ouroboros.cubes import BEST_EFFORT
from ouroboros.wire import MalformedPacket, must

from .address import DIRECTORY, legal_address, legal_eid

DEFAULT_TTL = 60

_HEADER = Struct("<IBBBQ")
HEADER_LENGTH = _HEADER.size
_WHAT = "data transfer packet"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet to endpoint `eid` of member `destination`; an empty payload is a keep-alive.

    `cube` is a plain number: forwarders carry it unchanged, whichever it is.
    """

    destination: int
    eid: int
    payload: bytes = b""
    cube: int = BEST_EFFORT
    ttl: int = DEFAULT_TTL
    ecn: int = 0


def decode(octets: bytes) -> Packet:
    """The packet. Raises MalformedPacket; also for a TTL of 0, which the prototype takes for 256."""
    if len(octets) < HEADER_LENGTH:
        raise MalformedPacket(_WHAT, f"{len(octets)} octets, the header has {HEADER_LENGTH}")
    destination, cube, ttl, ecn, eid = _HEADER.unpack_from(octets)
    if not legal_address(destination):
        raise MalformedPacket(_WHAT, "it is for address 0")
    if not ttl:
        raise MalformedPacket(_WHAT, "its TTL is 0")
    if not (eid <= DIRECTORY or legal_eid(eid)):
        raise MalformedPacket(_WHAT, f"nothing has the endpoint id {eid:#x}")
    return Packet(destination, eid, octets[HEADER_LENGTH:], cube, ttl, ecn)


def encode(packet: Packet) -> bytes:
    """The packet as octets. Raises UnsendablePacket."""
    what, p = f"a {_WHAT}", packet
    must(legal_address(p.destination), what, f"nobody has the address {p.destination}")
    must(p.eid in (0, DIRECTORY) or legal_eid(p.eid), what, f"nothing has the endpoint id {p.eid:#x}")
    must(0 <= p.cube <= 255 and 0 <= p.ecn <= 255, what, f"cube {p.cube} or ECN {p.ecn} is no octet")
    must(0 < p.ttl <= 255, what, f"its TTL {p.ttl} is not from 1 to 255")
    return _HEADER.pack(p.destination, p.cube, p.ttl, p.ecn, p.eid) + p.payload
