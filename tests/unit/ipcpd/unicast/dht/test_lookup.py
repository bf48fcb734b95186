"""An iterative look-up over a table of the contacts of each node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast.dht.lookup import Lookup, Status
from ipcpd.wire.dht import Contact

OWN = Contact(b"\xff", 255)


def contact(identity: int) -> Contact:
    return Contact(bytes([identity]), identity)


def lookup(*, k: int = 3, alpha: int = 2) -> Lookup:
    return Lookup(b"\x00", own=OWN, k=k, alpha=alpha, found=None, done=lambda nodes, now: None)


def addresses(contacts: list[Contact]) -> list[int]:
    return [c.address for c in contacts]


def test_without_anybody_to_ask_it_is_finished() -> None:
    search = lookup()
    assert search.next() == []
    assert search.finished


def test_alpha_are_asked_at_a_time_nearest_first() -> None:
    search = lookup()
    search.add(map(contact, (9, 3, 7, 5)))
    assert addresses(search.next()) == [3, 5]
    assert search.next() == []
    search.mark(5, Status.ANSWERED)
    assert addresses(search.next()) == [7]
    search.mark(3, Status.ANSWERED)
    assert not search.finished
    search.mark(7, Status.ANSWERED)
    assert (search.next(), search.finished, addresses(search.answered)) == ([], True, [3, 5, 7])


def test_nearer_ones_that_turn_up_are_asked_first() -> None:
    search = lookup(alpha=1)
    search.add([contact(9)])
    search.next()
    search.add([contact(8), contact(2), OWN, contact(9)])
    search.mark(9, Status.ANSWERED)
    assert addresses(search.next()) == [2]


def test_one_that_is_slow_makes_room_and_one_that_fails_is_replaced() -> None:
    search = lookup(k=2, alpha=1)
    search.add(map(contact, (1, 2, 3)))
    assert addresses(search.next()) == [1]
    search.mark(1, Status.SLOW)
    assert addresses(search.next()) == [2]
    search.mark(2, Status.ANSWERED)
    assert not search.finished
    search.mark(1, Status.FAILED)
    assert addresses(search.next()) == [3]
    search.mark(3, Status.ANSWERED)
    assert search.finished
    assert addresses(search.answered) == [2, 3]


def test_a_late_answer_counts_and_is_never_taken_back() -> None:
    search = lookup()
    search.add([contact(1)])
    search.next()
    search.mark(1, Status.FAILED)
    search.mark(1, Status.ANSWERED)
    search.mark(1, Status.FAILED)
    search.mark(99, Status.FAILED)
    assert addresses(search.answered) == [1]


@given(
    knows=st.dictionaries(st.integers(1, 60), st.sets(st.integers(1, 60), max_size=6), min_size=1),
    start=st.sets(st.integers(1, 60), min_size=1),
    dead=st.sets(st.integers(1, 60)),
    k=st.integers(1, 8),
    alpha=st.integers(1, 4),
    random=st.randoms(),
)
def test_it_ends_with_the_nearest_that_are_alive_of_all_that_were_named(
    knows: dict[int, set[int]], start: set[int], dead: set[int], k: int, alpha: int, random: object
) -> None:
    search = lookup(k=k, alpha=alpha)
    search.add(map(contact, sorted(start)))
    named, asked, outstanding = set(start), set(), []
    while not search.finished:
        for one in search.next():
            assert one.address not in asked
            asked.add(one.address)
            outstanding.append(one.address)
        assert outstanding, "it waits for nobody"
        assert len(outstanding) <= alpha
        address = outstanding.pop(random.randrange(len(outstanding)))  # type: ignore[attr-defined]
        if address in dead:
            search.mark(address, Status.FAILED)
        else:
            search.mark(address, Status.ANSWERED)
            search.add(map(contact, sorted(knows.get(address, ()))))
            named |= knows.get(address, set())
    answered = addresses(search.answered)
    assert not set(answered) & dead
    # Whoever was named and is alive is either among them or farther away.
    for address in named - dead:
        assert address in answered or (len(answered) == k and address > max(answered))


def test_near_is_what_differs_in_the_lowest_bits() -> None:
    search = Lookup(b"\x0c", own=OWN, k=3, alpha=3, found=None, done=lambda nodes, now: None)
    search.add(map(contact, (0x04, 0x0D, 0x0F, 0x08, 0x00)))
    assert addresses(search.next()) == [0x0D, 0x0F, 0x08]
    for address in (0x08, 0x0F, 0x0D):
        search.mark(address, Status.ANSWERED)
    assert addresses(search.answered) == [0x0D, 0x0F, 0x08]
