"""The prototype's connection manager and its enrolment, for unicast and broadcast IPCPs (spec/connections, spec/connections 3).

Used by the prototype of the tests, on its loop. Flows are accepted one after the other, and newcomers are served one at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import lower
from .judge import Judge
from .link import Link
from .lower import Cep, Config, Qos
from .names import Flow, Gone, Process
from .octets import write

PATIENCE = 1.0


class Failed(Exception):
    """No connection, or no enrolment."""


@dataclass(slots=True)
class Connection:
    """One of a component; `name` is whom it was made to, "" for one that was accepted."""

    flow: Flow
    theirs: Cep
    name: str = ""


class Connections:
    """`components` has each component's record, and the receiver of its connections."""

    def __init__(self, link: Link, judge: Judge, *, broadcast: bool = False) -> None:
        self.components: dict[bytes, tuple[Cep, Callable[[Connection], None]]] = {}
        self.made: list[Connection] = []
        self.accepted: list[Connection] = []
        self.process = Process()
        self.raw: list[bytes] = []
        """The connection records that came, as they were."""
        self._link = link
        self._judge = judge
        self._broadcast = broadcast
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def close(self) -> None:
        self._task.cancel()

    async def connect(self, name: str, component: bytes, qos: Qos = lower.RAW) -> Connection:
        """Raises Failed, and what allocation raises."""
        own, take = self.components[component]
        connection = await self.establish(name, own, qos)
        self.made.append(connection)
        take(connection)
        return connection

    async def establish(self, name: str, own: Cep, qos: Qos = lower.RAW) -> Connection:
        flow = await self._link.allocate(name, qos)
        flow.write(own.write())
        theirs = await self._read(flow)
        if theirs is None or (theirs.protocol, theirs.version, theirs.syntax) != (
            own.protocol,
            own.version,
            own.syntax,
        ):
            flow.deallocate()
            raise Failed(f"{name} answers {theirs}")
        return Connection(flow, theirs, name)

    async def _read(self, flow: Flow) -> Cep | None:
        try:
            packet = await flow.read(PATIENCE)
        except Gone:
            return None
        self.raw.append(packet)
        return self._judge.look("record", packet, lower.read_cep, packet, broadcast=self._broadcast)

    async def _serve(self) -> None:
        while True:
            flow = await self.process.accept()
            if flow.qos.in_order or not flow.qos.ber:
                self._judge.wrong("record", f"a flow between IPCPs with {flow.qos}, which ends 0.23")
            theirs = await self._read(flow)
            if theirs is None:
                flow.deallocate()
                continue
            if theirs.component not in self.components:
                flow.write(lower.NOBODY.write())
                flow.deallocate()
                continue
            own, take = self.components[theirs.component]
            flow.write(own.write())
            connection = Connection(flow, theirs)
            self.accepted.append(connection)
            take(connection)

    # ---------------------------------------------------------------- enrolment

    async def enroll(self, name: str, kind: int) -> tuple[Config, Callable[[], None]]:
        """The configuration of the layer that `name` is a member of, and the function that acknowledges it."""
        flow = (await self.establish(name, lower.ENROLMENT)).flow
        identity = os.urandom(8)
        flow.write(write((1, identity)))
        try:
            packet = await flow.read(PATIENCE)
        except Gone as gone:
            raise Failed(str(gone)) from None
        response = self._judge.look("enrolment", packet, lower.read_response, packet)
        if response is None or response.id != identity or response.config is None:
            flow.deallocate()
            raise Failed(f"{name} answers {response}")
        if response.config.kind != kind:
            flow.deallocate()
            raise Failed("another type of layer")

        def done() -> None:
            flow.write(write((1, identity), (2, 0)))
            flow.deallocate()

        return response.config, done

    def enrol_others(self, config: Config, address: int) -> Enroller:
        """Serve newcomers from now on."""
        handed = replace(config, peer=address) if config.kind == 1 else config
        enroller = Enroller(handed, self._judge)
        self.components[b"Enrollment"] = (lower.ENROLMENT, enroller.newcomers.put_nowait)
        return enroller


class Enroller:
    """The member's side, one newcomer at a time. `results` has the outcome of each."""

    def __init__(self, config: Config, judge: Judge) -> None:
        self.results: list[int] = []
        self.requests: list[bytes] = []
        self.newcomers: asyncio.Queue[Connection] = asyncio.Queue()
        self.config = config
        self._judge = judge
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def close(self) -> None:
        self._task.cancel()

    async def _serve(self) -> None:
        while True:
            flow = (await self.newcomers.get()).flow
            packet = await flow.read(120)
            self.requests.append(packet)
            identity = self._judge.look("enrolment", packet, lower.read_enrol_request, packet)
            if identity is None:
                flow.deallocate()
                continue
            flow.write(lower.write_response(identity, self.config))
            try:
                packet = await flow.read(120)
            except Gone:
                flow.deallocate()
                continue
            ack = self._judge.look("enrolment", packet, lower.read_ack, packet)
            if ack is not None:
                if ack[0] != identity:
                    self._judge.wrong("enrolment", "an acknowledgement for another", packet)
                self.results.append(ack[1])
            flow.deallocate()
