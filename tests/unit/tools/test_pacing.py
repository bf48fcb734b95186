"""tools/pacing.py with time as an argument."""

from ouroboros_tools.pacing import Pacer

_MS = 1_000_000


def test_due_times_lie_on_a_line() -> None:
    pacer = Pacer(size=1000, bits_per_second=1e6, start=0)  # 8 ms per packet
    due = []
    for _ in range(4):
        due.append(pacer.next_at)
        pacer.sent(pacer.next_at + 3 * _MS)  # woken late, which must not add up
    assert due == [0, 8 * _MS, 16 * _MS, 24 * _MS]


def test_a_rate_with_a_fractional_gap_does_not_drift() -> None:
    pacer = Pacer(size=64, bits_per_second=3e6, start=0)
    for _ in range(3_000_000 // 512):
        pacer.sent(pacer.next_at)
    assert abs(pacer.next_at - 1_000_000_000) < _MS


def test_after_a_long_pause_the_line_moves() -> None:
    pacer = Pacer(size=1000, bits_per_second=1e6, start=0)
    pacer.sent(10_000 * _MS)
    assert pacer.next_at == 10_000 * _MS - 100 * _MS
