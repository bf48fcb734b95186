"""The C machine against the small model (`model.py`): whatever comes in, whenever, both say the same."""

from __future__ import annotations

from errno import EAGAIN

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ouroboros_tools.ocap.frcp import Flag, Header

from ouroboros.testing.frcp import Frcp
from tests.unit.frcp.model import Model

MS = 1_000_000
WORD = 0xFFFFFFFF
NEAR = st.integers(-3, 3)
AHEAD = st.one_of(
    NEAR, st.integers(-70, 70), st.integers(-2000, 2000), st.integers(-(1 << 31) + 1, (1 << 31) - 4096)
)


class FrcpMachine(RuleBasedStateMachine):
    """One end; the peer is made up: it sends whatever Hypothesis likes."""

    @initialize(
        first=st.one_of(st.integers(0, WORD), st.integers(WORD - 40, WORD)),
        peer=st.one_of(st.integers(0, WORD), st.integers(WORD - 40, WORD)),
        window=st.sampled_from([1, 4, 64, 256]),
        selective=st.booleans(),
    )
    def begin(self, first: int, peer: int, window: int, selective: bool) -> None:
        self.first, self.peer = first, peer
        self.now = 5_000_000_000
        self.end = Frcp(self.now, first=first, window=window, selective=selective, send=self.send)
        self.model = Model(window)
        self.room = True
        self.sent: dict[int, bytes] = {}
        self.content: list[bytes] = []
        self.told_edge = 0

    # ---- what goes out

    def send(self, packet: bytes) -> bool:
        if not self.room:
            return False
        header, data = Header.decode(packet)
        model = self.model
        if header.flags & Flag.DATA:
            number = (header.sequence - self.first) & WORD
            assert number < model.written + 1 and number < model.lim, "beyond the window"
            assert number >= model.una, "acknowledged, and sent again"
            model.sent = max(model.sent, number + 1)
            assert self.sent.setdefault(number, data) == data, "not what was sent first"
            assert bool(header.flags & Flag.DRF) == (number == model.una), "data run flag"
        elif header.flags & Flag.DRF:
            assert model.una == 0 and header.sequence == self.first, "numbers of our own"
        if header.flags & Flag.ACK:
            assert model.start is not None
            assert header.acknowledgement == (self.peer + model.want) & WORD, "acknowledgement"
        else:
            assert header.acknowledgement == 0
        if header.flags & Flag.FC:
            assert header.window == (self.peer + model.edge) & 0xFFFFFF, "window"
        else:
            assert header.window == 0
        return True

    # ---- what comes in

    def arrive(self, header: Header, payload: bytes = b"") -> None:
        self.end.receive(header.encode(payload), self.now)
        self.end.run(self.now)

    @rule(ahead=AHEAD, drf=st.booleans(), size=st.integers(1, 40))
    def data(self, ahead: int, drf: bool, size: int) -> None:
        base = self.model.want if self.model.start is not None else 0
        number = base + ahead
        payload = bytes((number + i) & 0xFF for i in range(size))
        flags = Flag.DATA | Flag.DRF if drf else Flag.DATA
        self.model.data(number, drf, payload)
        self.arrive(Header(flags, 0, (self.peer + number) & WORD, 0), payload)

    @rule(count=st.integers(1, 80))
    def burst(self, count: int) -> None:
        for i in range(count):
            self.data(0, i == 0, 3)

    @rule(ahead=NEAR, data=st.booleans())
    def control_with_numbers(self, ahead: int, data: bool) -> None:
        if self.model.start is None:
            self.model.begin(ahead)
        self.arrive(Header(Flag.DRF, 0, (self.peer + ahead) & WORD, 0))

    @rule(ahead=AHEAD, window=st.one_of(st.none(), AHEAD, st.integers(0, 300)))
    def acknowledgement(self, ahead: int, window: int | None) -> None:
        ackno = self.model.una + ahead
        flags, edge = Flag.ACK, 0
        self.model.acknowledgement(ackno)
        if window is not None:
            flags |= Flag.FC
            edge = self.model.una + window
            self.model.limit(self.model.una + (window & 0xFFFFFF))
        self.arrive(Header(flags, (self.first + edge) & 0xFFFFFF, 0, (self.first + ackno) & WORD))

    @rule()
    def acknowledge_everything(self) -> None:
        self.acknowledgement(self.model.written - self.model.una, 256)

    @rule()
    def rendez_vous(self) -> None:
        self.arrive(Header(Flag.RDV, 0, 0, 0))

    @rule(octets=st.binary(max_size=11))
    def nonsense(self, octets: bytes) -> None:
        self.end.receive(octets, self.now)
        self.end.run(self.now)

    # ---- what the user does

    @rule(count=st.integers(1, 70), size=st.integers(1, 30))
    def write(self, count: int, size: int) -> None:
        for _ in range(count):
            # A packet that found no room below waits in front of the others.
            may = self.model.may_write and self.end.c.nxt == (self.first + self.model.written) & WORD
            payload = bytes((self.model.written * 7 + i) & 0xFF for i in range(size))
            if may:
                self.model.written += 1
                self.content.append(payload)
            result = self.end.write(payload, self.now)
            assert result == (size if may else -EAGAIN)
            self.end.run(self.now)

    @rule(count=st.integers(1, 90))
    def read(self, count: int) -> None:
        for _ in range(count):
            assert self.end.read(self.now) == self.model.next()
        self.end.run(self.now)

    # ---- the world

    @rule(room=st.booleans())
    def below(self, room: bool) -> None:
        self.room = room

    @rule(ms=st.integers(0, 60))
    def wait(self, ms: int) -> None:
        target = self.now + ms * MS
        while (deadline := self.end.deadline) is not None and deadline <= target:
            self.now = max(self.now, deadline)
            self.end.run(self.now)
            assert self.end.deadline is None or self.end.deadline > self.now, "runs in circles"
        self.now = target

    @precondition(lambda self: self.room)
    @rule()
    def what_was_written_has_gone(self) -> None:
        self.wait(6)
        unsent = range(self.model.una, self.model.written)
        assert all(number in self.sent for number in unsent)
        assert all(self.sent[number] == self.content[number] for number in unsent)

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "end"):
            return
        c, model = self.end.c, self.model
        assert (c.una - self.first) & WORD == model.una
        assert (c.lim - self.first) & WORD == model.lim
        assert bool(c.run) == (model.start is not None)
        if c.run:
            assert c.want == (self.peer + model.want) & WORD
        assert c.counters.refused == model.refused
        assert c.counters.duplicate == model.duplicates
        assert self.end.down == 0


FrcpMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFrcp = FrcpMachine.TestCase
