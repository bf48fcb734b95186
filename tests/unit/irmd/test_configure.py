"""The configuration file, carried out on IPCPs that the test plays."""

from __future__ import annotations

import asyncio
import errno
import tomllib
from collections.abc import Coroutine
from typing import Any

import pytest

from irmd import ipcps
from irmd.config import parse
from irmd.configure import apply
from irmd.refused import Refused
from irmd.retry import retry_with_backoff
from ouroboros.errors import EAUTH, ENAME
from ouroboros.name_info import Requirement
from ouroboros.qos import QOS_RAW, QOS_VOICE, QoSSpec

from .inside import FakeIpcp, Inside, run

FILE = """
[unicast.u]
enrol = "net"
autobind = true
conn = ["v", { dst = "w", component = "dt", qos = "voice", timeout = 500 }]
%s
[local.l]
bootstrap = "layer"
"""


async def _quick(work, times, *, sleep, failed):  # type: ignore[no-untyped-def]
    return await retry_with_backoff(work, times, sleep=lambda seconds: sleep(0.001), failed=failed)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipcps, "retry_with_backoff", _quick)


class Carried:
    """A file being carried out; `playing(ipcp)` is called with each IPCP that is made."""

    def __init__(self, system: Inside, text: str, playing: Any) -> None:
        self.system = system
        self.text = text
        self.background: list[asyncio.Task[None]] = []
        fork = system.spawner.fork

        async def made(name: str, kind: int, channel: Any) -> tuple[int, int]:
            found = await fork(name, kind, channel)
            playing(system.spawner.ipcps[name])
            return found

        system.spawner.fork = made  # type: ignore[method-assign]

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        self.background.append(asyncio.get_running_loop().create_task(work))

    async def apply(self) -> None:
        irmd = self.system.irmd
        await apply(parse(tomllib.loads(self.text)), irmd.manager, irmd.ipcps, self._later)


def refusing(times: int, number: int) -> Any:
    """The unicast IPCP refuses its enrolment so often."""

    def playing(ipcp: FakeIpcp) -> None:
        left = [number] * times
        usual = ipcp._answer
        if ipcp.name == "u":
            ipcp.answers["ipcp_enroll"] = lambda envelope: (
                (left.pop(), "nobody is there") if left else usual(envelope, "ipcp_enroll")
            )

    return playing


def kinds(ipcp: FakeIpcp) -> list[str]:
    return [str(envelope.WhichOneof("body")) for envelope in ipcp.received]


def test_in_order_and_then_connected() -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "", lambda ipcp: None)
            await carried.apply()
            assert not carried.background
            uni = system.spawner.ipcps["u"]
            assert kinds(uni) == ["ipcp_enroll", "ipcp_connect", "ipcp_connect", "ipcp_connect"]
            asked = [
                (c.dst, c.component, QoSSpec.from_proto(c.qos))
                for c in (envelope.ipcp_connect for envelope in uni.received[1:])
            ]
            assert asked == [
                ("v", "Management", QOS_RAW),
                ("v", "Data Transfer", QOS_RAW),
                ("w", "Data Transfer", QOS_VOICE.replace(timeout=500)),
            ]
            (process,) = system.irmd.registry.of_pid(uni.pid)
            assert {entry.name for entry in process.names} == {"u", "net"}

    run(test)


def test_what_a_newcomer_requires() -> None:
    """Of its member; and when it does not get it, the error says where this system looks for its credentials."""

    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % 'require = "authentication"', refusing(1, EAUTH))
            with pytest.raises(Refused) as refused:
                await carried.apply()
            assert refused.value.errno == EAUTH
            assert (
                "nobody is there. This system shows no certificate: there is no crt.pem in "
                in refused.value.text
            )
            assert system.spawner.ipcps["u"].received[0].ipcp_enroll.require == Requirement.AUTHENTICATION

    run(test)


def test_without_retry_a_failure_ends_it_all() -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "", refusing(1, ENAME))
            with pytest.raises(Refused):
                await carried.apply()
            assert "l" not in system.spawner.ipcps

    run(test)


def test_with_retry_the_rest_does_not_wait() -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "retry = true", refusing(3, ENAME))
            await carried.apply()
            assert system.spawner.ipcps["l"].layer == "layer"
            (work,) = carried.background
            await work
            uni = system.spawner.ipcps["u"]
            assert kinds(uni) == ["ipcp_enroll"] * 4 + ["ipcp_connect"] * 3

    run(test)


def test_what_is_given_up_leaves_no_ipcp(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "retry = 2", refusing(3, ENAME))
            await carried.apply()
            await asyncio.gather(*carried.background)
            assert [ipcp.name for ipcp in system.irmd.ipcps.table.listed()] == ["l"]
            assert "configuration: IPCP u: nobody is there" in caplog.text
            assert "u" not in system.irmd.registry.names

    run(test)


def test_an_irmd_that_stops_tries_no_more() -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "retry = true", refusing(10**6, errno.ETIMEDOUT))
            irmd = system.irmd
            await apply(parse(tomllib.loads(carried.text)), irmd.manager, irmd.ipcps, irmd._later)
            await system.spawner.ipcps["u"].next("ipcp_enroll")
            assert irmd._configuring
        await asyncio.sleep(0)
        assert not irmd._configuring

    run(test)
