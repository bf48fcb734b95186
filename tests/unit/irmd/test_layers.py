"""The layers that carry a flow: the IPCPs that the IRMd asks, their order, and the layers that an IPCP never uses (with IPCPs that the test plays)."""

from __future__ import annotations

import asyncio
import errno
import os
import time

import pytest

from irmd import incoming
from irmd.oap.extension import REPEATS, Extensions, Item, decode, lasting, lasts, repeated_ids
from irmd.oap.header import decode_request
from irmd.records import PendingRequest
from ouroboros.errors import EAUTH, ECRYPT, EIPCP, ENAME
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import Envelope, FlowAccept, FlowJoin, FlowList, IpcpEnroll, QosSpec
from tests import handshake

from .inside import FakeIpcp, Inside, Party, accept, alloc, run, settle


def reply_to(request: bytes) -> bytes:
    return handshake.make_reply(request, now=1)


async def requested(ipcp: FakeIpcp) -> Envelope:
    return await ipcp.next("ipcp_flow_alloc")


async def adjacency(system: Inside, user: FakeIpcp, provider: FakeIpcp, dst: str) -> int:
    """A flow that `user` has over `provider`; its descriptor at `user`."""
    provider.knows.add(dst)
    asked = user.begin(flow_alloc=alloc(dst))
    body = (await requested(provider)).ipcp_flow_alloc
    provider.allocated(body.endpoint.fd, data=reply_to(body.data))
    reply = await asked
    assert not reply.error, reply.text
    return reply.flow_endpoint.fd


def expire_accept(system: Inside) -> None:
    """The time-out of the only accept that has one has passed."""
    (request,) = (
        request
        for connection in system.irmd.server._connections.values()
        for request in connection.requests.values()
        if isinstance(request, PendingRequest) and request.timer is not None
    )
    assert request.timer is not None
    request.timer.cancel()
    system.irmd.broker._accepting._expired(request)


# ---------------------------------------------------------------- order


def test_names_unknown_here_are_asked_of_layers_local_first() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            local = await system.ipcp("loc", IpcpType.LOCAL, "l")
            for ipcp in (eth, local):
                ipcp.knows.add("far")
            client = await system.application()
            asked = client.begin(flow_alloc=alloc("far"))
            body = (await requested(local)).ipcp_flow_alloc
            local.allocated(body.endpoint.fd, data=reply_to(body.data))
            reply = await asked
            assert not reply.error and reply.flow_endpoint.fd == 64
            (flow,) = (await (await system.tool()).call(flow_list=FlowList())).flow_table.flows
            assert (flow.layer, flow.name) == ("l", "far")

    run(test)


def test_a_silent_layer_in_front_costs_a_grace_and_not_its_whole_time() -> None:
    async def test() -> None:
        async with Inside() as system:
            unicast = await system.ipcp("uni", IpcpType.UNICAST, "u")
            unicast.answers["ipcp_query"] = lambda envelope: None
            udp = await system.ipcp("udp", IpcpType.UDP4, "p")
            udp.knows.add("far")
            client = await system.application()
            asked = client.begin(flow_alloc=alloc("far"))
            body = (await requested(udp)).ipcp_flow_alloc
            udp.allocated(body.endpoint.fd, data=reply_to(body.data))
            assert not (await asked).error

    run(test)


def test_nobody_knows() -> None:
    async def test() -> None:
        async with Inside() as system:
            await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            reply = await (await system.application()).call(flow_alloc=alloc("far"))
            assert reply.error == ENAME and "no layer knows" in reply.text

    run(test)


# ---------------------------------------------------------------- IPCPs as users


def test_an_ipcp_is_never_offered_itself_nor_its_own_layer() -> None:
    async def test() -> None:
        async with Inside() as system:
            one = await system.ipcp("u1", IpcpType.UNICAST, "net")
            two = await system.ipcp("u2", IpcpType.UNICAST, "net")
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            for ipcp in (one, two, eth):
                ipcp.knows.add("u3")
            await adjacency(system, one, eth, "u3")
            for ipcp in (one, two):
                assert not [e for e in ipcp.received if e.WhichOneof("body") == "ipcp_query"]

    run(test)


def test_an_ipcp_that_is_enrolling_is_not_offered_the_layer_it_enrols_in() -> None:
    async def test() -> None:
        async with Inside() as system:
            member = await system.ipcp("u1", IpcpType.UNICAST, "net")
            member.knows.add("net")
            newcomer = await system.ipcp("u2", IpcpType.UNICAST)
            newcomer.answers["ipcp_enroll"] = lambda envelope: None
            tool = await system.tool()
            tool.begin(ipcp_enroll=IpcpEnroll(pid=newcomer.pid, dst="net", layer="net"))
            await newcomer.next("ipcp_enroll")
            reply = await newcomer.call(flow_alloc=alloc("net"))
            assert reply.error == ENAME
            assert not member.received

    run(test)


def test_nested_layers_close_no_cycle() -> None:
    async def test() -> None:
        async with Inside() as system:
            low = await system.ipcp("low", IpcpType.UNICAST, "a")
            high = await system.ipcp("high", IpcpType.UNICAST, "b")
            await adjacency(system, high, low, "peer")
            high.knows.add("other")
            reply = await low.call(flow_alloc=alloc("other"))  # `high` runs over `low`
            assert reply.error == ENAME

    run(test)


def test_an_ipcp_accepts_flows_over_lower_layers_only() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            low = await system.ipcp("low", IpcpType.UNICAST, "a")
            high = await system.ipcp("high", IpcpType.UNICAST, "b")
            await system.bind(low.pid, "net")
            waiting = low.begin(flow_accept=accept())
            await settle(low)
            await adjacency(system, high, low, "peer")
            for provider in (low, high):
                refused = await provider.announce(
                    "net", handshake.make_request(identity=b"i" * 16, now=now())
                )
                assert refused.error == ENAME, provider.name
            announced = eth.announce("net", handshake.make_request(identity=b"j" * 16, now=now()))
            assert not (await announced).error
            assert not (await eth.next("ipcp_flow_alloc_resp")).ipcp_flow_alloc_resp.response
            assert not (await waiting).error

    run(test)


def test_an_ipcp_never_gets_a_direct_flow() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST, "net")
            await system.bind(uni.pid, "net")
            uni.begin(flow_accept=accept())
            await settle(uni)
            reply = await (await system.application()).call(flow_alloc=alloc("net"))
            assert reply.error == EIPCP and "bound by an IPCP" in reply.text

    run(test)


def test_an_ipcp_that_finds_nobody_is_told_why() -> None:
    async def test() -> None:
        async with Inside() as system:
            one, other = (
                await system.ipcp("one", IpcpType.UNICAST, "net"),
                await system.ipcp("other", IpcpType.UNICAST, "net"),
            )
            await system.bind(one.pid, "one")
            reply = await one.call(flow_alloc=alloc("one"))
            assert reply.error == EIPCP and '"one" is IPCP "one" itself' in reply.text
            reply = await other.call(flow_alloc=alloc("one"))
            assert reply.error == EIPCP and "`irm name register one layer LAYER`" in reply.text

    run(test)


def test_two_ipcps_over_a_local_layer_as_in_the_paper() -> None:
    """Paper Listing 12: uni3 enrols with `unicast`, which uni2 is bound to and which is registered in `local`."""

    async def test() -> None:
        async with Inside() as system:
            local = await system.ipcp("local", IpcpType.LOCAL, "local")
            uni2 = await system.ipcp("uni2", IpcpType.UNICAST, "unicast")
            uni3 = await system.ipcp("uni3", IpcpType.UNICAST)
            await system.bind(uni2.pid, "unicast")
            local.knows.add("unicast")
            accepted = uni2.begin(flow_accept=accept())
            asked = uni3.begin(flow_alloc=alloc("unicast"))
            request = (await requested(local)).ipcp_flow_alloc
            endpoint = (await local.announce("unicast", request.data)).flow_endpoint
            response = (await local.next("ipcp_flow_alloc_resp")).ipcp_flow_alloc_resp
            assert response.fd == endpoint.fd and not response.response
            local.allocated(request.endpoint.fd, data=response.data)
            assert not (await asked).error and not (await accepted).error
            # The relay of uni3 hears of it when uni2 goes.
            uni2.dealloc((await accepted).flow_endpoint.fd)
            assert (await local.next("ipcp_flow_dealloc")).ipcp_flow_dealloc.fd == endpoint.fd

    run(test)


def test_a_layer_is_told_how_long_the_ends_must_rest() -> None:
    """What the process says of Delta-t, within reason; of one that died the longest that it can be, which is none without FRCP."""

    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            eth.knows.add("far")
            client = await system.application()

            async def flow(in_order: int) -> int:
                asked = client.begin(flow_alloc=alloc("far", qos=QosSpec(in_order=in_order)))
                body = (await requested(eth)).ipcp_flow_alloc
                eth.allocated(body.endpoint.fd, data=reply_to(body.data))
                reply = await asked
                assert not reply.error, reply.text
                return reply.flow_endpoint.fd

            async def rests() -> int:
                return (await eth.next("ipcp_flow_dealloc")).ipcp_flow_dealloc.quiet_s

            for said, told in ((42, 42), (0, 0), (1_000_000, 3600)):
                client.dealloc(await flow(1), quiet_s=said)
                assert await rests() == told
            await flow(1)
            await flow(0)
            client.close()
            assert {await rests(), await rests()} == {131, 0}

    run(test)


def test_an_ipcp_gives_up_an_allocation() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            uni = await system.ipcp("uni", IpcpType.UNICAST, "net")
            eth.knows.add("far")
            envelope = Envelope(flow_alloc=alloc("far"))
            asked = asyncio.get_running_loop().create_task(uni.call(envelope))
            fd = (await requested(eth)).ipcp_flow_alloc.endpoint.fd
            cancel = Envelope()
            cancel.cancel.id = envelope.id
            uni.session.send(cancel)
            assert (await asked).error == errno.EINTR
            assert (await eth.next("ipcp_flow_dealloc")).ipcp_flow_dealloc.fd == fd

    run(test)


# ---------------------------------------------------------------- events


def test_what_becomes_of_a_flow_is_told_to_its_user() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            uni = await system.ipcp("uni", IpcpType.UNICAST, "net")
            await adjacency(system, uni, eth, "far")
            (flow,) = system.irmd.facilities.flows.flows.values()
            told: list[FlowEvent] = []
            assert flow.memory is not None
            raised = type(flow.memory).raise_event
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    type(flow.memory),
                    "raise_event",
                    lambda memory, side, event, **more: (
                        (told.append(event), raised(memory, side, event, **more))[1]
                        if side == 0
                        else raised(memory, side, event, **more)
                    ),
                )
                fd = flow.ends[1].fd
                for event in (FlowEvent.DOWN, FlowEvent.UP, FlowEvent.PEER):
                    eth.event(fd, event)
                    await settle(eth)
                    assert flow.down == (event is not FlowEvent.UP)
                for nonsense in (0, 1, FlowEvent.UP | FlowEvent.DOWN, FlowEvent.DEALLOC, 1 << 20):
                    eth.event(fd, nonsense)
                eth.event(fd + 1, FlowEvent.DOWN)
                uni.event(flow.ends[0].fd, FlowEvent.DOWN)  # it uses this flow, and does not provide it
                await settle(eth, uni)
            assert told == [FlowEvent.DOWN, FlowEvent.UP, FlowEvent.PEER]

    run(test)


def test_a_link_that_comes_back_does_not_raise_a_flow_from_the_dead() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            uni = await system.ipcp("uni", IpcpType.UNICAST, "net")
            await adjacency(system, uni, eth, "far")
            (flow,) = system.irmd.facilities.flows.flows.values()
            fd = flow.ends[1].fd
            eth.dealloc(fd)
            eth.event(fd, FlowEvent.UP)
            await settle(eth)
            assert flow.down

    run(test)


# ---------------------------------------------------------------- handshake


def now() -> int:

    return time.time_ns()


async def serving(system: Inside) -> tuple[FakeIpcp, Party, asyncio.Task[Envelope]]:
    """A server that accepts, and an IPCP over which flows come."""
    import os

    eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
    server = await system.application()
    await system.bind(os.getpid(), "n")
    waiting = server.begin(flow_accept=accept())
    await settle(server)
    return eth, server, waiting


def test_the_reply_belongs_to_the_request() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth, _, waiting = await serving(system)
            request = handshake.make_request(identity=b"1" * 16, now=now())
            endpoint = (await eth.announce("n", request)).flow_endpoint
            response = (await eth.next("ipcp_flow_alloc_resp")).ipcp_flow_alloc_resp
            assert response.fd == endpoint.fd
            header, extensions = handshake.check_reply(request, response.data)
            assert not extensions and abs(header.timestamp - now()) < 10**10
            assert not (await waiting).error

    run(test)


@pytest.mark.parametrize(
    ("number", "octets"),
    [
        (EAUTH, lambda: b""),
        (EAUTH, lambda: b"nonsense" * 6),
        (EAUTH, lambda: handshake.make_request(identity=b"2" * 16, now=now() - 30 * 10**9)),
        (EAUTH, lambda: handshake.make_request(identity=b"3" * 16, now=now() + 10**9)),
        (ECRYPT, lambda: handshake.make_request(identity=b"4" * 16, now=now())[:32] + b"\0\4\0\0key!"),
        (EAUTH, lambda: handshake.make_request(identity=b"5" * 16, now=now())[:30] + b"\0\4\0\0\0\0crt!sig"),
    ],
    ids=["empty", "nonsense", "old", "from the future", "encrypted", "certificate"],
)
def test_a_request_with_a_wrong_header_is_refused_and_disturbs_nobody(number: int, octets: object) -> None:
    async def test() -> None:
        async with Inside() as system:
            eth, _, waiting = await serving(system)
            reply = await eth.announce("n", octets())  # type: ignore[operator]
            assert reply.error == number and '"n"' in reply.text
            good = await eth.announce("n", handshake.make_request(identity=b"6" * 16, now=now()))
            assert not good.error
            assert not (await waiting).error

    run(test)


def test_a_request_that_comes_again_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Inside() as system:
            eth, _, waiting = await serving(system)
            request = handshake.make_request(identity=b"7" * 16, now=now())
            assert not (await eth.announce("n", request)).error
            assert not (await waiting).error
            again = await eth.announce("n", request)
            assert again.error == EAUTH and "been here before" in again.text
            assert 'refused a flow to "n" over layer e' in caplog.text

    run(test)


def test_a_wrong_reply_undoes_the_flow_at_both_ends() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            eth.knows.add("far")
            client = await system.application()
            for wrong in (lambda request: b"", lambda request: reply_to(request)[:-1] + b"\0"):
                asked = client.begin(flow_alloc=alloc("far"))
                body = (await requested(eth)).ipcp_flow_alloc
                eth.allocated(body.endpoint.fd, data=wrong(body.data))
                reply = await asked
                assert reply.error == EAUTH and '"far"' in reply.text
                assert (await eth.next("ipcp_flow_dealloc")).ipcp_flow_dealloc.fd == body.endpoint.fd
                await settle(eth)
                assert not system.irmd.facilities.flows.flows

    run(test)


def test_no_two_requests_are_alike() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            eth.knows.add("far")
            client = await system.application()
            headers = set()
            for _ in range(2):
                asked = client.begin(flow_alloc=alloc("far"))
                body = (await requested(eth)).ipcp_flow_alloc
                headers.add(body.data)
                eth.allocated(body.endpoint.fd, response=errno.ECONNREFUSED, text="no")
                assert (await asked).error == errno.ECONNREFUSED
            assert len(headers) == 2 and {len(header) for header in headers} == {36}

    run(test)


def test_data_of_the_application_goes_along() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth, _, waiting = await serving(system)
            plain = handshake.make_request(identity=b"8" * 16, now=now())
            request = plain[:34] + b"\0\5hello"
            assert not (await eth.announce("n", request)).error
            assert (await waiting).flow_endpoint.data == b"hello"

    run(test)


def test_joining_a_broadcast_layer_has_no_handshake() -> None:
    async def test() -> None:
        async with Inside() as system:
            bc = await system.ipcp("bc", IpcpType.BROADCAST, "b")
            client = await system.application()
            asked = client.begin(flow_join=FlowJoin(layer="b"))
            body = (await bc.next("ipcp_flow_join")).ipcp_flow_join
            bc.allocated(body.endpoint.fd)
            assert not (await asked).error
            reply = await bc.call(flow_join=FlowJoin(layer="b"))
            assert reply.error  # an IPCP does not join its own layer

    run(test)


def test_a_layer_without_an_answer_gets_another_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acceptor, of the same kind, puts the request in the place of the one before; any answer that comes is good."""
    monkeypatch.setattr("irmd.outgoing.AGAIN", (0.01, 0.01))

    async def test(answered: int) -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            eth.knows.add("n")
            requester = await system.application()
            asked = requester.begin(flow_alloc=alloc("n"))
            first = (await requested(eth)).ipcp_flow_alloc
            headers = [first.data]
            for _ in range(2):
                body = (await eth.next("ipcp_flow_again")).ipcp_flow_again
                assert (body.fd, body.instance) == (first.endpoint.fd, first.endpoint.instance)
                assert repeated_ids(decode(decode_request(body.data).data)) == tuple(
                    one[:16] for one in headers
                )
                headers.append(body.data)
            assert len({header[:16] for header in headers}) == 3
            request = headers[answered]
            reply = handshake.make_reply(request, now=now())
            eth.allocated(first.endpoint.fd, data=reply)
            assert not (await asked).error

    for answered in range(3):
        run(lambda answered=answered: test(answered))  # type: ignore[misc]


def test_a_request_that_repeats_another_takes_its_place_in_the_queue() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            server = await system.application()
            await system.bind(os.getpid(), "n")
            before = eth.announce("n", handshake.make_request(identity=b"1" * 16, now=now()))
            repeats = Extensions((Item(REPEATS, b"1" * 16),))
            request = handshake.make_request(identity=b"2" * 16, now=now(), offer=repeats)
            after = eth.announce("n", request)
            assert (await before).error == errno.EALREADY
            waiting = server.begin(flow_accept=accept())
            assert not (await after).error
            response = (await eth.next("ipcp_flow_alloc_resp")).ipcp_flow_alloc_resp
            assert handshake.check_reply(request, response.data)
            assert not (await waiting).error

    run(test)


def test_a_request_whose_answer_is_on_its_way_to_a_requester_that_repeats_it_takes_no_other_accept() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            server = await system.application()
            await system.bind(os.getpid(), "n")
            first = server.begin(flow_accept=accept())
            await settle(server)
            assert not (await eth.announce("n", handshake.make_request(identity=b"1" * 16, now=now()))).error
            assert not (await first).error
            second = server.begin(flow_accept=accept())
            await settle(server)
            repeats = Extensions((Item(REPEATS, b"1" * 16),))
            # What the layer did not send comes between.
            both = Extensions((Item(REPEATS, b"1" * 16 + b"9" * 16),))
            request = handshake.make_request(identity=b"2" * 16, now=now(), offer=both)
            assert (await eth.announce("n", request)).error == errno.EALREADY
            # Long after the answer it was lost: then there has to be another one.
            incoming.CROSSING = 0.0
            request = handshake.make_request(identity=b"3" * 16, now=now(), offer=repeats)
            assert not (await eth.announce("n", request)).error
            assert not (await second).error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incoming, "CROSSING", incoming.CROSSING)
        run(test)


def test_answered_requests_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MAX_ANSWERED", 3)
    monkeypatch.setattr(incoming, "CROSSING", 1000.0)

    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            server = await system.application()
            await system.bind(os.getpid(), "n")
            for number in range(6):
                waiting = server.begin(flow_accept=accept())
                request = handshake.make_request(identity=bytes([number]) * 16, now=now())
                assert not (await eth.announce("n", request)).error
                assert not (await waiting).error
            assert len(system.irmd.broker.incoming._answered) == 3

    run(test)


def test_a_request_carries_for_how_long_its_requester_waits() -> None:
    """If that is not as long as the layer does."""

    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            eth.knows.add("far")
            client = await system.application()
            for times, highest in (
                ({}, None),
                ({"timeout_ns": 60 * 10**9}, None),
                ({"timeout_ns": 9 * 10**9}, 9),
            ):
                asked = client.begin(flow_alloc=alloc("far", **times))
                body = (await requested(eth)).ipcp_flow_alloc
                said = lasts(decode(decode_request(body.data).data))
                assert said is None if highest is None else 1 < (said or 0) <= highest
                eth.allocated(body.endpoint.fd, data=reply_to(body.data))
                assert not (await asked).error

    run(test)


def test_a_request_that_its_requester_has_given_up_takes_no_accept() -> None:
    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            server = await system.application()
            await system.bind(os.getpid(), "n")
            short = Extensions((lasting(1),))
            request = handshake.make_request(identity=b"1" * 16, now=now(), offer=short)
            gone = await eth.announce("n", request)
            assert gone.error == errno.ETIMEDOUT
            # What cannot be a time is ignored.
            strange = Extensions((Item(lasting(1).type, b"?"),))
            request = handshake.make_request(identity=b"2" * 16, now=now(), offer=strange)
            lives = eth.announce("n", request)
            await settle(eth)
            waiting = server.begin(flow_accept=accept())
            assert not (await lives).error and not (await waiting).error

    run(test)


@pytest.mark.parametrize("response", [0, errno.ECONNRESET])
def test_a_time_out_while_the_layer_grants_the_flow_does_not_take_it_away(response: int) -> None:
    """The requester may have been told already, and no message of the layer would tell it of the end."""

    async def test() -> None:
        async with Inside() as system:
            eth = await system.ipcp("eth", IpcpType.ETH_DIX, "e")
            server = await system.application()
            await system.bind(os.getpid(), "n")
            accepting = server.begin(flow_accept=FlowAccept(timeout_ns=10**12))
            await settle(server)
            eth.answers["ipcp_flow_alloc_resp"] = lambda envelope: None
            announced = eth.announce("n", handshake.make_request(identity=b"k" * 16, now=now()))
            confirm = await eth.next("ipcp_flow_alloc_resp")
            assert not (await announced).error
            expire_accept(system)
            if response:
                eth.session.refuse(confirm, response, "the flow has ended")
            else:
                eth.session.reply(confirm, Envelope())
            reply = await accepting
            assert reply.error == (errno.ETIMEDOUT if response else 0)
            if not response:
                server.dealloc(reply.flow_endpoint.fd)
            await settle(server, eth)

    run(test)
