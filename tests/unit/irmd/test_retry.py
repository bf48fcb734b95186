"""Retries: pauses, failures that are not retried, and that an abandoned enrolment leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irmd import ipcps
from irmd.retry import FIRST, MAX_PAUSE, Failure, pause, retry_with_backoff
from ouroboros.errors import EIPCP, EIPCPSTATE, EIPCPTYPE, ENAME
from ouroboros.ipcp_types import IpcpType
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    IpcpConnect,
    IpcpDestroy,
    IpcpEnroll,
    IpcpInfo,
    IpcpList,
    Readout,
    Retry,
)
from ouroboros.rpc.service import Refusal

from .inside import FakeIpcp, Inside, Party, run


class Work:
    """Fails as often as there are refusals, then succeeds."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.pauses: list[float] = []
        self.failures: list[Failure] = []

    async def __call__(self) -> str:
        if self.refusals:
            raise Refusal(self.refusals.pop(0), "no")
        return "done"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def retry_with_backoff(self, times: int | None) -> str:
        return asyncio.run(
            retry_with_backoff(self, times, sleep=self.sleep, failed=self.failures.append, share=lambda: 1.0)
        )


def test_until_it_succeeds() -> None:
    work = Work(*[ENAME] * 9)
    assert work.retry_with_backoff(0) == "done"
    assert work.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert [failure.attempt for failure in work.failures] == list(range(1, 10))


def test_so_often_and_no_more() -> None:
    assert Work(ENAME, ENAME).retry_with_backoff(2) == "done"
    for times, refusals in ((2, 3), (None, 1)):
        work = Work(*[ENAME] * refusals)
        with pytest.raises(Refusal):
            work.retry_with_backoff(times)
        assert not work.refusals and len(work.pauses) == refusals - 1


FINAL = "EACCES ECANCELED EEXIST EINVAL ENAMETOOLONG ENOTSUP EPERM EPROTO ESHUTDOWN"
"""The request is wrong, forbidden or abandoned, or the other end is no member of this layer."""


@pytest.mark.parametrize("number", [*(getattr(errno, name) for name in FINAL.split()), EIPCPSTATE, EIPCPTYPE])
def test_what_waiting_cannot_mend(number: int) -> None:
    work = Work(number)
    with pytest.raises(Refusal):
        work.retry_with_backoff(0)
    assert not work.pauses


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_pauses_are_bounded_and_differ(attempt: int, share: float) -> None:
    assert FIRST / 2 <= pause(attempt, share) <= MAX_PAUSE
    assert pause(attempt, 0.0) < pause(attempt, 1.0)


# ---------------------------------------------------------------- in the IRMd


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The IRMd's pauses are short here."""
    monkeypatch.setattr(ipcps, "retry_with_backoff", _quick)


async def _quick(work, times, *, sleep, failed):  # type: ignore[no-untyped-def]
    return await retry_with_backoff(
        work, times, sleep=lambda seconds: sleep(min(seconds, 0.001)), failed=failed
    )


async def info(tool: Party) -> IpcpInfo:
    (found,) = (await tool.call(ipcp_list=IpcpList())).ipcp_table.ipcps
    return found


def failing(ipcp: FakeIpcp, body: str, times: int, number: int = ENAME) -> None:
    """The IPCP refuses this so often, then does as usual."""
    left = [number] * times

    def answer(envelope: Envelope) -> Envelope | tuple[int, str]:
        if left:
            return left.pop(), "nobody is there"
        del ipcp.answers[body]
        answer = ipcp._answer(envelope, body)
        assert isinstance(answer, Envelope)
        return answer

    ipcp.answers[body] = answer


def test_an_enrolment_is_tried_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            tool = await system.tool()
            failing(uni, "ipcp_enroll", 5)
            reply = await tool.call(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net", retry=Retry()))
            assert not reply.error and reply.ipcp_info.layer == "net"
            assert "attempt 5 to enroll with net failed, the next is in" in caplog.text
            assert len([e for e in uni.received if e.WhichOneof("body") == "ipcp_enroll"]) == 6
            assert not (await info(tool)).progress

    run(test)


def test_without_retry_it_is_tried_once() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            tool = await system.tool()
            failing(uni, "ipcp_enroll", 1)
            reply = await tool.call(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net"))
            assert (reply.error, reply.text) == (ENAME, "nobody is there")

    run(test)


def test_another_layer_than_the_one_wanted_is_not_tried_again() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            tool = await system.tool()
            failing(uni, "ipcp_enroll", 1, errno.EPERM)
            reply = await tool.call(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="n", layer="l", retry=Retry()))
            assert reply.error == errno.EPERM
            (asked,) = uni.received
            assert (asked.ipcp_enroll.dst, asked.ipcp_enroll.layer) == ("n", "l")
            assert not asked.ipcp_enroll.HasField("retry")

    run(test)


def test_progress_is_shown() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            uni.answers["ipcp_enroll"] = lambda envelope: (ENAME, "nobody is there")
            tool, other = await system.tool(), await system.tool()
            tool.begin(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net", retry=Retry()))
            while not (shown := (await info(other)).progress):
                pass
            assert "to enroll with net failed" in shown and shown.endswith("nobody is there")
            second = await other.call(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net"))
            assert second.error == EIPCPSTATE and "enrolling already" in second.text
            assert not (await other.call(ipcp_destroy=IpcpDestroy(pid=uni.pid))).error

    run(test)


@pytest.mark.parametrize("how", ["cancel", "end of the tool"])
def test_given_up_while_the_ipcp_works_on_it(how: str) -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            uni.answers["ipcp_enroll"] = lambda envelope: None
            tool = await system.tool()
            envelope = Envelope(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net", retry=Retry()))
            asked = asyncio.get_running_loop().create_task(tool.call(envelope))
            request = await uni.next("ipcp_enroll")
            if how == "cancel":
                cancel = Envelope()
                cancel.cancel.id = envelope.id
                tool.session.send(cancel)
                assert (await asked).error == errno.EINTR
            else:
                tool.close()
                with pytest.raises(AssertionError):
                    await asked
            assert (await uni.next("cancel")).cancel.id == request.id
            del uni.answers["ipcp_enroll"]
            other = await system.tool()
            assert not (await other.call(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net"))).error

    run(test)


def test_an_ipcp_that_ends_is_not_asked_again() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST)
            uni.answers["ipcp_enroll"] = lambda envelope: (ENAME, "nobody is there")
            tool, other = await system.tool(), await system.tool()
            asked = tool.begin(ipcp_enroll=IpcpEnroll(pid=uni.pid, dst="net", retry=Retry()))
            await uni.next("ipcp_enroll")
            assert not (await other.call(ipcp_destroy=IpcpDestroy(pid=uni.pid))).error
            assert (await asked).error == EIPCP

    run(test)


def test_a_connection_is_tried_again() -> None:
    async def test() -> None:
        async with Inside() as system:
            bc = await system.ipcp("bc", IpcpType.BROADCAST, "b")
            tool = await system.tool()
            failing(bc, "ipcp_connect", 2)
            body = IpcpConnect(pid=bc.pid, dst="bc2", component="Data Transfer", retry=Retry(times=1))
            body.qos.timeout = 500
            assert (await tool.call(ipcp_connect=body)).error == ENAME
            assert not (await tool.call(ipcp_connect=body)).error
            assert {e.ipcp_connect.qos.timeout for e in bc.received} == {500}

    run(test)


def test_readouts_pass_through() -> None:
    async def test() -> None:
        async with Inside() as system:
            uni = await system.ipcp("uni", IpcpType.UNICAST, "net")

            def show(envelope: Envelope) -> Envelope:
                answer = Envelope()
                answer.readout_table.rows.append(f'{{"what": "{envelope.readout.what}"}}')
                answer.readout_table.next = envelope.readout.offset + 1
                return answer

            uni.answers["readout"] = show
            tool = await system.tool()
            table = (await tool.call(readout=Readout(pid=uni.pid, what="routes", offset=4))).readout_table
            assert list(table.rows) == ['{"what": "routes"}'] and table.next == 5
            uni.answers["readout"] = lambda envelope: (errno.ENOTSUP, "has no routes")
            assert (await tool.call(readout=Readout(pid=uni.pid, what="x"))).error == errno.ENOTSUP
            assert (await tool.call(readout=Readout(pid=1, what="x"))).error == EIPCP

    run(test)
