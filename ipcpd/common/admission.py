"""Admission: whether what a flow shows of its other end is enough for the layer (paper 5.3; spec/oap, spec/connections 3).

Used by unicast and broadcast IPCPs, on their loop; no I/O. The allocation handshake of the IRMds has verified the certificate,
and the name of who was asked; what is left to find out here is whether there was one at all, and whether its name is one of
those that the layer admits. Every connection of an IPCP, and every enrolment, passes here before anything is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroboros.access import Access
from ouroboros.name_info import Requirement


@dataclass(frozen=True, slots=True)
class Shown:
    """What a flow shows of its other end: a verified certificate, its common name, and whether packets are encrypted."""

    certificate: bool = False
    name: str = ""
    encrypted: bool = False


def comes(access: Access, shown: Shown) -> str:
    """Why somebody who comes to a member must not; "" when he may. It is told to him, in at most 90 octets."""
    if access.require & Requirement.AUTHENTICATION:
        if not shown.certificate:
            return "it admits only members with a certificate, and you have shown none"
        if not access.names(shown.name):
            return f'it admits no member with the name "{shown.name}"'
    if access.require & Requirement.ENCRYPTION and not shown.encrypted:
        return "flows between its members must be encrypted, and this one is not"
    return ""


def asked(require: Requirement, shown: Shown) -> str:
    """Why a member that was asked is not good enough; "" when it is. That a certificate is for the name that was asked has been
    found out by the IRMd."""
    if require & Requirement.AUTHENTICATION and not shown.certificate:
        return "it must show a certificate, and has shown none"
    if require & Requirement.ENCRYPTION and not shown.encrypted:
        return "the flow to it must be encrypted, and is not"
    return ""
