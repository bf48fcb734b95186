"""How a process accepts flows: until when its next accept may be expected (spec/rpc RPC-12).

Pure: `now` comes in, in seconds of a monotonic clock. One record for each process of the IRMd's table.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("-inf")


@dataclass(slots=True)
class Pace:
    """The accepts of one process. A process that serves one client after the other is away between two accepts; a request
    waits for it as long as it goes on accepting."""

    since: float = NEVER
    """When the process connected."""
    accepted_at: float = NEVER
    """When it called accept last."""
    _served_at: float | None = None
    _away: float = 0.0

    @property
    def accepts(self) -> bool:
        """Whether it has ever called accept."""
        return self.accepted_at != NEVER

    def accept(self, now: float) -> None:
        """The process calls accept."""
        self.accepted_at = now
        if self._served_at is not None:
            self._away, self._served_at = now - self._served_at, None

    def served(self, now: float) -> None:
        """One of its accepts gets a flow."""
        self._served_at = now

    def expected_by(self, wait: float, longest: float) -> float:
        """Until when a process that accepts may be expected to do so again: `patience` seconds after its last accept, or twice
        as long as it was away between its last two, `most` seconds at most. One that has never accepted is given `patience`
        from when it connected."""
        if not self.accepts:
            return self.since + wait
        return self.accepted_at + max(wait, min(2 * self._away, longest))
