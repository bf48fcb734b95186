"""Contention: detects that another member has this member's address (paper 5.3; spec/link-state LS-18).

Runs in the unicast IPCP, inside the link-state machine; no I/O. Every member draws its own address, and two may draw the same one
at the same time. Each then corrects the other's announcements of its links, and the other corrects those, without end. One
correction, or a few, follow a restart: the layer still knows the links of the member before it restarted. Corrections that are
contradicted again and again come from another member.

One of the two has to draw again, and no property that both know distinguishes them. So each waits for a random time, the longer
the longer it has been a member, and draws at the next contradiction: when the first has left there is none.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from random import Random

CONTRADICTIONS = 8
"""Times that this member's announcement of one link is contradicted before another member is taken to be the cause."""

MAX_LINKS = 64
"""Links for which contradictions are counted: those that were contradicted last."""

WINDOW = 20.0
"""Seconds after which a contradiction is no longer counted."""

SHORTEST, SPREAD = 3.0, 20.0
"""Seconds that a member waits at least before it draws again, and the span of the random part. Contradictions within one
second may make both members leave."""

SENIORITY = 600.0
"""Seconds of membership after which a member waits longest: SPREAD more than a newcomer."""

QUIET = 20.0
"""Seconds without a contradiction after which the address counts as this member's alone again."""

MAX_DRAWS = 4
"""Addresses that a member leaves for another member within an hour: contradictions can be forged."""

DRAWS_PERIOD = 3600.0


class Verdict(Enum):
    """The consequence of a contradiction."""

    NOTHING = "an earlier life, perhaps, or known already"
    CONTESTED = "another member has our address"
    LEAVE = "and we have to draw another"


@dataclass(slots=True)
class Contention:
    """`since` is when this member began, seconds; `left` when it left an address for another member, before its restarts too."""

    since: float
    random: Random
    left: list[float] = field(default_factory=list)
    contested: bool = False
    """Another member has this member's address."""
    _last: float = 0.0
    _seen: OrderedDict[int, list[float]] = field(default_factory=OrderedDict)
    """Times of contradictions, by the other end of the link."""
    _leave_at: float = 0.0

    @property
    def deadline(self) -> float | None:
        """When `expired` has to be called next."""
        return self._last + QUIET if self.contested else None

    def contradicted(self, target: int, now: float) -> Verdict:
        """A message contradicts this member's announcement of its link to `target`."""
        seen = [when for when in self._seen.pop(target, ()) if now - when < WINDOW][-CONTRADICTIONS:]
        self._seen[target] = [*seen, now]
        if len(self._seen) > MAX_LINKS:
            self._seen.popitem(last=False)
        self._last = now
        if self.contested:
            return self._leave(now) if now >= self._leave_at else Verdict.NOTHING
        if len(seen) + 1 < CONTRADICTIONS:
            return Verdict.NOTHING
        self.contested = True
        seniority = min(1.0, (now - self.since) / SENIORITY)
        self._leave_at = now + SHORTEST + SPREAD * (self.random.random() + seniority)
        return Verdict.CONTESTED

    def _leave(self, now: float) -> Verdict:
        self.left = [when for when in self.left if now - when < DRAWS_PERIOD]
        if len(self.left) >= MAX_DRAWS:
            return Verdict.NOTHING  # still contested: the status shows it
        self.left.append(now)
        self._leave_at = inf  # once
        return Verdict.LEAVE

    def expired(self, now: float) -> None:
        """`deadline` may have passed."""
        due = self.deadline
        if due is not None and now >= due:
            self.contested = False
            self._seen.clear()
