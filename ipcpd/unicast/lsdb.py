"""Link State DataBase: the newest message about every link of the layer, and the graph that follows (paper 5.3; spec/link-state 3).

Runs in the unicast IPCP. Messages about one link are ordered by (sequence, withdrawn, has weights), and an entry that is
live only ever moves up in that order. A member forwards a message that moved its entry, so flooding ends: every member forwards a
message at most once.

Messages carry no age. When an entry has aged out, one that some member still holds could bring the link back everywhere, and
again for the next member's time-out, without end. So a removed entry leaves a *tombstone* for as long as an entry
lives, which refuses the last numbers before its own. A much lower number is a prototype that started its link anew at 0, and is
accepted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ipcpd.wire.lsm import Lsm, Weights, ahead

from .routing.graph import Graph

MAX_ENTRIES = 1 << 15
"""Links that are kept. A message about one more is refused: it could be forged."""

RESTART = 8
"""A tombstone takes a number that is lower than its own by more than this for a new start of the link."""

WEIGHTS_LAG = 2
"""Weights are dropped when the link was announced this many times without them: a member that got only those messages has no
weights for it either, and members must not differ in that."""


class State(Enum):
    """The state of an entry."""

    LIVE = "live"
    WITHDRAWN = "withdrawn"
    AGED = "aged out"


class Verdict(Enum):
    """The outcome of a message."""

    STALE = "stale"
    """The entry is at least as new; the message is not forwarded."""
    NEWER = "newer"
    """The message is newer, but the graph is unchanged."""
    CHANGED = "changed"
    """The graph has changed."""
    REFUSED = "refused"
    """The database is full."""


Link = tuple[int, int]
"""(target, source): the order in which prototypes list and send their entries."""


@dataclass(slots=True)
class Entry:
    """updated  when it was last taken from a message, or became a tombstone; seconds"""

    source: int
    target: int
    sequence: int
    updated: float
    state: State
    weights: Weights | None = None
    weights_sequence: int = -1

    def message(self) -> Lsm:
        """The message for a member that knows nothing of the link."""
        if self.state is State.WITHDRAWN:
            return Lsm(self.source, self.target, self.sequence, withdrawn=True)
        # Weights travel under the number under which they were received, or flooding would not end.
        fresh = self.weights if self.weights_sequence == self.sequence else None
        return Lsm(self.source, self.target, self.sequence, fresh)

    def is_newer(self, message: Lsm) -> bool:
        """Whether the message is newer than the entry."""
        further = ahead(message.sequence, self.sequence)
        if self.state is State.AGED:
            return not -RESTART <= further <= 0
        weighted = message.weights is not None and not message.withdrawn
        known = (self.state is State.WITHDRAWN, self.weights_sequence == self.sequence)
        return further > 0 or (further == 0 and (message.withdrawn, weighted) > known)


class Lsdb:
    """The entries, and the graph of those that are live.

    lifetime  seconds without a newer message after which an entry dies, and a tombstone is removed
    """

    __slots__ = ("_entries", "graph", "lifetime")

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.graph = Graph()
        self._entries: OrderedDict[Link, Entry] = OrderedDict()  # the one updated longest ago first

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """The entries in the order of `Link`, tombstones included."""
        return (self._entries[link] for link in sorted(self._entries))

    def get(self, source: int, target: int) -> Entry | None:
        """The entry about a link, tombstones included."""
        return self._entries.get((target, source))

    def live(self) -> dict[Link, int]:
        """The sequence number of each live entry."""
        return {link: e.sequence for link, e in self._entries.items() if e.state is State.LIVE}

    def accept(self, message: Lsm, now: float, *, own: bool = False) -> Verdict:
        """Take the newer parts of a message; all of it, when it is this member's own."""
        link = message.target, message.source
        entry = self._entries.get(link)
        if entry is None:
            if len(self._entries) >= MAX_ENTRIES:
                return Verdict.REFUSED
            entry = self._entries[link] = Entry(message.source, message.target, -1, now, State.WITHDRAWN)
        elif not own and not entry.is_newer(message):
            return Verdict.STALE
        entry.sequence = message.sequence
        entry.updated = now
        self._entries.move_to_end(link)
        if message.withdrawn:
            entry.state, entry.weights, entry.weights_sequence = State.WITHDRAWN, None, -1
            changed = self.graph.withdraw(message.source, message.target)
        else:
            if entry.state is not State.LIVE:
                entry.state, entry.weights, entry.weights_sequence = State.LIVE, None, -1
            if message.weights is not None:
                entry.weights, entry.weights_sequence = message.weights, message.sequence
            elif ahead(message.sequence, entry.weights_sequence) > WEIGHTS_LAG:
                entry.weights = None
            changed = self.graph.announce(message.source, message.target, entry.weights)
        return Verdict.CHANGED if changed else Verdict.NEWER

    def expire(self, now: float) -> bool:
        """Let entries die that got no newer message for too long. Whether the graph has changed."""
        changed = False
        while (due := self.deadline) is not None and due <= now:
            link, entry = next(iter(self._entries.items()))
            if entry.state is State.LIVE:
                entry.state, entry.updated = State.AGED, now
                self._entries.move_to_end(link)
                changed |= self.graph.withdraw(entry.source, entry.target)
            else:
                del self._entries[link]
        return changed

    @property
    def deadline(self) -> float | None:
        """When the next entry dies or is removed, if it gets no newer message."""
        for entry in self._entries.values():
            return entry.updated + self.lifetime
        return None
