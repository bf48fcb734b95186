"""ocbr: its lines, and client and server over a fake flow."""

import json
from types import ModuleType

import pytest
from ouroboros_tools import ocbr
from ouroboros_tools.ocbr import client, server
from ouroboros_tools.ocbr.counter import Counter

from tests.unit.tools.fakes import in_thread, pair


def test_lines_as_specified() -> None:
    counter = Counter(0)
    counter.add(1000, 1_000_000)
    assert counter.sent_line(2_000_000_000) == (
        "sent statistics:      1000 packets,      1000000 bytes in      2000 ms, 4.0000 Mb/s"
    )
    assert counter.received_line(64, 2_000_000_000) == (
        "Flow   64:      1000 packets (     1000000 bytes) in      2000 ms =>  500.0000 pps,    4.0000 Mbps"
    )


@pytest.mark.parametrize("words", ["-d 0.05 -f", "-d 0.05 -r 10M", "-d 0.05 -r 10M --spin"])
def test_what_is_sent_arrives(words: str, fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    fake_dev.flow_alloc = lambda *_, **__: near  # type: ignore[attr-defined]
    receiver = server.Receiver(far, interval=0.02, timeout=1, as_json=True)  # type: ignore[arg-type]
    thread = in_thread(receiver.run)
    assert ocbr.main(["-n", "x", "--json", *words.split()]) == 0
    thread.join()
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sent = next(report for report in reports if "flow" not in report)
    assert sent["packets"] == sum(report["packets"] for report in reports if "flow" in report) > 0


def test_a_silent_client_times_out(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    _, far = pair()
    server.Receiver(far, interval=1, timeout=0.01, as_json=False).run()  # type: ignore[arg-type]
    assert capsys.readouterr().out == "New flow.\nTest on flow 65 timed out\n"


def test_a_client_whose_flow_goes_down_fails(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = pair()
    far.dealloc()
    fake_dev.flow_alloc = lambda *_, **__: near  # type: ignore[attr-defined]
    assert ocbr.main(["-n", "x", "-d", "5"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(
        "Client started, duration 5 s, rate 1000000 b/s, size 1000 B.\nsent statistics:"
    )
    assert captured.err.startswith("ocbr: the flow to x ended: ")
    assert client.__doc__


@pytest.mark.parametrize(
    "words", ["-n x -s 524289", "-n x -s 0", "-n x -r fast", "-l -t 0", "-n x --sleep --spin", ""]
)
def test_wrong_usage_exits_2(words: str) -> None:
    assert ocbr.main(words.split()) == 2
