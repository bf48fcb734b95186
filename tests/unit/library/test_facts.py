"""Declarations of facts: what is counted and what is declared are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import pytest

from ipcpd.common import connection, enrol, lower
from ipcpd.dataplane import broadcast, dt, eth, punt
from ipcpd.dataplane._ipcp import ffi
from ipcpd.link import fa as link_fa
from ipcpd.unicast import fa, link_state
from ipcpd.unicast.dht import node
from ouroboros import facts
from ouroboros.facts import Fact, Group, Kind, Table


class Counted(NamedTuple):
    """Where the values of a group are, and the counters of the group that are elsewhere."""

    group: Group
    names: Sequence[str]
    others: Sequence[str] = ()


def named(counters: Any) -> list[str]:
    return [field.name for field in fields(counters)]


def struct(name: str) -> list[str]:
    return [name for name, _ in ffi.typeof(f"struct {name}").fields or ()]


COUNTED = (
    Counted(facts.DT_CUBE, dt.DtCounters._fields),
    Counted(facts.DT_FLOW, dt.FlowCounters._fields),
    Counted(facts.UNICAST_FA, named(fa.Counters), ["congestion_malformed"]),
    Counted(facts.LINK_STATE, named(link_state.Counters), ["unsent"]),
    Counted(facts.DIRECTORY, named(node.Counters)),
    Counted(facts.CONNECTIONS, named(connection.Counters)),
    Counted(facts.LOWERS, named(lower.Counters)),
    Counted(facts.ENROLMENT, named(enrol.Counters)),
    Counted(facts.PUNT, punt.PuntCounters._fields),
    Counted(facts.BROADCAST_DT, broadcast.BroadcastCounters._fields, ["defects"]),
    Counted(
        facts.FRAMES,
        [
            *(name for name in eth.EthCounters._fields if name != "dropped"),
            *(f"dropped_{reason}" for reason in eth.DROPS),
        ],
        ["foreign", "unasked", "unsent", "cut"],
    ),
    Counted(facts.DATAGRAMS, struct("udp_counters"), ["unsent"]),
    Counted(facts.LINK_FA, [f"flow_{name}" for name in named(link_fa.Counters)]),
)


@pytest.mark.parametrize(
    "counted", COUNTED, ids=lambda counted: f"{counted.group.component} {counted.group.types[0]}"
)
def test_every_counter_is_declared_in_its_order(counted: Counted) -> None:
    assert [fact.name for fact in counted.group.facts] == [*counted.names, *counted.others]


def test_an_undeclared_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="weather"):
        facts.MACHINES.rows({"defects": 0, "weather": 1})
    with pytest.raises(KeyError, match="defects"):
        facts.MACHINES.rows({})
    with pytest.raises(KeyError, match="weather"):
        facts.LINK_DIRECTORY.row(name="n", weather=1)


def test_a_row_has_all_columns_in_order() -> None:
    row = facts.ROUTES.row(fds=[64], address="1.2.3.4")
    assert list(row) == ["address", "distance", "cube", "next", "fds"] and row["distance"] is None


def all_facts() -> list[tuple[Group | Table, Fact]]:
    return [(declared, fact) for declared in (*facts.GROUPS, *facts.TABLES) for fact in declared.facts]


def test_every_fact_is_explained_and_unique() -> None:
    for declared in (*facts.GROUPS, *facts.TABLES):
        names = [fact.name for fact in declared.facts]
        assert len(set(names)) == len(names), declared
        assert declared.help and all(fact.help for fact in declared.facts), declared
        assert declared in facts.GROUPS or set(declared.key) <= set(names)  # type: ignore[union-attr]
    assert all(fact.states == () for _, fact in all_facts() if fact.kind is not Kind.STATE)


def test_no_read_out_of_a_type_is_declared_twice() -> None:
    for type_name in {name for table in facts.TABLES for name in table.types}:
        words = [table.what for table in facts.TABLES if type_name in table.types]
        assert len(set(words)) == len(words)


def test_the_group_of_a_row() -> None:
    assert facts.group_of("unicast", "data transfer", "voice", "sent") is facts.DT_CUBE
    assert facts.group_of("unicast", "data transfer", "flow 66", "sent") is facts.DT_FLOW
    assert facts.group_of("unicast", "data transfer", "", "keepalives") is facts.DT_MEMBER
    assert facts.group_of("broadcast", "data transfer", "", "sent") is facts.BROADCAST_DT
    assert facts.group_of("udp4", "late messages", "", "ipcp_flow_dealloc") is facts.LATE
    assert facts.group_of("unicast", "data transfer", "voice", "weather") is None
