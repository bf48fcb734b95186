"""The receiver in C against a small model of the readable data: fragments in any mixture, reassembly switched at any time, on flows
that retransmit and on those that do not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ouroboros_tools.ocap.frcp import Flag, Header

from ouroboros.fccntl import FrctFlags
from ouroboros.testing.frcp import Frcp

WORD = 0xFFFFFFFF
LARGEST = 100
WHOLE, FIRST, MIDDLE, LAST = Flag.FFGM, Flag.FFGM | Flag.MFGM, Flag.MFGM, Flag(0)
MANY = 60
"""Packets that are read before more come, so that no window is shut (which the other model is about)."""


@dataclass(slots=True)
class Pieces:
    """The data that a user reads, in the words of paper 2.14; numbers do not wrap."""

    retransmit: bool
    want: int | None = None
    held: dict[int, tuple[Flag, bytes]] = field(default_factory=dict)
    whole: deque[bytes] = field(default_factory=deque)
    partial: bytes | None = None
    loose: bool = False
    """The rest of a packet of which pieces were read already is read in pieces."""
    reassemble: bool = True
    duplicates: int = 0
    refused: int = 0
    skipped: int = 0

    def data(self, number: int, drf: bool, bits: Flag, payload: bytes) -> None:
        """A packet came."""
        if self.want is None:
            if not drf:
                self.refused += 1
                return
            self.want = number
        if number < self.want or number in self.held:
            self.duplicates += 1
            return
        if not self.retransmit:
            self.skip(number)
        self.held[number] = bits, payload
        while (found := self.held.pop(self.want, None)) is not None:
            self.turn(*found)
            self.want += 1

    def skip(self, number: int) -> None:
        """No reader waits for fragments before this number any more; a packet that lacks one is lost."""
        if self.want is None or number <= self.want:
            return
        self.skipped += number - self.want
        self.want, self.partial, self.loose = number, None, False

    def turn(self, bits: Flag, payload: bytes) -> None:
        """The next in order."""
        if not self.reassemble or bits == WHOLE or (self.loose and not bits & Flag.FFGM):
            self.partial, self.loose = None, bool(bits & Flag.MFGM)
            self.ready(payload)
            return
        self.loose = False
        if bits == FIRST:
            self.partial = payload
        elif self.partial is not None:
            self.partial += payload
            if len(self.partial) > LARGEST:
                self.partial = None
            elif bits == LAST:
                self.ready(self.partial)
                self.partial = None

    def ready(self, payload: bytes) -> None:
        """Empty ones are never read."""
        if payload:
            self.whole.append(payload)

    def switch(self, reassemble: bool) -> None:
        """Nothing that has come is lost by it."""
        self.reassemble = reassemble
        if not reassemble and self.partial is not None:
            self.ready(self.partial)
            self.partial, self.loose = None, True


class PiecesMachine(RuleBasedStateMachine):
    """One end that receives whatever Hypothesis likes, at one moment."""

    @initialize(retransmit=st.booleans(), peer=st.one_of(st.integers(0, WORD), st.integers(WORD - 40, WORD)))
    def begin(self, retransmit: bool, peer: int) -> None:
        self.peer, self.now = peer, 5_000_000_000
        self.end = Frcp(self.now, retransmit=retransmit, fragments=True, max_message=LARGEST)
        self.model = Pieces(retransmit)
        event("retransmits" if retransmit else "does not")

    def arrive(self, ahead: int, drf: bool, bits: Flag, payload: bytes, reader: bool) -> None:
        number = (self.model.want or 0) + ahead
        self.model.data(number, drf, bits, payload)
        flags = Flag.DATA | bits | (Flag.DRF if drf else Flag(0))
        packet = Header(flags, 0, (self.peer + number) & WORD, 0).encode(payload)
        got = self.end.receive(packet, self.now, reader=reader)
        if got is not None:
            assert got == self.model.whole.popleft()
        self.end.run(self.now)
        if len(self.model.whole) + len(self.model.held) >= MANY:
            self.read(MANY)

    @rule(
        ahead=st.one_of(st.just(0), st.integers(-3, 6), st.integers(-500, 40)),
        drf=st.booleans(),
        bits=st.sampled_from([WHOLE, FIRST, MIDDLE, LAST]),
        size=st.integers(0, 120),
        reader=st.booleans(),
    )
    def piece(self, ahead: int, drf: bool, bits: Flag, size: int, reader: bool) -> None:
        self.arrive(ahead, drf, bits, bytes((size + ahead + i) & 0xFF for i in range(size)), reader)

    @rule(pieces=st.integers(1, 6), size=st.integers(0, 40), lost=st.sets(st.integers(0, 5), max_size=1))
    def packet(self, pieces: int, size: int, lost: set[int]) -> None:
        """One as a sender cuts it, of which a fragment may be lost."""
        base = self.model.want or 0
        for i in range(pieces):
            bits = (WHOLE if i == 0 else LAST) ^ (Flag(0) if i == pieces - 1 else Flag.MFGM)
            if i not in lost:
                ahead = base + i - (self.model.want or 0)
                self.arrive(ahead, True, bits, bytes((i * 7 + j) & 0xFF for j in range(size)), False)

    @rule(ahead=st.integers(-3, 50), named=st.booleans())
    def rendez_vous(self, ahead: int, named: bool) -> None:
        """It carries its sender's progress, which is new information on a flow without retransmission."""
        if self.model.want is None:
            return
        number = self.model.want + ahead
        if named and not self.model.retransmit:
            self.model.skip(number)
        flags = Flag.RDV | Flag.DRF if named else Flag.RDV
        self.end.receive(
            Header(flags, 0, (self.peer + number) & WORD if named else 0, 0).encode(b""), self.now
        )
        self.end.run(self.now)

    @rule(count=st.integers(1, 9))
    def read(self, count: int) -> None:
        for _ in range(count):
            assert self.end.read(self.now) == (self.model.whole.popleft() if self.model.whole else None)
        self.end.run(self.now)

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        flags = FrctFlags(self.end.flags)
        self.end.flags = flags | FrctFlags.Reassemble if on else flags & ~FrctFlags.Reassemble
        self.model.switch(on)

    @rule(gap=st.integers(0, 2))
    def switched_in_the_middle(self, gap: int) -> None:
        """Data after a loss are not the rest of a packet that was read in pieces."""
        self.switch(False)
        self.arrive(0, True, FIRST, b"first", False)
        self.switch(True)
        self.arrive(gap, True, MIDDLE, b"middle", False)
        self.arrive(0, True, LAST, b"last", False)

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "end"):
            return
        c, model = self.end.c, self.model
        assert bool(c.rx.run) == (model.want is not None)
        if model.want is not None:
            assert c.rx.want == (self.peer + model.want) & WORD
        counted = c.counters.duplicate, c.counters.refused, c.counters.skipped
        assert counted == (model.duplicates, model.refused, model.skipped)
        assert c.rx.recvq.messages == len(model.whole)
        assert c.rx.recvq.early == len(model.held)
        if not model.whole and not model.held and model.partial is None:
            assert c.rx.recvq.octets == 0 and c.rx.recvq.unread == 0


PiecesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPieces = PiecesMachine.TestCase
