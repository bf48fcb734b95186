"""A mixed layer: either is member or newcomer, client or server, and in the middle."""

from __future__ import annotations

from . import upper
from .lower import Config
from .upper import FaMessage
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
    # The address in a Python member's connection records is that of the directory's first contact.
    addresses = {connection.theirs.address for connection in proto.connections.made}
    assert addresses == {proto.config.peer}


def test_congestion(world: World) -> None:
    """Marks on the path to a Python member are reported as in 3.4; a prototype's reports slow a flow, and stop none."""
    proto, ours = world.prototype("proto"), world.ours("ours")
    world.now(proto.bootstrap, Config())
    ours.enroll("proto")
    ours.connect("proto")
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    (peer,) = proto.fa.peers
    level, expected = 10, [10]
    peer.ecn = 10
    assert world.call(proto.ping(flow, 1)) == 1
    for number in range(1, 11):
        assert world.call(proto.ping(flow, 1)) == 1
        level += 10 - (level >> 5)
        if number in (2, 10):
            expected.append(level)
    peer.ecn = 0
    while level:
        assert world.call(proto.ping(flow, 1)) == 1
        level >>= 2
    expected.append(0)
    world.until(lambda: len(proto.fa.updates) >= len(expected))
    assert proto.fa.updates == expected
    for congestion in (1, 500, 65535):
        update = FaMessage(upper.UPDATE, to=peer.eid, congestion=congestion).write()
        world.now(proto.dt.send, peer.address, upper.FLOW_ALLOCATOR, update)
        assert world.call(proto.ping(flow, 3)) == 3


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
