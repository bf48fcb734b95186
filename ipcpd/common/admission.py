"""Admission: whether the verified identity of a flow's peer satisfies the rule of the layer (paper 5.3; spec/oap,
spec/connections 3).

Used by unicast and broadcast IPCPs, on their loop; no I/O. The allocation handshake of the IRMds has verified the certificate,
and that the acceptor's certificate has the requested name. This module checks whether the peer has a certificate at all, and
whether the layer admits its name. Every connection of an IPCP, and every enrolment, passes here first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroboros.access import Access
from ouroboros.name_info import Requirement


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A flow's peer: whether its certificate was verified, its common name, and whether packets are encrypted."""

    certificate: bool = False
    name: str = ""
    encrypted: bool = False


def check_incoming(access: Access, peer_identity: PeerIdentity) -> str:
    """Why this member refuses a peer that connected to it; "" when it admits it. The peer gets the text: at most 90 octets."""
    if access.require & Requirement.AUTHENTICATION:
        if not peer_identity.certificate:
            return "it admits only members with a certificate, and you have shown none"
        if not access.names(peer_identity.name):
            return f'it admits no member with the name "{peer_identity.name}"'
    if access.require & Requirement.ENCRYPTION and not peer_identity.encrypted:
        return "flows between its members must be encrypted, and this one is not"
    return ""


def check_outgoing(require: Requirement, peer_identity: PeerIdentity) -> str:
    """Why this member refuses the peer that it connected to; "" when it accepts it. The IRMd has checked that the certificate
    is for the requested name."""
    if require & Requirement.AUTHENTICATION and not peer_identity.certificate:
        return "it must show a certificate, and has shown none"
    if require & Requirement.ENCRYPTION and not peer_identity.encrypted:
        return "the flow to it must be encrypted, and is not"
    return ""
