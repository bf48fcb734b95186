"""The directory's machine, alone and with others on a network that a test controls: messages, joining, questions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcpd.unicast.dht import Answer, Dht
from ipcpd.unicast.dht.dht import QUERY_LIMIT
from ipcpd.unicast.dht.exchange import LOST, SECOND_TRY
from ipcpd.unicast.dht.node import EXPIRED, MAX_LOOKUPS
from ipcpd.wire.dht import (
    Contact,
    FindNode,
    FindNodeReply,
    FindValue,
    FindValueReply,
    Store,
    encode,
    value_of,
)
from tests.unit.ipcpd.unicast.dht.nodes import (
    B_ID,
    C_ID,
    CONFIG,
    EPOCH,
    KEY,
    ME,
    OTHER,
    B,
    C,
    Net,
    acquainted,
    answer_all,
    node,
)

# ---------------------------------------------------------------- messages, one by one


def test_ids_have_the_length_of_the_hash_and_keys_must_have_it() -> None:
    dht = Dht(address=ME, key_length=64)
    assert len(dht.own.id) == 64
    for call in (dht.register, dht.query):
        with pytest.raises(ValueError, match="has 32 octets; the hash of this layer has 64"):
            call(KEY, 0)


def test_an_answer_has_at_least_the_one_who_asked() -> None:
    dht = node()
    dht.receive(FindNode(Contact(B_ID, B), 5, KEY), 0)
    assert dht.take_packets()[0] == (B, FindNodeReply(dht.own, 5, KEY, (Contact(B_ID, B),)))


def test_an_answer_is_sorted_by_distance_and_has_the_values() -> None:
    dht = node()
    for address in (2, 9, 4, 6):
        dht.receive(Store(Contact(bytes([address]) * 32, address), KEY, value_of(address), EPOCH + 99), 0)
    dht.take_packets()
    dht.receive(FindValue(Contact(bytes([5]) * 32, 5), 77, KEY), 0)
    address, reply = dht.take_packets()[0]
    assert isinstance(reply, FindValueReply)
    assert (address, reply.cookie, reply.key) == (5, 77, KEY)
    assert [c.address for c in reply.contacts] == [6, 5, 4, 2, 9]
    assert set(reply.values) == {value_of(a) for a in (2, 9, 4, 6)}


def test_of_our_own_names_the_answer_says_so_first() -> None:
    dht = acquainted()
    dht.register(KEY, 0)
    dht.receive(Store(Contact(B_ID, B), KEY, value_of(B), EPOCH + 99), 0)
    answer_all(dht, 0)
    dht.receive(FindValue(Contact(B_ID, B), 9, KEY), 0)
    reply = dht.take_packets()[0][1]
    assert isinstance(reply, FindValueReply)
    assert reply.values == (value_of(ME), value_of(B))


@pytest.mark.parametrize(
    "change",
    [
        {"cookie": 1},
        {"key": OTHER},
        {"source": Contact(C_ID, C)},
        {"source": Contact(B_ID[:31], B)},
        {"source": Contact(B_ID, ME)},
    ],
)
def test_an_answer_to_nothing_that_was_asked_is_dropped(change: dict[str, object]) -> None:
    dht = node(peer=B)
    dht.timer(0)
    question = dht.take_packets()[0][1]
    assert isinstance(question, FindNode)
    good = {"source": Contact(B_ID, B), "cookie": question.cookie, "key": question.key}
    dht.receive(FindNodeReply(**{**good, **change}, contacts=(Contact(C_ID, C),)), 0)  # type: ignore[arg-type]
    assert (dht.counters.dropped, len(dht.contacts)) == (1, 0)
    reply = FindNodeReply(**good, contacts=(Contact(C_ID, C),))  # type: ignore[arg-type]
    dht.receive(reply, 0)
    dht.receive(reply, 0)
    assert (dht.counters.dropped, len(dht.contacts)) == (2, 1)


def test_a_message_that_pretends_to_be_from_us_or_has_a_wrong_key_is_dropped() -> None:
    dht = node()
    dht.receive(FindNode(Contact(dht.own.id, B), 5, KEY), 0)
    dht.receive(FindNode(Contact(B_ID, ME), 5, KEY), 0)
    dht.receive(FindNode(Contact(B_ID, B), 5, KEY[:16]), 0)
    dht.malformed()
    assert (dht.counters.dropped, dht.counters.received) == (4, 4)
    assert dht.take_packets() == []


def test_stores_that_make_no_sense_are_refused() -> None:
    dht = acquainted()
    who = Contact(C_ID, C)
    for value, expires in ((b"text", EPOCH + 9), (bytes(8), EPOCH + 9), (value_of(B), EPOCH - 1)):
        dht.receive(Store(who, KEY, value, expires), 0)
    assert (dht.counters.refused, dht.values.count) == (3, 0)
    dht.receive(Store(who, KEY, value_of(B), EPOCH + 10**9), 0)
    value = dht.values.find(KEY, B)
    assert value is not None
    assert value.expires == EPOCH + CONFIG.t_expire


def test_only_the_owner_takes_a_value_back_and_copies_are_refused_after_that() -> None:
    dht = acquainted()
    owner, other = Contact(B_ID, B), Contact(C_ID, C)
    store = Store(owner, KEY, value_of(B), EPOCH + 50)
    dht.receive(store, 0)
    dht.receive(Store(other, KEY, value_of(B), EXPIRED), 0)
    assert dht.values.get(KEY) == [B]
    dht.receive(Store(owner, KEY, value_of(B), EXPIRED), 0)
    assert dht.values.get(KEY) == []
    dht.receive(Store(other, KEY, value_of(B), EPOCH + 50), 1)
    assert dht.values.get(KEY) == []
    dht.receive(store, 2)
    assert dht.values.get(KEY) == [B]


def test_who_stores_our_address_under_a_name_that_we_do_not_have_is_told() -> None:
    dht = acquainted()
    dht.receive(Store(Contact(B_ID, B), KEY, value_of(ME), EPOCH + 50), 1)
    assert dht.take_packets() == [(B, Store(dht.own, KEY, value_of(ME), EXPIRED))]


# ---------------------------------------------------------------- joining


def test_the_first_node_waits_to_be_asked() -> None:
    dht = node()
    for _ in range(10):
        dht.timer(dht.deadline or 0)
    assert dht.take_packets() == []


def test_a_new_node_asks_its_enroller_until_somebody_answers() -> None:
    dht, asked = node(peer=B), []
    while (dht.deadline or 0) < 20:
        now = dht.deadline or 0
        dht.timer(now)
        asked += [(now, address) for address, message in dht.take_packets() if isinstance(message, FindNode)]
    assert {address for _, address in asked} == {B}
    assert asked[0][0] == 0
    gaps = [later - sooner for (sooner, _), (later, _) in zip(asked, asked[1:], strict=False)]
    assert max(gaps) <= 6


def test_routing_tells_whom_to_ask() -> None:
    dht = node()
    dht.timer(0)
    dht.reachable({B, C, ME}, 1)
    assert sorted(address for address, _ in dht.take_packets()) == [B, C]


@pytest.mark.parametrize("peers", [(0, 1), (2, 1), (2, 0)])
def test_two_nodes_that_start_at_once_find_each_other(peers: tuple[int, int]) -> None:
    net = Net()
    net.add(1, peer=peers[0])
    net.add(2, peer=peers[1])
    net.run(1)
    assert [len(dht.contacts) for dht in net.nodes.values()] == [1, 1]


def test_two_that_are_both_the_first_find_each_other_by_routing() -> None:
    net = Net()
    net.add(1)
    net.add(2)
    net.run(5)
    assert [len(dht.contacts) for dht in net.nodes.values()] == [0, 0]
    net.nodes[1].reachable({2}, net.now)
    net.run(1)
    assert [len(dht.contacts) for dht in net.nodes.values()] == [1, 1]


# ---------------------------------------------------------------- questions that stay open


def test_a_silent_node_is_asked_twice_and_then_lost() -> None:
    dht = acquainted()
    dht.query(KEY, 1)
    dht.timer(1)
    sent = dht.take_packets()
    assert [(address, type(message)) for address, message in sent] == [(B, FindValue)]
    dht.timer(1 + SECOND_TRY)
    assert dht.take_packets() == sent  # the same cookie: whichever answer comes first is the one
    for _ in range(5):
        dht.timer(dht.deadline or 0)
    assert dht.deadline is not None
    dht.timer(1 + LOST)
    assert (len(dht.contacts), dht.contacts.lost, dht.counters.lost) == (0, [B], 1)
    assert dht.take_events() == [Answer(KEY, ())]


def test_a_member_to_which_nothing_can_be_sent_is_not_waited_for() -> None:
    dht = acquainted()
    dht.query(KEY, 1)
    dht.timer(1)
    dht.unroutable(B, 1)
    assert dht.take_events() == [Answer(KEY, ())]
    dht.unroutable(B, 1)


def test_a_lost_node_is_tried_again_and_taken_back() -> None:
    net = Net()
    net.add(1)
    net.add(2, peer=1)
    net.run(10)
    net.dead.add(2)
    net.run(250)
    assert len(net.nodes[1].contacts) == 0
    net.dead.clear()
    net.run(20)
    assert [len(dht.contacts) for dht in net.nodes.values()] == [1, 1]


def test_a_query_before_there_is_anybody_waits_for_the_first_contact() -> None:
    net = Net()
    first = net.add(1)
    first.register(KEY, 0)
    net.run(1)
    net.add(2, peer=1)
    assert net.find(2) == (1,)


def test_a_query_that_nobody_can_ever_answer_ends_at_once() -> None:
    dht = node()
    dht.query(KEY, 0)
    dht.timer(0)
    assert dht.take_events() == [Answer(KEY, ())]


def test_a_member_without_neighbours_waits_for_no_contact_to_find_a_name_of_its_own() -> None:
    """Its neighbour was killed, or it is enrolled and not connected yet: each flow to a server of its own system took 3 s."""
    dht = node(peer=B)
    dht.register(KEY, 0)
    dht.reachable((), 0)
    dht.timer(0)
    dht.take_events()  # it has been registered
    dht.query(OTHER, 0)
    dht.query(KEY, 0)
    dht.timer(0)
    assert dht.take_events() == [Answer(KEY, ())]
    dht.timer(QUERY_LIMIT)
    assert dht.take_events() == [Answer(OTHER, ())]


def test_a_query_ends_in_time_and_when_the_node_stops() -> None:
    dht = node(peer=B)
    dht.query(KEY, 0)
    dht.query(KEY, 0)
    dht.timer(QUERY_LIMIT)
    assert dht.take_events() == [Answer(KEY, ())]
    dht.query(KEY, 5)
    dht.close()
    assert dht.take_events() == [Answer(KEY, ())]


def test_our_own_address_and_what_cannot_be_reached_are_no_answer() -> None:
    dht = acquainted()
    dht.reachable({B}, 0)
    dht.query(KEY, 0)
    answer_all(dht, 0, values=(ME, C))
    assert dht.take_events() == [Answer(KEY, ())]
    dht.query(KEY, 0)
    answer_all(dht, 0, values=(ME, C, B, B))
    assert dht.take_events() == [Answer(KEY, (B,))]
    dht.reachable({B, C}, 0)
    dht.query(KEY, 0)
    answer_all(dht, 0, values=(C, B))
    assert dht.take_events() == [Answer(KEY, (C, B))]


def test_many_look_ups_wait_for_their_turn() -> None:
    dht = acquainted()
    names = [number.to_bytes(32, "big") for number in range(3 * MAX_LOOKUPS)]
    for name in names:
        dht.register(name, 0)
    dht.timer(0)
    assert len(dht.take_packets()) == MAX_LOOKUPS
    for step in range(20):
        now = step * LOST
        for _ in range(8):
            dht.timer(now)
        answer_all(dht, now)
    assert {key for key, copies in dht.names.items() if copies} == set(names)


# ---------------------------------------------------------------- anything at all

_address = st.integers(1, 6)
_id = _address.map(lambda number: bytes([number]) * 32)
_contact = st.builds(Contact, _id, _address)
_key = st.sampled_from([KEY, OTHER, B_ID])
_values = st.lists(st.integers(1, 6).map(value_of) | st.just(b"?"), max_size=3).map(tuple)
_contacts = st.lists(_contact, max_size=4).map(tuple)
_message = st.one_of(
    st.builds(FindNode, _contact, st.integers(1, 3), _key),
    st.builds(FindValue, _contact, st.integers(1, 3), _key),
    st.builds(
        Store, _contact, _key, st.integers(1, 6).map(value_of), st.sampled_from([1, EPOCH + 50, 2**32 - 1])
    ),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("receive"), _message),
        st.tuples(st.sampled_from(["register", "unregister", "query"]), _key),
        st.tuples(st.just("reachable"), st.sets(_address)),
        st.tuples(st.just("unroutable"), _address),
        st.tuples(st.just("reply"), st.integers(0, 9), _contacts, _values),
        st.tuples(st.just("wait"), st.floats(0, 200)),
    ),
    max_size=50,
)


@settings(deadline=None)
@given(_steps, st.sampled_from([0, B]))
def test_whatever_happens_every_query_is_answered_and_all_that_is_sent_can_be_sent(
    steps: list[tuple[object, ...]], peer: int
) -> None:
    dht, now = node(address=6, peer=peer), 0.0
    asked: list[tuple[int, FindNode | FindValue]] = []
    open_since: dict[bytes, float] = {}

    def collect() -> None:
        for address, message in dht.take_packets():
            assert address != 6
            encode(message)  # refuses an answer without contacts, among others
            if isinstance(message, FindNode | FindValue):
                asked.append((address, message))
        for event in dht.take_events():
            if isinstance(event, Answer):
                assert open_since.pop(event.key) >= now - QUERY_LIMIT - 0.001
                assert 6 not in event.addresses

    def wait(end: float) -> None:
        nonlocal now
        turns = 0
        while dht.deadline is not None and dht.deadline <= end:
            now = max(now, dht.deadline)
            dht.timer(now)
            collect()
            turns += 1
            assert turns < 5000
        now = max(now, end)

    for what, *args in steps:
        if what == "wait":
            wait(now + float(args[0]))  # type: ignore[arg-type]
        elif what == "reply":
            if asked:
                number, contacts, values = args
                address, question = asked.pop(number % len(asked))  # type: ignore[operator]
                source = Contact(bytes([address]) * 32, address)
                parts = (source, question.cookie, question.key, contacts)
                if isinstance(question, FindNode):
                    dht.receive(FindNodeReply(*parts), now)  # type: ignore[arg-type]
                else:
                    dht.receive(FindValueReply(*parts, values), now)  # type: ignore[arg-type]
        else:
            if what == "query":
                open_since.setdefault(args[0], now)  # type: ignore[arg-type]
            getattr(dht, str(what))(*args, now)
        collect()
    wait(now + QUERY_LIMIT + 1)
    assert not open_since
