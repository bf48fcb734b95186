"""Clients that wait for their turn at a server, and flows that are left, over each kind of layer (docs/design/overview.md, the table of
waits).

By hand, with ACCEPT_COUNT=500 ACCEPT_PAUSE=0.02 for many clients of a fast server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.conftest import MakeSystem, Program, System
from tests.system.ends import (
    QOS_DATA,
    Flow,
    FlowLingerTimeout,
    aio,
    asyncio,
    bind,
    flow_accept,
    flow_alloc,
    raises,
    start,
    time,
)
from tests.system.ethernet import cable
from tests.system.test_ethernet import Pair
from tests.system.test_linger import fill
from tests.system.test_udp import A, B, Net
from tests.system.test_unicast import Layer

COUNT = int(os.environ.get("ACCEPT_COUNT", "30"))
PAUSE = os.environ.get("ACCEPT_PAUSE", "0.1")


@dataclass
class Place:
    """Where a server and its clients are: on which systems, over which layer, and with which IPCP the server is registered."""

    server: System
    client: System
    layer: str
    ipcp: str

    def serve(self, program: Program, name: str) -> None:
        """Bind a program to a name, and register that."""
        self.server.irm(f"bind process {program.pid} name {name}")
        if self.ipcp:
            self.server.irm(f"name register {name} ipcp {self.ipcp}")


def direct(make_system: MakeSystem, folder: Path, stack: ExitStack) -> Place:
    system = make_system()
    return Place(system, system, "", "")


def local(make_system: MakeSystem, folder: Path, stack: ExitStack) -> Place:
    system = make_system()
    system.local_layer()
    return Place(system, system, "local", "local")


def unicast(make_system: MakeSystem, folder: Path, stack: ExitStack) -> Place:
    layer = Layer(make_system()).line(2)
    return Place(layer.system, layer.system, "unicast", "uni2")


def udp(make_system: MakeSystem, folder: Path, stack: ExitStack) -> Place:
    net = Net(make_system, folder)
    net.name("server", B)
    return Place(net.system(B), net.system(A), "net", "udp")


def eth(make_system: MakeSystem, folder: Path, stack: ExitStack) -> Place:
    pair = Pair(stack.enter_context(cable()), make_system)
    pair.layer("eth-dix")
    return Place(pair.b, pair.a, "eth", "eth")


PLACES = (direct, local, unicast, udp, eth)
Make = Callable[[MakeSystem, Path, ExitStack], Place]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def place(make: Make, stack: ExitStack, make_system: MakeSystem, tmp_path: Path) -> Place:
    return make(make_system, tmp_path, stack)


# ---------------------------------------------------------------- a queue


def one_after_the_other(count: str, pause: str) -> None:
    """Each client takes the server `pause` seconds, in which it does not accept."""
    bind("server")
    print("bound", flush=True)
    for _ in range(int(count)):
        flow = flow_accept()
        time.sleep(float(pause))
        flow.dealloc(0)


async def together(count: str, layer: str) -> None:
    async def one() -> None:
        async with await aio.flow_alloc("server", timeo=60, layer=layer or None):
            pass

    tasks = [asyncio.create_task(one()) for _ in range(int(count))]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [str(one) for one in outcomes if isinstance(one, BaseException)]
    kinds = {text: errors.count(text) for text in errors}
    assert not errors, f"{len(errors)} of {count}: {kinds}"


@pytest.mark.parametrize("make", PLACES)
def test_clients_that_wait_for_their_turn(place: Place) -> None:
    """The last one does so for longer than the second for which a server that does not accept is waited for."""
    server = start(place.server, one_after_the_other, str(COUNT), PAUSE)
    server.expect("bound")
    if place.ipcp:
        place.server.irm(f"name register server ipcp {place.ipcp}")
    client = start(place.client, together, str(COUNT), place.layer)
    assert client.wait() == 0, client.output
    assert server.wait() == 0, server.output


# ---------------------------------------------------------------- a peer that does not read, or has vanished


def accepts_and_does_not_read() -> None:
    bind("server")
    print("bound", flush=True)
    flows = []
    while True:
        flows.append(flow_accept())


def leaves(layer: str) -> None:
    def full() -> Flow:
        flow = flow_alloc("server", QOS_DATA, layer=layer)
        fill(flow)
        return flow

    with raises(FlowLingerTimeout):
        full().dealloc()
    with raises(FlowLingerTimeout):
        with full():
            pass
    with raises(KeyError):
        with full():
            raise KeyError

    async def tasks() -> None:
        from ouroboros.aio.streams import streams

        flow = aio.Flow(full())
        flow.linger_timeout = None
        assert flow.linger_timeout == 5
        flow.linger_timeout = 0.1
        with raises(FlowLingerTimeout):
            await flow.dealloc()
        _, writer = streams(aio.Flow(full()))
        writer.write(bytes(1_000_000))
        writer.close()
        with raises(FlowLingerTimeout, text="1000000 octets are lost"):
            await writer.wait_closed()

    asyncio.run(tasks())


@pytest.mark.parametrize("make", [unicast, udp])
def test_leaving_a_flow_whose_peer_does_not_read(place: Place) -> None:
    server = start(place.server, accepts_and_does_not_read)
    server.expect("bound")
    place.server.irm(f"name register server ipcp {place.ipcp}")
    client = start(place.client, leaves, place.layer, also=[fill])
    assert client.wait() == 0, client.output
    server.stop()


@pytest.mark.parametrize("make", [udp])
def test_a_client_that_vanishes_keeps_no_other_from_being_served(place: Place) -> None:
    """Its flow is given up when it was silent for 10 s, with replies that it has not acknowledged."""
    server = place.server.spawn("oping", "--listen", "--quiet")
    server.expect("started")
    place.serve(server, "server")
    client = place.client.spawn("oping", "-n", "server", "-q", "data", "-f", "--layer", place.layer)
    server.expect("New flow")
    client.kill()
    assert "3 received" in place.client.run("oping", "-n", "server", "-c", "3", "-i", "10").stdout
    server.expect("timed out")
    assert "3 received" in place.client.run("oping", "-n", "server", "-c", "3", "-i", "10").stdout


@pytest.mark.parametrize("make", [udp, unicast])
def test_a_client_whose_server_has_died_ends(place: Place) -> None:
    server = place.server.spawn("oping", "--listen")
    server.expect("started")
    place.serve(server, "server")
    client = place.client.spawn("oping", "-n", "server", "-q", "data", "-i", "10", "--layer", place.layer)
    client.expect("seq=1 ")
    server.kill()
    assert client.wait() == 0
    assert "packets transmitted" in client.output
