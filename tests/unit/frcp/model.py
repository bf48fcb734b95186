"""FRCP once more, small and slow: what a flow end keeps is sets and lists, and everything is worked out anew each time.

It says what an end that retransmits has to have acknowledged, let in, delivered and allowed, whatever came in which order; not
when it says so. The numbers are whole numbers that do not wrap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_WINDOW = 64
SANE = 1 << 16


@dataclass(slots=True)
class Model:
    """An end: a sender of packets 0, 1, 2 …, and a receiver of those of its peer."""

    window: int
    start: int | None = None
    """First number of the peer, once it is known."""
    came: dict[int, bytes] = field(default_factory=dict)
    """What was let in."""
    read: int = 0
    """Packets that the user has read."""
    written: int = 0
    sent: int = 0
    """Those that went out: what the flow below had no room for cannot be acknowledged."""
    una: int = 0
    lim: int = FIRST_WINDOW
    edge: int = 0
    refused: int = 0
    duplicates: int = 0

    # ---- receiver

    @property
    def want(self) -> int:
        """The first number that has not come."""
        assert self.start is not None
        number = self.start
        while number in self.came:
            number += 1
        return number

    def data(self, seq: int, drf: bool, payload: bytes) -> None:
        """A packet with data came."""
        if self.start is None:
            if not drf:
                self.refused += 1
                return
            self.begin(seq)
        assert self.start is not None
        if seq < self.start or seq in self.came:
            self.duplicates += 1
        elif seq >= self.edge:
            self.refused += 1
        else:
            self.came[seq] = payload
        self.renew()

    def begin(self, seq: int) -> None:
        """A packet with the data run flag is the first that is heard."""
        if self.start is None:
            self.start = seq
            self.edge = seq + self.window

    def renew(self) -> None:
        """The window ends so many packets after the first that was not read."""
        assert self.start is not None
        self.edge = max(self.edge, self.start + self.read + self.window)

    def next(self) -> bytes | None:
        """What the user reads next."""
        if self.start is None:
            return None
        payload = self.came.get(self.start + self.read)
        if payload is not None:
            self.read += 1
            self.renew()
        return payload

    # ---- sender

    def acknowledgement(self, ackno: int) -> None:
        """The peer says that it has everything before `ackno`."""
        if self.una < ackno <= self.sent:
            self.una = ackno

    def limit(self, edge: int) -> None:
        """The peer says that it takes everything before `edge`."""
        if 1 <= edge - self.una < SANE:
            self.lim = max(self.lim, edge)

    @property
    def may_write(self) -> bool:
        """Whether the window is open."""
        return self.written < self.lim
