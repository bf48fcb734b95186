"""Flow requests and replies of link-level IPCPs, without layout (paper 5.4; spec/common 7, spec/ethernet 2, 5, spec/udp 2).

Used by the control plane of the ethernet and UDP IPCPs; pure data. Each type has codecs of its own. An endpoint is an EID, in
eth-llc a SAP.
"""

from __future__ import annotations

from dataclasses import dataclass

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
