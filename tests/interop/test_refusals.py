"""Every request of a prototype gets an answer that it survives; and a silent prototype makes no request wait for ever."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from tests.system.conftest import Program

from . import lower, upper
from .link import Refused, md5
from .lower import Cep, Management
from .member import Unicast
from .names import Process
from .octets import write
from .transfer import sha3
from .upper import FaMessage, Link
from .world import Ours, World

ENAME, EAUTH = -1007, -1009


@dataclass(slots=True)
class Pair:
    """A Python member that made the layer, and a prototype that is its neighbour.

    `waiting`: programs that allocate flows to names without an accepting process. They wait while other tests run, and the last test for them.
    """

    world: World
    ours: Ours
    proto: Unicast
    waiting: list[Program]


@pytest.fixture(scope="module")
def mixed(shared: World) -> Pair:
    ours, proto = shared.ours("ours"), shared.prototype("proto")
    ours.bootstrap()
    shared.call(proto.enroll("ours"))
    shared.call(proto.connect("ours"))
    shared.settled(proto, 1)
    shared.host("silent", shared.hosts["proto"])
    shared.now(proto.register, "deaf")  # it is in the directory, and no process accepts
    waiting = [ours.system.spawn("oping", "-n", name, "-c", "1") for name in ("silent", "deaf")]
    return Pair(shared, ours, proto, waiting)


@pytest.fixture
def pair(mixed: Pair) -> Iterator[tuple[Ours, Unicast]]:
    yield mixed.ours, mixed.proto
    mixed.world.judge.verdict()


@pytest.fixture
def world(shared: World) -> World:
    return shared


async def answers(proto: Unicast, packets: Iterable[bytes]) -> list[bytes]:
    """The answer to each, as the first packet of a flow; b"" where the answer to a valid one that was sent last comes first."""
    flows = [await proto.link.allocate("ours") for _ in packets]
    for flow, packet in zip(flows, packets, strict=True):
        flow.write(packet)
    await proto.connections.establish("ours", lower.ENROLMENT)
    said = [flow.waiting() for flow in flows]
    for flow in flows:
        flow.deallocate()
    return said


# ---------------------------------------------------------------- what it asks


def test_names_that_are_not_there(world: World, pair: tuple[Ours, Unicast]) -> None:
    ours, proto = pair
    world.host("nobody", ours.ip)
    with pytest.raises(Refused) as refused:
        world.call(proto.link.allocate("nobody"))
    assert refused.value.response == ENAME
    ours.system.irm("name create idle")
    ours.system.irm("name register idle ipcp ours")
    world.until(lambda: proto.directory.foreign.get(sha3(b"idle")))
    for _ in range(5):
        with pytest.raises(Refused) as refused:
            world.call(proto.fa.allocate("idle"))
        assert refused.value.response == ENAME


def test_components_that_are_not_there(world: World, pair: tuple[Ours, Unicast]) -> None:
    ours, proto = pair

    async def answer(packet: bytes) -> bytes:
        flow = await proto.link.allocate("ours")
        try:
            flow.write(packet)
            return await flow.read(3)
        finally:
            flow.deallocate()

    assert world.call(answer(Cep(b"Ghost", b"none", 1, 0, 0).write())) == lower.NOBODY.write()
    assert world.call(answer(Cep(b"x" * 90, b"", 0, 0, 0).write())) == lower.NOBODY.write()
    garbage = (b"\xff", bytes(128), write((1, b"Enrollment")), lower.ENROLMENT.write()[:-1])
    assert world.call(answers(proto, garbage)) == [b""] * len(garbage)


def test_enrolments_that_are_none(world: World, pair: tuple[Ours, Unicast]) -> None:
    """An id that has not eight octets gets no answer, and the next newcomer is served."""
    ours, proto = pair

    requests = (write((1, b"1234567")), write((1, b"123456789")), b"\x0a", b"\xff" * 1500)

    async def ask() -> tuple[list[bytes], bytes]:
        flows = []
        for request in (*requests, write((1, b"12345678"))):
            flows.append((await proto.connections.establish("ours", lower.ENROLMENT)).flow)
            flows[-1].write(request)
        last = await flows.pop().read(10)
        return [flow.waiting() for flow in flows], last

    silence, response = world.call(ask())
    assert silence == [b""] * len(requests)
    read = lower.read_response(response)
    assert read.config is not None and read.config.layer == b"unicast"


def test_handshakes_that_are_refused(world: World, pair: tuple[Ours, Unicast]) -> None:
    """Refusals have no header behind them. A prototype sends such requests when its clock is wrong."""
    ours, proto = pair
    link, address = proto.link, (ours.ip, 3435)

    def request(eid: int, header: bytes) -> bytes:
        return lower.write_management(Management(lower.REQUEST, eid, 0, 0, lower.RAW, md5(b"ours") + header))

    eids = iter(range(200, 300))

    async def answer(header: bytes) -> Management:
        eid = next(eids)  # the same request from the same end is taken for one that the network doubled
        end = link.open(eid, lower.RAW, address, 0)
        end.answered = asyncio.get_running_loop().create_future()
        link.send(request(eid, header), address)
        reply, _ = await end.answered
        end.flow.deallocate()
        return reply

    def aged(milliseconds: int) -> bytes:
        stamp = time.time_ns() - milliseconds * 1_000_000
        return b"0123456789abcdef" + struct.pack(">Q12x", stamp)

    good = lower.new_header()
    first = world.call(answer(good))
    assert first.response == 0
    for bad in (good, b"", good[:35], good + b"x", aged(21_000), aged(-60_000)):
        assert world.call(answer(bad)).response == EAUTH, bad.hex()
    world.call(proto.connections.establish("ours", lower.ENROLMENT))  # it is as it was


def test_octets_of_a_prototype_that_lost_its_mind(world: World, pair: tuple[Ours, Unicast]) -> None:
    """On every socket, flow and component: malformed packets are dropped, and valid traffic continues."""
    ours, proto = pair
    ours.serve("server")
    flow = world.call(proto.fa.allocate("server"))
    (peer,) = proto.routing.neighbours
    mgmt = proto.routing.managers[0]
    junk = [b"", b"\0", bytes(23), bytes(24), b"\xff" * 24, bytes(32), b"\xff" * 32, bytes(61), b"\xff" * 61]
    junk += [bytes(2100), b"\xff" * 8000]

    def throw() -> None:
        for octets in junk:
            proto.link.send(octets, (ours.ip, 3435))
            proto.link.send(bytes(4) + octets, (ours.ip, 3435))
            proto.link.send(b"\xff\xff\xff\xff" + octets, (ours.ip, 3435))
            if octets:
                mgmt.write(octets)
                proto.routing.neighbours[peer].write(octets)
            for eid in (0, 1, 2, 63, 64, upper.NO_EID):
                proto.dt.send(peer, eid, octets)
        for code in (upper.REPLY, upper.UPDATE, 3):
            proto.dt.send(peer, 0, FaMessage(code, to=0, eid=0).write())
        mgmt.write(Link(peer, peer, 1).write())
        mgmt.write(Link(0, peer, 1).write())

    world.now(throw)
    assert world.call(proto.ping(flow, 5)) == 5
    ours.serve("other")
    another = world.call(proto.fa.allocate("other"))
    assert world.call(proto.ping(another, 1)) == 1
    world.call(proto.connections.connect("ours", b"Management"))


def test_many_requests_at_once(world: World, pair: tuple[Ours, Unicast]) -> None:
    """A prototype takes one at a time, the last first, and does not survive twenty: ours come a few at a time."""
    ours, proto = pair
    world.now(proto.echo, "echo")
    world.now(proto.register, "echo")
    program = ours.system.python(
        """
        import threading
        from ouroboros.dev import flow_alloc
        def one():
            with flow_alloc("echo") as flow:
                flow.write(bytes(64))
                assert flow.read()
        threads = [threading.Thread(target=one) for _ in range(40)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print("all", flush=True)
        """
    )
    program.expect("all")


# ---------------------------------------------------------------- what we ask


def test_an_answer_that_comes_too_late(world: World, pair: tuple[Ours, Unicast]) -> None:
    """The flow is not wanted any more; its endpoint is not given to another meanwhile."""
    ours, proto = pair
    world.host("late", world.hosts["proto"])
    late = world.now(Process)
    proto.names.bind("late", late)
    program = ours.system.python(
        """
        import sys
        from ouroboros.dev import flow_alloc, FlowTimeout
        try:
            flow_alloc("late", timeo=0.2, layer="udp")
        except FlowTimeout:
            print("too late", flush=True)
        with flow_alloc("late", layer="udp") as flow:
            flow.write(b"is it me?")
            print(flow.read().decode(), flush=True)
        """
    )
    program.expect("too late")

    async def serve() -> None:
        first = await late.accept()
        first.write(b"not for you")
        second = await late.accept()
        assert await second.read(5) == b"is it me?"
        second.write(b"it is")

    world.call(serve())
    program.expect("it is")


def test_a_refusal_of_a_prototype(world: World, pair: tuple[Ours, Unicast]) -> None:
    """It refuses with -1009 and an endpoint, and nothing behind: the Python member reports it immediately."""
    ours, _ = pair
    proto = world.prototype("strict")

    async def refuse() -> None:
        while not (found := [one for one in proto.link.stack]):
            await asyncio.sleep(0.001)
        datagram, source = found[0]
        proto.link.stack.clear()
        asked = lower.read_management(datagram)
        reply = Management(lower.REPLY, asked.requester, 99, EAUTH, lower.NO_QOS, b"")
        proto.link.send(lower.write_management(reply), source)

    world.now(proto.link.handler.cancel)
    task = world.start(refuse())
    said = ours.ping("strict", 1, check=False)
    assert "Failed to allocate flow: -1009" in said
    task.result(10)


def test_a_prototype_that_says_nothing(world: World, pair: tuple[Ours, Unicast], mixed: Pair) -> None:
    """1 s for a record and for a configuration, 20 s for an allocation: then the user gets an error."""
    ours, proto = pair
    newcomer = world.ours("newcomer")
    for name in ("mute", "half"):
        world.host(name, world.hosts["proto"])

    async def mute(process: Process, answer: bytes) -> None:
        flow = await process.accept()
        if answer:
            await flow.read(5)
            flow.write(answer)
        await asyncio.sleep(60)

    def bind() -> list[asyncio.Task[None]]:
        tasks = []
        for name, answer in (("mute", b""), ("half", lower.ENROLMENT.write())):
            process = Process()
            proto.names.bind(name, process)
            tasks.append(asyncio.get_running_loop().create_task(mute(process, answer)))
        return tasks

    tasks = world.now(bind)
    refused = ours.system.irm("ipcp connect name ours dst mute component mgmt", check=False)
    assert refused.returncode == 1 and "said nothing" in refused.stderr, refused.stderr
    said = newcomer.enroll("half", check=False)
    assert "within 1 s" in said, said
    assert not [row for row in newcomer.system.json("ipcp list")["ipcps"] if row["name"] == "newcomer"]
    for task in tasks:
        world.now(task.cancel)
    for program in mixed.waiting:
        assert program.wait() == 1
        assert "Failed to allocate flow: -110" in program.output, program.output
