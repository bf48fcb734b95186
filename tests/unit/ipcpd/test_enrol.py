"""Enrolment: newcomers and members, wishes that differ, addresses that are taken, crowds, strangers."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipcpd.common import enrol as enrol_module
from ipcpd.common.enrol import (
    MOST_DRAWS,
    MOST_PROMISED,
    PROMISED_TIME,
    SERVE_TIME,
    PendingEnrolment,
    Promises,
    SoughtLayer,
)
from ipcpd.common.enrol import Admitting as MemberSide
from ipcpd.common.lower import Lower
from ipcpd.wire import connmgr, enrol
from ipcpd.wire.enrol import Acknowledgement, Configuration, DhtConfig, Response, UnicastConfig
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.policies import CongestionAvoidPolicy, LinkStatePolicy
from ouroboros.rpc.service import Refusal
from tests.unit.ipcpd.world import FakeIpcp, World, make_world, raw

UNICAST = Configuration(
    "layer",
    IpcpType.UNICAST,
    DirectoryHashAlgo.SHA3_512,
    UnicastConfig(
        DhtConfig(7, alpha=2, k=3, t_expire=11, t_refresh=12, t_replicate=13),
        enrol.LinkStateConfig(LinkStatePolicy.ECMP, 5, 6, 7),
        max_ttl=9,
        cong_avoid=CongestionAvoidPolicy.NONE,
        max_packet=1234,
    ),
)
BROADCAST = Configuration("bcast", IpcpType.BROADCAST)
WANTED = SoughtLayer(IpcpType.UNICAST)


def member(
    world: World, name: str = "member", conf: Configuration = UNICAST, taken: set[int] | None = None
) -> FakeIpcp:
    ipcp = world.ipcp(name)
    ipcp.enrolment.serve(lambda: conf, (taken or set()).__contains__)
    ipcp.connections.serve()
    world.pass_time(0)
    return ipcp


async def join(ipcp: FakeIpcp, wanted: SoughtLayer = WANTED, **more: Any) -> PendingEnrolment:
    return await ipcp.enrolment.join("member", wanted, timeout=5.0, **more)


def refusal(world: World, work: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        world.run(work)
    return caught.value


def check_clean(world: World) -> None:
    """Nothing is left of an enrolment, on either side."""
    world.pass_time(0.1)
    assert not world.open and not any(ipcp.relay.ends for ipcp in world.ipcps)


@pytest.mark.parametrize("conf", [UNICAST, BROADCAST])
def test_a_newcomer_gets_the_whole_configuration(world: World, conf: Configuration) -> None:
    m, newcomer = member(world, conf=conf), world.ipcp("newcomer")
    before = world.loop.time()
    joining = world.run(join(newcomer, SoughtLayer(conf.ipcp_type, conf.layer, conf.hash)))
    assert joining.configuration == conf and joining.address == 0
    assert m.enrolment.counters.enrolled == 0, "not before it says so"
    joining.done()
    assert world.loop.time() == before, "nobody waits for a clock"
    check_clean(world)
    assert m.enrolment.counters.enrolled == 1 and m.enrolment.counters.deserted == 0


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (SoughtLayer(IpcpType.UNICAST, "other"), 'this is a member of layer "layer", not of "other"'),
        (SoughtLayer(IpcpType.BROADCAST), '"layer" is a layer of type unicast, not broadcast'),
        (SoughtLayer(IpcpType.UNICAST, "", DirectoryHashAlgo.SHA3_256), "names by SHA3_512, not by SHA3_256"),
    ],
)
def test_what_differs_is_refused_with_the_reason_on_both_sides(
    world: World, caplog: pytest.LogCaptureFixture, wanted: SoughtLayer, text: str
) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    refused = refusal(world, join(newcomer, wanted))
    assert text in str(refused) and 'cannot enroll with "member"' in str(refused)
    assert refused.errno == errno.EINVAL
    check_clean(world)
    assert m.enrolment.counters.refused == 1
    assert text in caplog.text


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (SoughtLayer(IpcpType.UNICAST, "other"), 'it is a member of layer "layer", not of "other"'),
        (SoughtLayer(IpcpType.BROADCAST), '"layer" is a layer of type unicast, not broadcast'),
        (SoughtLayer(IpcpType.UNICAST, "", DirectoryHashAlgo.SHA3_256), "names by SHA3_512, not by SHA3_256"),
        (SoughtLayer(IpcpType.UNICAST, "layer", DirectoryHashAlgo.SHA3_512), ""),
    ],
)
def test_the_newcomer_checks_the_layer_itself(wanted: SoughtLayer, text: str) -> None:
    """A prototype enrols a newcomer whatever layer that has asked for."""
    differs = wanted.differs(UNICAST)
    assert differs == "" if not text else text in differs


def test_a_policy_that_is_not_known_is_refused_with_the_reason_on_both_sides(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    plain = enrol.encode_response
    try:
        enrol.encode_response = lambda response: plain(response).replace(
            b"\x18\x00\x20\x00", b"\x18\x00\x20\x07"
        )
        refused = refusal(world, join(newcomer))
    finally:
        enrol.encode_response = plain
    assert "congestion avoidance policy 7 is unknown" in str(refused)
    check_clean(world)
    assert m.enrolment.counters.refused == 1 and "congestion avoidance policy 7" in caplog.text


def test_a_newcomer_that_cannot_start_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    world.run(join(newcomer)).failed("no memory \x1b[2J for the directory" + "!" * 300)
    check_clean(world)
    assert m.enrolment.counters.refused == 1
    assert "no memory \N{REPLACEMENT CHARACTER}[2J for the directory" in caplog.text


# ---------------------------------------------------------------- addresses


def test_an_address_that_is_taken_is_drawn_again(world: World) -> None:
    member(world, taken={1, 2, 3})
    draws = iter([1, 2, 3, 4])
    joining = world.run(join(world.ipcp("newcomer"), draw=draws.__next__))
    assert joining.address == 4
    joining.done()
    check_clean(world)


def test_all_addresses_are_taken(world: World) -> None:
    m = member(world, taken={5})
    refused = refusal(world, join(world.ipcp("newcomer"), draw=lambda: 5))
    assert "05.00.00.00 is taken" in str(refused) and refused.errno == errno.EADDRINUSE
    check_clean(world)
    assert m.enrolment.counters.enrolled == 0
    assert MOST_DRAWS < 100


def test_two_newcomers_do_not_get_the_same_address(world: World) -> None:
    """The first is promised it until routing knows; one that does not come after all gives it back."""
    member(world)
    first = world.run(join(world.ipcp("first"), draw=iter([9]).__next__))
    second = world.run(join(world.ipcp("second"), draw=iter([9, 10]).__next__))
    assert (first.address, second.address) == (9, 10)
    first.failed("changed my mind")
    second.done()
    world.pass_time(0.1)
    third = world.run(join(world.ipcp("third"), draw=iter([10, 9]).__next__))
    assert third.address == 9
    world.pass_time(100)
    fourth = world.run(join(world.ipcp("fourth"), draw=iter([10]).__next__))
    assert fourth.address == 10, "routing would know by now"


# ---------------------------------------------------------------- what goes wrong


def test_a_member_that_does_not_answer(world: World) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    m.connections.component(connmgr.ENROLMENT, lambda connection: None)
    before = world.loop.time()
    assert refusal(world, join(newcomer)).errno == errno.ETIMEDOUT
    assert world.loop.time() == before + 1.0
    check_clean(world)


def test_a_member_that_dies(world: World) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    m.connections.component(connmgr.ENROLMENT, lambda connection: world.dies(m))
    assert refusal(world, join(newcomer)).errno == errno.ECONNRESET
    check_clean(world)


def test_a_newcomer_that_dies_or_says_nothing(world: World) -> None:
    m, newcomer, mute = member(world), world.ipcp("newcomer"), world.ipcp("mute")
    world.run(join(newcomer))
    world.dies(newcomer)
    world.pass_time(0.1)
    assert m.enrolment.counters.deserted == 1
    world.run(mute.connections.establish("member", connmgr.ENROLMENT, raw(), timeout=1.0))
    world.pass_time(31)
    assert m.enrolment.counters.deserted == 2
    check_clean(world)


def test_an_enrolment_that_is_given_up(world: World) -> None:
    m, newcomer = member(world), world.ipcp("newcomer")
    m.connections.component(connmgr.ENROLMENT, lambda connection: None)

    async def hasty() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await join(newcomer)

    world.run(hasty())
    check_clean(world)


def test_many_enrol_at_once(world: World) -> None:
    """Fifty, of whom some are slow to start; nobody waits for them."""
    m = member(world)

    async def one(number: int) -> int:
        joining = await join(world.ipcp(f"n{number}"), draw=lambda: number + 1)
        if number % 10 == 0:
            await asyncio.sleep(5)
        joining.done()
        return joining.address

    async def everybody() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(50)))

    before = world.loop.time()
    assert world.run(everybody()) == list(range(1, 51))
    assert world.loop.time() == before + 5
    check_clean(world)
    assert m.enrolment.counters.enrolled == 50


def test_a_prototype_as_member(world: World) -> None:
    """It waits for ever, does not look at what we add, and sends a captured configuration."""
    prototype, newcomer = world.ipcp("member"), world.ipcp("newcomer")
    heard: list[bytes] = []

    def accepted(lower: Lower) -> None:
        def receive(packet: bytes) -> None:
            heard.append(packet)
            if len(heard) == 1:
                answer = connmgr.encode(connmgr.ENROLMENT)
            elif len(heard) == 2:
                answer = (
                    bytes.fromhex("0a08")
                    + packet[2:10]
                    + bytes.fromhex(
                        "10eec18ad80618a2c1b1a00320002a450a0b0a07756e6963617374100110011a340a1408041008183c220c08001208"
                        "08001004180f203c121808001214080310081880a30520840728840730a7b4c7fa0b18002001"
                    )
                )
            else:
                return
            prototype.lowers.send(lower, answer)

        prototype.lowers.listen(lower, receive)

    prototype.lowers.accept(accepted)
    world.pass_time(0)
    joining = world.run(join(newcomer, SoughtLayer(IpcpType.UNICAST, "unicast"), draw=lambda: 3))
    assert joining.configuration.layer == "unicast" and joining.configuration.unicast is not None
    assert joining.configuration.unicast.dht.peer == 3209812519
    joining.done()
    world.pass_time(0.1)
    assert enrol.decode_acknowledgement(heard[2]) == Acknowledgement(heard[1][2:10])


mutation = st.tuples(st.integers(0, 120), st.integers(0, 255), st.integers(0, 200))
request = enrol.encode_request(enrol.Request(b"12345678", "layer", 5))
response = enrol.encode_response(Response(b"12345678", 1, 2, UNICAST))
noise = st.one_of(
    st.binary(max_size=200),
    st.just(bytes(5000)),
    st.tuples(
        st.sampled_from(
            [request, response, enrol.encode_acknowledgement(Acknowledgement(b"12345678", -1, "no"))]
        ),
        mutation,
    ).map(lambda t: bytes(c ^ t[1][1] if i == t[1][0] else c for i, c in enumerate(t[0]))[: t[1][2]]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(packets=st.lists(noise, max_size=5))
def test_any_octets_from_newcomers_and_members(packets: list[bytes]) -> None:
    with make_world() as world:
        m, stranger = member(world), world.ipcp("stranger")

        async def come() -> None:
            connection = await stranger.connections.establish("member", connmgr.ENROLMENT, raw(), timeout=1.0)
            for packet in packets:
                stranger.lowers.send(connection.lower, packet)

        def arrived(connection: Any) -> None:
            for packet in packets:
                stranger.lowers.send(connection.lower, packet)

        world.run(come())
        stranger.connections.component(connmgr.ENROLMENT, arrived)
        stranger.connections.serve()
        newcomer = world.ipcp("newcomer")
        try:
            world.run(newcomer.enrolment.join("stranger", WANTED, timeout=1.0)).failed("strange")
        except Refusal:
            pass
        world.run(join(newcomer)).done()
        world.pass_time(40)
        assert m.lowers.counters.failures == newcomer.lowers.counters.failures == 0
        assert not newcomer.relay.ends and not m.relay.ends
        assert m.enrolment.counters.enrolled >= 1


# ---------------------------------------------------------------- what newcomers can make a member do


def served(promises: Promises, *, now: float = 0.0, taken: frozenset[int] = frozenset({5})) -> MemberSide:
    return MemberSide(lambda: UNICAST, taken.__contains__, promises, now)


def proposal(address: int) -> bytes:
    return enrol.encode_request(enrol.Request(bytes(enrol.ID_LENGTH), "layer", address))


def test_who_goes_on_asking_for_an_address_that_is_taken_is_not_served_for_ever() -> None:
    machine = served(Promises())
    deadline = machine.deadline
    for proposals in range(1, MOST_DRAWS + 1):
        assert machine.outcome is None
        answer = machine.receive(proposal(5), 1.0)
        assert answer is not None and enrol.decode_response(answer).result == -errno.EADDRINUSE
        assert machine.deadline == deadline, f"{proposals} proposals do not prolong it"
    assert machine.outcome and str(MOST_DRAWS) in machine.outcome


def test_one_that_was_served_gets_time_to_start() -> None:
    machine = served(Promises())
    machine.receive(proposal(6), 20.0)
    assert machine.deadline == 20.0 + SERVE_TIME


def test_promises_are_bounded() -> None:
    promises = Promises()
    for address in range(10, 10 + 2 * MOST_PROMISED):
        served(promises, now=1.0).receive(proposal(address), 1.0)
    assert len(promises.until) == MOST_PROMISED
    assert not promises.taken(10, 1.0) and promises.taken(9 + 2 * MOST_PROMISED, 1.0)
    assert not promises.taken(9 + 2 * MOST_PROMISED, 1.0 + PROMISED_TIME) and not promises.until


def test_a_crowd_of_newcomers_that_send_nothing_keeps_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that has been there longest makes room for the next."""
    monkeypatch.setattr(enrol_module, "MOST_SERVED", 4)
    m = member(world)
    crowd = world.ipcp("crowd")

    async def come() -> None:
        record = connmgr.ENROLMENT
        for _ in range(7):
            await crowd.connections.establish("member", record, raw(), timeout=5.0)

    world.run(come())
    world.pass_time(0.1)
    assert m.enrolment.counters.crowded == 3
    joining = world.run(join(world.ipcp("newcomer")))
    joining.done()
    world.pass_time(0.1)
    assert m.enrolment.counters.enrolled == 1 and m.enrolment.counters.crowded == 4
    world.pass_time(SERVE_TIME + 1)
    check_clean(world)
