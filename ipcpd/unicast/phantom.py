"""Phantom links: announcements that make a prototype compute its routes anew (paper 5.3; spec/link-state LS-17).

Runs in the unicast IPCP, inside the link-state machine; no I/O. A prototype computes its forwarding tables only for a link that it
does not know: not when a known neighbour makes an adjacency anew, so it goes on sending into the old flow, and not when a link
has aged out, so it goes on sending towards a lost link. A link to an address that no member has is unknown everywhere. A
prototype stores it, computes, and floods it; it has no second half, so it carries nothing, and it ages out.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Container
from math import ceil
from random import Random

from .address import draw

AFTER_ADJACENCY = 1.0
"""Seconds after which a phantom follows an adjacency that was made anew: by then the neighbour has the new flow too."""

GRAIN = 0.5
"""Phantoms are due at whole multiples of this, seconds: a link that flaps causes at most one in each."""

MAX_DUE = 256
"""Phantoms that are due; one more takes the place of the last."""


class Phantoms:
    """When phantoms are due, and which ones this member has announced.

    lifetime  seconds until every member has removed a link of which it receives no newer message
    """

    __slots__ = ("_due", "_lifetime", "_random", "_targets")

    def __init__(self, lifetime: float, random: Random) -> None:
        self._lifetime = lifetime
        self._random = random
        self._due: list[float] = []
        self._targets: dict[int, float] = {}  # when it was announced, by address

    def __contains__(self, target: int) -> bool:
        """Whether a link of this member to this address is one of its phantoms."""
        return target in self._targets

    def follow_adjacency(self, now: float) -> None:
        """An adjacency was made anew."""
        self._want(now + AFTER_ADJACENCY)

    def follow_loss(self, now: float) -> None:
        """A link was lost, and prototypes let it age out: a phantom follows when all have."""
        self._want(now + self._lifetime + AFTER_ADJACENCY)

    def follow_ageing(self, now: float, scan: float) -> None:
        """A link has aged out here; prototypes look for such links every `scan` seconds."""
        self._want(now + scan + AFTER_ADJACENCY)

    def _want(self, when: float) -> None:
        due = ceil(when / GRAIN) * GRAIN
        if due in self._due:
            return
        if len(self._due) >= MAX_DUE:
            due = max(due, self._due.pop())
        insort(self._due, due)

    @property
    def deadline(self) -> float | None:
        """When `take` has to be called next."""
        return self._due[0] if self._due else None

    def take(self, now: float, *, wanted: bool, taken: Container[int]) -> int | None:
        """The address of the far end of a phantom to be announced now; None: none is due, or none is `wanted`."""
        due = bool(self._due) and self._due[0] <= now
        self._due = [later for later in self._due if later > now]
        for target in [t for t, since in self._targets.items() if now - since > 2 * self._lifetime]:
            del self._targets[target]
        if not due or not wanted:
            return None
        target = draw(taken=taken, random=self._random)
        self._targets[target] = now
        return target
