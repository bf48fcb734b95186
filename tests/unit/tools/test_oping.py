"""oping: packet, schedule, statistics, and client and server over a fake flow."""

import json
import threading
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools import oping
from ouroboros_tools.oping import client, packet, server
from ouroboros_tools.oping.options import parse
from ouroboros_tools.oping.schedule import AHEAD_PAUSE_NS, MOST_AHEAD, ZERO_INTERVAL_NS, Schedule
from ouroboros_tools.oping.statistics import Statistics

from ouroboros.errors import FlowDownException
from ouroboros.wire import MalformedPacket
from tests.unit.tools.fakes import FakeFlow, in_thread, pair

_S = 1_000_000_000

# ---------------------------------------------------------------- packet


@given(
    st.sampled_from(packet.Kind),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 1 << 63),
    st.integers(64, 1500),
)
def test_decode_undoes_encode(kind: packet.Kind, number: int, sent_ns: int, size: int) -> None:
    encoded = packet.encode(kind, number, sent_ns, size)
    assert len(encoded) == size
    assert packet.decode(encoded) == (kind, number, sent_ns)


def test_type_and_id_are_in_network_order() -> None:
    assert packet.encode(packet.Kind.REPLY, 0x01020304, 0, 64)[:8] == bytes([0, 0, 0, 1, 1, 2, 3, 4])


@given(st.binary(max_size=100))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    try:
        packet.decode(data)
    except MalformedPacket:
        pass


def test_a_reply_changes_the_type_word_only() -> None:
    request = packet.encode(packet.Kind.REQUEST, 7, 123, 100)
    reply = packet.reply_to(request)
    assert reply[4:] == request[4:]
    with pytest.raises(MalformedPacket):
        packet.reply_to(reply)


# ---------------------------------------------------------------- schedule


def test_paced_packets_leave_one_interval_after_the_start() -> None:
    schedule = Schedule(interval=_S, count=2, flood=False, start=100)
    assert schedule.send_at == 100 + _S
    schedule.sent(100 + _S + 5000)
    schedule.replied(0, 100 + _S + 6000)
    assert schedule.send_at == 100 + 2 * _S
    schedule.sent(100 + 2 * _S)
    assert schedule.all_sent
    assert schedule.wake_at == schedule.give_up_at == 100 + _S + 6000 + 3 * _S


def test_a_flood_sends_when_the_reply_is_there_or_an_interval_later() -> None:
    schedule = Schedule(interval=_S, count=None, flood=True, start=0)
    assert schedule.send_at == 0
    schedule.sent(10)
    assert schedule.send_at == 10 + _S
    schedule.replied(0, 500)
    assert schedule.send_at == 500


def test_interval_0_does_not_wait_for_replies() -> None:
    schedule = Schedule(interval=0, count=None, flood=False, start=0)
    schedule.sent(0)
    assert 0 < schedule.send_at < _S // 1000


def test_no_more_packets_are_ahead_of_the_replies_than_the_queues_hold() -> None:
    schedule = Schedule(interval=0, count=None, flood=False, start=0)
    now = 0
    for _ in range(MOST_AHEAD):
        now = schedule.send_at
        schedule.sent(now)
    assert schedule.send_at == now + AHEAD_PAUSE_NS  # as with ping, 100 packets/s go out without any reply
    schedule.replied(MOST_AHEAD - 2, now + 5)  # those before it are late, or lost
    assert schedule.send_at == now + 5
    schedule.sent(now + 5)
    assert schedule.send_at == now + 5 + ZERO_INTERVAL_NS


def test_finish_ends_the_sending() -> None:
    schedule = Schedule(interval=_S, count=None, flood=True, start=0)
    schedule.sent(0)
    assert not schedule.all_sent
    schedule.finish()
    assert schedule.all_sent


# ---------------------------------------------------------------- statistics


def test_the_lines_of_listing_14() -> None:
    statistics = Statistics("oping", 64)
    lines = []
    for number, rtt in enumerate((1166, 1083, 1158, 1136)):
        statistics.transmitted += 1
        lines.append(statistics.reply(number, rtt * 1000))
    assert lines[0] == "64 bytes from oping: seq=0 time=1.166 ms"
    assert statistics.render(4002018000).splitlines() == [
        "",
        "--- oping ping statistics ---",
        "4 packets transmitted, 4 received, 0 out-of-order, 0% packet loss, time: 4002.018 ms",
        "rtt min/avg/max/mdev = 1.083/1.136/1.166/0.037 ms",
    ]


def test_no_reply_no_rtt_line() -> None:
    statistics = Statistics("oping", 64)
    statistics.transmitted = 3
    assert statistics.render(_S).splitlines()[2:] == [
        "3 packets transmitted, 0 received, 0 out-of-order, 100% packet loss, time: 1000.000 ms"
    ]
    assert statistics.to_json(_S)["rtt_ms"] is None


def test_what_was_sent_again_is_told() -> None:
    statistics = Statistics("oping", 64)
    assert statistics.to_json(_S)["resent"] is None
    for resent in (0, 3):
        statistics.resent = resent
        assert statistics.to_json(_S)["resent"] == resent
        assert statistics.render(_S).endswith("\n3 packets sent again") == bool(resent)


def test_one_reply_has_a_deviation_of_0() -> None:
    statistics = Statistics("oping", 64)
    statistics.transmitted = 1
    statistics.reply(0, 1000)
    assert statistics.render(_S).endswith("= 0.001/0.001/0.001/0.000 ms")


def test_late_double_and_impossible_replies() -> None:
    statistics = Statistics("oping", 64)
    statistics.transmitted = 3
    statistics.reply(1, 1000)
    assert str(statistics.reply(0, 1000)).endswith(" ms [out-of-order]")
    assert str(statistics.reply(0, 1000)).endswith(" ms [duplicate]")
    assert statistics.reply(3, 1000) is None
    assert statistics.reply(0xFFFFFFFF, 1000) is None
    assert statistics.received == 2


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("-d 5s", 5),
        ("-d 5s -i 100", 50),
        ("-d 100 -i 0", 1000),
        ("-d 1 -i 10", 1),
        ("-c 3 -d 5s", 3),
        ("", None),
    ],
)
def test_a_duration_sets_the_count(words: str, count: int | None) -> None:
    assert parse(["-n", "x", *words.split()]).count == count


def test_a_client_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert oping.main([]) == 2
    assert capsys.readouterr().err.startswith("No server specified.\nusage: oping")


@pytest.mark.parametrize("words", ["-n x -c 0", "-n x -c abc", "-n x -i 5x", "--what", "-n"])
def test_a_wrong_option_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert oping.main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("oping: ") and error.count("\n") == 1


# ---------------------------------------------------------------- over a flow


def run_client(flow: FakeFlow, *words: str) -> int:
    with flow:
        return client.Pinger(flow, parse(["-n", "oping", *words])).run()  # type: ignore[arg-type]


def serve(flow: FakeFlow) -> None:
    try:
        while True:
            server.answer(flow, quiet=True)  # type: ignore[arg-type]
    except OSError:
        return


@pytest.mark.parametrize(
    "words", ["-c 20 -i 1", "-c 200 -i 0", "-c 200 -f", "-c 200 -F", "-d 20 -f", "-c 3 -i 1 -s 1500"]
)
def test_ping(words: str, fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    in_thread(serve, far)
    assert run_client(near, *words.split(), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["received"] == result["transmitted"] > 0
    assert result["rtt_ms"]["min"] <= result["rtt_ms"]["p50"] <= result["rtt_ms"]["max"]


def test_a_full_queue_is_tried_again(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair(depth=1)
    in_thread(serve, far)
    assert run_client(near, "-c", "100", "-i", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["transmitted"] == 100


def test_output_of_a_run(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    in_thread(serve, far)
    assert run_client(near, "-c", "2", "-i", "1", "-D") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Pinging oping with 64 bytes of data (2 packets):", ""]
    assert lines[2].startswith("[") and "] 64 bytes from oping: seq=0 time=" in lines[2]
    assert lines[4:6] == ["", "--- oping ping statistics ---"]


def test_replies_that_wait_count_however_late_the_client_looks(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped with Ctrl-Z, or without a core: its patience is at an end when it looks, and everything is there."""
    monkeypatch.setattr("ouroboros_tools.oping.schedule.REPLY_TIMEOUT_NS", -10 * _S)
    near, far = pair()

    def write(request: bytes) -> int:
        sent = near.writev([request])
        server.answer(far, quiet=True)  # type: ignore[arg-type]
        return sent

    monkeypatch.setattr(near, "write", write)
    assert run_client(near, "-c", "5", "-i", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["received"] == 5


def test_lost_replies_time_out(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ouroboros_tools.oping.schedule.REPLY_TIMEOUT_NS", 10_000_000)
    near, far = pair()
    far.lost = {3, 4}
    in_thread(serve, far)
    assert run_client(near, "-c", "5", "-i", "1", "-Q") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Server timed out."
    assert "5 packets transmitted, 3 received, 0 out-of-order, 40% packet loss" in lines[3]


def test_a_flow_that_goes_down_still_gives_statistics(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = pair()
    far.dealloc()
    assert run_client(near, "-c", "5", "-i", "1") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("oping: the flow to oping ended: ")
    assert "0 packets transmitted" in captured.out


class Interrupted(FakeFlow):
    """A flow whose link goes down with its third packet, and is up again after so many looks."""

    looks = 8

    @property
    def link_down(self) -> bool:  # type: ignore[override]
        self.looks -= self.written >= 3
        return self.written >= 3 and self.looks > 0

    def writev(self, packets: list[bytes]) -> int:
        if self.written >= 3 and self.looks > 0:
            raise FlowDownException(text="its link is down")
        return super().writev(packets)

    def readv(self, most: int) -> list[bytes]:
        if self.written >= 3 and self.looks > 0:
            raise FlowDownException(text="its link is down")
        return super().readv(most)


@pytest.mark.parametrize("how", ["-i 1", "-f", "-i 0"])
def test_a_link_that_was_down_is_told_and_the_client_goes_on(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("ouroboros_tools.oping.schedule.REPLY_TIMEOUT_NS", 500_000_000)
    near, far = pair()
    flow = Interrupted(near.fd, near.rx, near.tx)
    in_thread(serve, far)
    assert run_client(flow, "-c", "30", *how.split(), "-Q", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("The link to oping is down.\nThe link to oping is up again.\n")
    result = json.loads(captured.out)
    assert result["transmitted"] == 30 and 20 <= result["received"] <= 30


def test_a_link_that_stays_down_ends_a_count(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ouroboros_tools.oping.schedule.REPLY_TIMEOUT_NS", 10_000_000)
    near, far = pair()
    flow = Interrupted(near.fd, near.rx, near.tx)
    flow.looks = 1 << 30
    in_thread(serve, far)
    assert run_client(flow, "-c", "10", "-i", "1", "-Q") == 0
    captured = capsys.readouterr()
    assert captured.err == "The link to oping is down.\n"
    assert "10 packets transmitted" in captured.out and "has left" not in captured.out


def test_a_server_keeps_a_flow_whose_link_is_down(fake_dev: ModuleType) -> None:
    near, _ = pair()
    flow = Interrupted(near.fd, near.rx, near.tx)
    flow.written, flow.looks = 3, 1 << 30
    served = server.EventServer.__new__(server.EventServer)
    served._quiet, served._lock, served._active = True, threading.Lock(), {flow: 0.0}
    served._answer(flow)
    served._went_down(flow)
    served._end_idle_flows()
    assert flow in served._active
    flow.looks = 0
    served._set = SimpleNamespace(remove=lambda flow: None)  # type: ignore[assignment]
    served._went_down(flow)
    assert not served._active


def test_strange_packets_are_named(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    far.writev([b"x", packet.encode(packet.Kind.REPLY, 9, client.time.monotonic_ns() + _S * 3600, 64)])
    in_thread(serve, far)
    run_client(near, "-c", "1", "-i", "1", "-Q")
    assert capsys.readouterr().err == "Invalid message on fd 64.\n" * 2


def test_flows_that_are_silent_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that only comes keeps no descriptor of the server for longer than that."""

    class Silent:
        link_down = False

        def __init__(self, fd: int) -> None:
            self.fd = fd
            self.ended = False

        def dealloc(self, timeo: float | None = None) -> None:
            self.ended = True

    events = object.__new__(server.EventServer)
    events._lock = threading.Lock()
    events._set = set()  # type: ignore[assignment]
    old, young = Silent(64), Silent(65)
    events._set |= {old, young}  # type: ignore[operator]
    events._active = {old: 100.0, young: 100.0 + server.IDLE_S}  # type: ignore[dict-item]
    monkeypatch.setattr(server.time, "monotonic", lambda: 101.0 + server.IDLE_S)
    events._end_idle_flows()
    assert (old.ended, young.ended) == (True, False)
    assert list(events._active) == [young]
    assert capsys.readouterr().out == "Flow 64 timed out.\n"
