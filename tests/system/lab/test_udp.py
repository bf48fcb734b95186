"""udp4 and udp6 between systems of their own: a cable with an MTU, its own /etc/hosts, a cut; unicast over it."""

from __future__ import annotations

import re

import pytest
from ouroboros_tools.olab.description import Description, SystemSpec, veth

from tests.system.lab.conftest import LabOfTest, MakeLab, SystemOfTest

ENDS = {"udp4": ("10.7.0.1", "10.7.0.2", 24), "udp6": ("fd07::1", "fd07::2", 64)}


def pair(kind: str, *names: str, mtu: int = 1500) -> Description:
    """Two systems; the names are at the second."""
    one, other, prefix = ENDS[kind]
    known = dict.fromkeys(names, other)
    return Description(
        name="udp",
        systems=(SystemSpec(name="a", names=known), SystemSpec(name="b", names=known)),
        links=(veth("a", "b", name="ab", addresses=(f"{one}/{prefix}", f"{other}/{prefix}"), mtu=mtu),),
    )


def joined(lab: LabOfTest, kind: str) -> tuple[SystemOfTest, SystemOfTest]:
    a, b = lab.system("a"), lab.system("b")
    for system, address in zip((a, b), ENDS[kind], strict=False):
        system.irm(f"ipcp bootstrap type {kind} name udp layer net ip {address}")
    return a, b


def serve(system: SystemOfTest, name: str = "oping", layer: str = "net") -> None:
    system.irm(f"bind program oping name {name} auto -- --listen --quiet")
    system.irm(f"name register {name} layer {layer}")


def counters(system: SystemOfTest) -> dict[str, int]:
    return {row["counter"]: row["value"] for row in system.json("ipcp counters name udp")["counters"]}


def received(output: str) -> int:
    found = re.search(r"(\d+) received", output)
    assert found, output
    return int(found[1])


ECHO = """
import os
from ouroboros import flow_accept
print("pid", os.getpid(), flush=True)
for packet in (flow := flow_accept()):
    flow.write(packet)
"""
ASK = """
import os
from ouroboros import flow_alloc
with flow_alloc("echo") as flow:
    flow.rcv_timeout = 30
    for size in {sizes}:
        packet = os.urandom(size)
        flow.write(packet)
        assert flow.read(65536) == packet, size
"""


@pytest.mark.parametrize("kind", list(ENDS))
@pytest.mark.parametrize("mtu", [1500, 1280])
def test_packets_of_every_size(make_lab: MakeLab, kind: str, mtu: int) -> None:
    """Smaller than the MTU, larger, and the largest; and the program is started when the first flow comes."""
    a, b = joined(make_lab(pair(kind, "oping", "echo", mtu=mtu)), kind)
    serve(b)
    for size in (64, 1200, 1468, 1473, 1500):
        done = a.run("oping", "-n", "oping", "-c", "3", "-i", "1", "-s", str(size))
        assert received(done.stdout) == 3, size
    largest = {"udp4": 8976, "udp6": 8948}[kind]
    with b.python(ECHO) as server:
        b.irm(f"bind process {server.expect('pid ([0-9]+)')[1]} name echo")
        b.irm("name register echo layer net")
        with a.python(ASK.format(sizes=(64, 1473, 4000, largest))) as client:
            assert client.wait() == 0, client.output
    assert counters(a)["message_size"] == counters(b)["message_size"] == 0


SINK = """
import os
from ouroboros import flow_accept
print("pid", os.getpid(), flush=True)
flow = flow_accept()
for size in (500, 1400, 3000, 8000):
    for _ in range(4):
        got = []
        while len(got) < 16:
            got += flow.readv(16)
        assert [len(packet) for packet in got] == [size] * 16, got
        flow.write(b"more")
    print(size, "came", flush=True)
"""
SOURCE = """
from ouroboros import flow_alloc
with flow_alloc("sink") as flow:
    flow.rcv_timeout = 30
    for size in (500, 1400, 3000, 8000):
        for _ in range(4):
            assert flow.writev([bytes(size)] * 16) == 16
            assert flow.read() == b"more"
"""


@pytest.mark.parametrize("kind", list(ENDS))
def test_bursts_of_what_the_path_takes_and_of_what_it_does_not(make_lab: MakeLab, kind: str) -> None:
    """Runs of datagrams that are larger than the MTU go one by one, in fragments."""
    a, b = joined(make_lab(pair(kind, "sink")), kind)
    with b.python(SINK) as sink:
        b.irm(f"bind process {sink.expect('pid ([0-9]+)')[1]} name sink")
        b.irm("name register sink layer net")
        with a.python(SOURCE) as source:
            for size in (500, 1400, 3000, 8000):
                sink.expect(f"{size} came")
            assert source.wait() == 0, source.output
    found = counters(a)
    assert found["sent"] == 4 * 4 * 16 and found["message_size"] == found["failed"] == 0


@pytest.mark.parametrize("kind", list(ENDS))
def test_a_cable_is_cut(make_lab: MakeLab, kind: str) -> None:
    """Packets are lost, and no flow ends for that; when the cable is back, so are the flow and the layer."""
    lab = make_lab(pair(kind, "oping"))
    a, b = joined(lab, kind)
    serve(b)
    with a.start("oping", "-n", "oping", "-i", "10") as client:
        client.expect("seq=3")
        lab.cut("ab", silent=True)
        lab.heal("ab")
        client.expect("time=")
        client.stop(2)
    assert received(a.run("oping", "-n", "oping", "-c", "2", "-i", "1").stdout) == 2


def test_unicast_over_udp(make_lab: MakeLab) -> None:
    """The UDP part of paper 5.10, and a second flow of the pair, at which a prototype fails."""
    a, b = joined(make_lab(pair("udp4", "uni.b", "unicast")), "udp4")
    b.irm("ipcp bootstrap type unicast name uni.b layer unicast autobind ls_t_recalc 1")
    b.irm("name register uni.b layer net")
    b.irm("name register unicast layer net")
    a.irm("ipcp enroll name uni.a layer unicast autobind")
    a.irm("ipcp connect name uni.a dst uni.b")
    serve(b, layer="unicast")
    assert received(a.run("oping", "-n", "oping", "-c", "3", "-i", "1").stdout) == 3
    assert received(a.run("oping", "-n", "oping", "-c", "3", "-i", "1", "-s", "1500").stdout) == 3
    assert counters(a)["flow_requests"] >= 3, "enrolment, management, data transfer"
