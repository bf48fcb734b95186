"""The packets of prototypes (tests/vectors) at a Python end: all data are read once and in order, and acknowledged."""

from __future__ import annotations

from collections import defaultdict

import pytest
from ouroboros_tools.ocap import frcp
from ouroboros_tools.ocap.layer import Packet

from ouroboros.testing.frcp import Frcp
from tests.unit.wire.captures import CAPTURES, dissected


def directions(name: str) -> dict[tuple[object, ...], list[tuple[Packet, frcp.Header]]]:
    """The packets with FRCP of one end of one flow, by sender and by destination endpoint id."""
    found: dict[tuple[object, ...], list[tuple[Packet, frcp.Header]]] = defaultdict(list)
    for packet in dissected(name):
        for at, layer in enumerate(packet.layers):
            if isinstance(layer.value, frcp.Header):
                below = [below.value for below in packet.layers[:at]]
                eids = [getattr(value, "eid", None) for value in below]
                key = (getattr(below[0], "source", None), getattr(below[0], "port", None), *eids)
                found[key].append((packet, layer.value))
    return found


ALL = [(name, key) for name in CAPTURES for key in directions(name)]


def is_reliable(headers: list[frcp.Header]) -> bool:
    """Where nothing is retransmitted every packet begins a data run, and acknowledges nothing (spec/frcp 5)."""
    data = [header.flags for header in headers if header.flags & frcp.Flag.DATA]
    return any(flags & frcp.Flag.ACK or not flags & frcp.Flag.DRF for flags in data)


def test_there_are_flows_with_frcp() -> None:
    assert {name for name, _ in ALL} == {
        "c-stale-forwarding-after-reconnect.pcap",
        "h1.pcap",
        "h2.pcap",
        "h5.pcap",
        "mixed-unicast-c-boots-ours-enrols.pcap",
        "oping-eth.pcap",
        "qos.pcap",
        "t3.pcap",
        "unicast-enroll-eth.pcap",
    }
    assert len(ALL) >= 14


@pytest.mark.parametrize(("name", "key"), ALL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_an_end_of_ours_reads_what_a_prototype_wrote(name: str, key: tuple[object, ...]) -> None:
    packets = directions(name)[key]
    written = {
        header.sequence: packet.data for packet, header in packets if header.flags & frcp.Flag.DATA
    }  # by number: a retransmission counts once
    reliable = is_reliable([header for _, header in packets])
    now = packets[0][0].captured.time
    end = Frcp(now, retransmit=reliable, first=0x7FFFFFF0)
    read = []
    for packet, header in packets:
        now = packet.captured.time
        end.run(now)
        end.receive(header.encode(packet.data), now)
        while (data := end.read(now)) is not None:
            read.append(data)
        end.run(now)
    assert read == [written[seq] for seq in sorted(written)]
    assert end.c.counters.refused == 0  # what it acknowledges, this end never sent: counted as malformed
    if reliable:
        end.run(now + 20_000_000)
        last, _ = frcp.Header.decode(end.out[-1])
        assert last.flags & frcp.Flag.ACK and last.acknowledgement == max(written) + 1
