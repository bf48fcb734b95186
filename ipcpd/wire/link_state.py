"""Link state: the packet that announces a link (paper 5.3, spec/link-state 1).

Used by the control plane of the unicast IPCP and by `ocap`; pure functions. One message is one packet of a management flow,
big-endian. It announces the link in one direction; both ends have to announce it.

    target 8 | source 8 | sequence 8                                    24 octets: all that a prototype knows
    ... | version 1 | flags 1 | weight 2 for each of three QoS cubes    32: Python members (flags: 1 withdrawn, 2 weights)

The prototype ignores packets of another length than 24, so it does not read the added fields, and does not forward them either.
"""

from __future__ import annotations

from struct import Struct

from ouroboros.wire import MalformedPacket, must

from .lsm import Lsm, Weights

VERSION = 1

_PLAIN = Struct(">QQQ")
_EXTENSION = Struct(">BBHHH")
LENGTH = _PLAIN.size
LENGTH_EXTENDED = _PLAIN.size + _EXTENSION.size

_WITHDRAWN = 0x01
_WEIGHTS = 0x02
_NO_WEIGHTS = (0, 0, 0)
_WHAT = "link state message"


def decode(packet: bytes) -> Lsm:
    """The message. Raises MalformedPacket."""
    if len(packet) not in (LENGTH, LENGTH_EXTENDED):
        raise MalformedPacket(_WHAT, f"{len(packet)} octets and not {LENGTH} or {LENGTH_EXTENDED}")
    target, source, sequence = _PLAIN.unpack_from(packet)
    weights, withdrawn = _extension(packet) if len(packet) > LENGTH else (None, False)
    message = Lsm(source, target, sequence, weights, withdrawn)
    if not message.valid:
        raise MalformedPacket(_WHAT, f"it cannot be true: {message}")
    return message


def encode(message: Lsm) -> bytes:
    """The message as a packet: in 24 octets whenever a prototype could send it too. Raises UnsendablePacket."""
    must(message.valid, f"a {_WHAT}", f"it cannot be true: {message}")
    packet = _PLAIN.pack(message.target, message.source, message.sequence)
    if not message.extended:
        return packet
    flags = _WITHDRAWN * message.withdrawn | _WEIGHTS * (message.weights is not None)
    return packet + _EXTENSION.pack(VERSION, flags, *(message.weights or _NO_WEIGHTS))


def _extension(packet: bytes) -> tuple[Weights | None, bool]:
    version, flags, best_effort, video, voice = _EXTENSION.unpack_from(packet, LENGTH)
    weights = (best_effort, video, voice)
    if version != VERSION or flags not in (_WITHDRAWN, _WEIGHTS, _WITHDRAWN | _WEIGHTS):
        raise MalformedPacket(_WHAT, f"an extension of version {version} with flags {flags:#04x}")
    if not flags & _WEIGHTS:
        if weights != _NO_WEIGHTS:
            raise MalformedPacket(_WHAT, "weights without the flag for them")
        return None, True
    return weights, bool(flags & _WITHDRAWN)
