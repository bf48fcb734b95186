"""The contact table against a list of all messages received."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast.dht.contacts import MAX_LOST, MAX_PROBES, QUIET, Contacts, number
from ipcpd.wire.dht import Contact

OWN = bytes(2)


def contact(identity: int, address: int | None = None) -> Contact:
    return Contact(identity.to_bytes(2, "big"), address if address is not None else identity)


def test_nearest_are_sorted_by_distance_to_the_key() -> None:
    contacts = Contacts(OWN, 8)
    for identity in (1, 2, 4, 8, 0x8000):
        contacts.received_from(contact(identity), 0)
    assert [c.address for c in contacts.nearest(b"\x00\x05", 3)] == [4, 1, 2]
    assert len(contacts) == 5


def test_a_full_bucket_keeps_the_old_and_asks_whether_the_eldest_is_still_there() -> None:
    contacts = Contacts(OWN, 2)
    assert contacts.received_from(contact(0x8001), 0) == (True, None)
    assert contacts.received_from(contact(0x8002), 1) == (True, None)
    assert contacts.received_from(contact(0x8003), 2) == (False, None)  # the eldest was heard a moment ago
    assert contacts.received_from(contact(0x8004), QUIET + 1) == (False, contact(0x8001))
    assert {c.address for c in contacts} == {0x8001, 0x8002}
    assert contacts.lose(0x8001) == contact(0x8001)
    assert {c.address for c in contacts} == {0x8002, 0x8004}  # the spare that was heard last


def test_a_node_that_speaks_is_the_youngest_again() -> None:
    contacts = Contacts(OWN, 2)
    contacts.received_from(contact(0x8001), 0)
    contacts.received_from(contact(0x8002), 1)
    assert contacts.received_from(contact(0x8001), 2) == (False, None)
    assert contacts.received_from(contact(0x8003), 100)[1] == contact(0x8002)


def test_an_ipcp_that_started_anew_replaces_its_old_self() -> None:
    contacts = Contacts(OWN, 8)
    contacts.received_from(contact(0x10, 5), 0)
    assert contacts.received_from(contact(0x9000, 5), 1) == (True, None)
    assert list(contacts) == [contact(0x9000, 5)]


def test_a_node_may_change_its_address() -> None:
    contacts = Contacts(OWN, 8)
    contacts.received_from(contact(0x10, 5), 0)
    assert contacts.received_from(contact(0x10, 6), 1) == (False, None)
    assert list(contacts) == [contact(0x10, 6)]
    assert not contacts.knows(5)
    assert contacts.lose(5) is None


def test_what_is_lost_is_remembered_tried_in_turn_and_forgotten() -> None:
    contacts = Contacts(OWN, 8)
    for identity in (1, 2):
        contacts.received_from(contact(identity), 0)
        contacts.lose(identity)
    assert contacts.lost == [1, 2]
    contacts.lose(1)
    assert contacts.lost == [2, 1]
    contacts.received_from(contact(2), 5)
    assert contacts.lost == [1]
    for _ in range(MAX_PROBES):
        contacts.lose(1)
    assert contacts.lost == []
    for identity in range(10, 20 + MAX_LOST):
        contacts.received_from(contact(identity), 6)
        contacts.lose(identity)
    assert len(contacts.lost) == MAX_LOST


def test_buckets_that_were_not_consulted_are_stale() -> None:
    contacts = Contacts(OWN, 8)
    contacts.received_from(contact(0x8000), 0)
    contacts.received_from(contact(1), 0)
    contacts.consulted(b"\x80\x01", 50)
    assert contacts.stale(60, 30) == [1]
    assert contacts.eldest(60, 60) == [contact(0x8000), contact(1)]
    assert contacts.eldest(60, 61) == []
    assert contacts.beyond(1) == [16]


@given(st.integers(1, 16), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_key_in_a_bucket_belongs_there(bucket: int, own: int, random: int) -> None:
    contacts = Contacts(own.to_bytes(2, "big"), 8)
    key = contacts.key_in(bucket, random, 2)
    assert (number(key) ^ own).bit_length() == bucket


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(1, 20)), max_size=80))
def test_no_address_and_no_id_is_there_twice_and_no_bucket_overflows(
    moves: list[tuple[bool, int, int]],
) -> None:
    contacts = Contacts(OWN, 3)
    for now, (speaks, identity, address) in enumerate(moves):
        if speaks:
            contacts.received_from(contact(identity, address), now)
        else:
            contacts.lose(address)
        known = list(contacts)
        assert len({c.address for c in known}) == len({c.id for c in known}) == len(known) == len(contacts)
        assert all(contacts.knows(c.address) for c in known)
        assert not set(contacts.lost) & {c.address for c in known}
        for bucket in range(17):
            assert sum(number(c.id).bit_length() == bucket for c in known) <= 3
        assert [c for c in contacts.nearest(OWN, 99)] == sorted(known, key=lambda c: c.id)


def test_addresses_are_those_of_nodes_and_spares() -> None:
    """A member that speaks with a new address each time takes no more memory than one that keeps its address."""
    contacts = Contacts(OWN, 2)
    for identity in range(0x8001, 0x8005):  # two nodes, two spares
        contacts.received_from(contact(identity), 0)
    for address in range(10, 5000):
        for identity in (0x8001, 0x8003):
            contacts.received_from(contact(identity, 10 * address + identity % 10), address)
    assert len(contacts._addresses) == 4
    assert not contacts.knows(0x8003)
    assert contacts.knows(49999) and contacts.knows(49991)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12), st.booleans()), max_size=60))
def test_the_index_of_addresses_is_right(steps: list[tuple[int, int, bool]]) -> None:
    contacts = Contacts(OWN, 2)
    for now, (identity, address, lost) in enumerate(steps):
        if lost:
            contacts.lose(address)
        else:
            contacts.received_from(contact(identity, address), now)
        held = [
            node
            for bucket in contacts._buckets.values()
            for node in (*bucket.nodes.values(), *bucket.spares.values())
        ]
        assert contacts._addresses == {node.contact.address: node.number for node in held}


def test_a_bucket_is_a_range_of_distances_from_our_own_id() -> None:
    contacts = Contacts(b"\x80\x0f", 2)
    near, far = (0x800E, 0x800D, 0x800C), (0x0001, 0x0002, 0x000F)
    assert [contacts.received_from(contact(identity), 0)[0] for identity in (*far, *near)] == [
        *(True, True, False),
        *(True, True, True),  # distances 1, 2 and 3 are in two buckets
    ]
    assert contacts.received_from(contact(0x0003), QUIET + 1) == (False, contact(0x0001))


def test_a_spare_that_makes_room_is_not_known_any_more() -> None:
    contacts = Contacts(OWN, 1)
    for identity in (0x8001, 0x8002, 0x8003):
        contacts.received_from(contact(identity), 0)
    assert [contacts.knows(identity) for identity in (0x8001, 0x8002, 0x8003)] == [True, False, True]
    assert contacts.lose(0x8002) is None and contacts.lose(0x8001) == contact(0x8001)
    assert list(contacts) == [contact(0x8003)]


def test_the_eldest_of_each_bucket_that_has_one() -> None:
    contacts = Contacts(OWN, 4)
    contacts.received_from(contact(0x8001), 0)
    contacts.received_from(contact(0x8002), 5)
    contacts.received_from(contact(0x0001), 8)
    contacts.consulted(b"\x00\x10", 8)
    assert contacts.eldest(10, 10) == [contact(0x8001)]
    assert contacts.eldest(9, 10) == []
    assert contacts.eldest(18, 10) == [contact(0x8001), contact(0x0001)]
