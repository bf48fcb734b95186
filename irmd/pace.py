"""How often a process accepts flows, and until when its next accept is expected (spec/rpc RPC-12).

Pure: `now` is an argument, in seconds of a monotonic clock. One record for each process of the IRMd's table.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("-inf")


@dataclass(slots=True)
class Pace:
    """The accepts of one process. A process that serves one client after the other pauses between two accepts; a request
    waits for it while it goes on accepting."""

    since: float = NEVER
    """When the process connected."""
    accepted_at: float = NEVER
    """When it last called accept."""
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
        """Until when a process that accepts is expected to accept again: `wait` seconds after its last accept, or twice the
        pause between its last two, bounded by `longest` seconds. For one that has never accepted: `wait` seconds after it
        connected."""
        if not self.accepts:
            return self.since + wait
        return self.accepted_at + max(wait, min(2 * self._away, longest))
