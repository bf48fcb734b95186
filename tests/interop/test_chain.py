"""A prototype between two Python members, and one of these between two prototypes: packets are forwarded, names found from either end."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from .lower import Config
from .world import World

T = TypeVar("T")


def both_halves(links: Collection[tuple[T, T]]) -> set[tuple[T, T]]:
    """The links that carry packets: both of their ends have announced them. A Python member also announces one half of a link that
    is none, which makes a prototype compute its routes."""
    return {(one, other) for one, other in links if (other, one) in links}


def test_a_prototype_in_the_middle(world: World) -> None:
    proto = world.prototype("proto")
    world.now(proto.bootstrap, Config())
    left, right = world.ours("left"), world.ours("right")
    for ours in (left, right):
        ours.enroll("proto")
        ours.connect("proto")
        ours.serve(f"{ours.name}-server")
    left.pings("right-server", 5)
    right.pings("left-server", 5)
    # A Python member's packets have the TTL of the layer, and one less after the prototype has forwarded them.
    assert {packet.ttl for packet in proto.dt.forwarded} == {60}
    assert len(proto.dt.forwarded) >= 2 * 2 * (5 + 1)
    addresses = set()
    for ours in (left, right):
        rows = ours.readout("routes")
        assert {row["distance"] for row in rows} == {1, 2}
        assert ours.counter("data transfer", "delivered") >= 10
        links = {(row["from"], row["to"]) for row in ours.readout("links")}
        assert len(both_halves(links)) == 4, links
        (status,) = ours.readout("status")
        addresses.add(status["address"])
    assert len(addresses) == 2
    # Only what 0.23 knows, besides what it drops by its length.
    world.until(lambda: len(both_halves(proto.routing.database)) == 4)


def test_ours_in_the_middle(world: World) -> None:
    ours = world.ours("ours")
    ours.bootstrap()
    left, right = world.prototype("left"), world.prototype("right")
    for proto in (left, right):
        world.call(proto.enroll("ours"))
        world.call(proto.connect("ours"))
    for proto in (left, right):
        world.settled(proto, 2)
        world.now(proto.echo, f"{proto.name}-echo")
        world.now(proto.register, f"{proto.name}-echo")
    for proto, other in ((left, "right-echo"), (right, "left-echo")):
        flow = world.call(proto.fa.allocate(other))
        assert world.call(proto.ping(flow, 5)) == 5
    assert {packet.ttl for packet in left.dt.received} == {59, 60}
    assert ours.counter("data transfer", "forwarded") >= 2 * 2 * (5 + 1)
    # It has not answered any question for us: we looked at what we keep ourselves.
    assert left.routing.database.keys() == right.routing.database.keys()


def test_a_ring_of_both_kinds(world: World) -> None:
    """Four members in a circle, alternating; a link goes, and the other way round is taken.

    No prototype floods that the link ended, and the one at its end does not notice: all members wait until it has aged.
    """
    ours, proto = [world.ours("a"), world.ours("c")], [world.prototype("b"), world.prototype("d")]
    a, c = ours
    b, d = proto
    a.bootstrap(ls_t_update=1, ls_t_timeo=3)
    for member in proto:
        world.call(member.enroll("a"))
    c.enroll("b")
    world.call(b.connect("a"))
    c.connect("b")
    c.connect("d")
    world.call(d.connect("a"))
    for member in proto:
        world.settled(member, 3)
    a.serve("server")
    c.pings("server")
    # Whichever way they went: without b there is only the other.
    (status,) = c.readout("status")
    c.system.irm("ipcp disconnect name c dst b")
    while len({row["to"] for row in a.readout("links") if row["from"] == status["address"]}) != 1:
        pass
    c.pings("server", 3)
    forwarded = len(d.dt.forwarded)
    c.pings("server", 3)
    assert len(d.dt.forwarded) >= forwarded + 3
