"""Captures of mixed networks: the behaviour of live prototypes, which Python members must handle, and which the prototype of the tests imitates.

The judge also checks the Python members' packets in them, which live prototypes survived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from . import lower, upper
from .capture import Sent, sent
from .judge import Judge
from .link import LINGER, Link
from .lower import Config, Qos
from .names import Flow, Names, Process
from .octets import Wrong
from .routing import Routing

FORWARDING = "c-stale-forwarding-after-reconnect.pcap"
DIRECTORY = "c-stale-directory-after-restart.pcap"
MIXED = "mixed-unicast-c-boots-ours-enrols.pcap"
DATA_TRANSFER = b"\x0a\x0dData Transfer"


def records(packets: list[Sent]) -> list[int]:
    """Where the records of data transfer connections are."""
    return [number for number, packet in enumerate(packets) if packet.payload.startswith(DATA_TRANSFER)]


def transferred(packets: list[Sent]) -> list[tuple[Sent, upper.Packet]]:
    """The packets of data transfer, with what they are."""
    found = []
    for packet in packets:
        octets = packet.payload
        if (
            packet.eid
            and len(octets) > upper.DT.size
            and octets[:1] != b"\x0a"
            and len(octets) not in (24, 32)
        ):
            found.append((packet, upper.read_packet(octets, 60)))
    return found


# ---------------------------------------------------------------- routes


def test_a_prototype_sends_into_the_old_flow_after_it_connected_anew() -> None:
    packets = sent(FORWARDING)
    first, _, again, answer = records(packets)
    prototype, ours = packets[again].source, packets[answer].source
    old, new = packets[first + 1].eid, packets[again].eid
    assert (
        packets[first].source == ours and old != new
    )  # ours asked for the first flow, and the prototype for the second
    behind = transferred(packets[answer:])
    assert {packet.eid for packet, _ in behind if packet.source == prototype} == {old}
    asked = [packet.eid for packet, _ in behind if packet.source == ours]
    assert len(asked) == 9 and len(set(asked)) == 1  # ours asks the directory, over the new flow


def routing(run: Callable[[Routing, Judge], Any], config: Config | None = None) -> None:
    """Do something with a prototype's routing whose address is 1."""

    async def live() -> None:
        judge = Judge()
        machine = Routing(1, config or Config(), judge, lambda: None)
        try:
            await run(machine, judge)
        finally:
            machine.close()
        judge.verdict()

    asyncio.run(live())


def flow() -> Flow:
    return Flow(64, lower.NO_QOS, lambda packet: None)


def test_so_does_the_prototype_of_the_tests() -> None:
    async def run(machine: Routing, judge: Judge) -> None:
        old, new, mgmt = flow(), flow(), flow()
        machine.mgmt_added(mgmt)
        machine.dt_added(2, old)
        mgmt.arrived(upper.Link(1, 2, 0).write())
        assert machine.next_hops == {2: old}
        machine.dt_added(2, new)
        mgmt.arrived(upper.Link(1, 2, 1).write())
        assert machine.next_hops == {2: old}
        # A link that it does not know makes it look, though it carries nothing.
        mgmt.arrived(upper.Link(3, 2, 0).write())
        assert machine.next_hops == {2: new}

    routing(run)


def test_it_does_not_look_when_a_link_ages() -> None:
    async def run(machine: Routing, judge: Judge) -> None:
        mgmt = flow()
        machine.mgmt_added(mgmt)
        machine.dt_added(2, flow())
        mgmt.arrived(upper.Link(1, 2, 0).write())
        while (1, 2) in machine.database:
            await asyncio.sleep(0.01)
        assert machine.next_hops.keys() == {2}

    routing(run, Config(t_update=0, t_timeo=0, t_recalc=0))


def test_it_looks_after_it_has_disconnected_itself() -> None:
    async def run(machine: Routing, judge: Judge) -> None:
        mgmt = flow()
        machine.mgmt_added(mgmt)
        for neighbour in (2, 3):
            machine.dt_added(neighbour, flow())
            mgmt.arrived(upper.Link(1, neighbour, 0).write())
        machine.dt_removed(3)
        while 3 in machine.next_hops:
            await asyncio.sleep(0.01)
        assert machine.next_hops.keys() == {2}

    routing(run, Config(t_recalc=0))


# ---------------------------------------------------------------- the directory


def test_a_prototype_asks_the_old_address_of_a_member_that_came_back() -> None:
    packets = sent(DIRECTORY)
    first, _, again, _ = records(packets)
    old, new = (lower.read_cep(packets[number].payload).address for number in (first, again))
    prototype = packets[first + 1].source
    stored, asked = [], []
    for packet, inner in transferred(packets[again:]):
        if inner.eid == upper.DIRECTORY and packet.source != prototype:
            message = upper.read_dht(inner.payload, 32)
            stored += [message.value] if message.code == upper.STORE else []
        elif inner.eid == upper.FLOW_ALLOCATOR and packet.source == prototype:
            asked += [inner.dst] if upper.read_fa(inner.payload, 32).code == upper.REQUEST else []
    assert set(stored) == {new.to_bytes(8, "big")}  # the Python member sends its address
    assert len(asked) == 4 and set(asked) == {old}


# ---------------------------------------------------------------- endpoint ids


def test_endpoint_ids_go_up_after_ordered_flows() -> None:
    """The descriptor in each id: that of a raw flow is reused immediately, and that of an ordered one is not."""
    descriptors = []
    for _packet, inner in transferred(sent(MIXED)):
        if inner.eid == upper.FLOW_ALLOCATOR:
            message = upper.read_fa(inner.payload, 32)
            if message.code == upper.REQUEST:
                descriptors.append((message.qos.in_order, message.eid & 0xFFFF))
    ordered = [eid for in_order, eid in descriptors if in_order]
    assert len(ordered) > 1 and len(set(ordered)) == len(ordered), descriptors


def test_so_do_those_of_the_prototype_of_the_tests() -> None:
    async def run() -> None:
        link = Link(Names(), Judge(), {}, ip="127.0.0.1", port=0)
        try:
            for qos, expected in ((lower.RAW, 64), (lower.RAW, 64), (Qos(in_order=1), 64), (lower.RAW, 65)):
                eid = link.take()
                assert eid == expected
                link.open(eid, qos, ("127.0.0.1", 1), 0).flow.deallocate()
            link.expire(LINGER)
            assert link.take() == 64
        finally:
            link.close()

    asyncio.run(run())


# ---------------------------------------------------------------- processes


def test_a_killed_process_is_granted_flows() -> None:
    async def run() -> None:
        process = Process()
        process.kill()
        offer = await process.accepting()
        assert offer is not None and not offer.done()

    asyncio.run(run())


# ---------------------------------------------------------------- the judge


@pytest.mark.parametrize("name", [FORWARDING, DIRECTORY, MIXED])
def test_the_judge_passes_what_live_prototypes_survived(name: str) -> None:
    """Every packet of data transfer, link state and connections, of either side; requests are as old as their replies imply."""
    packets = sent(name)
    seen = 0
    for packet in packets:
        octets = packet.payload
        if packet.eid == 0 or not octets:
            continue
        seen += 1
        try:
            look(octets)
        except Wrong as wrong:
            raise AssertionError(f"{wrong}: {octets.hex()}") from None
    assert seen > 100


def look(octets: bytes) -> None:
    """Read a packet that is not for eid 0 with the judge's readers."""
    if octets[:1] == b"\x0a":
        if octets[1:2] == b"\x08":
            return  # enrolment: three messages that begin alike
        lower.read_cep(octets)
    elif len(octets) in (24, 32):
        upper.read_link(octets, own=0)
    else:
        inner = upper.read_packet(octets, 60)
        if inner.eid == upper.FLOW_ALLOCATOR:
            upper.read_fa(inner.payload, 32)
        elif inner.eid == upper.DIRECTORY:
            upper.read_dht(inner.payload, 32)
