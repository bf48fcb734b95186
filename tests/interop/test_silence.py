"""A prototype as a neighbour that falls silent and returns, that starts anew, and that does not notice that we did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .lower import Config
from .member import Unicast
from .world import Ours, World

Row = dict[str, Any]


def wait(ours: Ours, condition: Callable[[list[Row]], object]) -> list[Row]:
    """The neighbours of the Python member, once they have this state. Each poll is a program."""
    while not condition(rows := ours.readout("neighbours")):
        pass
    return rows


def routed(ours: Ours) -> None:
    """Wait until there are routes: a link that comes and goes is taken back once a second."""
    while not ours.readout("routes"):
        pass


def heals(world: World, proto: Unicast) -> None:
    """Wait until a prototype sends to each of its neighbours by the flow that it has now, and not by one from before."""

    def healed() -> bool:
        hops, neighbours = proto.routing.next_hops, proto.routing.neighbours
        return all(hops.get(address) is flow for address, flow in neighbours.items())

    world.until(healed)


def states(rows: list[Row]) -> list[str]:
    return sorted(row["state"] for row in rows)


def test_it_is_silent_and_returns(world: World) -> None:
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config(t_update=1))
    ours.enroll("proto")
    ours.connect("proto", "timeout 1200")
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 3)) == 3
    adjacent = [connection.flow for connection in proto.connections.accepted[-2:]]
    # The Python member sends a keep-alive before a quarter of the time has passed.
    world.until(lambda: all(one.keepalives >= 4 for one in adjacent))
    assert not any(one.peer_gone for one in adjacent)
    assert states(ours.readout("neighbours")) == ["up", "up"]
    proto.link.cut = True
    world.until(lambda: all(one.peer_gone for one in adjacent))
    wait(ours, lambda rows: "up" not in states(rows))
    assert not ours.readout("routes")
    proto.link.cut = False
    wait(ours, lambda rows: states(rows).count("up") >= 2 and "silent" not in states(rows))
    # A prototype that found us silent sends no keep-alives: it was connected anew. On the management flow it talks.
    assert [one.theirs.component for one in proto.connections.accepted].count(b"Data Transfer") >= 2
    routed(ours)
    heals(world, proto)
    flow = world.call(proto.fa.allocate("server"))  # the server has given up the other one
    assert world.call(proto.ping(flow, 3, lossy=True)) == 3


def test_it_starts_anew(world: World) -> None:
    """At the same host, with a new address, and endpoints from 64 on: the flows with the old one have ended."""
    ours, first = world.ours("ours"), world.prototype("proto")
    ours.bootstrap()
    world.call(first.enroll("ours"))
    world.call(first.connect("ours"))
    world.settled(first, 1)
    ours.serve("server")
    flow = world.call(first.fa.allocate("server"))
    assert world.call(first.ping(flow, 1)) == 1
    world.now(first.close)
    second = world.again(first)
    world.call(second.enroll("ours"))
    world.call(second.connect("ours"))
    world.settled(second, 1)
    flow = world.call(second.fa.allocate("server"))
    assert world.call(second.ping(flow, 3)) == 3
    world.now(second.echo, "echo")
    world.now(second.register, "echo")
    ours.pings("echo")
    rows = ours.readout("neighbours")
    assert len({row["address"] for row in rows if row["state"] == "up"}) <= 2


def test_we_start_anew(world: World) -> None:
    """The prototype announces the link to our old address until that ages; it does not lead it astray."""
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config(t_update=1, t_timeo=3))
    ours.enroll("proto")
    ours.connect("proto")
    (old,) = proto.routing.next_hops
    ours.system.irm("ipcp destroy name ours")
    ours.system.irm("name unregister ours layer udp")
    ours.enroll("proto")
    ours.connect("proto")
    world.until(lambda: len(proto.routing.neighbours) == 2)
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 3)) == 3
    # No member refreshes the announcements of the old address.
    world.until(lambda: not any(source == old for _, source in proto.routing.database))


def test_it_disconnects_without_a_word(world: World) -> None:
    proto, ours = world.prototype("proto"), world.ours("ours")
    ours.bootstrap(ls_t_update=1, ls_t_timeo=2)
    world.call(proto.enroll("ours"))
    for _ in range(3):
        world.call(proto.connect("ours"))
        world.settled(proto, 1)
        world.now(proto.disconnect, "ours")
    world.call(proto.connect("ours"))
    world.settled(proto, 1)
    routed(ours)
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 3)) == 3
