"""The local IPCP against a fake relay and a fake IRMd: flows in every order of events."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator

import pytest

from ipcpd.local import local
from ipcpd.local.local import MPL_MS, LocalIpcp
from ouroboros.errors import EIPCPSTATE, ENAME
from ouroboros.rpc.messages_pb2 import (
    SHA3_512,
    Envelope,
    FlowEndpoint,
    Hello,
    IpcpConnect,
    IpcpDisconnect,
    IpcpEnroll,
    IpcpFlowJoin,
    IpcpFlowReq,
    IpcpReg,
    QosSpec,
)
from ouroboros.rpc.service import Refusal


class FakeRelay:
    """Which ends it has, and which are paired."""

    def __init__(self) -> None:
        self.ends: set[int] = set()
        self.pairs: set[frozenset[int]] = set()
        self.closed = False

    def add(self, endpoint: FlowEndpoint, fds: list[int]) -> None:
        assert endpoint.fd not in self.ends
        self.ends.add(endpoint.fd)

    def pair(self, a: int, b: int) -> None:
        assert {a, b} <= self.ends
        self.pairs.add(frozenset((a, b)))

    def remove(self, fd: int) -> None:
        self.ends.remove(fd)
        self.pairs = {pair for pair in self.pairs if fd not in pair}

    def close(self) -> None:
        self.closed = True


class FakeSession:
    """What the IPCP has said to the IRMd."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.requests: list[tuple[Envelope, object]] = []

    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    def reply(self, request: Envelope, envelope: Envelope) -> None:
        envelope.id, envelope.reply = request.id, True
        self.sent.append(envelope)

    def refuse(self, request: Envelope, number: int, text: str) -> None:
        self.sent.append(Envelope(id=request.id, reply=True, error=number, text=text))

    def request(self, envelope: Envelope, on_reply: object, *, timeout: float | None) -> int:
        self.requests.append((envelope, on_reply))
        return len(self.requests)


class World:
    """A local IPCP between a fake relay and a fake IRMd."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ipcp = LocalIpcp("l", loop)
        self.session = FakeSession()
        self.ipcp.start(self.session)  # type: ignore[arg-type]
        self._ids = 0

    @property
    def relay(self) -> FakeRelay:
        return self.ipcp._relay  # type: ignore[return-value]

    def ask(self, envelope: Envelope) -> Envelope | None:
        """A request of the IRMd; the reply, if it came at once."""
        self._ids += 1
        envelope.id = number = self._ids
        self.ipcp.handle(self.session, envelope, [])  # type: ignore[arg-type]
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        return next((one for one in self.session.sent if one.reply and one.id == number), None)

    def bootstrap(self, **options: str) -> Envelope:
        envelope = Envelope()
        envelope.ipcp_bootstrap.config.layer = "layer"
        envelope.ipcp_bootstrap.config.options.update(options)
        reply = self.ask(envelope)
        assert reply is not None
        return reply

    def member(self) -> World:
        assert not self.bootstrap().error
        envelope = Envelope()
        envelope.ipcp_reg.hash = b"n"
        assert not self.error(envelope)
        return self

    def error(self, envelope: Envelope) -> int:
        reply = self.ask(envelope)
        assert reply is not None
        return reply.error

    def alloc(self, fd: int, dst: bytes = b"n") -> int:
        envelope = Envelope()
        envelope.ipcp_flow_alloc.endpoint.fd = fd
        envelope.ipcp_flow_alloc.dst = dst
        envelope.ipcp_flow_alloc.qos.CopyFrom(QosSpec(delay=5))
        return self.error(envelope)

    @property
    def announced(self) -> IpcpFlowReq:
        return self.session.requests[-1][0].ipcp_flow_req

    def accepted(self, fd: int = 0, error: int = 0) -> None:
        """The IRMd answers the last announcement."""
        reply = Envelope(error=error, text="nobody")
        if not error:
            reply.flow_endpoint.fd = fd
        self.session.requests[-1][1](reply, [])  # type: ignore[operator]

    def respond(self, fd: int, response: int = 0) -> int:
        envelope = Envelope()
        envelope.ipcp_flow_alloc_resp.fd = fd
        envelope.ipcp_flow_alloc_resp.response = response
        return self.error(envelope)

    def dealloc(self, fd: int) -> int:
        envelope = Envelope()
        envelope.ipcp_flow_dealloc.fd = fd
        return self.error(envelope)

    @property
    def outcomes(self) -> list[tuple[int, int]]:
        """(descriptor, response) of each allocation that it has told the end of."""
        replies = [
            one.ipcp_flow_alloc_reply for one in self.session.sent if one.HasField("ipcp_flow_alloc_reply")
        ]
        return [(one.fd, one.response) for one in replies]

    @property
    def downs(self) -> list[int]:
        return [one.flow_dealloc.fd for one in self.session.sent if one.HasField("flow_dealloc")]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(local, "Relay", FakeRelay)
    loop = asyncio.new_event_loop()
    yield World(loop)
    loop.close()


def test_nothing_works_before_bootstrap(world: World) -> None:
    assert world.alloc(64) == EIPCPSTATE
    reply = world.ask(Envelope(ipcp_reg=IpcpReg()))
    assert reply is not None and "bootstrap or enroll it first" in reply.text


def test_bootstrap_tells_layer_and_hash(world: World) -> None:
    reply = world.bootstrap(hash="SHA3_512")
    assert reply.ipcp_layer.layer == "layer" and reply.ipcp_layer.hash == SHA3_512
    assert world.bootstrap().error == EIPCPSTATE


@pytest.mark.parametrize(("key", "value"), [("hash", "MD5"), ("ttl", "60"), ("nonsense", "1")])
def test_a_wrong_option_is_named_and_changes_nothing(world: World, key: str, value: str) -> None:
    reply = world.bootstrap(**{key: value})
    assert reply.error == errno.EINVAL and key in reply.text
    assert not world.bootstrap().error


def test_what_a_local_ipcp_lacks(world: World) -> None:
    assert world.error(Envelope(ipcp_enroll=IpcpEnroll())) == errno.ENOTSUP
    world.member()
    for envelope in (
        Envelope(ipcp_connect=IpcpConnect()),
        Envelope(ipcp_disconnect=IpcpDisconnect()),
        Envelope(ipcp_flow_join=IpcpFlowJoin()),
    ):
        assert world.error(envelope) == errno.ENOTSUP
    assert world.error(Envelope(hello=Hello())) == errno.ENOTSUP


def test_the_directory(world: World) -> None:
    world.member()
    query, other = Envelope(), Envelope()
    query.ipcp_query.hash, other.ipcp_query.hash = b"n", b"x"
    assert world.error(query) == 0 and world.error(other) == errno.ENOENT
    forget = Envelope()
    forget.ipcp_unreg.hash = b"n"
    assert world.error(forget) == 0 and world.error(forget) == errno.ENOENT
    assert world.error(query) == errno.ENOENT


def test_a_flow(world: World) -> None:
    world.member()
    assert world.alloc(64) == 0
    assert (world.announced.hash, world.announced.qos.delay, world.announced.mpl_ms) == (b"n", 5, MPL_MS)
    world.accepted(65)
    assert world.outcomes == []
    assert world.respond(65) == 0
    assert world.outcomes == [(64, 0)] and world.relay.pairs == {frozenset((64, 65))}
    assert world.dealloc(64) == 0
    assert world.downs == [65] and not world.relay.ends
    assert world.dealloc(65) == 0  # the other end's deallocation crossed


def test_a_name_that_is_not_registered(world: World) -> None:
    world.member()
    assert world.alloc(64, b"x") == ENAME
    assert not world.relay.ends and not world.session.requests


def test_nobody_accepts(world: World) -> None:
    world.member()
    world.alloc(64)
    world.accepted(error=errno.ETIMEDOUT)
    assert world.outcomes == [(64, errno.ETIMEDOUT)] and not world.relay.ends


def test_the_acceptor_refuses(world: World) -> None:
    world.member()
    world.alloc(64)
    world.accepted(65)
    world.respond(65, errno.EACCES)
    assert world.outcomes == [(64, errno.EACCES)] and not world.relay.ends


def test_the_acceptor_ends_before_it_responds(world: World) -> None:
    world.member()
    world.alloc(64)
    world.accepted(65)
    world.dealloc(65)
    assert world.outcomes == [(64, errno.ECONNREFUSED)] and not world.relay.ends


def test_the_requester_gives_up_while_the_request_is_announced(world: World) -> None:
    world.member()
    world.alloc(64)
    world.dealloc(64)
    world.accepted(65)
    assert world.downs == [65] and world.outcomes == [] and not world.relay.ends
    assert world.respond(65) != 0


def test_the_requester_gives_up_before_the_response(world: World) -> None:
    world.member()
    world.alloc(64)
    world.accepted(65)
    world.dealloc(64)
    assert world.downs == [65] and world.outcomes == [] and not world.relay.ends


def test_stopping_gives_everything_back(world: World) -> None:
    world.member().ipcp.stop()
    assert world.relay.closed and world.ipcp.stopped.done()
    world.ipcp.stop()


def test_messages_without_effect_are_counted(world: World) -> None:
    world.ipcp.late["cancel"] += 1
    world.ipcp.refused["flow_dealloc"] += 2
    assert {(row["component"], row["counter"], row["value"]) for row in world.ipcp.readout("counters")} == {
        ("late messages", "cancel", 1),
        ("refused messages", "flow_dealloc", 2),
    }


def test_a_refusal_names_the_type(world: World) -> None:
    with pytest.raises(Refusal, match='"l" is of type local'):
        raise world.ipcp.lacks("wings")


def test_ends_that_cannot_be_paired_are_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both: their numbers are used again."""
    member = world.member()

    def fails(a: int, b: int) -> None:
        raise OSError(errno.EEXIST, "cannot pair")

    monkeypatch.setattr(member.relay, "pair", fails)
    assert member.alloc(64) == 0
    member.accepted(65)
    assert member.relay.ends == set()
    assert member.outcomes == [(64, errno.EEXIST)] and member.downs == [65]


def test_one_that_is_ending_does_nothing_more(world: World) -> None:
    """Its data plane has gone, and every flow with it: answers and requests that come then find nothing."""
    member = world.member()
    assert member.alloc(64) == 0
    member.ipcp.stop()
    member.accepted(65)
    assert member.dealloc(64) == 0 and member.relay.ends == {64}
    assert member.alloc(66) == EIPCPSTATE
    envelope = Envelope()
    envelope.segment_gone.segments.append(1)
    member.ipcp.handle(member.session, envelope, [])  # type: ignore[arg-type]
