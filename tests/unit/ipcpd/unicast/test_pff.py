"""Forwarding tables: which descriptor a packet leaves by."""

from __future__ import annotations

from ipcpd.unicast.pff import alternate, multipath, simple
from ipcpd.unicast.pff.table import MAX_FDS, Function, Table

ROUTES = {20: (2, 3), 30: (3,), 40: (4,), 50: (4, 3)}
NEIGHBOURS = {2: (64, 65), 3: (66,)}


def test_simple_has_one_descriptor_and_leaves_out_what_has_none() -> None:
    table = simple.table(ROUTES, NEIGHBOURS)
    assert (table.function, table.entries) == (Function.SIMPLE, {20: (64,), 30: (66,), 50: (66,)})
    assert table.next_hop(20, down={64}, turn=3) == 64
    assert table.next_hop(40) is None


def test_alternate_prefers_another_flow_to_the_same_neighbour_and_comes_back() -> None:
    table = alternate.table(ROUTES, NEIGHBOURS)
    assert table.entries == {20: (64, 65, 66), 30: (66,), 50: (66,)}
    assert [table.next_hop(20, down=down, turn=9) for down in ((), {64}, {64, 65}, {64, 65, 66}, {66})] == [
        64,
        65,
        66,
        None,
        64,
    ]
    assert table.next_hop(99) is None


def test_multipath_takes_each_in_turn_that_is_up() -> None:
    table = multipath.table(ROUTES, NEIGHBOURS)
    assert [table.next_hop(20, turn=turn) for turn in range(5)] == [64, 65, 66, 64, 65]
    assert [table.next_hop(20, turn=turn, down={65}) for turn in range(4)] == [64, 66, 64, 66]
    assert table.next_hop(30, down={66}) is None


def test_an_entry_is_bounded_and_names_a_descriptor_once() -> None:
    table = multipath.table({9: (1, 2, 1)}, {1: tuple(range(64, 70)), 2: tuple(range(68, 80))})
    assert table.entries[9] == tuple(range(64, 64 + MAX_FDS))


def test_an_empty_table_drops_everything() -> None:
    assert Table(Function.MULTIPATH).next_hop(1) is None
