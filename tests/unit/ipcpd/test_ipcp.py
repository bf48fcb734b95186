"""The functions common to all IPCPs, against a fake channel: read-outs, cancelled requests, events of flows."""

from __future__ import annotations

import asyncio
import errno
import json
from typing import Any, ClassVar

from ipcpd.common.end import End
from ipcpd.common.ipcp import Ipcp, Result, Row
from ouroboros.errors import EIPCPSTATE
from ouroboros.flow_event import FlowEvent
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import Cancel, Envelope, IpcpBootstrap, IpcpConfig, IpcpEnroll, Readout
from ouroboros.rpc.service import PAGE, Refusal


class Channel:
    """What the IPCP has said to the IRMd."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []

    def send(self, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        self.sent.append(envelope)

    def reply(self, request: Envelope, envelope: Envelope, fds: tuple[int, ...] = ()) -> None:
        envelope.id, envelope.reply = request.id, True
        self.sent.append(envelope)

    def refuse(self, request: Envelope, number: int, text: str) -> None:
        self.sent.append(Envelope(id=request.id, reply=True, error=number, text=text))


class Shown(Ipcp):
    kind: ClassVar[str] = "unicast"
    rows: ClassVar[list[Row]] = []

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        return None

    async def _never(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.undone = True

    def enroll(self, dst: str, layer: str, require: Requirement) -> Result:
        self.wanted = (dst, layer)
        self.undone = False
        return self._never()

    def readout(self, what: str) -> list[Row]:
        if what != "routes":
            raise Refusal(errno.ENOTSUP, f"has no {what}")
        return self.rows


class Bench:
    """An IPCP on its channel."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.ipcp = Shown("x", asyncio.get_running_loop())
        self.ipcp.start(self.channel)  # type: ignore[arg-type]
        self._id = 0

    def ask(self, **body: Any) -> int:
        self._id += 1
        self.ipcp.handle(self.channel, Envelope(id=self._id, **body), [])  # type: ignore[arg-type]
        return self._id

    async def reply(self, number: int) -> Envelope:
        while True:
            for envelope in self.channel.sent:
                if envelope.reply and envelope.id == number:
                    return envelope
            await asyncio.sleep(0)

    async def member(self) -> None:
        config = IpcpConfig(layer="net", type=1)  # type: ignore[arg-type]
        reply = await self.reply(self.ask(ipcp_bootstrap=IpcpBootstrap(config=config)))
        assert not reply.error, reply.text


def test_a_long_readout_comes_in_pages() -> None:
    async def test() -> None:
        bench = Bench()
        await bench.member()
        Shown.rows = [{"number": n, "text": "é" * 200} for n in range(500)]
        rows, offset, pages = [], 0, 0
        while True:
            reply = await bench.reply(bench.ask(readout=Readout(what="routes", offset=offset)))
            assert reply.ByteSize() < PAGE + 2048
            rows += map(json.loads, reply.readout_table.rows)
            offset, pages = reply.readout_table.next, pages + 1
            if not offset:
                break
        assert rows == Shown.rows and pages > 2

    asyncio.run(test())


def test_what_there_is_not_to_see() -> None:
    async def test() -> None:
        bench = Bench()
        assert (await bench.reply(bench.ask(readout=Readout(what="routes")))).error == EIPCPSTATE
        await bench.member()
        assert (await bench.reply(bench.ask(readout=Readout(what="x")))).text == "has no x"
        Shown.rows = []
        reply = await bench.reply(bench.ask(readout=Readout(what="routes", offset=7)))
        assert not reply.error and reply.WhichOneof("body") == "readout_table"

    asyncio.run(test())


def test_an_enrolment_is_given_up() -> None:
    async def test() -> None:
        bench = Bench()
        for steps in (0, 3):  # before it has begun, and while it waits
            number = bench.ask(ipcp_enroll=IpcpEnroll(dst="d", layer="l"))
            for _ in range(steps):
                await asyncio.sleep(0)
            bench.ipcp.handle(bench.channel, Envelope(cancel=Cancel(id=number)), [])  # type: ignore[arg-type]
            reply = await bench.reply(number)
            assert (reply.error, reply.text) == (errno.EINTR, "given up")
        assert bench.ipcp.wanted == ("d", "l") and bench.ipcp.undone
        bench.ipcp.handle(bench.channel, Envelope(cancel=Cancel(id=99)), [])  # type: ignore[arg-type]
        await bench.member()  # it is as it was before

    asyncio.run(test())


def test_events_of_flows() -> None:
    async def test() -> None:
        bench = Bench()
        bench.ipcp.flow_event(End(70, 9), FlowEvent.UP)
        said = bench.channel.sent[-1]
        body = said.ipcp_flow_event
        assert not said.id and (body.fd, body.instance, body.events) == (70, 9, 4)

    asyncio.run(test())
