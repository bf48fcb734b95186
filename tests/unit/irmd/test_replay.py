"""Time and replay (spec/oap 5 step 3): the limits themselves, and what lies a millisecond beyond."""

from __future__ import annotations

import pytest

from irmd.oap.replay import CAPACITY, Fault, Refused, ReplayGuard

MS = 1_000_000
NOW = 1_800_000_000_000 * MS


def fault(
    guard: ReplayGuard, timestamp: int, identity: bytes = b"i", *, now: int = NOW, layer: str = ""
) -> Fault | None:
    """Why a request is refused; None: it is accepted."""
    try:
        guard.check(timestamp, identity, now=now, layer=layer)
    except Refused as refused:
        return refused.fault
    return None


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0, None),
        (100 * MS, None),  # 100 ms ahead is accepted,
        (101 * MS - 1, None),  # and whole milliseconds count, towards zero
        (101 * MS, Fault.AHEAD),
        (-20_000 * MS, None),  # 20 s behind is accepted
        (-20_001 * MS + 1, None),
        (-20_001 * MS, Fault.OLD),
    ],
)
def test_clocks_that_differ(offset: int, expected: Fault | None) -> None:
    assert fault(ReplayGuard(), NOW + offset) is expected


def test_a_request_is_accepted_once_as_long_as_its_time_would_be() -> None:
    guard = ReplayGuard()
    assert fault(guard, NOW) is None
    for later in (0, 1, 20_000):
        assert fault(guard, NOW, now=NOW + later * MS) is Fault.REPLAYED
        assert fault(guard, NOW, now=NOW + later * MS, layer="another") is Fault.REPLAYED
    assert fault(guard, NOW, now=NOW + 20_001 * MS) is Fault.OLD
    assert fault(guard, NOW, b"j") is None and fault(guard, NOW + 1, b"i") is None


def test_an_examined_request_is_not_remembered() -> None:
    guard = ReplayGuard()
    guard.examine(NOW, b"i", now=NOW)
    assert len(guard) == 0 and fault(guard, NOW) is None and len(guard) == 1


def test_one_layer_takes_half_and_all_take_the_whole() -> None:
    assert CAPACITY == 1 << 17
    guard = ReplayGuard(capacity=8)
    for layer in ("a", "b"):
        for number in range(4):
            assert fault(guard, NOW, f"{layer}{number}".encode(), layer=layer) is None
        assert fault(guard, NOW, b"more", layer=layer) is Fault.FLOOD
    assert len(guard) == 8 and fault(guard, NOW, b"more", layer="c") is Fault.FLOOD
    with pytest.raises(
        Refused, match=r"is one of too many: 4 requests arrived within 20 s over this layer, 8 in all"
    ):
        guard.check(NOW, b"more", now=NOW, layer="a")


def test_what_is_too_old_makes_room() -> None:
    """In any order of arrival, for its layer and for all."""
    guard = ReplayGuard(capacity=4)
    for layer, offset in (("a", 5), ("a", 0), ("b", 1)):
        assert fault(guard, NOW + offset * MS, b"x", layer=layer) is None
    assert fault(guard, NOW, b"y", layer="a") is Fault.FLOOD
    later = NOW + 20_000 * MS
    assert fault(guard, later, b"y", now=later, layer="a") is Fault.FLOOD  # the oldest is 20 s old, not older
    later += MS
    assert fault(guard, later, b"y", now=later, layer="a") is None and len(guard) == 3
    assert fault(guard, later, b"z", now=later, layer="a") is Fault.FLOOD
    later += 10 * MS
    guard.examine(later, b"z", now=later, layer="a")
    assert len(guard) == 1
    later += 20_000 * MS
    guard.examine(later, b"z", now=later, layer="a")
    assert len(guard) == 0 and not guard._of, "a layer without requests takes no memory"
