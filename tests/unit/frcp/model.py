"""A second, small and slow FRCP: a flow end keeps sets and lists, and computes all results anew each time.

It determines the packets that an end with retransmission must have acknowledged, accepted, delivered and allowed, and its messages about
the end of the data, for input in any order; it does not determine their times. Its numbers do not wrap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from errno import EAGAIN, ENOTSUP, EPIPE

from ouroboros.errors import EFLOWDOWN

FIRST_WINDOW = 64
SANE = 1 << 16
TRIES = 5
PATIENCE = 3_000_000_000


class Piece(IntEnum):
    """The position of a packet in a write: the bits FFGM (1) and MFGM (2)."""

    LAST = 0
    WHOLE = 1
    MIDDLE = 2
    FIRST = 3


class Ending(IntEnum):
    """The state that an end has signalled."""

    GOES_ON = 0
    ENDED = 1
    LEFT = 2


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet with data; of no octets, where that was granted, it is the end of the data."""

    piece: Piece
    data: bytes


@dataclass(slots=True)
class Message:
    """The data of one write, or the part that has arrived; and the number of packets by which it closes the window."""

    data: bytes
    packets: int = 1


@dataclass(slots=True)
class Model:
    """An end: a sender of packets 0, 1, 2 …, and a receiver of those of its peer."""

    window: int
    piece: int = 1 << 20
    """Octets that a packet carries."""
    fragments: bool = False
    ends: bool = False
    direct: bool = False
    """A direct flow: sent packets are not lost."""
    lossless: bool = False
    """The same where a layer stays in the memory of its system: nothing is sent again, nor taken that cannot be sent."""

    start: int | None = None
    """First number of the peer, once it is known."""
    want: int = 0
    """The first number that has not come."""
    came: dict[int, Packet] = field(default_factory=dict)
    """Packets accepted before their turn."""
    messages: list[Message] = field(default_factory=list)
    """The data that the user can read."""
    partial: Message | None = None
    edge: int = 0
    heard: Ending = Ending.GOES_ON
    refused: int = 0
    duplicates: int = 0
    behind: int = 0
    """Packets that came behind the end."""

    content: list[Packet] = field(default_factory=list)
    """The written packets, by number."""
    sent: int = 0
    """The sent packets: one that the flow below did not accept cannot be acknowledged."""
    times: dict[int, list[int]] = field(default_factory=dict)
    """When, by number."""
    una: int = 0
    lim: int = FIRST_WINDOW
    said: Ending = Ending.GOES_ON
    wanting: bool = False
    """A writer finds the window closed."""

    # ---- receiver

    def data(self, seq: int, drf: bool, packet: Packet, *, reader: bool = False) -> bytes | None:
        """A packet with data arrived. Returns the data that a waiting reader gets immediately."""
        if self.start is None:
            if not drf:
                self.refused += 1
                return None
            self.begin(seq)
        idle = not self.messages and self.partial is None
        if seq >= self.want and self.at_end(packet):
            self.behind += 1
        elif self.is_end(packet) and seq == self.want:
            self.take(packet)  # no window has to be open
        elif seq >= self.edge:
            self.refused += 1
        elif seq < self.want or seq in self.came:
            self.duplicates += 1
        elif seq > self.want:
            self.came[seq] = packet
        else:
            self.take(packet)
            if reader and idle and packet.data and (packet.piece is Piece.WHOLE or not self.fragments):
                got = self.next()
                self.go_on()
                return got
        self.go_on()
        return None

    def begin(self, seq: int) -> None:
        """A packet with the data run flag is the first that is accepted."""
        if self.start is None:
            self.start = self.want = seq
            self.edge = seq + self.window

    def is_end(self, packet: Packet) -> bool:
        return self.ends and not packet.data

    def at_end(self, packet: Packet) -> bool:
        """Whether this is invalid: it follows the end. An end that writes no more may still close."""
        return self.heard is Ending.LEFT or (self.heard is Ending.ENDED and packet.data != b"")

    def go_on(self) -> None:
        """The packets that waited for the one that arrived."""
        while self.want in self.came:
            packet = self.came.pop(self.want)
            if self.at_end(packet):
                self.behind += 1
                break
            self.take(packet)
        self.renew()

    def take(self, packet: Packet) -> None:
        """The next packet in order."""
        self.want += 1
        if self.is_end(packet):
            self.partial = None
            self.heard = Ending.LEFT if packet.piece is Piece.FIRST else Ending.ENDED
            if self.heard is Ending.LEFT:
                self.came.clear()
                del self.content[self.sent :]
                self.una = self.sent
                self.wanting = False
        elif not self.fragments or packet.piece is Piece.WHOLE:
            self.partial = None
            self.ready(Message(packet.data))
        elif packet.piece is Piece.FIRST:
            self.partial = Message(packet.data)
        elif self.partial is not None:
            whole = self.partial = Message(self.partial.data + packet.data, self.partial.packets + 1)
            if packet.piece is Piece.LAST:
                self.partial = None
                self.ready(whole)
        self.relieve()

    def ready(self, message: Message) -> None:
        if message.data:  # an empty packet is not read
            self.messages.append(message)

    def relieve(self) -> None:
        """A large packet, alone, does not keep the window shut that it needs to become whole."""
        if self.partial and not self.messages and self.partial.packets >= self.window // 2:
            self.partial.packets = 0

    def renew(self) -> None:
        """The window ends a fixed number of packets after the first unread one; it never moves back."""
        unread = sum(message.packets for message in (*self.messages, *filter(None, [self.partial])))
        self.edge = max(self.edge, self.want - unread + self.window)

    def next(self) -> bytes | None:
        """The data that the user reads next."""
        if not self.messages:
            return None
        data = self.messages.pop(0).data
        self.relieve()
        self.renew()
        return data

    # ---- sender

    @property
    def written(self) -> int:
        return len(self.content)

    def write(self, data: bytes, *, room: bool = True) -> int:
        """The user writes; the flow below has room, or not. 0, or an errno."""
        if self.said:
            return EPIPE
        if self.heard is Ending.LEFT:
            return EFLOWDOWN
        if self.sent < self.written or self.shut:
            self.wanting = self.shut
            return EAGAIN
        if self.lossless and not room and len(data) <= self.piece:
            return EAGAIN
        starts = range(0, len(data), self.piece)
        for at in starts:
            last = at == starts[-1]
            piece = Piece((1 if at == 0 else 0) + (0 if last else 2)) if self.fragments else Piece.LAST
            self.content.append(Packet(piece, data[at : at + self.piece]))
        return 0

    def finish(self, leaving: bool) -> int:
        """The user writes no more, or leaves. 0, or an errno."""
        what = Ending.LEFT if leaving else Ending.ENDED
        if not self.ends:
            return ENOTSUP
        if self.said < what and self.heard is not Ending.LEFT:
            self.content.append(Packet(Piece.FIRST if leaving else Piece.WHOLE, b""))
            self.said = what
            self.wanting = False
        return 0

    @property
    def shut(self) -> bool:
        """Whether the window has no room for the next packet."""
        return self.sent >= self.lim

    def goes_once(self, number: int) -> bool:
        """Whether it is never sent again."""
        packet = self.content[number]
        whole = packet.piece is Piece.WHOLE if self.fragments else True
        return self.lossless and whole and packet.data != b""

    def may_send(self, number: int) -> bool:
        """Whether it is this one's turn, or was: all earlier ones have been sent, and the window is open or need not be."""
        return number <= self.sent and (number < self.lim or self.is_end(self.content[number]))

    def went(self, number: int, now: int) -> None:
        """A packet went out."""
        self.sent = max(self.sent, number + 1)
        self.times.setdefault(number, []).append(now)

    def acknowledgement(self, ackno: int) -> None:
        """The peer acknowledges all packets before `ackno`."""
        if self.una < ackno <= self.sent:
            self.una = ackno

    def limit(self, edge: int) -> None:
        """The peer advertises a window that ends before `edge`."""
        if 1 <= edge - self.una < SANE:
            self.lim = max(self.lim, edge)
            self.wanting = self.wanting and self.shut

    @property
    def lingers(self) -> bool:
        """Whether who leaves waits: for data as long as it takes, for the end alone not for long."""
        if self.una == self.written:
            return False
        if self.sent < self.written or not self.is_end(self.content[self.una]):
            return True
        oldest, newest = self.times[self.una], self.times[self.written - 1]
        return not self.direct and len(newest) <= TRIES and oldest[-1] - newest[0] < PATIENCE
