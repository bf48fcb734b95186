"""A broadcast layer with prototypes and Python members: every other application gets each message, whichever member made the layer or connected."""

from __future__ import annotations

from tests.system.conftest import Program

from .world import Ours, World

LISTENER = """
    import sys
    from ouroboros.dev import flow_join
    flow = flow_join(sys.argv[1])
    print("joined", flush=True)
    while True:
        print(flow.read().decode(), flush=True)
"""

SPEAKER = """
    import sys
    from ouroboros.dev import flow_join
    with flow_join(sys.argv[1]) as flow:
        flow.write(sys.argv[2].encode())
        print("said", flush=True)
        sys.stdin.read()
"""


def listen(ours: Ours) -> Program:
    program = ours.system.python(LISTENER, "bcast")
    program.expect("joined")
    return program


def say(ours: Ours, text: str) -> None:
    program = ours.system.python(SPEAKER, "bcast", text)
    program.expect("said")


def test_a_prototype_between_ours(world: World) -> None:
    proto = world.broadcaster("proto")
    world.now(proto.bootstrap, "bcast")
    left, right = world.ours("left"), world.ours("right")
    for ours in (left, right):
        ours.enroll("proto", kind="broadcast")
        ours.connect("proto", "component dt")
    heard = [listen(ours) for ours in (left, right)]
    say(left, "from the left")
    heard[1].expect("from the left")
    heard[0].expect("from the left")
    assert world.call(proto.received.get()) == b"from the left"
    world.now(proto.say, b"from the middle")
    for program in heard:
        program.expect("from the middle")
    # Its adjacencies have no keep-alives: it would stand still.
    assert proto.enroller is not None and proto.enroller.results == [0, 0]
    assert {flow.qos.timeout for flow in proto.neighbours} == {0}


def test_ours_between_prototypes(world: World) -> None:
    ours = world.ours("ours")
    ours.bootstrap("bcast", kind="broadcast")
    left, right = world.broadcaster("left"), world.broadcaster("right")
    for proto in (left, right):
        world.call(proto.enroll("ours"))
        assert proto.config.layer == b"bcast"
        world.call(proto.connect("ours"))
    program = listen(ours)
    world.now(left.say, b"from the left")
    program.expect("from the left")
    assert world.call(right.received.get()) == b"from the left"
    say(ours, "from the middle")
    for proto in (left, right):
        assert world.call(proto.received.get()) == b"from the middle"
    assert left.received.empty()  # its own message did not return


def test_a_type_that_was_not_meant(world: World) -> None:
    """Each implementation refuses to become a member of a layer of the other type, and reports it."""
    proto = world.broadcaster("proto")
    world.now(proto.bootstrap, "bcast")
    ours = world.ours("ours")
    said = ours.enroll("proto", check=False)
    assert "of type broadcast, not unicast" in said
    world.until(lambda: proto.enroller is not None and proto.enroller.results)
    assert proto.enroller is not None and proto.enroller.results[0] < 0
