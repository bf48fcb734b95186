"""Pursuit: the retry of a flow request that the only member known to hold the name leaves without an answer (paper 5.3;
docs/spec/lessons.md 1.9).

Runs in the unicast IPCP beside the flow allocator; no I/O. The directory's answer may be outdated: the directory is then
asked for other members, without that one. Its answer may still arrive meanwhile.
"""

from __future__ import annotations

from functools import partial

from ipcpd.common.end import End

from .timers import Timer, Timers

OTHERS = 6.0
"""Seconds after a request at which the directory is asked for other members: a program that has to be started may take 5."""


class Pursuit:
    """The requests that have been sent, by this member's end of the flow."""

    def __init__(self) -> None:
        self._timers = Timers()
        self._pursued: dict[End, tuple[int, Timer]] = {}
        self._unanswered: list[End] = []

    def take_unanswered(self) -> list[End]:
        """This member's ends of flows without an answer to their request for OTHERS seconds; each is returned once."""
        unanswered, self._unanswered = self._unanswered, []
        return unanswered

    @property
    def deadline(self) -> float | None:
        """When to call `timer`."""
        return self._timers.deadline

    def timer(self, now: float) -> None:
        """`deadline` has passed."""
        self._timers.run(now)

    def begin(self, end: End, address: int, now: float) -> None:
        """A request for the flow is on its way to a member, for the first time or again."""
        if end in self._pursued and self._pursued[end][0] == address:
            return
        self.end(end)
        self._pursued[end] = address, self._timers.at(now + OTHERS, partial(self._due, end))

    def _due(self, end: End, _now: float) -> None:
        self._unanswered.append(end)

    def end(self, end: End) -> None:
        """The flow has its answer, or is given up; one that is not pursued does nothing."""
        pursued = self._pursued.pop(end, None)
        if pursued is not None:
            pursued[1].cancel()
