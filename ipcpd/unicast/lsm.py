"""Link State Message: what a member says about one of its links (paper 5.3; spec/link-state 1).

Runs in the unicast IPCP; pure data, the octets are in `wire.link_state`. A message states the directed link from `source` to
`target`. Prototypes know no more than that and a sequence number. Between members of ours a message can also carry the
weights of the link, and that the link is gone: then it has another length on the wire, which a prototype ignores.
"""

from __future__ import annotations

from dataclasses import dataclass

from .routing.weight import MAX_WEIGHT, Weights
from .wire.address import legal_address

MAX_SEQUENCE = (1 << 63) - 1
"""Larger ones are refused: a link whose number has run out could never be announced again."""


@dataclass(frozen=True, slots=True)
class Lsm:
    """source     address of the member that speaks
    target     address of the other end of its link
    sequence   a greater one is newer
    weights    what the link costs each QoS cube; None: not said
    withdrawn  the link is gone
    """

    source: int
    target: int
    sequence: int
    weights: Weights | None = None
    withdrawn: bool = False

    @property
    def extended(self) -> bool:
        """Whether it says what a prototype cannot."""
        return self.withdrawn or self.weights is not None

    @property
    def plain(self) -> Lsm:
        """What a prototype understands of it; of a withdrawal there is no such thing."""
        return Lsm(self.source, self.target, self.sequence)

    @property
    def valid(self) -> bool:
        """Whether it can be true: addresses of 32 bits other than 0 that differ, weights from 1."""
        weights = self.weights
        return (
            legal_address(self.source)
            and legal_address(self.target)
            and self.source != self.target
            and 0 <= self.sequence <= MAX_SEQUENCE
            and (weights is None or (min(weights) >= 1 and max(weights) <= MAX_WEIGHT))
        )
