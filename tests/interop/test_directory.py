"""A prototype and Python members as nodes of one directory: each stores and finds the names of the other."""

from __future__ import annotations

import pytest

from .link import Refused
from .lower import Config
from .names import Gone
from .transfer import sha3
from .world import Ours, World


def layer(world: World) -> tuple[Ours, Ours]:
    """Two connected Python members, in a layer that one of them made."""
    first, second = world.ours("first"), world.ours("second")
    first.bootstrap()
    second.enroll("first")
    second.connect("first")
    return first, second


def test_a_prototype_keeps_our_names_and_finds_them(world: World) -> None:
    first, second = layer(world)
    second.serve("before")
    proto = world.prototype("proto")
    world.call(proto.enroll("first"))
    world.call(proto.connect("first"))
    world.settled(proto, 2)
    second.serve("after")
    # Names belong at the k nearest nodes, which are all nodes here: newcomers get them, without asking.
    keys = {sha3(name) for name in (b"before", b"after")}
    world.until(lambda: keys <= proto.directory.foreign.keys())
    for name in ("before", "after"):
        flow = world.call(proto.fa.allocate(name))
        assert world.call(proto.ping(flow, 3)) == 3
    assert not proto.fa.refusals


def test_a_prototype_asks_one_that_is_not_its_neighbour(world: World) -> None:
    """It asks once, at most three of those it knows, and waits 200 ms."""
    first, second = layer(world)
    second.serve("server")
    proto = world.prototype("proto")
    world.call(proto.enroll("first"))
    world.call(proto.connect("first"))
    world.settled(proto, 2)
    world.now(proto.directory.foreign.clear)
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 1)) == 1


def test_we_find_what_only_a_prototype_knows(world: World) -> None:
    """It stores the name once, at the nodes that it knows. These copy it to others, and look-ups also ask the owner itself."""
    first, second = layer(world)
    proto = world.prototype("proto")
    world.call(proto.enroll("second"))
    world.now(proto.echo, "early")
    world.now(proto.register, "early")  # it has no contact yet: it stores the name nowhere
    world.call(proto.connect("second"))
    world.settled(proto, 2)
    world.now(proto.echo, "late")
    world.now(proto.register, "late")
    for name in ("early", "late"):
        first.pings(name)
        second.pings(name)
    assert proto.directory.asked


def test_a_name_that_we_took_back(world: World) -> None:
    """A prototype cannot notice it, and requests the flow from the former owner: that refuses immediately, instead of being silent."""
    first, second = layer(world)
    proto = world.prototype("proto")
    world.call(proto.enroll("first"))
    world.call(proto.connect("first"))
    world.settled(proto, 2)
    second.serve("server")
    key = sha3(b"server")
    world.until(lambda: proto.directory.foreign.get(key))
    second.system.irm("name unregister server ipcp second")
    kept = dict(proto.directory.foreign[key])
    assert kept  # "stored copies live on until they expire"
    second.system.irm("name destroy server")
    with pytest.raises(Refused):
        world.call(proto.fa.allocate("server"))
    # And we do not believe it for ever.
    said = first.ping("server", 1, check=False)
    assert "-1007" in said, said


def test_names_of_a_prototype_that_died(world: World) -> None:
    first, second = layer(world)
    proto = world.prototype("proto")
    world.call(proto.enroll("first"))
    world.call(proto.connect("first"))
    world.settled(proto, 2)
    world.now(proto.echo, "echo")
    world.now(proto.register, "echo")
    second.pings("echo")
    second.serve("echo")  # another holder of the name
    proto.link.cut = True
    first.pings("echo")


def test_a_name_of_nobody(world: World) -> None:
    first, _ = layer(world)
    proto = world.prototype("proto")
    world.call(proto.enroll("first"))
    world.call(proto.connect("first"))
    world.settled(proto, 2)
    with pytest.raises(Gone):
        world.call(proto.fa.allocate("nobody", tries=1))
    assert "nobody" in first.ping("nobody", 1, check=False)


def test_a_prototype_with_a_short_round(world: World) -> None:
    """Its clean-up and replication run, once a second: Python members accept its repeated stores, and the judge sees no loop."""
    proto = world.prototype("proto")
    world.now(proto.bootstrap, Config(t_expire=86400, t_refresh=10, t_replicate=10))
    ours = world.ours("ours")
    ours.enroll("proto")
    ours.connect("proto")
    ours.serve("server")
    key = sha3(b"server")
    world.until(lambda: key in proto.directory.foreign and proto.directory.replications)
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 1)) == 1
