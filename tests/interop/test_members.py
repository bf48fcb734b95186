"""A mixed layer: either is member or newcomer, client or server, and in the middle."""

from __future__ import annotations

from .lower import Config
from .world import World


def test_ours_joins_a_layer_of_prototypes(world: World) -> None:
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config())
    ours.enroll("proto")
    world.until(lambda: proto.enroller.results == [0])
    ours.connect("proto")
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 5)) == 5
    world.now(proto.echo, "echo")
    world.now(proto.register, "echo")
    ours.pings("echo")
    assert proto.fa.refusals == proto.link.refusals == []
    assert world.judge.seen["directory"] and world.judge.seen["link state"]


def test_a_prototype_joins_our_layer(world: World) -> None:
    proto, ours = world.prototype("proto"), world.ours("ours")
    ours.bootstrap()
    world.call(proto.enroll("ours"))
    assert proto.config == Config(peer=proto.config.peer)
    world.call(proto.connect("ours"))
    world.now(proto.echo, "echo")
    world.settled(proto, 1)
    world.now(proto.register, "echo")
    ours.pings("echo")
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 5)) == 5
    # The address that our connections say is that of the directory's first contact.
    addresses = {connection.theirs.address for connection in proto.connections.made}
    assert addresses == {proto.config.peer}


def test_a_layer_whose_policies_differ(world: World) -> None:
    """We join what 0.23 can be configured to."""
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config(layer=b"odd", routing=2, congestion=0, max_ttl=3, k=20, alpha=1))
    ours.enroll("proto")
    ours.connect("proto")
    (status,) = ours.readout("status")
    assert (status["layer"], status["routing"], status["congestion"], status["ttl"]) == (
        "odd",
        "ecmp",
        "none",
        3,
    )
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    assert world.call(proto.ping(flow, 3)) == 3
