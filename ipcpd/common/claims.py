"""Claims: which neighbour an address belongs to, as far as certificates show it (paper 5.3; docs/spec/connections.md).

Used by the connection manager of unicast IPCPs, on their loop; no I/O. A connection record claims an address, and nothing in it
proves the claim. In a layer whose members show certificates the claim is bound to the name in the certificate that
came with it first: a member with another certificate cannot take over the adjacency of a neighbour, nor its address while the
neighbour is away. Where no certificates are shown an address belongs to the neighbour that claimed it last.
"""

from __future__ import annotations

from collections import OrderedDict

from ipcpd.unicast.wire.address import to_text

from .admission import Shown

KEPT = 86400.0
"""Seconds for which a claim is remembered after it was last made: as long as the directory of a layer keeps an address."""

MAX_CLAIMS = 4096
"""Claims that are remembered; the one that was made longest ago gives way."""


class Claims:
    """Names by address."""

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def objection(self, address: int, shown: Shown, now: float) -> str:
        """Why the neighbour that shows this must not have the address; "" when it may."""
        name, since = self._claims.get(address, ("", 0.0))
        if not name or now - since > KEPT or (shown.certificate and shown.name == name):
            return ""
        return f'address {to_text(address)} belongs to "{name}"'

    def claimed(self, address: int, shown: Shown, now: float) -> None:
        """A neighbour that shows this is connected with the address, or was until now."""
        if not address or not shown.certificate or not shown.name:
            return
        self._claims[address] = (shown.name, now)
        self._claims.move_to_end(address)
        if len(self._claims) > MAX_CLAIMS:
            self._claims.popitem(last=False)
