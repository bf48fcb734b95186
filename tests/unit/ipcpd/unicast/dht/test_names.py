"""The names that a node of the directory keeps alive: stored again, copied, taken back, found after losses."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipcpd.unicast.dht import Registered
from ipcpd.unicast.dht.contacts import number
from ipcpd.unicast.dht.names import STORE_AGAIN
from ipcpd.unicast.dht.node import EXPIRED
from ipcpd.wire.dht import (
    Contact,
    FindNode,
    Message,
    Store,
    value_of,
)
from ouroboros.ipcp_config import DhtConfig
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
