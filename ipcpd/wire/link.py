"""Flow requests and replies of link-level IPCPs, without layout (paper 5.4; spec/common 7, spec/ethernet 2, 5, spec/udp 2).

Used by the control plane of the ethernet and UDP IPCPs; pure data. Each type has codecs of its own. An endpoint is an EID, in
eth-llc a SAP.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from ouroboros.extension import Extension
from ouroboros.qos import QOS_RAW, QoSSpec


@dataclass(frozen=True, slots=True)
class FlowRequest:
    """Asks for a flow to the name that has the hash; `endpoint` is the requester's, `data` the handshake's header."""

    endpoint: int
    name_hash: bytes
    qos: QoSSpec = QOS_RAW
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowReply:
    """Answers the request that came from endpoint `to`.

    `response` is 0, with the acceptor's `endpoint` and the handshake's header in `data`, or a negative errno; a
    receiver treats every value but 0 as a refusal.
    """

    endpoint: int
    to: int
    response: int = 0
    data: bytes = b""


_LENGTHS = Struct(
    ">3H"
)  # of certificate, key exchange with two flags, data: in the handshake's header, from octet 30 on
_LENGTHS_AT = 30
_HEADER = 36
_KEX_LENGTH = 0x3FFF
_ITEM = Struct(">HH")
_MARKER = 0x4F37


def has_path_item(header: bytes) -> bool:
    """Whether the handshake's header offers or grants marks on the path (spec/oap 8, spec/path). The rest of the header is for IRMds."""
    if len(header) < _HEADER:
        return False
    certificate, kex, length = _LENGTHS.unpack_from(header, _LENGTHS_AT)
    start = _HEADER + certificate + (kex & _KEX_LENGTH)
    items, at = header[start : start + length], 0
    if len(items) != length:
        return False
    while at + _ITEM.size <= length:
        kind, octets = _ITEM.unpack_from(items, at)
        if at == 0 and kind != _MARKER:
            return False
        if kind == Extension.PATH:
            return True
        at += _ITEM.size + octets
    return False
