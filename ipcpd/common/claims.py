"""Claims: the neighbour that an address or a member id belongs to, as far as certificates show it (paper 5.3; spec/connections).

Used by the connection manager of unicast and broadcast IPCPs, on their loop; no I/O. A connection record claims the address of a
unicast member, or the id of a broadcast member, without proof. In a layer whose members show certificates the claim is bound to
the name in the certificate of its first claimant: a member with another certificate cannot take over a neighbour's adjacency,
nor its address while the neighbour is away. Where members show no certificates every claim is allowed, and a connection is
replaced only by one over the same path.
"""

from __future__ import annotations

from collections import OrderedDict

from ipcpd.wire.address import to_text
from ipcpd.wire.connmgr import Record

from .admission import PeerIdentity

KEPT = 86400.0
"""Seconds for which a claim is remembered after it was last made: as long as the directory of a layer keeps an address."""

MAX_CLAIMS = 4096
"""Claims that are remembered; the one that was made longest ago gives way."""


class Claims:
    """Names by address or member id."""

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def objection(self, theirs: Record, peer_identity: PeerIdentity, now: float) -> str:
        """Why the neighbour with this identity must not have the address or id that its record claims; "" when it may."""
        name, since = self._claims.get(_claim(theirs), ("", 0.0))
        if not name or now - since > KEPT or (peer_identity.certificate and peer_identity.name == name):
            return ""
        what = f"address {to_text(theirs.address)}" if theirs.address else f"member id {theirs.member:016x}"
        return f'{what} belongs to "{name}"'

    def claimed(self, theirs: Record, peer_identity: PeerIdentity, now: float) -> None:
        """A neighbour with this record and identity is connected, or was until now."""
        claim = _claim(theirs)
        if not claim or not peer_identity.certificate or not peer_identity.name:
            return
        self._claims[claim] = (peer_identity.name, now)
        self._claims.move_to_end(claim)
        if len(self._claims) > MAX_CLAIMS:
            self._claims.popitem(last=False)


def _claim(theirs: Record) -> int:
    """A layer has addresses or member ids, never both; 0: the record claims neither."""
    return theirs.address or theirs.member
