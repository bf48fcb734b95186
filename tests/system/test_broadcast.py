"""Broadcast layers of several members on one system, over a local layer (paper 2.13, 5.10; spec/broadcast)."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.system.conftest import Program, System

HELLO = "Hello multiple worlds"


class Layer:
    """A broadcast layer on one system. Applications join by its first member that lives."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.members: list[str] = []
        system.local_layer()

    def line(self, count: int) -> Layer:
        for _ in range(count):
            self.add(*self.members[-1:])
        return self

    def add(self, *neighbours: str, name: str = "") -> str:
        """A new member, connected with these; the first one enrols it. Without any it makes the layer."""
        irm, name = self.system.irm, name or f"bc{len(self.members) + 1}"
        if not self.members:
            irm(f"ipcp bootstrap name {name} layer broadcast type broadcast autobind")
            irm("name register broadcast layer local")
        else:
            irm(f"ipcp enroll name {name} layer broadcast type broadcast dst {neighbours[0]} autobind")
        irm(f"name register {name} layer local")
        self.members.append(name)
        for neighbour in neighbours:
            irm(f"ipcp connect name {name} dst {neighbour} component dt")
        return name

    def readout(self, name: str, what: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.system.json(f"ipcp {what} name {name}")[what]
        return rows

    def counter(self, name: str, counter: str) -> int:
        rows = self.readout(name, "counters")
        return sum(
            row["value"] for row in rows if (row["component"], row["counter"]) == ("data transfer", counter)
        )

    def kill(self, name: str, *notice: str) -> None:
        """Kill an IPCP; the log reports it, and others notice it."""
        (ipcp,) = self.system.json(f"ipcp list name {name}")["ipcps"]
        self.system.kill(ipcp["pid"])
        self.system.irmd.expect_all(rf"IPCP {name} \(pid {ipcp['pid']}\) has ended", *notice)

    def flows(self) -> list[tuple[str, str, int]]:
        """State and layer of each flow, and how many ends it has."""
        flows = self.system.json("flow list")["flows"]
        return sorted((flow["state"], flow["layer"], len(flow["ends"])) for flow in flows)

    def read(self, *args: str) -> Program:
        reader = self.system.spawn("obc", "-l", "-n", "broadcast", *args)
        if not {"-q", "--json"} & set(args):
            reader.expect("New flow.")
            return reader
        while self.readout("bc1", "status")[0]["joined"] == 0:
            assert reader.running
        return reader

    def say(self, *words: str) -> None:
        assert self.system.run("obc", "-n", "broadcast", *words).stdout == ""


@pytest.fixture
def layer(system: System) -> Layer:
    return Layer(system)


def test_readers_print_what_the_paper_shows(layer: Layer) -> None:
    """Listings 15 to 17."""
    layer.line(1)
    readers = [layer.read("-c", "2") for _ in range(3)]
    layer.say("-m", HELLO)
    layer.say()
    for reader in readers:
        assert reader.wait() == 0
        assert reader.output.splitlines() == [
            "Starting a reader.",
            "New flow.",
            f"Message is {HELLO}.",
            "Message is Ouroboros multicast rocks!.",
        ]


def test_packets_go_to_the_other_end_of_the_layer(layer: Layer) -> None:
    layer.line(3)
    reader = layer.read("-c", "20", "--json")
    layer.say("-m", HELLO, "-c", "20", "-i", "1")
    assert reader.wait() == 0
    heard = [json.loads(line) for line in reader.output.splitlines()]
    assert [one["number"] for one in heard] == list(range(1, 21))
    assert {(one["message"], one["length"]) for one in heard} == {(HELLO, len(HELLO) + 1)}
    # bc1 has reader, writer and bc2; bc2 has bc1 and bc3; bc3 has bc2 only, and no further neighbour
    assert [layer.counter(name, "sent") for name in layer.members] == [40, 20, 0]
    assert [layer.counter(name, "received") for name in layer.members] == [20, 20, 20]
    assert all(layer.counter(name, "dropped") == 0 for name in layer.members)


def test_what_there_is_to_see(layer: Layer) -> None:
    layer.line(3)
    layer.read()
    (status,) = layer.readout("bc1", "status")
    assert (status["layer"], status["neighbours"], status["joined"]) == ("broadcast", 1, 1)
    rows = layer.readout("bc2", "neighbours")
    assert sorted((row["name"] or "", row["state"], row["layer"], row["timeout_ms"]) for row in rows) == [
        ("", "up", "local", 120000),
        ("bc1", "up", "local", 120000),
    ]
    trees = {layer.readout(name, "status")[0]["tree"] for name in layer.members}
    assert len(trees) == 1 and None not in trees
    wrong = layer.system.irm("ipcp routes name bc1", check=False)
    assert wrong.returncode == 1 and 'no read-out "routes"' in wrong.stderr


def test_an_adjacency_that_would_close_a_loop_is_refused(layer: Layer) -> None:
    layer.line(3)
    irm = layer.system.irm
    for name, dst in (("bc3", "bc1"), ("bc1", "bc3"), ("bc2", "bc3"), ("bc1", "bc2")):
        refused = irm(f"ipcp connect name {name} dst {dst}", check=False)
        assert refused.returncode == 1 and "it would close a loop" in refused.stderr
    assert irm("ipcp connect name bc3 dst bc2", check=False).returncode == 1
    irm("ipcp disconnect name bc3 dst bc2")
    irm("ipcp connect name bc3 dst bc1")
    assert [len(layer.readout(name, "neighbours")) for name in layer.members] == [2, 1, 1]


def test_wrong_enrolments_leave_nothing(layer: Layer) -> None:
    """Refused with the reason on both sides; no IPCP, no flow."""
    layer.line(1)
    irm = layer.system.irm
    flows = layer.flows()
    for words, text in (
        ("name x layer other dst bc1 type broadcast", 'not of "other"'),
        ("name x dst bc1 type unicast", '"broadcast" is a layer of type broadcast, not unicast'),
        ("name x dst nowhere type broadcast", "nowhere"),
    ):
        refused = irm(f"ipcp enroll {words}", check=False)
        assert refused.returncode == 1 and text in refused.stderr
    layer.system.irmd.expect('a newcomer was not enrolled: .*not of "other"')
    layer.system.irmd.expect("a newcomer was not enrolled: .*not unicast")
    assert [ipcp["name"] for ipcp in layer.system.json("ipcp list")["ipcps"]] == ["local", "bc1"]
    assert layer.flows() == flows
    refused = irm("ipcp bootstrap name y layer z type broadcast hash SHA3_512", check=False)
    assert refused.returncode == 2 and "SHA3" in refused.stderr


def test_the_middle_of_a_line_is_killed_and_comes_back(layer: Layer) -> None:
    """Its neighbours notice; the one that had connected to it connects again by itself, and packets pass."""
    layer.line(3)
    layer.kill(
        "bc2",
        "Data Transfer is not connected to a neighbour any more",
        "Data Transfer is not connected to bc2 any more",
    )
    irmd = layer.system.irmd
    reader = layer.read("-c", "1")
    layer.say("-m", "in between")
    assert reader.wait() == 0
    assert layer.readout("bc1", "neighbours") == []
    (trying,) = layer.readout("bc3", "neighbours")
    assert (trying["name"], trying["state"]) == ("bc2", "connecting")
    layer.system.irm("ipcp enroll name bc2 layer broadcast type broadcast dst bc1 autobind")
    layer.system.irm("ipcp connect name bc2 dst bc1")
    irmd.expect("Data Transfer is connected to bc2 again")
    before = layer.counter("bc3", "received")
    layer.say("-m", "again")
    while layer.counter("bc3", "received") == before:
        pass
    assert layer.counter("bc3", "received") == before + 1


def test_the_member_by_which_one_joined_is_killed(layer: Layer) -> None:
    layer.line(2)
    reader = layer.read()
    layer.kill("bc1")
    assert reader.wait() == 1 and 'the flow to "broadcast" ended' in reader.output
    again = layer.read("-c", "1")
    layer.say("-m", "by the other one")
    assert again.wait() == 0


def test_a_reader_that_does_not_read_delays_nobody(layer: Layer) -> None:
    layer.line(2)
    sleeper = layer.system.python("""
        import signal
        from ouroboros.dev import flow_join
        flow = flow_join("broadcast")
        print("joined", flush=True)
        signal.pause()
    """)
    sleeper.expect("joined")
    reader = layer.read("-c", "3000")
    writer = layer.system.python("""
        from ouroboros.dev import flow_join
        with flow_join("broadcast") as flow:
            flow.snd_timeout = 30
            print(flow.max_packet, flow.qos.timeout, flow.qos.in_order)
            try:
                flow.write(bytes(1400))
            except OSError as error:
                print("refused", flush=True)
            while True:  # a reader that prints is slower than this, and misses some
                flow.write(b"x\\0")
    """)
    writer.expect("refused")
    assert reader.wait() == 0
    writer.kill()
    assert writer.output.splitlines() == ["1399 0 0", "refused"]
    assert layer.counter("bc1", "dropped") > 0


def test_a_layer_that_is_not_there(system: System) -> None:
    for words in ("-n nowhere", "-l -n nowhere"):
        failed = system.run("obc", *words.split(), check=False)
        assert failed.returncode == 1 and "Failed to join broadcast." in failed.stderr
    assert system.run("obc", check=False).returncode == 2
    system.local_layer()
    failed = system.run("obc", "-n", "local", check=False)
    assert failed.returncode == 1 and "not a broadcast layer" in failed.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_reader_is_ended_by_signals(layer: Layer, number: signal.Signals) -> None:
    layer.line(1)
    reader = layer.read()
    reader.signal(number)
    assert reader.wait() == 0
    counted = layer.read("-c", "5")
    counted.signal(number)
    assert counted.wait() == 1


def test_the_system_ends_while_members_are_connected(layer: Layer) -> None:
    layer.line(3)
    assert layer.read().running  # the fixture checks that nothing is left
