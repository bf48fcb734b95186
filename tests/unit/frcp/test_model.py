"""The C machine against the small model (`model.py`): for any input at any time, both have the same result."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ouroboros_tools.ocap.frcp import Flag, Header

from ouroboros.testing.frcp import Frcp
from tests.unit.frcp.model import Ending, Model, Packet, Piece

MS = 1_000_000
SECOND = 1000 * MS
PIECE = 16
OCTETS = bytes(range(256)) * 2
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
        fragments=st.booleans(),
        ends=st.sampled_from([True, True, False]),
        direct=st.booleans(),
        lossless=st.sampled_from([False, False, True]),
    )
    def begin(
        self,
        first: int,
        peer: int,
        window: int,
        selective: bool,
        fragments: bool,
        ends: bool,
        direct: bool,
        lossless: bool,
    ) -> None:
        self.first, self.peer = first, peer
        self.now = 5 * SECOND
        self.end = Frcp(
            self.now,
            first=first,
            window=window,
            selective=selective,
            fragments=fragments,
            ends=ends,
            lossless=lossless,
            direct=direct,
            max_packet=12 + PIECE if fragments else 1500,
            send=self.send,
        )
        self.model = Model(window, PIECE if fragments else 1500, fragments, ends, direct, lossless)
        self.room, self.leaving = True, False
        self.came_at = self.now
        self.told: int | None = None

    # ---- what goes out

    def send(self, packet: bytes) -> bool:
        if not self.room:
            return False
        header, data = Header.decode(packet)
        model = self.model
        if header.flags & Flag.DATA:
            number = (header.sequence - self.first) & WORD
            assert model.heard is not Ending.LEFT, "to a peer that has left"
            assert number < model.written and model.may_send(number), "before its turn"
            assert number >= model.una, "acknowledged, and sent again"
            assert model.content[number] == Packet(Piece(header.flags >> 5), data), "not what was written"
            assert bool(header.flags & Flag.DRF) == (number == model.una), "data run flag"
            assert number == model.sent or not model.goes_once(number), "sent again, where nothing is lost"
            model.went(number, self.now)
        elif header.flags & Flag.DRF:
            assert model.una == 0 or model.heard is Ending.LEFT, "the peer knows our numbers"
            assert header.sequence == (self.first + model.una) & WORD, "numbers of our own"
        if header.flags & Flag.RDV:
            asks = model.una < model.sent and model.goes_once(model.una)
            wants = model.shut and (model.wanting or model.sent < model.written)
            assert asks or wants, "nobody wants a window"
        if header.flags & Flag.ACK:
            assert model.start is not None
            assert header.acknowledgement == (self.peer + model.want) & WORD, "acknowledgement"
            self.told = model.want
            if not header.flags & Flag.DATA and not self.leaving:  # the last acknowledgement has none
                self.map_goes_out(data)
        else:
            assert header.acknowledgement == 0
        if header.flags & Flag.FC:
            assert header.window == (self.peer + model.edge) & 0xFFFFFF, "window"
        else:
            assert header.window == 0
        return True

    def map_goes_out(self, octets: bytes) -> None:
        model = self.model
        said = {model.want + 1 + i for i in range(len(octets) * 8) if octets[i // 8] & 1 << i % 8}
        last = model.want + 8 * min(model.piece, model.window)
        assert said == ({n for n in model.came if n <= last} if self.end.c.config.selective else set()), "map"

    # ---- what comes in

    def arrive(self, header: Header, payload: bytes = b"", *, reader: bool = False) -> bytes | None:
        self.came_at = self.now
        got = self.end.receive(header.encode(payload), self.now, reader=reader)
        self.end.run(self.now)
        return got

    @rule(
        ahead=AHEAD,
        drf=st.booleans(),
        size=st.integers(0, 30),
        piece=st.sampled_from(Piece),
        reader=st.booleans(),
    )
    def data(self, ahead: int, drf: bool, size: int, piece: Piece, reader: bool) -> None:
        number = self.model.want + ahead
        packet = Packet(piece, bytes((number + i) & 0xFF for i in range(size)))
        flags = Flag.DATA | Flag(piece << 5) | (Flag.DRF if drf else Flag(0))
        malformed, heard = self.end.c.counters.malformed - self.model.behind, self.model.heard
        wanted = self.model.data(number, drf, packet, reader=reader)
        header = Header(flags, 0, (self.peer + number) & WORD, 0)
        assert self.arrive(header, packet.data, reader=reader) == wanted
        assert self.end.c.counters.malformed == malformed + self.model.behind, "behind the end"
        if self.room and self.model.heard != heard:
            assert self.told == self.model.want, "who says the end may be waiting"

    @rule(count=st.integers(1, 80), piece=st.sampled_from(Piece))
    def burst(self, count: int, piece: Piece) -> None:
        for i in range(count):
            self.data(0, i == 0, 3, piece, False)

    @rule(ahead=st.integers(0, 3), leaving=st.booleans())
    def peer_finishes(self, ahead: int, leaving: bool) -> None:
        self.data(ahead, True, 0, Piece.FIRST if leaving else Piece.WHOLE, False)

    @rule(leaving=st.booleans())
    def peer_fills_the_window_and_finishes(self, leaving: bool) -> None:
        self.data(0, True, 3, Piece.WHOLE, False)
        self.burst(min(self.model.edge - self.model.want, 64), Piece.WHOLE)
        self.peer_finishes(0, leaving)

    @rule(pieces=st.integers(1, 3), leaving=st.booleans())
    def peer_finishes_in_the_middle_of_a_packet(self, pieces: int, leaving: bool) -> None:
        for i in range(pieces):
            self.data(0, True, 3, Piece.MIDDLE if i else Piece.FIRST, False)
        self.peer_finishes(0, leaving)

    @rule(ahead=NEAR, data=st.booleans())
    def control_with_numbers(self, ahead: int, data: bool) -> None:
        if self.model.start is None:
            self.model.begin(ahead)
        self.arrive(Header(Flag.DRF, 0, (self.peer + ahead) & WORD, 0))

    @rule(ahead=AHEAD, window=st.one_of(st.none(), AHEAD, st.integers(0, 300)), arrived=st.binary(max_size=3))
    def acknowledgement(self, ahead: int, window: int | None, arrived: bytes) -> None:
        ackno = self.model.una + ahead
        flags, edge = Flag.ACK, 0
        self.model.acknowledgement(ackno)
        if window is not None:
            flags |= Flag.FC
            edge = self.model.una + window
            self.model.limit(self.model.una + (window & 0xFFFFFF))
        self.arrive(Header(flags, (self.first + edge) & 0xFFFFFF, 0, (self.first + ackno) & WORD), arrived)

    @rule()
    def acknowledge_everything(self) -> None:
        self.acknowledgement(self.model.sent - self.model.una, 256, b"")

    @rule()
    def rendez_vous(self) -> None:
        self.arrive(Header(Flag.RDV, 0, 0, 0))

    @rule(octets=st.binary(max_size=11))
    def nonsense(self, octets: bytes) -> None:
        self.end.receive(octets, self.now)
        self.end.run(self.now)

    # ---- what the user does

    @rule(count=st.integers(1, 70), size=st.integers(1, 4 * PIECE))
    def write(self, count: int, size: int) -> None:
        for i in range(count):
            if self.end.c.inflight.limited:
                return  # it may delay packets that it is allowed to send
            at = (self.model.written * 7 + i) % 256
            payload = OCTETS[at : at + size]
            error = self.model.write(payload, room=self.room)
            assert self.end.write(payload, self.now) == (-error if error else size)
            self.end.run(self.now)

    @rule()
    def fill_the_window(self) -> None:
        self.write(min(max(self.model.lim - self.model.sent, 0), 300) + 1, 1)

    @rule()
    def finish(self) -> None:
        error = self.model.finish(False)
        assert self.end.send_fin(self.now) == -error
        self.end.run(self.now)

    @rule()
    def leave(self) -> None:
        self.model.finish(True)
        self.leaving = True
        self.end.close(self.now)
        self.leaving = False
        self.end.run(self.now)

    @precondition(lambda self: self.model.said is not Ending.LEFT)
    @rule(room=st.booleans())
    def leave_when_nothing_else_is_open(self, room: bool) -> None:
        """The wait for a peer that does not receive it is short."""
        self.acknowledge_everything()
        self.below(room)
        self.leave()
        assert self.end.lingers == self.model.lingers
        self.wait(3500)

    @rule(count=st.integers(1, 90))
    def read(self, count: int) -> None:
        for _ in range(count):
            assert self.end.read(self.now) == self.model.next()
        self.end.run(self.now)

    # ---- the world

    @rule(room=st.booleans())
    def below(self, room: bool) -> None:
        self.room = room
        self.end.run(self.now)

    @rule(ms=st.one_of(st.integers(0, 60), st.integers(0, 3500)))
    def wait(self, ms: int) -> None:
        """All of them together are less than A and R need to be over."""
        target = self.now + ms * MS
        while (deadline := self.end.deadline) is not None and deadline <= target:
            self.now = max(self.now, deadline)
            self.end.run(self.now)
            assert self.end.deadline is None or self.end.deadline > self.now, "runs in circles"
        self.now = target

    @precondition(lambda self: self.room)
    @rule()
    def what_is_due_goes(self) -> None:
        self.wait(11)
        model = self.model
        if model.start is not None and model.want != model.start and self.now - self.came_at < 9 * SECOND:
            assert self.told == model.want, "it should have been acknowledged"
        if model.heard is Ending.LEFT:
            assert self.end.deadline is None, "nobody is there"

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "end"):
            return
        c, model = self.end.c, self.model
        assert (c.tx.una - self.first) & WORD == model.una
        assert (c.tx.nxt - self.first) & WORD == model.sent
        assert (c.tx.lim - self.first) & WORD == model.lim
        assert bool(c.rx.run) == (model.start is not None)
        if c.rx.run:
            assert c.rx.want == (self.peer + model.want) & WORD
        if self.room and not c.inflight.limited and model.sent < model.written:
            assert not model.may_send(model.sent), "it could have been sent"
        assert (c.fin_sent, c.fin_received) == (model.said, model.heard)
        assert c.counters.refused == model.refused
        assert c.counters.duplicate == model.duplicates
        assert self.end.lingers == model.lingers
        assert self.end.down == 0


FrcpMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFrcp = FrcpMachine.TestCase
