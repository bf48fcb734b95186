"""operf: codecs, counting, printing, and client and server over a fake flow."""

import json
import threading
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ouroboros_tools import operf
from ouroboros_tools.operf import wire
from ouroboros_tools.operf.client import Client
from ouroboros_tools.operf.options import parse
from ouroboros_tools.operf.progress import Progress
from ouroboros_tools.operf.results import Results
from ouroboros_tools.operf.server import Test as ServedTest
from ouroboros_tools.operf.tally import Tally

from ouroboros.wire import MalformedPacket
from tests.unit.tools.fakes import FakeFlow, in_thread, pair

_u64 = st.integers(0, (1 << 64) - 1)

# ---------------------------------------------------------------- wire


@given(st.sampled_from(wire.Type), _u64, _u64, st.integers(64, 2000))
def test_decode_undoes_encode(kind: wire.Type, number: int, time_ns: int, size: int) -> None:
    packet = wire.encode(kind, number, time_ns, size=size)
    assert len(packet) == size
    assert wire.decode(packet) == (kind, number, time_ns)


@given(st.builds(wire.Report, _u64, _u64, _u64, _u64, _u64))
def test_decode_report_undoes_encode_report(report: wire.Report) -> None:
    assert wire.decode_report(wire.encode_report(report)) == report


@pytest.mark.parametrize("kind", wire.Kind)
def test_decode_kind_undoes_encode_kind(kind: wire.Kind) -> None:
    assert wire.decode_kind(wire.encode_kind(kind)) is kind


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in (wire.decode, wire.decode_kind, wire.decode_report):
        try:
            decode(data)
        except MalformedPacket:
            pass


def test_an_echo_keeps_number_and_time() -> None:
    packet = wire.encode(wire.Type.DATA, 7, 8, size=100)
    assert wire.decode(wire.echo_of(packet)) == (wire.Type.ECHO, 7, 8)


# ---------------------------------------------------------------- tally


def data(*numbers: int) -> list[bytes]:
    return [wire.encode(wire.Type.DATA, number) for number in numbers]


def test_tally_counts_each_number_once() -> None:
    tally = Tally(wire.Type.DATA)
    tally.take(data(0, 1, 3), 1000)
    tally.take(data(2, 3, 4), 5000)
    assert tally.report() == wire.Report(
        packets=5, octets=5 * 64, out_of_order=1, duplicates=1, elapsed_ns=4000
    )


def test_tally_returns_what_is_not_its_own() -> None:
    tally = Tally(wire.Type.DATA)
    end = wire.encode(wire.Type.END, 1)
    assert tally.take([*data(0), end, b"", b"abcd"], 1) == [end, b"", b"abcd"]
    assert tally.report().packets == 1


# ---------------------------------------------------------------- results


def results(kind: wire.Kind) -> Results:
    measured = Results("perf", kind, 100)
    measured.packets, measured.octets, measured.elapsed_ns = 1000, 100_000, 1_000_000_000
    return measured


def test_text_of_a_unidirectional_test() -> None:
    measured = results(wire.Kind.UNIDIRECTIONAL)
    measured.report = wire.Report(999, 99_900, 2, 1, 500_000_000)
    assert measured.render().splitlines() == [
        "--- perf perf statistics ---",
        "1000 packets transmitted, 999 received, 1% packet loss, time: 1000.000 ms, bandwidth: 1.598 Mb/s.",
        "sender:   1000 packets (100000 bytes) in 1000.000 ms, 1000 packets/s, 0.800 Mb/s",
        "receiver: 999 packets (99900 bytes) in 500.000 ms, 1998 packets/s, 1.598 Mb/s, "
        "2 out-of-order, 1 duplicates",
    ]


def test_text_of_a_bidirectional_test() -> None:
    measured = results(wire.Kind.BIDIRECTIONAL)
    measured.report = measured.echoes = wire.Report(1000, 100_000, 0, 0, 1_000_000_000)
    for rtt in range(1, 1001):
        measured.rtt.add(rtt * 1000)
    text = measured.render()
    assert "rtt p50/p90/p99/p99.9/max = " in text
    assert text.endswith("/1.000 ms")
    assert measured.to_json()["loss_percent"] == 0


def test_without_a_report_nothing_is_claimed() -> None:
    measured = results(wire.Kind.UNIDIRECTIONAL)
    assert "no report received" in measured.render()
    assert measured.to_json()["receiver"] is None
    assert measured.to_json()["lost"] is None


def test_progress_prints_what_came_since_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(enabled=True, start=0)
    assert progress.next_at == 1_000_000_000
    progress.tick(1_000_000_000, 10, 1000)
    progress.tick(4_500_000_000, 45, 4500)
    assert capsys.readouterr().out.splitlines() == [
        "[   1.0 s] 10 packets/s, 0.008 Mb/s",
        "[   4.5 s] 10 packets/s, 0.008 Mb/s",
    ]
    assert progress.next_at == 5_000_000_000


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("words", ["-t tri", "-s 63", "-s 2M", "-r 0", "-d 0", "--burst 0", "--sleep --spin"])
def test_a_wrong_option_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert operf.main(["-n", "x", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("operf: ") and error.count("\n") == 1


# ---------------------------------------------------------------- over a flow


def serve(flow: FakeFlow) -> None:
    with flow:
        ServedTest(flow, as_json=False).run()  # type: ignore[arg-type]


def run(near: FakeFlow, far: FakeFlow, words: str) -> int:
    server = in_thread(serve, far)
    with near:
        code = Client(near, parse(["-n", "perf", *words.split()])).run()  # type: ignore[arg-type]
    server.join()
    return code


@pytest.mark.parametrize(
    "words",
    [
        "-t uni -d 50 -f",
        "-t uni -d 50 -f --burst 1",
        "-t uni -d 50 -r 10M --sleep",
        "-t uni -d 50 -r 10M",
        "-t bi -d 50 -f",
        "-t bi -d 50 -f --burst 1",
        "-t bi -d 50 -r 10M --sleep",
        "-t bi -d 50 -r 10M",
    ],
)
def test_both_ends_agree(words: str, fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    assert run(near, far, words + " --json -s 200") == 0
    output = capsys.readouterr().out.splitlines()
    result = json.loads(output[-2] if output[-1].startswith("Flow") else output[-1])
    assert result["sender"]["packets"] == result["receiver"]["packets"] > 0
    assert result["lost"] == 0
    assert (result["rtt_ms"] is not None) == ("bi" in words)


def test_loss_is_seen(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    near.lost = {5, 6, 7}
    assert run(near, far, "-d 50 -r 10M --json") == 0
    result = next(json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    assert result["lost"] == 3
    assert result["receiver"]["out_of_order"] == 0


def test_a_lost_announcement_is_repeated(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ouroboros_tools.operf.client._RETRY_S", 0.01)
    near, far = pair()
    near.lost = {0}
    far.lost = {0}
    assert run(near, far, "-d 20 -f --json") == 0


def test_a_server_that_is_none_is_named(
    fake_dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ouroboros_tools.operf.client._RETRY_S", 0.001)
    near, _ = pair()
    fake_dev.flow_alloc = lambda *_, **__: near  # type: ignore[attr-defined]
    assert operf.main(["-n", "perf", "-d", "20"]) == 1
    assert '"perf" does not answer as an operf server' in capsys.readouterr().err


def test_a_packet_too_large_for_the_flow_is_an_error(
    fake_dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    near, _ = pair()
    fake_dev.flow_alloc = lambda *_, **__: near  # type: ignore[attr-defined]
    assert operf.main(["-n", "perf", "-s", "1M"]) == 1
    assert capsys.readouterr().err == (
        "operf: a packet of 1048576 bytes is larger than this flow carries (65000); use --size 65000 or less\n"
    )


def test_a_client_that_dies_leaves_a_summary(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = pair()
    near.write(wire.encode_kind(wire.Kind.UNIDIRECTIONAL))
    near.writev(data(0, 1, 2))
    near.dealloc()
    thread = threading.Thread(target=serve, args=(far,))
    thread.start()
    thread.join()
    assert "Flow 65: received 3 packets (192 bytes)" in capsys.readouterr().out


def test_garbage_does_not_begin_a_test(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    near.write(b"hello, is this oping?")
    serve(far)
    assert "does not begin a test" in capsys.readouterr().err
