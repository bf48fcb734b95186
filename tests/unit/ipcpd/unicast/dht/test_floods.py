"""The memory and work that members can cause in the directory: bounded, and no other member's names are lost (docs: security)."""

from __future__ import annotations

import pytest

from ipcpd.unicast.dht import Answer, exchange, values
from ipcpd.unicast.dht import node as node_module
from ipcpd.unicast.directory import MOST_KEPT, Directory
from ipcpd.unicast.timers import SWEEP
from ipcpd.wire.dht import Contact, FindNode, Store, value_of

from .nodes import B_ID, C_ID, EPOCH, KEY, ME, OTHER, B, C, acquainted

STORES = 5000


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_made_up_values_cost_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many stores as one likes, for owners that are not there: few are kept, with their timers; honest values stay."""
    monkeypatch.setattr(values, "MAX_UNREACHABLE", 100)
    dht = acquainted()
    dht.reachable({B: 1, C: 2}, 1)
    dht.receive(Store(Contact(B_ID, B), KEY, value_of(C), EPOCH + 1000), 1)
    for number in range(STORES):
        dht.receive(Store(Contact(B_ID, B), key(number), value_of(10_000 + number), EPOCH + 1000), 2)
        dht.timer(2)
        dht.take_packets()
    assert dht.values.count == 101
    assert dht.values.get(KEY) == [C]
    assert len(dht._node.timers) < 2 * (101 + SWEEP) + 200


def test_values_that_one_member_makes_up_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_PER_OWNER", 100)
    dht = acquainted()
    dht.reachable({B: 1, C: 2}, 1)
    for number in range(STORES):
        dht.receive(Store(Contact(B_ID, B), key(number), value_of(B), EPOCH + 1000), 2)
    assert dht.values.count == 100
    assert dht.counters.refused == STORES - 100
    dht.receive(Store(Contact(C_ID, C), KEY, value_of(C), EPOCH + 1000), 3)
    assert dht.values.get(KEY) == [C]


def test_lookups_for_the_values_of_others_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "MAX_LOOKUPS", 2)
    monkeypatch.setattr(node_module, "MAX_WAITING", 3)
    dht = acquainted()
    for number in range(20):
        dht._node.look_up(key(number), lambda nodes, now: None, 1, for_others=True)
    assert (len(dht._node._waiting), dht.counters.crowded) == (3, 15)
    dht.register(OTHER, 1)  # our own always wait
    assert len(dht._node._waiting) == 4


def test_questions_for_the_sake_of_others_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of values whose owners have to be asked at the same time, and nodes that are in doubt."""
    monkeypatch.setattr(exchange, "MAX_QUESTIONS", 10)
    dht = acquainted()
    for number in range(200):
        dht.receive(Store(Contact(B_ID, B), key(number), value_of(1000 + number), EPOCH + 3000), 2)
    most, now = 0, 2.0
    while now < 200:
        now += 1
        dht.timer(now)
        dht.take_packets()
        most = max(most, len(dht._node.exchange))
    assert most <= 10
    assert dht.counters.crowded > 0


def test_asking_is_known_by_the_address() -> None:
    """`asking` and `unroutable` look at the questions to one node, however many there are to others."""
    dht = acquainted()
    asked = dht._node.exchange
    for address in range(100, 160):
        dht._node.greet(address, 1)
    assert len(asked) == 60 and asked.asking(100) and not asked.asking(99)
    asked.unroutable(100, 1)
    assert len(asked) == 59 and not asked.asking(100)
    dht.timer(1 + exchange.SECOND_TRY)
    dht.timer(1 + exchange.SILENT)
    dht.timer(1 + exchange.LOST)
    assert len(asked) == 0 and not asked._by_address


def test_many_nodes_that_speak_take_bounded_memory() -> None:
    dht = acquainted()
    for number in range(3000):
        contact = Contact(((number * 2654435761) % 2**256 | 1 << 255).to_bytes(32, "big"), 100 + number)
        dht.receive(FindNode(contact, 5, KEY), 2)
        dht.take_packets()
    assert len(dht.contacts._addresses) <= 2 * dht.contacts.k * len(dht.contacts._buckets)
    assert ME not in dht.contacts._addresses


def test_what_was_found_is_kept_for_so_many_names() -> None:
    directory = Directory(
        acquainted(), key_length=32, resolved=lambda key, addresses: None, distances=lambda: {}
    )
    for number in range(MOST_KEPT + 50):
        directory._answered(Answer(key(number), (B,)), 1)
    assert len(directory._found) == MOST_KEPT
    assert directory.knows(key(MOST_KEPT), 1) and not directory.knows(key(0), 1)
