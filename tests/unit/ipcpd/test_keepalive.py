"""Keep-alives: when an empty packet is sent, when a neighbour counts as silent, when it is back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipcpd.common.keepalive import Act, KeepAlive, Traffic


class Flows:
    """Flows, and a clock that goes from deadline to deadline."""

    def __init__(self) -> None:
        self.now = 100.0
        self.traffic: dict[int, Traffic] = {}
        self.machine = KeepAlive(self.traffic.__getitem__)
        self.acts: list[tuple[float, int, Act]] = []

    def add(self, fd: int, timeout: float) -> None:
        self.traffic[fd] = Traffic(0, 0.0, 0.0)
        self.machine.watch(fd, timeout, self.now)

    def hear(self, fd: int) -> None:
        old = self.traffic[fd]
        self.traffic[fd] = Traffic(old.received + 1, self.now, old.sent_at)

    def say(self, fd: int) -> None:
        self.traffic[fd] = self.traffic[fd]._replace(sent_at=self.now)

    def run(self, seconds: float, *, can_send: bool = True) -> None:
        end = self.now + seconds
        while (due := self.machine.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            for fd, act in self.machine.timer(self.now):
                self.acts.append((round(self.now - 100, 6), fd, act))
                if act is Act.SEND and can_send:
                    self.say(fd)
        self.now = end

    def take(self, *kinds: Act) -> list[tuple[float, int, Act]]:
        taken, self.acts = [act for act in self.acts if not kinds or act[2] in kinds], []
        return taken


def test_no_time_out_no_timer() -> None:
    flows = Flows()
    flows.add(64, 0)
    assert flows.machine.deadline is None
    flows.add(64, 2.0)
    assert flows.machine.deadline == 100.5
    flows.machine.forget(64)
    assert flows.machine.deadline is None
    flows.machine.forget(64)


def test_an_empty_packet_when_nothing_was_sent_for_a_quarter() -> None:
    """The times that a prototype shows with a time-out of 2 s (spec/protection 5)."""
    flows = Flows()
    flows.add(64, 2.0)
    flows.run(1.6)
    assert flows.take() == [(0.5, 64, Act.SEND), (1.0, 64, Act.SEND), (1.5, 64, Act.SEND)]
    flows.say(64)
    flows.run(0.45)
    assert flows.take(Act.SEND) == []
    flows.run(0.1)
    assert flows.take(Act.SEND) == [(2.1, 64, Act.SEND)]


def test_a_neighbour_that_falls_silent_and_returns() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    for _ in range(30):
        flows.hear(64)
        flows.run(1.9)
    assert flows.take(Act.SILENT, Act.BACK) == []
    heard = flows.now - 1.9 - 100
    flows.run(10)
    ((when, _, act),) = flows.take(Act.SILENT, Act.BACK)
    assert act is Act.SILENT and abs(when - heard - 2.0) < 1e-6
    assert flows.machine.silent(64)
    flows.run(3)
    assert len(flows.take(Act.SEND)) == 6, "we go on, or both sides would wait for each other"
    flows.hear(64)
    flows.run(0.25)
    assert [act for _, _, act in flows.take(Act.SILENT, Act.BACK)] == [Act.BACK]
    assert not flows.machine.silent(64)


def test_what_came_before_it_was_watched_does_not_count() -> None:
    flows = Flows()
    flows.traffic[64] = Traffic(17, 50.0, 50.0)
    flows.machine.watch(64, 2.0, flows.now)
    flows.run(1.9)
    assert flows.take(Act.SILENT) == []
    flows.run(0.2)
    assert len(flows.take(Act.SILENT)) == 1


def test_a_flow_that_takes_nothing_does_not_spin() -> None:
    flows = Flows()
    flows.add(64, 1.0)
    flows.run(10, can_send=False)
    assert len(flows.take(Act.SEND)) == 40


def test_a_descriptor_that_is_used_again() -> None:
    flows = Flows()
    flows.add(64, 1.0)
    flows.run(2)
    assert flows.machine.silent(64)
    flows.machine.forget(64)
    flows.add(64, 4.0)
    flows.take()
    assert not flows.machine.silent(64) and flows.machine.deadline == flows.now + 1.0
    flows.run(0.9)
    assert flows.take() == []


def test_many_flows_have_one_deadline() -> None:
    flows = Flows()
    for fd in range(64, 1064):
        flows.add(fd, 1.0 + fd / 1000)
    flows.run(0.25 + 0.016)
    assert flows.take() == [(0.266, 64, Act.SEND)]
    flows.run(3.0)
    silent = {fd for _, fd, act in flows.take() if act is Act.SILENT}
    assert silent == set(range(64, 1064))


@given(
    st.floats(0.001, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans()), max_size=30),
)
def test_silence_is_never_missed_nor_invented(timeout: float, steps: list[tuple[float, bool, bool]]) -> None:
    flows = Flows()
    flows.add(64, timeout)
    heard = flows.now
    for share, hears, says in steps:
        flows.run(share * timeout)
        quiet = flows.now - heard
        if quiet < timeout * 0.999:
            assert not flows.machine.silent(64)
        if quiet > timeout * 1.001:
            assert flows.machine.silent(64)
        if hears:
            flows.hear(64)
            if flows.machine.silent(64):
                flows.run(timeout / 7)
                assert not flows.machine.silent(64)
                heard = flows.now - timeout / 7
            else:
                heard = flows.now
        if says:
            flows.say(64)
    assert flows.machine.deadline is not None


def test_who_comes_late_himself_does_not_judge_at_once() -> None:
    """Our process had no processor for a second, and what the neighbour sent has not got to us yet."""
    flows = Flows()
    flows.add(64, 2.0)
    flows.now += 3.0
    flows.run(0.1)
    assert flows.take(Act.SILENT) == []
    flows.hear(64)
    flows.run(1.9)
    assert flows.take(Act.SILENT) == []
    flows.run(0.2)
    assert len(flows.take(Act.SILENT)) == 1


def test_who_is_always_late_still_judges() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    for _ in range(5):
        flows.now += 3.0
        flows.run(0.0)
    assert len(flows.take(Act.SILENT)) == 1


def test_one_that_is_late_after_it_has_heard_the_neighbour_still_judges() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    flows.hear(64)
    for _ in range(5):
        flows.now += 3.0
        flows.run(0.0)
    assert len(flows.take(Act.SILENT)) == 1


def test_each_packet_restores_the_graces() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    for _ in range(4):
        for _ in range(3):
            flows.now += 3.0
            flows.run(0.0)
        assert flows.take(Act.SILENT) == []
        flows.hear(64)
        flows.run(0.6)


def test_a_timer_that_is_late_by_little_gives_no_grace() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    flows.run(1.9)
    flows.now += 0.1 + 0.2  # half of a part of the time-out is 0.25
    flows.run(0.0)
    assert len(flows.take(Act.SILENT)) == 1


def test_a_time_out_of_0_stops_the_watch() -> None:
    flows = Flows()
    flows.add(64, 2.0)
    flows.add(64, 0)
    assert flows.machine.deadline is None and not flows.machine.silent(64)
    flows.run(10.0)
    assert flows.take() == []
