"""Link State Message: a member's announcement of one of its links (paper 5.3; spec/link-state 1).

Runs in the unicast IPCP; pure data, the octets are in `link_state`. A message states the directed link from `source` to
`target`. Prototypes know no more than that and a sequence number. Between Python members a message can also carry the
weights of the link, and that the link is withdrawn: then it has another length on the wire, which a prototype ignores.
"""

from __future__ import annotations

from dataclasses import dataclass

from .address import legal_address

MAX_WEIGHT = 0xFFFF
"""The largest weight that an announcement can carry."""

Weights = tuple[int, int, int]
"""The cost of a link for each QoS cube, each from 1 to MAX_WEIGHT."""

SEQUENCES = 1 << 64
"""Size of the circle of sequence numbers: after the last one comes 0."""

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
    """source     address of the member that announces
    target     address of the other end of its link
    sequence   the one that is `ahead` is newer
    weights    the cost of the link for each QoS cube; None: not set
    withdrawn  the member no longer has the link
    """

    source: int
    target: int
    sequence: int
    weights: Weights | None = None
    withdrawn: bool = False

    @property
    def extended(self) -> bool:
        """Whether the message carries fields that a prototype cannot send."""
        return self.withdrawn or self.weights is not None

    @property
    def plain(self) -> Lsm:
        """The part that a prototype understands; a withdrawal has no such part."""
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
