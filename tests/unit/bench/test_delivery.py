"""Delivery: a packet that is missing, out of order, duplicated or changed is detected."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.delivery import Contents, deliver, verify
from tests.bench.lossy import POINTS
from tests.bench.pair import Pair
from tests.bench.process import PeerError
from tests.bench.subjects import SUBJECTS
from tools.olab.emulator.impairment import parse

SIZE, COUNT, SEED = 100, 200, 7


def written(step: int = 64) -> list[bytes]:
    """What a writer writes that has room for `step` packets at a time."""
    found: list[bytes] = []

    def writev(batch: list[bytes]) -> int:
        found.extend(batch[:step])
        return len(batch[:step])

    deliver(writev, SIZE, COUNT, SEED)
    return found


@given(st.integers(1, 100))
def test_everything_is_written_whatever_room_there_is(step: int) -> None:
    assert written(step) == [Contents(SIZE, SEED).packet(number) for number in range(COUNT)]


def test_what_came_as_it_was_written_is_right() -> None:
    packets: list[bytes] = []
    sent = deliver(lambda batch: packets.extend(batch) or len(batch), SIZE, COUNT, SEED)  # type: ignore[func-returns-value]
    assert verify(iter(packets), SIZE, COUNT, SEED)["hash"] == sent["hash"]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda p: p[:9] + p[10:], "packet 10 came too early, where packet 9 was due"),
        (lambda p: p[:9] + p[8:], "packet 8 came once more, where packet 9 was due"),
        (lambda p: [*p[:9], p[10], p[9], *p[11:]], "packet 10 came too early"),
        (lambda p: [*p[:9], p[9][:-1], *p[10:]], "packet 9 came with 99 octets instead of 100"),
        (lambda p: [*p[:9], p[9][:-1] + bytes([p[9][-1] ^ 1]), *p[10:]], "packet 9 came with other contents"),
        (
            lambda p: [*p[:9], Contents(SIZE, SEED + 1).packet(9), *p[10:]],
            "packet 9 came with other contents",
        ),
    ],
)
def test_what_is_wrong_is_named(spoil, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=text):
        verify(iter(spoil(written())), SIZE, COUNT, SEED)


def test_a_packet_has_room_for_its_number() -> None:
    with pytest.raises(ValueError, match="no room"):
        Contents(7, SEED)


def test_octets_of_neighbours_differ() -> None:
    contents = Contents(1400, SEED)
    assert len({contents.packet(number)[8:] for number in range(1000)}) == 1000


def test_delivery_between_two_processes() -> None:
    with ExitStack() as stack:
        pair = Pair("tcp", SUBJECTS["tcp"].provide(stack), stack)
        assert pair.delivery(1400, 500, SEED) > 0


@pytest.mark.parametrize(("more", "there"), [(1, "a"), (0, "b")])
def test_a_delivery_with_more_or_other_octets_is_none(
    more: int, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ({"hash": there, "left": more, "ended": 2}, {"hash": "a", "began": 1})
    monkeypatch.setattr(Pair, "_both", lambda *_: answers)
    with pytest.raises(PeerError):
        Pair.__new__(Pair).delivery(1400, 10, SEED)


@pytest.mark.parametrize("name", POINTS)
def test_links_are_what_their_names_say(name: str) -> None:
    found = parse(POINTS[name].seeded(3))
    assert found.loss == pytest.approx(int(name.removeprefix("loss-")) / 100)
    assert (found.delay, found.seed) == (0.02, 3)
    assert bool(found.loss) == bool(found.duplicate) == bool(found.reorder)
