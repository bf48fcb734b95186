"""Paths in C, over the frames of an eth-dix IPCP: marks, reports, the pace, and flows that wait (spec/path)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from ipcpd.dataplane.sample import decode_report
from ipcpd.wire import dix
from ipcpd.wire.dix import Frame
from irmd.memory import Memory
from tests.unit.ipcpd.eth.test_frames import ME, PEER, STRANGER, Link

MESSAGE = struct.Struct(">BBHIQQQQQ")
PATH = 1
MARK, REPORT = 1, 2
MS = 1_000_000
FRAME = 18


class PathLink(Link):
    """A link with one connected flow to PEER, whose path is measured."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory)
        self.samples: list[bytes] = []
        self.punt.component(1, 1 << 16, lambda _fd, record: self.samples.append(record))
        self.step()  # from now on the time is that of the test
        self.fd, self.end = self.flow(64, 70)

    def measure(self) -> int:
        path = self.eth.paths.measure(PEER)
        assert path is not None
        return path

    def pace(self, rate: int, window: int = 0, spacing: float = 0.001) -> None:
        assert self.eth.paths.set(self.measure(), rate, window, spacing, self.now / 1e9)

    def after(self, ms: float) -> None:
        self.now += int(ms * MS)
        self.step(times=2)

    def messages(self) -> list[tuple[int, ...]]:
        """Marks and reports that were sent."""
        return [MESSAGE.unpack(dix.decode(frame).payload) for frame in self.sent(2)]

    def mark(self) -> tuple[int, ...]:
        """Send a packet, and take the mark behind it."""
        self.end.write(b"data")
        self.after(2)
        (mark,) = self.messages()
        self.sent()
        return mark

    def receive(self, message: bytes, source: bytes = PEER) -> None:
        self.step(dix.encode(Frame(ME, source, PATH, message)))

    def report(self, mark: tuple[int, ...], *, packets: int, octets: int = 200, instance: int = 7) -> None:
        self.receive(MESSAGE.pack(1, REPORT, 0, instance, mark[4], 5, packets, octets, mark[5]))

    @property
    def counters(self) -> dict[str, int]:
        (state,) = self.eth.paths.states(10)
        return state.counters


@pytest.fixture
def link(memory: Memory) -> Iterator[PathLink]:
    link = PathLink(memory)
    yield link
    link.close()


def test_a_neighbour_that_agreed_on_nothing_gets_nothing_new(link: PathLink) -> None:
    for _ in range(50):
        link.end.write(bytes(1000))
        link.after(10)
    assert link.messages() == []
    link.receive(MESSAGE.pack(1, MARK, 0, 0, 9, 1, 1, 1, 0))
    assert link.dropped == {"endpoint": 1}
    assert link.messages() == []


def test_a_path_without_a_pace_sends_no_marks_and_answers_them(link: PathLink) -> None:
    link.measure()
    link.end.write(bytes(1000))
    link.after(10)
    assert link.messages() == []
    link.receive(dix_data())
    link.receive(MESSAGE.pack(1, MARK, 0, 0, 9, 77, 2, 200, 0))
    ((version, kind, _, instance, nonce, _, packets, octets, echo),) = link.messages()
    assert (version, kind, nonce, packets, echo) == (1, REPORT, 9, 2, 77)
    assert instance != 0
    assert octets == (4 + FRAME) + (MESSAGE.size + FRAME)


def dix_data() -> bytes:
    return MESSAGE.pack(1, 99, 0, 0, 0, 0, 0, 0, 0)[:4]


def test_a_mark_says_what_was_sent_and_its_report_becomes_a_sample(link: PathLink) -> None:
    link.pace(0, spacing=0.001)
    mark = link.mark()
    assert (mark[1], mark[6], mark[7]) == (MARK, 2, (4 + FRAME) + (MESSAGE.size + FRAME))
    link.now += 20 * MS
    link.report(mark, packets=2, octets=mark[7])
    (sample,) = map(decode_report, link.samples)
    assert sample.now - sample.marked == pytest.approx(0.02, abs=0.003)
    assert (sample.sent_packets, sample.arrived_packets) == (2, 2)


def test_reports_that_are_forged_replayed_or_reversed_are_refused(link: PathLink) -> None:
    link.pace(0, spacing=0.001)
    first = link.mark()
    link.end.write(bytes(9000 // 9))
    second = link.mark()
    link.report((1, MARK, 0, 0, first[4] ^ 1, *first[5:]), packets=2)  # a nonce of no mark
    link.report((*first[:5], first[5] + 1, *first[6:]), packets=2)  # a time that the mark did not have
    assert (link.counters["refused_report"], link.samples) == (2, [])
    link.after(10)
    link.report(second, packets=second[6])
    link.report(second, packets=second[6])  # replayed
    assert link.counters["refused_report"] == 3
    link.report(first, packets=first[6])  # overtaken: no news
    assert len(link.samples) == 1


def test_absurd_reports_are_refused(link: PathLink) -> None:
    link.pace(0, spacing=0.001)
    link.report(link.mark(), packets=2)
    for packets in (1 << 40, 2**64 - 1):
        link.after(10)
        link.end.write(bytes(1400))
        link.end.write(bytes(1400))
        for _ in range(6):
            link.end.write(bytes(1400))
        link.report(link.mark(), packets=packets)
    assert link.counters["absurd_report"] == 2
    assert len(link.samples) == 1


def test_malformed_messages_and_those_of_strangers_are_dropped(link: PathLink) -> None:
    link.measure()
    for message in (b"", bytes(47), bytes(49), bytes(48), MESSAGE.pack(1, 3, *[0] * 7)):
        link.receive(message)
    assert link.counters["refused_mark"] == 5
    link.receive(MESSAGE.pack(1, MARK, *[0] * 7), STRANGER)
    assert link.dropped == {"endpoint": 1}
    assert link.messages() == []
    assert len(link.eth.paths.states(10)) == 1


def test_marks_that_come_too_often_are_not_answered(link: PathLink) -> None:
    link.measure()
    for nonce in range(10):
        link.receive(MESSAGE.pack(1, MARK, 0, 0, nonce, 1, 1, 1, 0))
    assert len(link.messages()) == 1
    assert link.counters["refused_mark"] == 9


def test_marks_are_less_than_a_hundredth_of_what_is_carried(link: PathLink) -> None:
    link.pace(0, spacing=0.0001)
    for _ in range(300):
        link.end.write(bytes(1400))
        link.after(1)
    counters = link.counters
    assert 10 < counters["marks"]
    assert (counters["marks"] - 3) * (MESSAGE.size + FRAME) < counters["sent_octets"] / 100


def test_an_idle_path_sends_nothing(link: PathLink) -> None:
    link.pace(0, spacing=0.001)
    link.mark()
    for _ in range(50):
        link.after(100)
    assert link.messages() == []


def test_a_rate_set_by_hand_holds_for_a_prototype_too(link: PathLink) -> None:
    link.eth.paths.rate(125_000)
    for _ in range(100):
        link.end.write(bytes(982))
    link.step()
    for _ in range(400):
        link.after(1)
    assert 45 <= len(link.sent()) <= 60  # 125 octets in a ms
    assert link.messages() == []
    link.eth.paths.rate(0)
    link.after(1)
    assert len(link.sent()) >= 40


def test_a_shut_window_opens_with_a_report(link: PathLink) -> None:
    link.pace(0, window=6_000, spacing=0.001)
    for _ in range(20):
        link.end.write(bytes(982))
    for _ in range(10):
        link.after(1)
    sent = len(link.sent())
    assert 5 <= sent <= 8
    marks = [message for message in link.messages() if message[1] == MARK]
    link.report(marks[-1], packets=marks[-1][6])
    link.after(1)
    assert len(link.sent()) >= 5


def test_silence_is_told_once_a_second(link: PathLink) -> None:
    link.pace(0, window=3_000, spacing=0.001)
    for _ in range(20):
        link.end.write(bytes(982))
    for _ in range(60):
        link.after(100)
    silent = [sample for sample in map(decode_report, link.samples) if sample.silent_ms]
    assert 1 <= len(silent) <= 4
    assert silent[0].silent_ms >= 3000


def test_flows_of_a_cube_share_by_octets(link: PathLink) -> None:
    link.pace(250_000)
    _, small = link.flow(65, 71)
    for _ in range(300):
        link.end.write(bytes(1382))
    for _ in range(300):
        small.write(bytes(182))
    octets = {70: 0, 71: 0}
    for _ in range(400):
        link.after(1)
        for frame in link.sent():
            decoded = dix.decode(frame)
            octets[decoded.eid] += len(frame)
    assert 0.8 <= octets[70] / octets[71] <= 1.25


def test_voice_passes_bulk(link: PathLink) -> None:
    link.pace(12_500)
    _, voice = link.flow(65, 71, cube=2)
    for _ in range(100):
        link.end.write(bytes(1382))
    link.after(1)
    link.sent()
    voice.write(b"voice")
    link.after(130)
    assert any(dix.decode(frame).payload == b"voice" for frame in link.sent(2))


def test_a_path_ends_with_its_last_flow(link: PathLink) -> None:
    path = link.measure()
    link.relay.remove(link.fd)
    assert link.eth.paths.states(10) == []
    assert link.eth.paths.measure(PEER) is None
    assert not link.eth.paths.set(path, 1, 1, 1, 1)
