"""The configuration file, carried out on IPCPs that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import tomllib
import zlib
from typing import Any

import pytest

from irmd import ipcps
from irmd.config import parse
from irmd.retry import retry_with_backoff
from ouroboros.errors import EAUTH, ENAME
from ouroboros.name_info import Requirement
from ouroboros.qos import QOS_RAW, QOS_VOICE, QoSSpec
from ouroboros.rpc.codec import MAX_MESSAGE
from ouroboros.rpc.limits import CONFIG_FILE
from ouroboros.rpc.messages_pb2 import Envelope, NodeApply, NodeSave
from ouroboros.rpc.service import Refusal

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
        fork = system.spawner.fork

        async def made(name: str, kind: int, channel: Any) -> tuple[int, int]:
            found = await fork(name, kind, channel)
            playing(system.spawner.ipcps[name])
            return found

        system.spawner.fork = made  # type: ignore[method-assign]

    @property
    def background(self) -> list[asyncio.Task[None]]:
        """The work that goes on."""
        return [task for _, task in self.system.irmd.configurer._waiting.values()]

    async def apply(self) -> list[str]:
        return await self.system.irmd.configurer.apply(parse(tomllib.loads(self.text)))


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
            carried = Carried(system, FILE % "retry = false", lambda ipcp: None)
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
            carried = Carried(system, FILE % 'require = "authentication"\nretry = false', refusing(1, EAUTH))
            with pytest.raises(Refusal) as refused:
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
            carried = Carried(system, FILE % "retry = false", refusing(1, ENAME))
            with pytest.raises(Refusal):
                await carried.apply()
            assert "l" not in system.spawner.ipcps

    run(test)


def test_with_retry_the_rest_does_not_wait() -> None:
    async def test() -> None:
        async with Inside() as system:
            carried = Carried(system, FILE % "", refusing(3, ENAME))
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
            await carried.apply()
            await system.spawner.ipcps["u"].next("ipcp_enroll")
            assert carried.background
        await asyncio.sleep(0)
        assert not carried.background

    run(test)


NODE = """
[irmd]
flows = 20000

[name.free]
lb = "round-robin"

[name.served]
require = ["encryption"]
prog = ["/bin/true", {path = "/bin/sh", args = ["-c", "exit 0"]}]

[local.l]
bootstrap = "layer"
hash = "SHA3_512"
reg = ["served", "u"]

[unicast.u]
bootstrap = "net"
ttl = 9
autobind = true
bind = ["other"]
conn = ["v", { dst = "w", component = "dt", qos = "voice", timeout = 500 }]
retry = false

[unicast.e]
enrol = "net"
autobind = true
require = "authentication"
retry = false

[broadcast.b]
bootstrap = "bc"
"""
OTHER = """
[name.served]
prog = ["/bin/true"]

[local.l]
bootstrap = "layer"
hash = "SHA3_512"
reg = ["u", "new"]

[unicast.u]
bootstrap = "net"
ttl = 9
conn = [{ dst = "w", component = "mgmt" }]
retry = false

[unicast.e]
bootstrap = "alone"
"""


def test_a_saved_system_is_that_of_the_file() -> None:
    async def test() -> None:
        async with Inside(config=parse(tomllib.loads(NODE))) as system:
            configurer = system.irmd.configurer
            changes = await configurer.apply(parse(tomllib.loads(NODE)))
            assert "bootstrap IPCP u in layer net" in changes and len(changes) == len(set(changes))
            saved = configurer.save()
            again = parse(tomllib.loads(saved))
            assert configurer.changes(again) == [] == configurer.changes(parse(tomllib.loads(NODE)))
            assert again.settings.flows == 20000
        async with Inside(config=again) as other:
            await other.irmd.configurer.apply(again)
            assert other.irmd.configurer.save() == saved

    run(test)


@pytest.mark.parametrize(("before", "after"), [("", NODE), (NODE, OTHER), (OTHER, NODE), (NODE, "")])
def test_an_apply_that_ends_at_any_step_is_taken_up(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = parse(tomllib.loads(before)), parse(tomllib.loads(after))

    async def test() -> None:
        async with Inside(config=second) as system:
            configurer = system.irmd.configurer
            await configurer.apply(first)
            carry_out, left = configurer._carry_out, [0]

            async def breaking(step: Any) -> None:
                if not left[0]:
                    raise Refusal(errno.EINTR, "enough")
                left[0] -= 1
                await carry_out(step)

            monkeypatch.setattr(configurer, "_carry_out", breaking)
            steps = 0
            while configurer.changes(second):
                left[0] = 1
                with contextlib.suppress(Refusal):
                    await configurer.apply(second)
                steps += 1
                assert steps < 100
            assert steps >= 5
            assert parse(tomllib.loads(configurer.save())).node.ipcps.keys() == second.node.ipcps.keys()

    run(test)


def test_by_request() -> None:
    """As `irm` does; a mistake changes nothing."""

    async def test() -> None:
        async with Inside() as system:
            tool = await system.tool()
            text = "[local.l]\nbootstrap = 'layer'\n"

            async def ask(text: str, *, dry_run: bool = False) -> Envelope:
                return await tool.call(
                    node_apply=NodeApply(file=zlib.compress(text.encode()), path="F", dry_run=dry_run)
                )

            expected = ["create IPCP l (local)", "bootstrap IPCP l in layer layer"]
            assert list((await ask(text, dry_run=True)).node_report.changes) == expected
            assert not list(system.irmd.ipcps.table)
            assert list((await ask(text)).node_report.changes) == expected
            assert list((await ask(text)).node_report.changes) == []
            wrong = await ask("[local.l]\nbootstrap = 1\n")
            assert wrong.error == errno.EINVAL and wrong.text.startswith("F:2: [local.l]: bootstrap must be")
            assert (await tool.call(node_apply=NodeApply(file=b"nonsense"))).error == errno.EINVAL
            for damaged in (b"", zlib.compress(text.encode())[:-1], zlib.compress(text.encode())[:12]):
                refused = await tool.call(node_apply=NodeApply(file=damaged, path="F"))
                assert refused.error == errno.EINVAL and "its end is missing" in refused.text
            assert [ipcp.name for ipcp in system.irmd.ipcps.table] == ["l"]
            bomb = zlib.compress(bytes(100 << 20))
            assert (
                len(bomb) > MAX_MESSAGE or "longer" in (await tool.call(node_apply=NodeApply(file=bomb))).text
            )
            bomb = zlib.compress(bytes(CONFIG_FILE + 1))
            assert "longer than" in (await tool.call(node_apply=NodeApply(file=bomb))).text
            saved = await tool.call(node_save=NodeSave())
            assert zlib.decompress(saved.node_report.file).decode() == '[local.l]\nbootstrap = "layer"\n'

    run(test)
