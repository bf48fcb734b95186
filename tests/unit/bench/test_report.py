"""The table that people read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.report import align, figure, table
from tests.bench.row import Mode, What, row


def test_figures() -> None:
    assert [figure(v) for v in (0.0, 0.61234, 12.345, 123.4, 12345, 860_000, 5_600_000)] == [
        "0", "0.612", "12.3", "123", "12k", "860k", "5.60M",
    ]  # fmt: skip


@given(st.floats(0, 9e8, allow_nan=False))
def test_figures_are_short(value: float) -> None:
    assert len(figure(value)) <= 9


def test_columns_line_up() -> None:
    assert align([["what", "x"], ["a", "100"]], 1) == ["what    x", "a     100"]


def test_table_shows_ratios_and_verdicts() -> None:
    rows = [
        row("direct", What.RTT_P50, 64, Mode.SINGLE, "ouroboros", 1.0),
        row("direct", What.RTT_P50, 64, Mode.SINGLE, "seqpacket", 10.0),
        row("direct", What.RTT_P50, 64, Mode.SINGLE, "floor", 0.5),
        row("direct", What.PPS, 64, Mode.SINGLE, "seqpacket", 1e6),
        row("direct", What.PPS, 64, Mode.BURST, "ouroboros", 5e6),
        row("system", What.LIST_MS, 0, Mode.SINGLE, "ouroboros", 99.0),
    ]
    text = table({"cores": 2}, rows, ["zmq left out: not installed"])
    lines = text.splitlines()
    assert lines[0] == "cores: 2"
    round_trip = next(line.split() for line in lines if line.startswith("rtt_p50"))
    assert round_trip == [
        "rtt_p50",
        "us",
        "64",
        "single",
        "1",
        "10",
        "0.5",
        "0.1x",
        "2x",
        "<=",
        "0.167x",
        "reached",
    ]
    burst = next(line.split() for line in lines if line.startswith("pps") and "burst" in line)
    assert burst == ["pps", "packet/s", "64", "burst", "5.00M", "-", "-", "5x", "-", ">=", "10x", "MISSED"]
    listing = next(line.split() for line in lines if line.startswith("ipcp_list_ms"))
    assert listing == ["ipcp_list_ms", "ms", "99", "<=", "120", "reached"]
    assert "note: zmq left out: not installed" in lines
    assert lines[-1] == "goals reached: 2 of 3 measured"


def test_table_without_our_rows_has_no_verdict() -> None:
    text = table({}, [row("direct", What.PPS, 64, Mode.SINGLE, "seqpacket", 1e6)])
    assert "reached" not in text


def test_empty_table() -> None:
    assert table({"cores": 2}, []).strip() == "cores: 2"
