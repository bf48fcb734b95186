"""The members that a layer admits: connections and enrolments over flows with no certificate, an unsuitable one, or a suitable one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.common.admission import PeerIdentity, check_incoming, check_outgoing
from ipcpd.common.connmgr import MOST_RESPONDING, MOST_STRANGERS, Connection
from ipcpd.common.enrol import SoughtLayer
from ipcpd.wire import connmgr as wire
from ipcpd.wire.enrol import Configuration
from ouroboros.access import Access
from ouroboros.backoff import Backoff
from ouroboros.errors import EAUTH
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import Requirement
from ouroboros.rpc.service import Refusal
from tests.unit.ipcpd.test_connmgr import MANAGEMENT, Member
from tests.unit.ipcpd.world import FakeIpcp, World, raw

AUTHENTICATION, ENCRYPTION = Requirement.AUTHENTICATION, Requirement.ENCRYPTION
CLOSED = Access(AUTHENTICATION)
NAMED = Access(AUTHENTICATION, ("m?", "gateway*"))
SECRET = Access(ENCRYPTION)
NOTHING = PeerIdentity()
NONE = Requirement(0)


@pytest.mark.parametrize(
    ("access", "peer_identity", "reason"),
    [
        (Access(), NOTHING, ""),
        (Access(), PeerIdentity(True, "x"), ""),
        (CLOSED, NOTHING, "you have shown none"),
        (CLOSED, PeerIdentity(name="m1"), "you have shown none"),
        (CLOSED, PeerIdentity(True, ""), ""),
        (NAMED, PeerIdentity(True, "m1"), ""),
        (NAMED, PeerIdentity(True, "gateway.example"), ""),
        (NAMED, PeerIdentity(True, "m10"), 'the name "m10"'),
        (NAMED, PeerIdentity(True, "M1"), 'the name "M1"'),
        (NAMED, PeerIdentity(True, ""), 'the name ""'),
        (SECRET, PeerIdentity(True, "m1"), "must be encrypted"),
        (SECRET, PeerIdentity(encrypted=True), ""),
        (Access(AUTHENTICATION | ENCRYPTION), PeerIdentity(encrypted=True), "you have shown none"),
        (Access(AUTHENTICATION | ENCRYPTION), PeerIdentity(True, "", True), ""),
    ],
)
def test_incoming(access: Access, peer_identity: PeerIdentity, reason: str) -> None:
    said = check_incoming(access, peer_identity)
    assert bool(said) == bool(reason) and reason in said
    assert len(said.encode()) <= wire.MAX_REASON


@pytest.mark.parametrize(
    ("require", "peer_identity", "reason"),
    [
        (Requirement(0), NOTHING, ""),
        (AUTHENTICATION, NOTHING, "has shown none"),
        (AUTHENTICATION, PeerIdentity(True, "lan"), ""),
        (ENCRYPTION, PeerIdentity(True, "lan"), "must be encrypted"),
        (ENCRYPTION, PeerIdentity(encrypted=True), ""),
    ],
)
def test_outgoing(require: Requirement, peer_identity: PeerIdentity, reason: str) -> None:
    said = check_outgoing(require, peer_identity)
    assert bool(said) == bool(reason) and reason in said


@given(st.text(max_size=300))
def test_a_refusal_fits_into_a_record(name: str) -> None:
    reason = check_incoming(NAMED, PeerIdentity(True, name))
    assert not reason or len(wire.encode(wire.refusal(reason, EAUTH))) <= wire.MAX_RECORD


# ---------------------------------------------------------------- connections


def member(world: World, name: str, address: int, *, access: Access = CLOSED, **options: Any) -> Member:
    """With a certificate for its name."""
    one = Member(world, name, address, **options)
    one.ipcp.connections.access = access
    one.ipcp.certificate = name
    return one


def refusal(world: World, work: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        world.run(work)
    return caught.value


def nothing_left(world: World) -> None:
    world.pass_time(0.1)
    assert not world.open and not any(ipcp.relay.ends for ipcp in world.ipcps)


def test_both_show_a_certificate(world: World) -> None:
    a, b = member(world, "a", 1), member(world, "b", 2)
    connection = world.run(a.connect("b"))
    assert connection.lower.peer_identity == PeerIdentity(True, "b") and b.made[
        0
    ].lower.peer_identity == PeerIdentity(True, "a")


def test_incoming_without_is_refused(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    a, b = member(world, "a", 1, access=Access()), member(world, "b", 2)
    a.ipcp.certificate = None
    refused = refusal(world, a.connect("b"))
    assert refused.errno == EAUTH and '"b" refuses: it admits only members with a certificate' in str(refused)
    nothing_left(world)
    assert not b.made and not a.made
    assert (b.ipcp.connections.counters.unauthenticated, b.ipcp.connections.counters.refused) == (1, 0)
    assert 'of address 01.00.00.00, without a certificate, for "Management"' in caplog.text


def test_outgoing_and_shows_none_hears_nothing(world: World) -> None:
    """Not even our record: a stranger who answers to the name of a member learns nothing."""
    a = member(world, "a", 1)
    stranger = world.ipcp("b")
    heard: list[bytes] = []
    stranger.lowers.accept(lambda lower: stranger.lowers.listen(lower, heard.append))
    world.pass_time(0)
    refused = refusal(world, a.connect("b"))
    assert refused.errno == EAUTH and '"b" is not to be trusted' in str(refused)
    nothing_left(world)
    assert not heard and a.ipcp.connections.counters.unauthenticated == 1


def test_a_name_that_is_not_admitted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    a, _ = member(world, "mallory", 1), member(world, "m2", 2, access=NAMED)
    refused = refusal(world, a.connect("m2"))
    assert refused.errno == EAUTH and 'no member with the name "mallory"' in str(refused)
    assert 'with a certificate for "mallory"' in caplog.text
    nothing_left(world)


def test_flows_that_are_not_encrypted(world: World) -> None:
    a, b = member(world, "a", 1, access=SECRET), member(world, "b", 2, access=SECRET)
    assert "must be encrypted" in str(refusal(world, a.connect("b")))
    a.ipcp.encrypts = True
    world.run(a.connect("b"))
    assert b.made[0].lower.peer_identity.encrypted


def test_a_connection_that_is_made_again_is_looked_at_again(world: World) -> None:
    a = member(world, "a", 1, backoff=Backoff(1.0, 4.0))
    b = member(world, "b", 2)
    world.run(a.connect("b"))
    world.dies(b.ipcp)
    impostor = Member(world, "b", 2)
    world.pass_time(10)
    ((_, _, attempts, trouble),) = a.ipcp.connections.trying()
    assert attempts > 1 and "not to be trusted" in trouble and not impostor.made
    assert len(world.open) == 0
    impostor.ipcp.certificate = "b"
    world.pass_time(10)
    assert len(a.made) == 2 and not a.ipcp.connections.trying()


@pytest.mark.parametrize("packet", [b"", b"\xff" * 20, wire.encode(wire.management(3)), b"x" * 1400])
def test_strangers_that_talk(world: World, packet: bytes) -> None:
    """Whatever comes first on a flow without a certificate, no component sees of it, and what is behind it is lost."""
    b = member(world, "b", 2)
    stranger = world.ipcp("stranger")

    async def talk() -> None:
        lower = await stranger.lowers.allocate("b", raw(), timeout=1.0)
        for one in (packet, b"one", b"two"):
            stranger.lowers.send(lower, one)

    world.run(talk())
    world.pass_time(2)
    nothing_left(world)
    assert not b.made and not b.heard


def test_a_crowd_of_strangers_keeps_no_member_out(world: World) -> None:
    """They say nothing, and are waited for; a member is served at once."""
    a, b = member(world, "a", 1), member(world, "b", 2)
    stranger = world.ipcp("stranger")

    async def crowd() -> None:
        for _ in range(MOST_RESPONDING):
            await stranger.lowers.allocate("b", raw(), timeout=1.0)

    world.run(crowd())
    before = world.loop.time()
    connection: Connection = world.run(a.connect("b"))
    assert world.loop.time() == before and connection.peer_address == 2
    assert b.ipcp.connections.counters.crowded == MOST_RESPONDING - MOST_STRANGERS
    a.ipcp.connections.disconnect("b", MANAGEMENT)
    world.pass_time(2)
    nothing_left(world)


def test_the_log_has_the_reason_but_no_flood_of_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    a, b = member(world, "a", 1, access=Access()), member(world, "b", 2)
    a.ipcp.certificate = None
    for _ in range(50):
        refusal(world, a.connect("b"))
    assert caplog.text.count("without a certificate") == 20
    assert b.ipcp.connections.counters.unauthenticated == 50
    world.pass_time(61)
    refusal(world, a.connect("b"))
    assert caplog.text.count("without a certificate") == 21


# ---------------------------------------------------------------- enrolment


def serving(world: World, access: Access, *, name: str = "m1") -> FakeIpcp:
    one = world.ipcp(name)
    one.certificate = name
    one.connections.access = access
    one.enrolment.serve(lambda: Configuration("lan", IpcpType.BROADCAST, access=access))
    one.connections.serve()
    world.pass_time(0)
    return one


def newcomer(world: World, certificate: str | None = "m2") -> FakeIpcp:
    one = world.ipcp("newcomer")
    one.certificate = certificate
    return one


async def join(one: FakeIpcp, require: Requirement = NONE) -> Access:
    joining = await one.enrolment.join(
        "m1", SoughtLayer(IpcpType.BROADCAST, "lan", require=require), timeout=5.0
    )
    joining.done()
    return joining.configuration.access


@pytest.mark.parametrize("access", [Access(), CLOSED, NAMED])
def test_a_newcomer_takes_the_requirement_on(world: World, access: Access) -> None:
    m = serving(world, access)
    assert world.run(join(newcomer(world))) == access
    nothing_left(world)
    assert m.enrolment.counters.enrolled == 1


def test_newcomers_without_a_certificate(world: World) -> None:
    m = serving(world, CLOSED)
    refused = refusal(world, join(newcomer(world, None)))
    assert refused.errno == EAUTH and "only members with a certificate" in str(refused)
    nothing_left(world)
    assert m.connections.counters.unauthenticated == 1 and m.enrolment.counters.refused == 0


def test_newcomers_that_ask_for_a_certificate(world: World) -> None:
    m = serving(world, Access())
    assert world.run(join(newcomer(world), AUTHENTICATION)) == Access()
    m.certificate = None
    refused = refusal(world, join(newcomer(world), AUTHENTICATION))
    assert refused.errno == EAUTH and "not to be trusted" in str(refused)
    nothing_left(world)


def test_a_member_that_does_not_keep_its_own_rule(world: World, caplog: pytest.LogCaptureFixture) -> None:
    m = serving(world, CLOSED)
    m.certificate = None
    refused = refusal(world, join(newcomer(world)))
    assert refused.errno == EAUTH and 'cannot be a member of layer "lan"' in str(refused)
    nothing_left(world)
    assert m.enrolment.counters.refused == 1 and "cannot be a member" in caplog.text
