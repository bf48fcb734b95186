"""The directory's machine, alone and with others on a network that a test controls."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcpd.unicast.dht import Answer, Dht, Registered
from ipcpd.unicast.dht.contacts import number
from ipcpd.unicast.dht.dht import QUERY_LIMIT
from ipcpd.unicast.dht.exchange import LOST, SECOND_TRY
from ipcpd.unicast.dht.names import STORE_AGAIN
from ipcpd.unicast.dht.node import EXPIRED, MAX_LOOKUPS
from ipcpd.unicast.wire.dht import (
    Contact,
    FindNode,
    FindNodeReply,
    FindValue,
    FindValueReply,
    Message,
    Store,
    decode,
    encode,
    value_of,
)
from ouroboros.ipcp_config import DhtConfig

EPOCH = 1_700_000_000
KEY, OTHER = bytes([7]) * 32, bytes([8]) * 32
ME, B, C = 0xA, 0xB, 0xC
B_ID, C_ID = bytes([1]) * 32, bytes([2]) * 32
CONFIG = DhtConfig(t_expire=3600, t_refresh=100, t_replicate=100)


def node(*, address: int = ME, peer: int = 0, seed: int = 1, config: DhtConfig = CONFIG) -> Dht:
    return Dht(
        address=address,
        key_length=32,
        config=config,
        peer=peer,
        epoch=EPOCH,
        random=Random(f"{seed}/{address}"),
    )


def acquainted(**how: int) -> Dht:
    """A node that knows B, and has settled."""
    dht = node(**how)
    dht.receive(FindNode(Contact(B_ID, B), 5, KEY), 0)
    answer_all(dht, 0)
    return dht


def answer_all(
    dht: Dht, now: float, *, values: tuple[int, ...] = (), but: frozenset[int] = frozenset()
) -> list[Message]:
    """Answer every question, by the one who was asked, without news; what else was sent."""
    rest: list[Message] = []
    for _ in range(50):
        dht.timer(now)
        packets = dht.take_packets()
        if not packets:
            break
        for address, message in packets:
            source = Contact(B_ID if address == B else bytes([address & 0xFF]) * 32, address)
            if address in but or not isinstance(message, FindNode | FindValue):
                rest.append(message)
            elif isinstance(message, FindNode):
                dht.receive(FindNodeReply(source, message.cookie, message.key, (source,)), now)
            else:
                found = tuple(map(value_of, values))
                dht.receive(FindValueReply(source, message.cookie, message.key, (source,), found), now)
    return rest


class Net:
    """Nodes, and messages that take 10 ms."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[int, Dht] = {}
        self.dead: set[int] = set()
        self.drop: Callable[[int, int, Message], bool] = lambda source, target, message: False
        self.answers: dict[tuple[int, bytes], tuple[int, ...]] = {}
        self.registered: list[tuple[int, Registered]] = []
        self.sent = 0
        self._flight: list[tuple[float, int, int, bytes]] = []

    def add(self, address: int, *, peer: int = 0, config: DhtConfig = CONFIG) -> Dht:
        dht = Dht(
            address=address,
            key_length=32,
            config=config,
            peer=peer,
            now=self.now,
            epoch=EPOCH,
            random=Random(f"net/{address}"),
        )
        self.nodes[address] = dht
        self._collect()
        return dht

    def _collect(self) -> None:
        for address, dht in self.nodes.items():
            for target, message in dht.take_packets():
                self.sent += 1
                if (
                    address not in self.dead
                    and target in self.nodes
                    and not self.drop(address, target, message)
                ):
                    heapq.heappush(self._flight, (self.now + 0.01, self.sent, target, encode(message)))
            for event in dht.take_events():
                if isinstance(event, Answer):
                    self.answers[address, event.key] = event.addresses
                else:
                    self.registered.append((address, event))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._collect()
            dues = [
                d.deadline for a, d in self.nodes.items() if a not in self.dead and d.deadline is not None
            ]
            due = min([*dues, *(flight[0] for flight in self._flight[:1])], default=end + 1)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            while self._flight and self._flight[0][0] <= self.now:
                _, _, target, octets = heapq.heappop(self._flight)
                if target not in self.dead:
                    self.nodes[target].receive(decode(octets, key_length=32), self.now)
            for address, dht in self.nodes.items():
                if address not in self.dead:
                    dht.timer(self.now)

    def find(self, address: int, key: bytes = KEY) -> tuple[int, ...]:
        self.answers.pop((address, key), None)
        self.nodes[address].query(key, self.now)
        self.run(QUERY_LIMIT + 0.1)
        return self.answers[address, key]


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


# ---------------------------------------------------------------- names


def test_a_name_is_stored_at_once_again_after_a_while_and_then_regularly() -> None:
    dht = acquainted()
    dht.register(KEY, 0)
    dht.register(KEY, 0)
    stores = []
    for step in range(0, 4000):
        now = step / 10
        stores += [(now, m) for m in answer_all(dht, now) if isinstance(m, Store)]
    times = [now for now, _ in stores]
    assert times[:2] == pytest.approx([0, STORE_AGAIN], abs=0.11)
    assert all(80 - 0.2 <= b - a <= 100 + 0.2 for a, b in zip(times[1:], times[2:], strict=False))
    assert stores[0][1] == Store(dht.own, KEY, value_of(ME), EPOCH + CONFIG.t_expire)
    assert [e for e in dht.take_events() if isinstance(e, Registered)] == [Registered(KEY, 1)]


def test_a_name_that_was_registered_alone_is_stored_at_the_first_contact() -> None:
    dht = node()
    dht.register(KEY, 0)
    dht.timer(0)
    assert dht.take_events() == [Registered(KEY, 0)]
    dht.receive(FindNode(Contact(B_ID, B), 5, OTHER), 10)
    assert (B, Store(dht.own, KEY, value_of(ME), EPOCH + 10 + CONFIG.t_expire)) in dht.take_packets()
    assert dht.take_events() == [Registered(KEY, 1)]


def test_a_name_that_is_taken_back_is_taken_from_those_that_keep_it() -> None:
    net = Net()
    for address in range(1, 7):
        net.add(address, peer=max(0, address - 1))
    net.nodes[3].register(KEY, 0)
    net.run(10)
    assert net.find(6) == (3,)
    net.nodes[3].unregister(KEY, net.now)
    net.nodes[3].unregister(OTHER, net.now)
    net.run(1)
    assert all(not dht.values.get(KEY) for dht in net.nodes.values())
    assert net.find(6) == ()


def test_a_keeper_that_did_not_hear_of_it_asks_the_owner() -> None:
    net = Net()
    for address in (1, 2, 3):
        net.add(address, peer=address - 1)
    net.nodes[1].register(KEY, 0)
    net.run(10)
    net.drop = lambda source, target, message: isinstance(message, Store) and message.expires == EXPIRED
    net.nodes[1].unregister(KEY, net.now)
    net.run(1)
    assert net.nodes[2].values.get(KEY) == [1]
    net.run(1.25 * CONFIG.t_replicate + 5)
    assert net.nodes[2].values.get(KEY) == []


def test_the_name_of_a_dead_owner_goes_long_before_it_expires() -> None:
    net = Net()
    for address in (1, 2, 3):
        net.add(address, peer=address - 1)
    net.nodes[1].register(KEY, 0)
    net.run(10)
    net.dead.add(1)
    net.run(5 * CONFIG.t_replicate)
    assert net.nodes[2].values.count == net.nodes[3].values.count == 0


def test_the_name_of_a_prototype_that_stores_once_is_copied_to_those_that_are_nearest_now() -> None:
    dht = acquainted()
    dht.receive(Store(Contact(C_ID, C), KEY, value_of(C), EPOCH + 3000), 0)
    stores: list[Message] = []
    for step in range(0, 1300, 5):
        sent = answer_all(dht, step / 10, values=(C,))
        stores += [message for message in sent if isinstance(message, Store)]
    assert stores == [Store(dht.own, KEY, value_of(C), EPOCH + 3000)]
    assert dht.values.get(KEY) == [C]


def test_a_value_that_does_not_belong_here_is_copied_to_where_it_does() -> None:
    net = Net()
    config = DhtConfig(k=3, t_expire=3600, t_refresh=100, t_replicate=100)
    for address in range(1, 21):
        net.add(address, peer=max(0, address - 1), config=config)
        net.run(0.1)
    net.run(40)
    by_distance = sorted(net.nodes.values(), key=lambda dht: number(dht.own.id) ^ number(KEY))
    nearest, farthest = by_distance[:3], by_distance[-1]
    owner = next(dht for dht in by_distance[5:] if dht is not farthest)
    store = Store(owner.own, KEY, value_of(owner.own.address), EPOCH + 3000)
    farthest.receive(store, net.now)  # as a prototype does: to anybody
    assert net.find(by_distance[8].own.address) == ()
    net.run(5)
    assert all(dht.values.get(KEY) == [owner.own.address] for dht in nearest)
    assert net.find(by_distance[8].own.address) == (owner.own.address,)


def test_several_members_may_have_a_name() -> None:
    net = Net()
    for address in range(1, 6):
        net.add(address, peer=max(0, address - 1))
    net.nodes[2].register(KEY, 0)
    net.nodes[4].register(KEY, 0)
    net.run(10)
    assert set(net.find(5)) == {2, 4}
    assert net.find(2) == (4,)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_name_survives_the_loss_of_any_node_but_its_own(random: Random) -> None:
    net = Net()
    for address in range(1, 26):
        net.add(address, peer=random.randrange(1, address) if address > 1 else 0)
        net.run(random.random() / 5)
    net.nodes[7].register(KEY, net.now)
    net.run(5)
    for victim in random.sample([a for a in net.nodes if a != 7], 10):
        net.dead.add(victim)
        asker = random.choice([a for a in net.nodes if a not in net.dead and a != 7])
        assert net.find(asker) == (7,)


def test_with_a_tenth_of_the_messages_lost_all_is_found_all_the_same() -> None:
    net, random = Net(), Random(3)
    net.drop = lambda source, target, message: random.random() < 0.1
    for address in range(1, 31):
        net.add(address, peer=max(0, address - 1))
        net.nodes[address].register(bytes([address]) * 32, net.now)
        net.run(0.2)
    net.run(40)
    found = [
        net.find(asker, bytes([owner]) * 32)
        for asker in (1, 15, 30)
        for owner in range(1, 31)
        if owner != asker
    ]
    assert len([addresses for addresses in found if addresses]) == len(found)


def test_an_idle_layer_is_quiet() -> None:
    net = Net()
    for address in range(1, 11):
        net.add(address, peer=max(0, address - 1))
    net.run(60)
    before = net.sent
    net.run(100)
    assert (net.sent - before) / 10 < 150  # messages of each node in a round of t_refresh


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
