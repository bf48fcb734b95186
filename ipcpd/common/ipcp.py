"""The base of every type of IPCP: the primitives of paper Listing 8 and the life cycle, over RPC with the IRMd.

One asyncio loop in the IPCP's own process. A type is a subclass that overrides the primitives it has; missing
primitives answer ENOTSUP, primitives out of order EIPCPSTATE. The reader callback calls primitives, which return
immediately; a primitive that has to wait is a coroutine, and is answered when it ends.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar

from ouroboros.access import Access
from ouroboros.facts import LATE, REFUSED, Row
from ouroboros.flow_event import FlowEvent
from ouroboros.identity import IdentityFile
from ouroboros.ipcp_types import IpcpType
from ouroboros.name_info import Requirement
from ouroboros.rpc.aio_session import Session
from ouroboros.rpc.codec import close_fds
from ouroboros.rpc.messages_pb2 import (
    SHA3_256,
    Envelope,
    FlowEndpoint,
    HashAlgo,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
    IpcpFlowJoin,
    QosSpec,
)
from ouroboros.rpc.service import Refusal, page, refused, result_of

from . import life
from .end import End
from .life import State, Step

log = logging.getLogger("ipcpd")

FlowAnswer = Callable[[FlowEndpoint | None, list[int], int, str], None]
"""The outcome of a flow that was announced to the IRMd: its end and descriptors, or None, errno and text."""


Result = Coroutine[Any, Any, None] | None


class Ipcp:
    """An IPCP. Subclasses set `kind` and override primitives; each may raise Refusal.

    Which options a type takes at bootstrap is in `ouroboros.ipcp_types`, where tools and configuration file find it too.
    """

    kind: ClassVar[str] = ""
    """The type, as people write it."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self.state = life.advance(State.NULL, Step.START)
        self.layer = ""
        self.hash: HashAlgo.ValueType = SHA3_256
        self.access = Access()
        """Of the layer."""
        self.identity = IdentityFile(name)
        """The identity of this IPCP in its layer; the process of the IPCP sets the directory in which it is kept."""
        self.stopped: asyncio.Future[None] = loop.create_future()
        self.late: Counter[str] = Counter()
        """Messages and events about an end or a request that had ended when they arrived, by name. They change nothing."""
        self.refused: Counter[str] = Counter()
        """Messages with a value beyond its limit, by name."""
        self._session: Session | None = None
        self._tasks: dict[int, asyncio.Task[Envelope | None]] = {}
        """Coroutines of requests that are under way, by the id of the request."""
        self._handlers: dict[str, Callable[[Envelope, list[int]], Result]] = {
            "ipcp_reg": lambda envelope, fds: self.reg(envelope.ipcp_reg.hash),
            "ipcp_unreg": lambda envelope, fds: self.unreg(envelope.ipcp_unreg.hash),
            "ipcp_query": lambda envelope, fds: self.query(envelope.ipcp_query.hash),
            "ipcp_flow_alloc": lambda envelope, fds: self.flow_alloc(envelope.ipcp_flow_alloc, fds),
            "ipcp_flow_join": lambda envelope, fds: self.flow_join(envelope.ipcp_flow_join, fds),
            "ipcp_flow_alloc_resp": lambda envelope, fds: self.flow_alloc_resp(envelope.ipcp_flow_alloc_resp),
            "ipcp_flow_dealloc": self._flow_dealloc,
            "ipcp_flow_again": lambda envelope, fds: self.flow_again(
                End.of(envelope.ipcp_flow_again), envelope.ipcp_flow_again.data
            ),
            "ipcp_connect": lambda envelope, fds: self.connect(
                envelope.ipcp_connect.dst, envelope.ipcp_connect.component, envelope.ipcp_connect.qos
            ),
            "ipcp_disconnect": lambda envelope, fds: self.disconnect(
                envelope.ipcp_disconnect.dst, envelope.ipcp_disconnect.component
            ),
        }
        self._replying: dict[str, Callable[[Envelope], Envelope]] = {"readout": self._readout}

    # ------------------------------------------------------------ primitives (paper Listing 8)

    def reg(self, digest: bytes) -> Result:
        """Make the name with this hash reachable over the layer."""
        raise self.lacks("registering names")

    def unreg(self, digest: bytes) -> Result:
        """Undo `reg`."""
        raise self.lacks("registering names")

    def query(self, digest: bytes) -> Result:
        """Return when the name is reachable over the layer, raise Refusal(ENOENT) when it is not."""
        raise self.lacks("names")

    def flow_alloc(self, request: IpcpFlowAlloc, fds: list[int]) -> Result:
        """Ask the layer for a flow; return once that is under way. The outcome goes to `allocated`."""
        raise self.lacks("flow allocation")

    def flow_join(self, request: IpcpFlowJoin, fds: list[int]) -> Result:
        """Add a flow to the broadcast layer. The outcome goes to `allocated`."""
        raise self.lacks("joining")

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        """The local process has accepted, or not, the flow that was announced with `announce`."""
        raise self.lacks("flow allocation")

    def flow_again(self, end: End, data: bytes) -> Result:
        """The request for a flow has no answer yet: send another one, with this handshake's header, where that may help."""
        raise self.lacks("requests for flows")

    def flow_dealloc(self, end: End, quiet_s: int = 0) -> Result:
        """Remove the flow of this end; an unknown flow has been removed already.

        quiet_s  seconds for which its identifier on the wire should not name another flow: Delta-t of its ends (spec/frcp
                 FRCP-31). Layers that never reuse such identifiers ignore it.
        """
        raise self.lacks("flows")

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        """Make a new layer with these options, checked and complete. Sets `hash` if it is not the default."""
        raise self.lacks("bootstrapping")

    def enroll(self, dst: str, layer: str, require: Requirement) -> Result:
        """Become a member of the layer of `dst`. A layer other than `layer` is refused ("": any layer is accepted), and so is a
        member that does not satisfy `require`.

        Sets `layer` and `hash`. The coroutine is cancelled when the IRMd gives the request up; it then undoes its steps.
        """
        raise self.lacks("enrolling")

    def connect(self, dst: str, component: str, qos: QosSpec) -> Result:
        """Connect a component to that of `dst`."""
        raise self.lacks("connecting")

    def disconnect(self, dst: str, component: str) -> Result:
        """Undo `connect`."""
        raise self.lacks("connecting")

    def readout(self, what: str) -> list[Row]:
        """The rows of one read-out: "neighbours", "routes", "directory", "counters" or "status". Raises Refusal."""
        raise self.lacks(what or "read-out without a name")

    def message_counters(self) -> list[Row]:
        """For the read-out of counters: messages that had no effect."""
        return [
            *LATE.rows(dict(sorted(self.late.items()))),
            *REFUSED.rows(dict(sorted(self.refused.items()))),
        ]

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        """The IRMd welcomed this IPCP; its pool and event region came along. The descriptors are the caller's."""

    def segments_gone(self, envelope: Envelope) -> None:
        """Shared memory that is not used any more may be unmapped."""

    def close(self) -> None:
        """Stop the data plane and give everything back."""

    # ------------------------------------------------------------ towards the IRMd

    def lacks(self, what: str) -> Refusal:
        """The refusal of a primitive that this type does not have."""
        return Refusal(errno.ENOTSUP, f'IPCP "{self.name}" is of type {self.kind}, which has no {what}')

    @property
    def session(self) -> Session:
        """The channel to the IRMd."""
        assert self._session is not None
        return self._session

    def start(self, session: Session) -> None:
        """Serve the IRMd at the other end of `session`, which has welcomed this IPCP."""
        self._session = session
        self.state = life.advance(self.state, Step.CONNECT)
        self._report_state()

    def announce(
        self,
        digest: bytes,
        qos: QosSpec,
        *,
        mpl_ms: int,
        max_packet: int,
        data: bytes,
        source: bytes,
        done: FlowAnswer,
    ) -> None:
        """Notify the IRMd of a request for a flow to one of its names. `source` is the requester's address in this layer; `done`
        is called once with the outcome."""
        envelope = Envelope()
        body = envelope.ipcp_flow_req
        body.hash = digest
        body.qos.CopyFrom(qos)
        body.mpl_ms = mpl_ms
        body.max_packet = max_packet
        body.data = data
        body.source = source

        def answered(reply: Envelope | None, fds: list[int]) -> None:
            try:
                if self.state is State.SHUTDOWN:
                    return  # the IPCP is ending: no caller waits for the outcome
                if reply is None:
                    done(None, [], errno.ECONNRESET, "the IRMd has gone")
                elif reply.error:
                    done(None, [], reply.error, reply.text)
                else:
                    done(reply.flow_endpoint, fds, 0, "")
            finally:
                close_fds(fds)

        self.session.request(envelope, answered, timeout=None)

    def allocated(
        self,
        end: End,
        response: int,
        text: str = "",
        *,
        mpl_ms: int = 0,
        max_packet: int = 0,
        data: bytes = b"",
    ) -> None:
        """Report to the IRMd the outcome of a flow that it requested. After an error this end is removed."""
        envelope = Envelope()
        body = envelope.ipcp_flow_alloc_reply
        body.fd, body.instance = end
        body.response = response
        body.text = text
        body.mpl_ms = mpl_ms
        body.max_packet = max_packet
        body.data = data
        self.session.send(envelope)

    def deallocated(self, end: End) -> None:
        """Notify the IRMd that this end of a flow has ended: its application sees the flow go down."""
        envelope = Envelope()
        envelope.flow_dealloc.fd, envelope.flow_dealloc.instance = end
        self.session.send(envelope)

    def flow_event(self, end: End, event: FlowEvent) -> None:
        """Notify the owner of the other end of this N flow: the flow is DOWN, UP again, or its PEER silent."""
        envelope = Envelope()
        body = envelope.ipcp_flow_event
        body.fd, body.instance = end
        body.events = event
        self.session.send(envelope)

    def _report_state(self) -> None:
        envelope = Envelope()
        envelope.ipcp_state.state = self.state.value
        self.session.send(envelope)

    # ------------------------------------------------------------ from the IRMd

    def handle(self, session: Session, envelope: Envelope, fds: list[int]) -> None:
        """A request or notification of the IRMd."""
        try:
            self._dispatch(session, envelope, fds)
        except Exception as error:  # one bad request must not end the IPCP, nor go unanswered
            session.refuse(envelope, *refused(error, self._service, partial(_defect, envelope)))
        finally:
            close_fds(fds)

    def _dispatch(self, session: Session, envelope: Envelope, fds: list[int]) -> None:
        body = envelope.WhichOneof("body") or ""
        if self.state is State.SHUTDOWN:
            self._end_of(session, envelope, body)
            return
        if body == "segment_gone":
            self.segments_gone(envelope)
            return
        if body in ("ipcp_bootstrap", "ipcp_enroll"):
            life.check(self.state, body)
            self._run(envelope, self._become_member(envelope, body))
            return
        if body == "cancel":
            task = self._tasks.get(envelope.cancel.id)
            if task is None:
                self.late["cancel"] += 1
            else:
                task.cancel()
            return
        if body in self._replying:
            life.check(self.state, body)
            session.reply(envelope, self._replying[body](envelope))
            return
        handler = self._handlers.get(body)
        if handler is None:
            log.debug("ignored %s", body or "an empty message")
            session.refuse(envelope, errno.ENOTSUP, f"{body or 'an empty message'} is not for an IPCP")
            return
        life.check(self.state, body)
        result = handler(envelope, fds)
        if result is not None:
            self._run(envelope, result)
        elif envelope.id:
            session.reply(envelope, Envelope())

    def _end_of(self, session: Session, envelope: Envelope, body: str) -> None:
        """Answer while the IPCP is ending. Its data plane and all flows have ended: a deallocation has been done."""
        if body in life.LEGAL:
            life.check(self.state, body)
            if envelope.id:
                session.reply(envelope, Envelope())

    def _readout(self, envelope: Envelope) -> Envelope:
        body = envelope.readout
        reply = Envelope()
        table = reply.readout_table
        table.SetInParent()
        rows, table.next = page(self.readout(body.what), body.offset, json.dumps, len)
        table.rows.extend(rows)
        return reply

    def _flow_dealloc(self, envelope: Envelope, _fds: list[int]) -> Result:
        body = envelope.ipcp_flow_dealloc
        return self.flow_dealloc(End.of(body), body.quiet_s)

    async def _become_member(self, envelope: Envelope, body: str) -> Envelope:
        if body == "ipcp_bootstrap":
            config = envelope.ipcp_bootstrap.config
            if not config.layer:
                raise Refusal(errno.EINVAL, "a layer needs a name")
            ipcp_type = IpcpType.from_type_name(self.kind)
            values = {
                option.key: option.default for option in ipcp_type.row.options if option.default is not None
            }
            values |= ipcp_type.check(config.options)
            result = self.bootstrap(config, values)
        else:
            asked = envelope.ipcp_enroll
            result = self.enroll(asked.dst, asked.layer, Requirement(asked.require))
        if result is not None:
            await result
        self.state = life.advance(self.state, Step.BECOME_MEMBER)
        if body == "ipcp_bootstrap":
            self.layer = envelope.ipcp_bootstrap.config.layer
        log.info("member of layer %s", self.layer)
        reply = Envelope()
        reply.ipcp_layer.layer = self.layer
        reply.ipcp_layer.hash = self.hash
        reply.ipcp_layer.access.require = self.access.require
        reply.ipcp_layer.access.admit = self.access.text
        self._report_state()
        return reply

    def _run(self, envelope: Envelope, work: Coroutine[Any, Any, Envelope | None]) -> None:
        task = self.loop.create_task(work)
        key = envelope.id or -id(task)  # a notification has no id
        self._tasks[key] = task
        task.add_done_callback(partial(self._answer, envelope, key))

    def _answer(self, envelope: Envelope, key: int, task: asyncio.Task[Envelope | None]) -> None:
        self._tasks.pop(key, None)
        reply = result_of(task, self._service, partial(_defect, envelope))
        if envelope.id:
            self.session.reply(envelope, reply)

    @property
    def _service(self) -> str:
        return f'IPCP "{self.name}"'

    def stop(self) -> None:
        """End in good order, after a termination signal or the end of the IRMd."""
        if self.state is State.SHUTDOWN:
            return
        self.state = life.advance(self.state, Step.STOP)
        for task in list(self._tasks.values()):
            task.cancel()
        self.close()
        if not self.stopped.done():
            self.stopped.set_result(None)


def _defect(envelope: Envelope) -> None:
    log.exception("cannot handle %s", envelope.WhichOneof("body"))
