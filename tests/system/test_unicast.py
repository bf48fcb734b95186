"""Unicast layers of several members on one system, over a local layer (paper 5.10; spec/dt): daemons and tools as users have them."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.system.conftest import MakeSystem, Program, System

SERVER = """
    import sys
    from ouroboros.dev import flow_accept
    print("ready", flush=True)
    while True:
        flow = flow_accept()
        with flow:
            print("accepted", flow.max_packet, flow.qos.delay, flush=True)
            while packet := flow.read():
                flow.write(packet)
"""


class Layer:
    """A unicast layer on one system: `line` makes members that are connected one behind the other."""

    def __init__(self, system: System, **options: str) -> None:
        self.system = system
        self.options = " ".join(f"{key} {value}" for key, value in options.items())
        self.members: list[str] = []
        system.local_layer()

    def line(self, count: int, *, connect: str = "") -> Layer:
        for _ in range(count):
            self.add(*self.members[-1:], connect=connect)
        return self

    def add(self, *neighbours: str, connect: str = "") -> str:
        """A new member, connected with these; the first one enrols it."""
        irm, name = self.system.irm, f"uni{len(self.members) + 1}"
        if not self.members:
            irm(f"ipcp bootstrap name {name} layer unicast type unicast autobind {self.options}")
        else:
            irm(f"ipcp enroll name {name} type unicast dst {neighbours[0]} autobind")
        irm(f"name register {name} layer local")
        self.members.append(name)
        for neighbour in neighbours:
            irm(f"ipcp connect name {name} dst {neighbour} {connect}")
        return name

    def readout(self, name: str, what: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.system.json(f"ipcp {what} name {name}")[what]
        return rows

    def counter(self, name: str, component: str, counter: str, of: str = "") -> int:
        rows = self.readout(name, "counters")
        return sum(
            row["value"]
            for row in rows
            if (row["component"], row["counter"]) == (component, counter) and of in row["of"]
        )

    def pid(self, name: str) -> int:
        return int(self.system.json(f"ipcp list name {name}")["ipcps"][0]["pid"])

    def serve(self, name: str, *members: str) -> Program:
        """An oping server whose name is registered with these members only."""
        server = self.system.spawn("oping", "-l")
        server.expect("started")
        self.system.irm(f"bind process {server.pid} name {name}")
        for member in members:
            self.system.irm(f"name register {name} ipcp {member}")
        return server

    def ping(self, name: str, *arguments: str, check: bool = True) -> str:
        """Over the layer: without --layer two processes of one system need none."""
        result = self.system.run("oping", "-n", name, "--layer", "unicast", *arguments, check=check)
        return result.stdout + result.stderr

    def pings(self, name: str, count: int = 3) -> None:
        assert f"{count} packets transmitted, {count} received" in self.ping(
            name, "-c", f"{count}", "-i", "10"
        )


@pytest.fixture
def layer(system: System) -> Layer:
    return Layer(system)


# ---------------------------------------------------------------- a name is found, and a flow comes about


def test_two_members(layer: Layer) -> None:
    layer.line(2)
    layer.serve("server", "uni1")
    layer.pings("server")  # immediately: no waiting for a stable state
    for name in layer.members:
        (status,) = layer.readout(name, "status")
        assert (status["layer"], status["members"], status["neighbours"]) == ("unicast", 2, 1)
        rows = layer.readout(name, "neighbours")
        assert sorted(row["component"] for row in rows) == ["dt", "mgmt"]
        assert {(row["state"], row["layer"]) for row in rows} == {("up", "local")}


def test_a_name_at_one_end_is_found_at_the_other(layer: Layer) -> None:
    layer.line(3)
    layer.serve("server", "uni3")
    layer.pings("server", 50)
    # The request goes to the first member: the packets went through the second.
    assert layer.counter("uni2", "data transfer", "forwarded") >= 100
    assert layer.counter("uni3", "data transfer", "delivered") >= 50
    assert {row["distance"] for row in layer.readout("uni1", "routes")} == {1, 2}
    assert [row["kept"] for row in layer.readout("uni3", "directory")] == ["own"]


def test_a_single_member_reaches_itself(layer: Layer) -> None:
    layer.line(1)
    layer.serve("server", "uni1")
    layer.pings("server")


def test_names_come_and_go(layer: Layer) -> None:
    layer.line(3)
    assert "does not know the name" in layer.ping("server", "-c", "1", check=False)
    layer.serve("server", "uni3")
    layer.pings("server")
    layer.system.irm("name unregister server ipcp uni3")
    refused = layer.ping("server", "-c", "1", check=False)
    assert "-1007" in refused  # not known, and not a time-out
    layer.system.irm("name register server ipcp uni2")
    layer.pings("server")


def test_nobody_accepts(layer: Layer) -> None:
    """A name that is registered, with nothing bound to it, is refused immediately and not after 20 s of silence."""
    layer.line(2)
    layer.system.irm("name create nobody")
    layer.system.irm("name register nobody ipcp uni2")
    assert "refused the flow" in layer.ping("nobody", "-c", "1", check=False)
    assert layer.counter("uni2", "flow allocator", "refused") == 1
    (status,) = layer.readout("uni1", "status")
    assert status["flows"] == 0


def test_anycast_goes_on_to_the_next_member(layer: Layer) -> None:
    """The nearest member that holds the name has lost its server: the other one serves."""
    layer.line(3)
    system = layer.system
    layer.serve("server", "uni2", "uni3")
    layer.pings("server")
    assert layer.counter("uni2", "flow allocator", "requests") == 1  # the nearest first
    assert layer.counter("uni3", "flow allocator", "requests") == 0
    system.irm("name unregister server ipcp uni2")
    layer.pings("server")
    assert layer.counter("uni3", "flow allocator", "requests") == 1


@pytest.mark.parametrize("routing", ["link_state", "lfa", "ecmp"])
def test_every_policy_reaches_every_member(make_system: MakeSystem, routing: str) -> None:
    layer = Layer(make_system(), routing=routing, congestion="none", hash="SHA3_512", dht_k="2")
    layer.line(3)
    assert {row["routing"] for name in layer.members for row in layer.readout(name, "status")} == {routing}
    for row in layer.readout("uni3", "status"):
        assert (row["hash"], row["congestion"]) == ("SHA3_512", "none")
    layer.serve("server", "uni3")
    layer.pings("server")


def test_cubes_travel_end_to_end(layer: Layer) -> None:
    layer.line(3)
    layer.serve("server", "uni3")
    assert "3 received" in layer.ping("server", "-c", "3", "-i", "10", "-q", "voice")
    assert layer.counter("uni2", "data transfer", "forwarded", "voice") >= 6


# ---------------------------------------------------------------- the largest packet

LARGEST = """
    import errno, sys
    from ouroboros.dev import flow_alloc
    flow = flow_alloc("server", layer="unicast")
    print(flow.max_packet)
    flow.write(bytes(flow.max_packet))
    print(len(flow.read()))
    try:
        flow.write(bytes(flow.max_packet + 1))
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


def test_the_largest_packet_of_a_layer(make_system: MakeSystem) -> None:
    layer = Layer(make_system(), max_packet="1000").line(2)
    (status,) = layer.readout("uni2", "status")
    assert status["max_packet"] == 1000  # it came with the enrolment
    server = layer.system.python(SERVER)
    server.expect("ready")
    layer.system.irm(f"bind process {server.pid} name server")
    layer.system.irm("name register server ipcp uni2")
    client = layer.system.python(LARGEST)
    assert client.wait() == 0, client.output
    assert client.output.split() == ["1000", "1000", "EMSGSIZE"]
    server.expect("accepted 1000")


def test_by_default_it_is_what_the_first_lower_flow_carries(layer: Layer) -> None:
    layer.line(2)
    rows = [row for row in layer.readout("uni1", "neighbours") if row["component"] == "dt"]
    sizes = {layer.readout(name, "status")[0]["max_packet"] for name in layer.members}
    assert sizes == {rows[0]["max_packet"] - 15}


# ---------------------------------------------------------------- what is refused


def test_enrolment_into_another_layer_is_refused_and_leaves_nothing(layer: Layer) -> None:
    layer.line(1)
    irm = layer.system.irm
    result = irm("ipcp enroll name other type unicast layer another dst uni1", check=False)
    assert result.returncode == 1 and 'layer "unicast", not of "another"' in result.stderr
    assert 'not of "another"' in layer.system.irmd.output  # and the member logs it too
    assert [ipcp["name"] for ipcp in layer.system.json("ipcp list")["ipcps"]] == ["local", "uni1"]


def test_connections_that_cannot_be_are_refused(layer: Layer) -> None:
    layer.line(2)
    irm = layer.system.irm
    for words, reason in (
        ("ipcp connect name uni2 dst nobody", "nobody"),
        ("ipcp connect name uni2 dst uni1", "already"),
        ("ipcp disconnect name uni1 dst uni2", "not connected"),
        ("ipcp disconnect name uni2 dst uni3", "not connected"),
    ):
        result = irm(words, check=False)
        assert result.returncode == 1 and reason in result.stderr, (words, result.stderr)
    for name in layer.members:
        assert len(layer.readout(name, "neighbours")) == 2


def test_wrong_options_create_nothing(system: System) -> None:
    result = system.irm("ipcp bootstrap name uni1 layer unicast type unicast max_packet 12", check=False)
    assert result.returncode == 2 and "max_packet" in result.stderr
    assert system.json("ipcp list")["ipcps"] == []


# ---------------------------------------------------------------- members and links that go


def ring(layer: Layer, *, connect: str = "") -> None:
    """Four members in a ring: 1 - 2 - 3 - 4 - 1."""
    layer.line(3, connect=connect)
    layer.add("uni3", "uni1", connect=connect)


def until(layer: Layer, name: str, **wanted: object) -> None:
    """Wait until the status of a member is as wanted; a program asks, so that pytest need not."""
    program = layer.system.python(
        """
        import json, sys, time
        from ouroboros import cli
        wanted = json.loads(sys.argv[2])
        while True:
            (status,) = cli.readout_ipcp(sys.argv[1], "status")
            if all(status[key] == value for key, value in wanted.items()):
                break
            time.sleep(0.01)
        """,
        name,
        json.dumps(wanted),
    )
    assert program.wait() == 0, program.output


def test_a_member_that_is_killed_is_gone_round(layer: Layer) -> None:
    ring(layer)
    layer.serve("server", "uni3")
    layer.pings("server")
    layer.system.kill(layer.pid("uni2"))
    until(layer, "uni1", members=3, neighbours=1)
    layer.pings("server", 20)
    assert layer.counter("uni4", "data transfer", "forwarded") >= 40


def test_a_flow_survives_the_loss_of_a_member(make_system: MakeSystem) -> None:
    layer = Layer(make_system(), routing="lfa")
    ring(layer)
    layer.serve("server", "uni3")
    with layer.system.spawn("oping", "-n", "server", "--layer", "unicast", "-i", "10") as client:
        client.expect("seq=20 ")
        layer.system.kill(layer.pid("uni2"))
        client.expect("seq=300 ")
        client.stop(signal.SIGINT)
    received = client.output.count(" bytes from ")
    assert received >= 290, client.output


def test_a_silent_member_is_gone_round_and_taken_back(layer: Layer) -> None:
    """It is stopped: its flows are there, and nothing comes. So it is with a link that swallows packets."""
    ring(layer, connect="timeout 400")
    layer.serve("server", "uni3")
    silent = layer.pid("uni2")
    with layer.system.spawn("oping", "-n", "server", "--layer", "unicast", "-i", "10") as client:
        client.expect("seq=20 ")
        os.kill(silent, signal.SIGSTOP)
        try:
            until(layer, "uni1", neighbours=1, unreachable=2)
            client.expect(" bytes from ")  # of those that went by uni2 none comes back now
            client.expect(" bytes from ")
        finally:
            os.kill(silent, signal.SIGCONT)
        until(layer, "uni1", neighbours=2, members=4, unreachable=0)
        client.stop(signal.SIGINT)
    layer.pings("server", 20)


def test_the_layer_below_is_killed_and_made_again(layer: Layer) -> None:
    """Earlier connections are made again, without a command, when the names are known again."""
    layer.line(2)
    layer.serve("server", "uni2")
    layer.pings("server")
    layer.system.kill(layer.pid("local"))
    for name in layer.members:
        until(layer, name, neighbours=0)
    layer.system.local_layer()
    layer.system.irm("name register uni1 layer local")
    until(layer, "uni1", neighbours=1, members=2)
    layer.pings("server")


def test_a_member_comes_back(layer: Layer) -> None:
    """Killed and made anew it has another address; neighbours that had connected it connect it again by themselves."""
    layer.line(3)
    layer.serve("server", "uni3")
    layer.pings("server")
    layer.system.kill(layer.pid("uni2"))
    until(layer, "uni1", members=1)
    layer.system.irm("ipcp enroll name uni2 type unicast dst uni1 autobind")
    layer.system.irm("name register uni2 layer local", check=False)
    layer.system.irm("ipcp connect name uni2 dst uni1")
    until(layer, "uni1", members=3)  # uni3 was the one that connected to uni2
    layer.pings("server")


def test_disconnect_under_traffic(layer: Layer) -> None:
    ring(layer)
    layer.serve("server", "uni3")
    with layer.system.spawn("oping", "-n", "server", "--layer", "unicast", "-f", "-Q", "-d", "60s") as client:
        for _ in range(3):
            for words in ("disconnect name uni2 dst uni1", "connect name uni2 dst uni1"):
                layer.system.irm(f"ipcp {words}")
            until(layer, "uni1", neighbours=2, members=4)
        assert client.running
        client.stop(signal.SIGINT)
    layer.pings("server")
    assert len(layer.system.json("ipcp list")["ipcps"]) == 5


def test_what_was_disconnected_stays_so_until_it_is_connected(layer: Layer) -> None:
    layer.line(2)
    layer.serve("server", "uni2")
    layer.pings("server")
    layer.system.irm("ipcp disconnect name uni2 dst uni1")
    until(layer, "uni1", members=1, neighbours=0)
    assert layer.readout("uni1", "neighbours") == layer.readout("uni2", "neighbours") == []
    layer.system.irm("ipcp connect name uni2 dst uni1")
    layer.pings("server")


# ---------------------------------------------------------------- load

MANY = """
    import asyncio, sys
    from ouroboros.aio import flow_alloc

    async def one(number):
        async with await flow_alloc("server", layer="unicast") as flow:
            await flow.write(b"%d" % number)
            return await flow.read()

    async def main():
        count = int(sys.argv[1])
        answers = await asyncio.gather(*(one(number) for number in range(count)))
        assert answers == [b"%d" % number for number in range(count)], answers
        print("all", count)

    asyncio.run(main())
"""

MANY_SERVER = """
    import asyncio
    from ouroboros.aio import flow_accept

    async def serve(flow):
        async with flow:
            await flow.write(await flow.read())

    async def main():
        print("ready", flush=True)
        tasks = set()
        while True:
            task = asyncio.create_task(serve(await flow_accept()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    asyncio.run(main())
"""


def test_many_flows_at_once(layer: Layer) -> None:
    layer.line(2)
    server = layer.system.python(MANY_SERVER)
    server.expect("ready")
    layer.system.irm(f"bind process {server.pid} name server")
    layer.system.irm("name register server ipcp uni2")
    client = layer.system.python(MANY, "300")
    assert client.wait() == 0, client.output
    assert "all 300" in client.output


def test_the_server_is_killed_and_the_members_live_on(layer: Layer) -> None:
    layer.line(2)
    with layer.serve("server", "uni2") as server:
        with layer.system.spawn("oping", "-n", "server", "--layer", "unicast", "-i", "10") as client:
            client.expect("seq=5 ")
            server.kill()
            until(layer, "uni2", flows=0)
            client.stop(signal.SIGINT)
    layer.serve("server2", "uni2")
    layer.pings("server2")


# ---------------------------------------------------------------- a prototype as neighbour

ECHO_CLIENT = """
    from ouroboros.dev import flow_alloc
    with flow_alloc("theirs", layer="unicast") as flow:
        flow.write(b"are you there?")
        print(flow.read(), flush=True)
"""


def test_a_prototype_joins(layer: Layer) -> None:
    """As newcomer, neighbour, client and server, with a Python member behind the one that it knows."""
    layer.line(2)
    server = layer.system.python(MANY_SERVER)
    server.expect("ready")
    layer.system.irm(f"bind process {server.pid} name ours")
    layer.system.irm("name register ours ipcp uni1")
    layer.system.irm("name create nobody")
    prototype = layer.system.prototype("newcomer", "uni1")
    for said in ("enrolled unicast", "connected", "a flow to ours", "refused"):
        prototype.expect(said)
    until(layer, "uni2", members=3)
    client = layer.system.python(ECHO_CLIENT)
    prototype.expect("asked for theirs")
    assert client.wait() == 0 and "are you there?" in client.output, client.output
    assert prototype.running, prototype.output
    counters = layer.readout("uni1", "counters")
    bad = {row["counter"]: row["value"] for row in counters if "malformed" in row["counter"] and row["value"]}
    assert not bad


def test_a_prototype_enrols_one_of_ours(system: System) -> None:
    system.local_layer()
    prototype = system.prototype("member")
    prototype.expect("ready")
    system.irm(f"bind process {prototype.pid} name proto")
    system.irm("name register proto layer local")
    system.irm("ipcp enroll name uni1 type unicast dst proto")
    prototype.expect("enrolled")
    system.irm("ipcp connect name uni1 dst proto")
    prototype.expect("connected")
    client = system.python(ECHO_CLIENT)
    prototype.expect("asked for theirs")
    assert client.wait() == 0 and "are you there?" in client.output, client.output
    assert prototype.running, prototype.output
