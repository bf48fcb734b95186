"""The timer wheel: against a model in any order, and with ten thousand timers."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ouroboros.dataplane._dataplane import ffi, lib

SLOT = 1 << 20
TIMERS = 12
NEVER = int(lib.NEVER)
SPANS = st.one_of(
    st.integers(-SLOT, 3 * SLOT),
    st.integers(0, 200_000_000),
    st.integers(0, 200_000_000_000),
    st.integers(0, 40_000_000_000_000),
    st.integers(0, 62).map(lambda bits: 1 << bits),
)


class WheelMachine(RuleBasedStateMachine):
    """Timers fire once each, never early, and late by less than a slot and the step of the clock."""

    @initialize(now=st.integers(0, 1 << 50))
    def begin(self, now: int) -> None:
        self.now = now
        self.wheel = ffi.new("struct wheel *")
        lib.wheel_init(self.wheel, now)
        self.timers = [ffi.new("struct wheel_timer *") for _ in range(TIMERS)]
        self.due: dict[int, int] = {}
        self.set_at: dict[int, int] = {}

    @rule(which=st.integers(0, TIMERS - 1), span=SPANS)
    def set(self, which: int, span: int) -> None:
        due = min(max(self.now + span, 0), NEVER - 1)
        lib.wheel_set(self.wheel, self.timers[which], due)
        self.due[which] = due
        self.set_at[which] = self.now

    @rule(which=st.integers(0, TIMERS - 1))
    def cancel(self, which: int) -> None:
        lib.wheel_cancel(self.wheel, self.timers[which])
        self.due.pop(which, None)

    @rule(span=SPANS, again=st.booleans())
    def advance(self, span: int, again: bool) -> None:
        self.now = min(self.now + max(span, 0), 1 << 62)
        while (timer := lib.wheel_expire(self.wheel, self.now)) != ffi.NULL:
            which = self.timers.index(timer)
            assert self.due.pop(which) <= self.now
            if again and which % 2:
                self.set(which, -5)  # whatever is set while it expires does not expire now
        # One that was set for a time that had passed fires with the next slot, and not in this turn.
        late = [w for w, due in self.due.items() if max(due, self.set_at[w] + SLOT) + SLOT <= self.now]
        assert not late

    @rule()
    def sleep_until_the_deadline(self) -> None:
        deadline = lib.wheel_deadline(self.wheel)
        if deadline != NEVER and deadline < 1 << 62:
            self.advance(int(deadline) - self.now, False)

    @invariant()
    def the_deadline_is_not_too_late(self) -> None:
        deadline = lib.wheel_deadline(self.wheel)
        if self.due:
            assert deadline <= max(min(self.due.values()), self.now) + 2 * SLOT
        else:
            assert deadline == NEVER

    @invariant()
    def timers_know_whether_they_are_set(self) -> None:
        assert [w for w in range(TIMERS) if lib.wheel_is_set(self.timers[w])] == sorted(self.due)


TestWheel = WheelMachine.TestCase


def test_ten_thousand_timers() -> None:
    """Each fires at its time, moved or not; nothing is looked at that is not due."""
    random = Random(1)
    now = 77 * SLOT
    wheel = ffi.new("struct wheel *")
    lib.wheel_init(wheel, now)
    timers = ffi.new("struct wheel_timer[10000]")
    due: dict[Any, int] = {}
    for turn in range(3):
        for i in range(len(timers)):
            due[i] = now + random.randrange(130_000_000_000)
            lib.wheel_set(wheel, timers + i, due[i])
        for i in random.sample(range(len(timers)), 3000) if turn == 2 else ():
            lib.wheel_cancel(wheel, timers + i)
            del due[i]
    sleeps = 0
    while (deadline := lib.wheel_deadline(wheel)) != NEVER:
        now = max(now, deadline)
        sleeps += 1
        while (timer := lib.wheel_expire(wheel, now)) != ffi.NULL:
            when = due.pop(timer - timers)
            assert when <= now < when + 2 * SLOT
    assert not due
    assert (
        sleeps < 7000 + 130_000_000_000 // SLOT // 64 * 2
    )  # a wake-up for each, and for each slot of the higher levels
