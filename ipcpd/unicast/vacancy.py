"""Vacancy: whether an address that the layer remembers belongs to a living member (paper 5.3; docs/spec/connections.md).

Runs in the unicast IPCP of a member that enrols others; no I/O. The links of a member that was killed are remembered for a minute, and
its neighbours keep its adjacency for longer. A newcomer that asks for such an address is perhaps that member after a restart;
no field that it could send would prove that. So the address itself is probed: a member answers within a
moment, a prototype too, and where none answers the address is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

KNOWN = 10.0
"""Seconds for which it is known that an address is vacant, or that it is not."""

MAX_ASKED = 64
"""Addresses that are being probed or for which a result is known; more are taken for occupied."""

Answered = Callable[[bool], None]
"""Is called once: whether a member has answered."""


@dataclass(slots=True)
class _Known:
    until: float
    vacant: bool = False


@dataclass(slots=True)
class Vacancy:
    """`ask(address, answered)` sends a question to a member."""

    ask: Callable[[int, Answered], None]
    _known: dict[int, _Known] = field(default_factory=dict)

    def vacant(self, address: int, now: float) -> bool:
        """Whether no living member has the address. One without a known result is probed, and meanwhile counts as occupied."""
        self._known = {one: known for one, known in self._known.items() if known.until > now}
        known = self._known.get(address)
        if known is not None:
            return known.vacant
        if len(self._known) < MAX_ASKED:
            known = self._known[address] = _Known(now + KNOWN)

            def answered(lives: bool) -> None:
                known.vacant = not lives

            self.ask(address, answered)
        return False
