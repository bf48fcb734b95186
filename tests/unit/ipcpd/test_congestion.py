"""Multi-bit ECN in C against a transcription of the specification (spec/congestion 2, 3)."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from .relays import ffi, lib

LEAST, MOST = 10, 36
"""Bounds of the slot's exponent that are ours: the specification has none."""


@dataclass
class Sender:
    """In the letters of the specification."""

    m: int
    S: int
    L: int = 65536
    I: int = 65536  # noqa: E741
    B: int = 0
    P: int = 0
    E: int = 0
    C: int = 0
    CA: bool = False

    def send(self, length: int, now: int) -> int:
        s = now >> self.m
        self.C += 1
        self.P += 1
        self.B += length
        if self.C > 32:
            self.E = 0
        if s > self.S:
            self.S = s
            self._slot()
        return min(max(((self.S + 1) << self.m) - now, 0), 10**9) if self.B > self.L else 0

    def _slot(self) -> None:
        if not self.CA:
            if self.B > self.L:
                self.L *= 2
        elif self.E:
            self.L -= (self.L * self.E) >> 13
        else:
            self.L = self.B + self.I
        carry = False
        if self.P < 8:
            f = min(next(f for f in range(4) if self.P << f >= 8), max(MOST - self.m, 0))
            self.m += f
            self.S >>= f
            if f and self.S & ((1 << f) - 1) == 0:
                self.S += 1
                carry = True
            self.L <<= f
            self.I <<= f
        elif self.P > 64:
            f = min(next(f for f in range(64) if self.P >> f <= 64), self.m - LEAST - 1)
            self.m -= f
            self.S <<= f
            self.L >>= f
            self.I >>= f
        if not carry:
            self.B = self.P = 0


@given(
    start=st.integers(0, 1 << 50),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 9000), st.integers(0, 1 << 26), st.integers(1, 200)),
            st.tuples(st.just("update"), st.integers(0, 8191), st.just(0), st.just(1)),
        ),
        max_size=30,
    ),
)
def test_the_sender_does_what_the_specification_says(
    start: int, steps: list[tuple[str, int, int, int]]
) -> None:
    state, model, now = ffi.new("struct congestion *"), None, start
    for what, value, gap, times in steps:
        for _ in range(times):
            now += gap // times
            if what == "send":
                model = model or Sender(24, now >> 24)
                assert lib.congestion_send(state, value, now) == model.send(value, now)
                assert (state.exponent, state.slot, state.limit, state.octets, state.packets) == (
                    model.m,
                    model.S,
                    model.L,
                    model.B,
                    model.P,
                )
            elif model is not None:
                lib.congestion_update(state, value)
                model.E, model.C, model.CA = value, 0, True


def test_a_level_seen_on_a_running_prototype() -> None:
    """Steady marking converges to 32 times the mark; updates are sent for the 1st, 3rd, 11th, ... marked packet."""
    state = ffi.new("struct congestion *")
    updates = [n for n in range(1, 1000) if lib.congestion_receive(state, 4)]
    assert updates[:4] == [1, 3, 11, 19]
    assert state.seen in range(32 * 4 - 4, 32 * 4 + 1)
    levels = []
    while state.seen:
        levels.append((lib.congestion_receive(state, 0), state.seen))
    assert [sent for sent, _ in levels] == [False] * (len(levels) - 1) + [True]


def test_marks_cannot_overflow() -> None:
    state = ffi.new("struct congestion *")
    for _ in range(100_000):
        lib.congestion_receive(state, 255)
    assert state.seen <= 255 * 32


def test_no_update_turns_a_limit_round() -> None:
    state = ffi.new("struct congestion *")
    now = 1 << 40
    for _ in range(200):
        lib.congestion_update(state, 0xFFFF)
        lib.congestion_send(state, 1000, now)
        now += 1 << 25
        assert state.limit < 1 << 30
