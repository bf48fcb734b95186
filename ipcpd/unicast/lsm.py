"""Link State Message: what a member says about one of its links (paper 5.3; spec/link-state 1).

Runs in the unicast IPCP; pure data, the octets are in `wire.link_state`. A message states the directed link from `source` to
`target`. Prototypes know no more than that and a sequence number. Between members of ours a message can also carry the
weights of the link, and that the link is gone: then it has another length on the wire, which a prototype ignores.
"""

from __future__ import annotations

from dataclasses import dataclass

from .routing.weight import MAX_WEIGHT, Weights
from .wire.address import legal_address

SEQUENCES = 1 << 64
"""Sequence numbers are those of a circle with so many places: after the last one comes 0."""

MAX_SEQUENCE = SEQUENCES - 1


def after(sequence: int) -> int:
    """The next sequence number. There always is one: a forged number must not be the last that a link can have."""
    return (sequence + 1) % SEQUENCES


def ahead(one: int, other: int) -> int:
    """How far `one` is ahead of `other`; negative: it is behind.

    Serial arithmetic: of any two different numbers exactly one is newer, also for two members that know different numbers of
    a link. A prototype compares plain numbers: after a wrap it keeps its entry until that ages out, and then takes the new one.
    """
    distance = (one - other) % SEQUENCES
    behind = distance > SEQUENCES // 2 or (distance == SEQUENCES // 2 and one < other)
    return distance - SEQUENCES if behind else distance


@dataclass(frozen=True, slots=True)
class Lsm:
    """source     address of the member that speaks
    target     address of the other end of its link
    sequence   the one that is `ahead` is newer
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
