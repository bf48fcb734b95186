"""Enrolment: a member gives a newcomer the configuration to start with (paper 2.12.4, 5.3; spec/connections 3).

Two machines without I/O, a newcomer and a member's side of one enrolment, and the shell that gives each a flow. Any number of
newcomers are served together. A refused newcomer gets the reason, and so does the member when the newcomer rejects its answer:
another layer, type or hash than requested, an unknown policy, a member that its own layer would not admit. Between two Python
members the newcomer proposes the address that it drew, and draws another when the member finds it taken; a prototype neither
proposes an address nor checks it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ipcpd.wire import enrol
from ipcpd.wire.address import to_text
from ipcpd.wire.connmgr import ENROLMENT
from ipcpd.wire.enrol import Acknowledgement, Configuration, Request, Response
from ouroboros.errors import EAUTH
from ouroboros.flow_event import FlowEvent
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.log import LogLimiter
from ouroboros.name_info import Requirement
from ouroboros.qos import QOS_RAW
from ouroboros.rpc.service import Refusal
from ouroboros.wire import MalformedPacket

from .admission import PeerIdentity, check_outgoing
from .connmgr import Connection, ConnectionManager
from .handshake import HANDSHAKE_TIMEOUT, printable
from .ipcp import Ipcp
from .lower import Lower, LowerFlows

log = logging.getLogger("ipcpd/enrol")

SERVE_TIME = 30.0
"""Seconds that a newcomer may take to ask, however often it proposes an address, and again to start and acknowledge."""

MOST_SERVED = 1024
"""Newcomers that are served together. One more replaces the newcomer that has been served longest: a newcomer that follows the
protocol is served in milliseconds."""

MOST_PROMISED = 4096
"""Addresses that are promised together; one more takes the place of the oldest."""

PROMISED_TIME = 60.0
"""Seconds for which an address stays promised to the newcomer that proposed it."""

WISHES = 2
"""Times that a newcomer proposes the address that it had before."""

MOST_DRAWS = 16
"""Addresses that a newcomer proposes before it gives up."""

NEWCOMERS = "newcomers"
"""The key under which the log limiter counts lines about newcomers that did not become members."""

WISH_PAUSE = 1.5
"""Seconds after which a newcomer asks again for the address that it had before: meanwhile the member finds out whether a
running member has it, or whether the layer only remembers the newcomer's former process."""

CLOCKS_APART = 0.02
"""Seconds by which the clocks of two members may differ before the newcomer logs a warning."""


@dataclass(frozen=True, slots=True)
class SoughtLayer:
    """The layer that a newcomer means to join: its type, and its name and hash if the request has them (None, "": any); and the
    newcomer's requirement on the member."""

    ipcp_type: IpcpType
    layer: str = ""
    hash: DirectoryHashAlgo | None = None
    require: Requirement = Requirement(0)

    def differs(self, conf: Configuration) -> str:
        """Why this layer is not the requested one; "" when it is."""
        if conf.ipcp_type is not self.ipcp_type:
            return f'"{printable(conf.layer)}" is a layer of type {conf.ipcp_type.type_name}, not {self.ipcp_type.type_name}'
        if self.layer and conf.layer != self.layer:
            return f'it is a member of layer "{printable(conf.layer)}", not of "{self.layer}"'
        if self.hash is not None and conf.hash is not self.hash:
            return f'layer "{conf.layer}" names by {conf.hash.name}, not by {self.hash.name}'
        return ""


@dataclass(slots=True)
class Newcomer:
    """The newcomer's side: `begin`, then `receive` until there is a configuration, then `finish`.

    draw   a new address to propose; None: there are no addresses
    wish   the address that the newcomer had before, and proposes first; 0: none
    wall   the clock on the wall, s, for the warning that clocks differ
    peer_identity  certificate, name and encryption of the flow to the member
    """

    wanted: SoughtLayer
    now: float
    draw: Callable[[], int] | None = None
    wall: Callable[[], float] = time.time
    peer_identity: PeerIdentity = PeerIdentity()
    wish: int = 0
    pause: float = field(default=0.0, init=False)
    """Seconds to wait before the next request is sent."""
    configuration: Configuration | None = field(default=None, init=False)
    address: int = field(default=0, init=False)
    deadline: float = field(default=0.0, init=False)
    skew: float = field(default=0.0, init=False)
    _id: bytes = field(default=b"", init=False)
    _draws: int = field(default=0, init=False)
    _asked: float = field(default=0.0, init=False)
    _asked_wall: float = field(default=0.0, init=False)

    def begin(self, now: float) -> bytes:
        """The request to send."""
        self._id = secrets.token_bytes(enrol.ID_LENGTH)
        if self.draw is not None:
            self.address = (self.wish if self._draws < WISHES else 0) or self.draw()
            self.pause = WISH_PAUSE if self.address == self.wish and self._draws else 0.0
            self._draws += 1
        self._asked, self._asked_wall = now + self.pause, self.wall() + self.pause
        self.deadline = self._asked + HANDSHAKE_TIMEOUT
        return enrol.encode_request(Request(self._id, self.wanted.layer, self.address))

    def receive(self, packet: bytes, now: float) -> bytes | None:
        """The member's answer: None when `configuration` is there, else the next request to send. Raises Refusal."""
        try:
            response = enrol.decode_response(packet)
        except MalformedPacket as error:
            raise Refusal(
                errno.EPROTO, f"the member's configuration cannot be used: {error.reason}"
            ) from None
        if response.id != self._id:
            raise Refusal(errno.EPROTO, "the member answered somebody else's request")
        if response.result:
            return self._refused(response, now)
        conf = response.configuration
        assert conf is not None  # the codec sees to it
        reason = self.wanted.differs(conf)
        if reason:
            raise Refusal(errno.EINVAL, reason)
        reason = check_outgoing(conf.access.require, self.peer_identity)
        if reason:  # a member that its own layer would refuse
            raise Refusal(EAUTH, f'it cannot be a member of layer "{conf.layer}": {reason}')
        peer_time = response.seconds + response.nanoseconds / 1e9
        self.skew = max(0.0, abs(peer_time - self._asked_wall) - (now - self._asked))
        self.configuration = conf
        return None

    def _refused(self, response: Response, now: float) -> bytes:
        if response.result == -errno.EADDRINUSE and self.draw is not None and self._draws < MOST_DRAWS:
            return self.begin(now)
        reason = printable(response.reason) or f"it gives no reason (result {response.result})"
        raise Refusal(errno.EACCES if response.result > -1 else min(-response.result, 4095), reason)

    def finish(self, result: int = 0, reason: str = "") -> bytes:
        """The acknowledgement: 0, or a negative errno and why the newcomer does not join after all."""
        return enrol.encode_acknowledgement(Acknowledgement(self._id, result, shorten(reason)))

    def expired(self) -> Refusal:
        """The refusal for a deadline that has expired."""
        return Refusal(
            errno.ETIMEDOUT, f"the member did not send its configuration within {HANDSHAKE_TIMEOUT:g} s"
        )


@dataclass(slots=True)
class Promises:
    """Addresses that the member has granted to newcomers, and that routing does not know yet."""

    until: OrderedDict[int, float] = field(default_factory=OrderedDict)
    """The one that ends first is the first."""

    def taken(self, address: int, now: float) -> bool:
        """Whether the address is still promised to a newcomer."""
        while self.until and next(iter(self.until.values())) <= now:
            self.until.popitem(last=False)
        return address in self.until

    def promise(self, address: int, now: float) -> None:
        """Keep an address for a newcomer."""
        self.until[address] = now + PROMISED_TIME
        self.until.move_to_end(address)
        if len(self.until) > MOST_PROMISED:
            self.until.popitem(last=False)


@dataclass(slots=True)
class Admitting:
    """The member's side of one enrolment: `receive` gets the newcomer's packets.

    configuration  the configuration that the newcomer gets
    taken          whether a member has this address
    vacant         whether an address that seems to be taken has been found to be no living member's
    """

    configuration: Callable[[], Configuration]
    taken: Callable[[int], bool]
    promises: Promises
    now: float
    wall: Callable[[], int] = time.time_ns
    vacant: Callable[[int], bool] = lambda _address: False
    deadline: float = field(init=False)
    address: int = field(default=0, init=False)
    outcome: str | None = field(default=None, init=False)
    """None: under way. "": the newcomer is a member. Else: why it is not."""
    _id: bytes = field(default=b"", init=False)
    _offered: bool = field(default=False, init=False)
    _proposals: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.deadline = self.now + SERVE_TIME

    def receive(self, packet: bytes, now: float) -> bytes | None:
        """The answer to send, if any. Raises MalformedPacket; then no answer is sent, as with a prototype."""
        if self._offered:
            self._acknowledged(enrol.decode_acknowledgement(packet))
            return None
        request = enrol.decode_request(packet)
        conf = self.configuration()
        if request.layer and request.layer != conf.layer:
            reason = f'this is a member of layer "{conf.layer}", not of "{printable(request.layer)}"'
            self.outcome = reason
            return self._response(request, None, -errno.EINVAL, reason)
        if request.address:
            if self._is_taken(request.address, now):
                reason = f"the address {to_text(request.address)} is taken"
                self._proposals += 1
                if self._proposals >= MOST_DRAWS:
                    self.outcome = f"it proposed {MOST_DRAWS} addresses that are taken"
                return self._response(request, None, -errno.EADDRINUSE, reason)  # it may propose another
            self.promises.promise(request.address, now)
            self.address = request.address
        self._offered = True
        self.deadline = now + SERVE_TIME
        self._id = request.id
        return self._response(request, conf, 0, "")

    def _is_taken(self, address: int, now: float) -> bool:
        seems = self.taken(address) or self.promises.taken(address, now)
        return seems and not self.vacant(address)

    def _response(self, request: Request, conf: Configuration | None, result: int, reason: str) -> bytes:
        seconds, nanoseconds = divmod(self.wall(), 1_000_000_000)
        return enrol.encode_response(
            Response(request.id, seconds, nanoseconds, conf, result, shorten(reason))
        )

    def _acknowledged(self, acknowledgement: Acknowledgement) -> None:
        if acknowledgement.result:
            self.outcome = printable(acknowledgement.reason) or f"result {acknowledgement.result}"
            self.promises.until.pop(self.address, None)
        else:
            self.outcome = ""


def shorten(reason: str) -> str:
    """A reason that fits into a message."""
    return reason.encode(errors="replace")[: enrol.MAX_REASON].decode(errors="ignore")


@dataclass(slots=True)
class Counters:
    """Of enrolments that this member served."""

    enrolled: int = 0
    refused: int = 0
    """By this member, or by the newcomer that rejected the configuration."""
    malformed: int = 0
    deserted: int = 0
    """The newcomer ended the flow, or its deadline expired."""
    crowded: int = 0
    """Given up, because another newcomer arrived when too many were being served."""


@dataclass(slots=True, eq=False)
class _Serving:
    connection: Connection
    machine: Admitting
    timer: asyncio.TimerHandle | None = field(default=None)


@dataclass(slots=True, eq=False)
class PendingEnrolment:
    """An enrolment that has brought a configuration: start with it, then call `done` or `failed`, once."""

    configuration: Configuration
    address: int
    """The address that the member granted; 0: the layer has no addresses."""
    _lowers: LowerFlows
    _lower: Lower
    _machine: Newcomer

    def done(self) -> None:
        """Acknowledge: this IPCP has become a member."""
        self._finish(self._machine.finish())

    def failed(self, reason: str) -> None:
        """This IPCP could not start with this configuration: send the reason to the member."""
        self._finish(self._machine.finish(-errno.ECANCELED, reason))

    def _finish(self, packet: bytes) -> None:
        self._lowers.send(self._lower, packet)
        self._lowers.release(self._lower)


class Enrolment:
    """The enrolment component of an IPCP: `join` once, then `serve` others."""

    def __init__(self, ipcp: Ipcp, lowers: LowerFlows, connections: ConnectionManager) -> None:
        self.counters = Counters()
        self._ipcp = ipcp
        self._loop = ipcp.loop
        self._lowers = lowers
        self._connections = connections
        self._limiter = LogLimiter(log, ipcp.loop.time)
        self._serving: OrderedDict[int, _Serving] = OrderedDict()
        self._promises = Promises()
        self._configuration: Callable[[], Configuration] | None = None
        self._taken: Callable[[int], bool] = lambda _address: False
        self._vacant: Callable[[int], bool] = lambda _address: False

    # ------------------------------------------------------------ the newcomer

    async def join(
        self,
        dst: str,
        wanted: SoughtLayer,
        *,
        timeout: float,
        draw: Callable[[], int] | None = None,
        wish: int = 0,
    ) -> PendingEnrolment:
        """Ask the member at `dst` for its configuration, and for the address `wish` if there is one, else for one that `draw`
        has drawn. Raises Refusal, and then nothing is left."""
        qos = QOS_RAW.to_proto()
        connection = await self._connections.establish(
            dst, ENROLMENT, qos, timeout=timeout, require=wanted.require
        )
        lower = connection.lower
        machine = Newcomer(
            wanted, self._loop.time(), draw, peer_identity=connection.lower.peer_identity, wish=wish
        )
        try:
            configuration = await self._ask(connection, machine)
        except Refusal as refusal:
            if refusal.errno not in (errno.ETIMEDOUT, errno.ECONNRESET):
                self._lowers.send(lower, machine.finish(-refusal.errno, str(refusal)))
            self._lowers.release(lower)
            raise Refusal(refusal.errno, f'cannot enroll with "{dst}": {refusal}') from None
        except BaseException:
            self._lowers.release(lower)
            raise
        if machine.skew > CLOCKS_APART:
            log.warning('the clock of "%s" differs from ours by %.3f s', dst, machine.skew)
        return PendingEnrolment(configuration, machine.address, self._lowers, lower, machine)

    async def _ask(self, connection: Connection, machine: Newcomer) -> Configuration:
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        lower = connection.lower
        self._lowers.watch(
            lower, lambda event: answers.put_nowait(None) if event is FlowEvent.DEALLOC else None
        )
        self._lowers.listen(lower, answers.put_nowait)
        request: bytes | None = machine.begin(self._loop.time())
        while request is not None:
            await asyncio.sleep(machine.pause)
            if not self._lowers.send(lower, request):
                raise Refusal(errno.EAGAIN, "there is no room in the flow for the request")
            try:
                async with asyncio.timeout_at(machine.deadline):
                    answer = await answers.get()
            except TimeoutError:
                raise machine.expired() from None
            if answer is None:
                raise Refusal(errno.ECONNRESET, "the member ended the flow")
            request = machine.receive(answer, self._loop.time())
        assert machine.configuration is not None
        return machine.configuration

    # ------------------------------------------------------------ the member

    def serve(
        self,
        configuration: Callable[[], Configuration],
        taken: Callable[[int], bool] | None = None,
        vacant: Callable[[int], bool] | None = None,
    ) -> None:
        """Enroll newcomers from now on: they get `configuration()`, and no address that is `taken`, unless the member finds it
        `vacant`."""
        self._configuration = configuration
        if taken is not None:
            self._taken = taken
        if vacant is not None:
            self._vacant = vacant
        self._connections.component(ENROLMENT, self._arrived, on_lost=self._lost)

    def _arrived(self, connection: Connection) -> None:
        assert self._configuration is not None
        if len(self._serving) >= MOST_SERVED:
            self.counters.crowded += 1
            self._end(next(iter(self._serving.values())))
        machine = Admitting(
            self._configuration, self._taken, self._promises, self._loop.time(), vacant=self._vacant
        )
        serving = _Serving(connection, machine)
        self._serving[connection.lower.fd] = serving
        serving.timer = self._loop.call_at(machine.deadline, self._expired, serving)
        self._lowers.listen(connection.lower, lambda packet: self._receive(serving, packet))

    def _receive(self, serving: _Serving, packet: bytes) -> None:
        machine = serving.machine
        try:
            answer = machine.receive(packet, self._loop.time())
        except MalformedPacket as error:
            self.counters.malformed += 1
            self._limiter.info(NEWCOMERS, "an enrolment went wrong: %s", error)
            self._end(serving)
            return
        if answer is not None:
            self._lowers.send(serving.connection.lower, answer)
        if machine.outcome is None:
            return
        if machine.outcome:
            self.counters.refused += 1
            self._limiter.warning(NEWCOMERS, "a newcomer was not enrolled: %s", machine.outcome)
        else:
            self.counters.enrolled += 1
            log.info("a newcomer was enrolled")
        self._end(serving)

    def _expired(self, serving: _Serving) -> None:
        now = self._loop.time()
        if now < serving.machine.deadline:  # the newcomer has sent a request meanwhile
            serving.timer = self._loop.call_at(serving.machine.deadline, self._expired, serving)
            return
        self._connections.drop(serving.connection)

    def _end(self, serving: _Serving) -> None:
        self._forget(serving)
        self._connections.drop(serving.connection)

    def _lost(self, connection: Connection) -> None:
        serving = self._serving.get(connection.lower.fd)
        if serving is not None and serving.connection is connection:
            self.counters.deserted += 1
            self._forget(serving)

    def _forget(self, serving: _Serving) -> None:
        del self._serving[serving.connection.lower.fd]
        if serving.timer is not None:
            serving.timer.cancel()

    def close(self) -> None:
        """The IPCP ends."""
        for serving in self._serving.values():
            if serving.timer is not None:
                serving.timer.cancel()
        self._serving.clear()
