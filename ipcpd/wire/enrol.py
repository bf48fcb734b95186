"""Enrolment: a member sends the configuration of its layer to a newcomer (paper 5.3, spec/connections 3, spec/connections 3).

Used by the control plane of unicast and broadcast IPCPs and by `ocap`; pure functions. Three messages, one packet each: the
newcomer's request, the member's response, the newcomer's acknowledgement. No field of a message gives its kind: that
follows from the order.

Additions (fields that a prototype skips, and that are absent unless set): the layer that the newcomer means to join and
the address that it would like, the reason of a refusal on either side, the largest packet of the layer, and its access rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from ouroboros.access import Access
from ouroboros.ipcp_options import MAX_ADMIT, MAX_NAME
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.policies import (
    AddressAuthPolicy,
    CongestionAvoidPolicy,
    DirectoryPolicy,
    LinkStatePolicy,
    RoutingPolicy,
)
from ouroboros.wire import HASH_LENGTHS, MalformedPacket, UnsendablePacket, must, text

from . import enrol_pb2, proto
from .address import legal_address

ID_LENGTH = 8
MAX_MESSAGE = 1024  # octets: the prototype's buffer
MAX_REASON = 255  # octets of a refusal's text
ADDRESS_SIZE = 4  # the only sizes that the prototype can use
EID_SIZE = 8
_WHAT = "enrolment message"

Closed = TypeVar("Closed", bound=IntEnum)


@dataclass(frozen=True, slots=True)
class LinkStateConfig:
    """Link-state routing; times in seconds."""

    policy: LinkStatePolicy = LinkStatePolicy.SIMPLE
    t_recalc: int = 4
    t_update: int = 15
    t_timeo: int = 60


@dataclass(frozen=True, slots=True)
class DhtConfig:
    """The directory; times in seconds. `peer` is the address of the member that answers: the first contact."""

    peer: int
    alpha: int = 3
    k: int = 8
    t_expire: int = 86400
    t_refresh: int = 900
    t_replicate: int = 900


@dataclass(frozen=True, slots=True)
class UnicastConfig:
    """A unicast layer. `max_packet` is the largest packet it takes, octets; 0: not set."""

    dht: DhtConfig
    link_state: LinkStateConfig = LinkStateConfig()
    max_ttl: int = 60
    addr_auth: AddressAuthPolicy = AddressAuthPolicy.FLAT
    cong_avoid: CongestionAvoidPolicy = CongestionAvoidPolicy.MB_ECN
    max_packet: int = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """A layer: `unicast` is there for a unicast layer and for no other."""

    layer: str
    ipcp_type: IpcpType
    hash: DirectoryHashAlgo = DirectoryHashAlgo.SHA3_256
    unicast: UnicastConfig | None = None
    access: Access = Access()


@dataclass(frozen=True, slots=True)
class Request:
    """Newcomer to member: 8 random octets, the layer that it means to join, if it was given one, and the address
    that it drew (0: not set)."""

    id: bytes
    layer: str = ""
    address: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """Member to newcomer: its wall clock, and the configuration, or a negative `result` and a reason."""

    id: bytes
    seconds: int
    nanoseconds: int
    configuration: Configuration | None
    result: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Newcomer to member: 0, or the reason why it does not join after all."""

    id: bytes
    result: int = 0
    reason: str = ""


def decode_request(packet: bytes) -> Request:
    """A newcomer's request. Raises MalformedPacket; the prototype does not answer one with another length of id."""
    message = proto.parse(enrol_pb2.Request, packet, _WHAT, most=MAX_MESSAGE)
    if message.address and not legal_address(message.address):
        raise MalformedPacket(_WHAT, f"nobody can have the address {message.address:#x}")
    return Request(_id(message.id), _text(message.layer, "the layer", MAX_NAME), message.address)


def encode_request(request: Request) -> bytes:
    """A newcomer's request as a packet. Raises UnsendablePacket."""
    what = "an enrolment request"
    message = enrol_pb2.Request(id=_sound_id(request.id, what))
    if request.layer:
        message.layer = _octets(request.layer, what, MAX_NAME)
    if request.address:
        must(legal_address(request.address), what, f"nobody can have the address {request.address:#x}")
        message.address = request.address
    return proto.serialize(message, what, most=MAX_MESSAGE)


def decode_response(packet: bytes) -> Response:
    """A member's response. Raises MalformedPacket, also for a policy that is not known: the newcomer cannot join."""
    message = proto.parse(enrol_pb2.Response, packet, _WHAT, most=MAX_MESSAGE)
    if not 0 <= message.t_nsec < 1_000_000_000:
        raise MalformedPacket(_WHAT, f"a time with {message.t_nsec} nanoseconds")
    configuration = None
    if message.response == 0:
        if not message.HasField("conf"):
            raise MalformedPacket(_WHAT, "accepted, but without a configuration")
        configuration = _configuration(message.conf)
    reason = _text(message.reason, "the reason", MAX_REASON)
    times = (message.t_sec, message.t_nsec)
    return Response(_id(message.id), *times, configuration, message.response, reason)


def encode_response(response: Response) -> bytes:
    """A member's response as a packet. Raises UnsendablePacket."""
    what, conf = "an enrolment response", response.configuration
    must(response.result <= 0, what, f"the result {response.result} is positive")
    must((response.result == 0) == (conf is not None), what, "a configuration is for those who may join")
    must(0 <= response.nanoseconds < 1_000_000_000, what, f"{response.nanoseconds} nanoseconds")
    message = enrol_pb2.Response(
        id=_sound_id(response.id, what),
        t_sec=proto.fits(response.seconds, 64, what, "the time", signed=True),
        t_nsec=response.nanoseconds,
        response=proto.fits(response.result, 32, what, "the result", signed=True),
    )
    if conf is not None:
        message.conf.CopyFrom(_wire_configuration(conf, what))
    if response.reason:
        message.reason = _octets(response.reason, what, MAX_REASON)
    return proto.serialize(message, what, most=MAX_MESSAGE)


def decode_acknowledgement(packet: bytes) -> Acknowledgement:
    """A newcomer's acknowledgement. Raises MalformedPacket."""
    message = proto.parse(enrol_pb2.Acknowledgement, packet, _WHAT, most=MAX_MESSAGE)
    return Acknowledgement(_id(message.id), message.result, _text(message.reason, "the reason", MAX_REASON))


def encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    """A newcomer's acknowledgement as a packet. Raises UnsendablePacket."""
    what = "an enrolment acknowledgement"
    result = proto.fits(acknowledgement.result, 32, what, "the result", signed=True)
    message = enrol_pb2.Acknowledgement(id=_sound_id(acknowledgement.id, what), result=result)
    if acknowledgement.reason:
        message.reason = _octets(acknowledgement.reason, what, MAX_REASON)
    return proto.serialize(message, what, most=MAX_MESSAGE)


def _configuration(conf: enrol_pb2.Configuration) -> Configuration:
    ipcp_type = _known(IpcpType, conf.ipcp_type, "type of IPCP")
    if (ipcp_type is IpcpType.UNICAST) != conf.HasField("unicast"):
        raise MalformedPacket(
            _WHAT, f"the configuration is not that of a layer of type {ipcp_type.type_name}"
        )
    name = _text(conf.layer_info.name, "the name of the layer", MAX_NAME)
    if not name:
        raise MalformedPacket(_WHAT, "the layer has no name")
    algorithm = _known(DirectoryHashAlgo, conf.layer_info.dir_hash_algo, "hash")
    if algorithm not in HASH_LENGTHS:
        raise MalformedPacket(_WHAT, f"hash {algorithm.name} does not name anything")
    unicast = _unicast(conf.unicast) if conf.HasField("unicast") else None
    return Configuration(name, ipcp_type, algorithm, unicast, _access(conf))


def _access(conf: enrol_pb2.Configuration) -> Access:
    """A requirement that this member does not know cannot be met: then it does not join this layer."""
    if conf.require & ~sum(Requirement):
        raise MalformedPacket(_WHAT, f"requirement {conf.require:#x} of the layer is unknown")
    admit = _text(conf.admit, "the list of whom it admits", MAX_ADMIT)
    patterns = tuple(admit.split(",")) if admit else ()
    if not all(patterns) or not admit.isprintable():
        raise MalformedPacket(_WHAT, "the list of whom it admits makes no sense")
    return Access(Requirement(conf.require), patterns)


def _unicast(conf: enrol_pb2.Unicast) -> UnicastConfig:
    dt, routing, directory = conf.dt, conf.dt.routing, conf.dir
    if (dt.addr_size, dt.eid_size) != (ADDRESS_SIZE, EID_SIZE):
        raise MalformedPacket(_WHAT, f"addresses of {dt.addr_size} and endpoint ids of {dt.eid_size} octets")
    if not 0 < dt.max_ttl <= 255:
        raise MalformedPacket(_WHAT, f"a TTL of {dt.max_ttl}")
    _known(RoutingPolicy, routing.pol, "routing policy")
    _known(DirectoryPolicy, directory.pol, "directory policy")
    if not (routing.HasField("ls") and directory.HasField("dht")):
        raise MalformedPacket(_WHAT, "without the parameters of routing or directory")
    ls, dht = routing.ls, directory.dht
    numbers = (dht.alpha, dht.k, dht.t_expire, dht.t_refresh, dht.t_replicate)
    if 0 in (*numbers, ls.t_recalc, ls.t_update, ls.t_timeo) or not legal_address(dht.peer):
        raise MalformedPacket(_WHAT, "a parameter of routing or directory is 0 or too large")
    policy = _known(LinkStatePolicy, ls.pol, "link state policy")
    return UnicastConfig(
        DhtConfig(dht.peer, *numbers),
        LinkStateConfig(policy, ls.t_recalc, ls.t_update, ls.t_timeo),
        dt.max_ttl,
        _known(AddressAuthPolicy, conf.addr_auth_type, "address policy"),
        _known(CongestionAvoidPolicy, conf.cong_avoid, "congestion avoidance policy"),
        conf.max_packet,
    )


def _wire_configuration(conf: Configuration, what: str) -> enrol_pb2.Configuration:
    unicast = conf.unicast
    must(bool(conf.layer), what, "the layer has no name")
    must((conf.ipcp_type is IpcpType.UNICAST) == (unicast is not None), what, "no fitting configuration")
    must(conf.hash in HASH_LENGTHS, what, f"hash {conf.hash.name} does not name anything")
    layer = enrol_pb2.Layer(name=_octets(conf.layer, what, MAX_NAME), dir_hash_algo=conf.hash)
    message = enrol_pb2.Configuration(layer_info=layer, ipcp_type=conf.ipcp_type)
    if unicast is not None:
        message.unicast.CopyFrom(_wire_unicast(unicast, what))
    if conf.access.require:
        message.require = conf.access.require
    if conf.access.admit:
        message.admit = _octets(conf.access.text, what, MAX_ADMIT)
    return message


def _wire_unicast(conf: UnicastConfig, what: str) -> enrol_pb2.Unicast:
    ls, dht = conf.link_state, conf.dht
    must(0 < conf.max_ttl <= 255, what, f"a TTL of {conf.max_ttl}")
    must(legal_address(dht.peer), what, f"nobody has the address {dht.peer}")
    times = (ls.t_recalc, ls.t_update, ls.t_timeo)
    numbers = (dht.alpha, dht.k, dht.t_expire, dht.t_refresh, dht.t_replicate)
    for number in (*times, *numbers):
        must(proto.fits(number, 32, what, "a parameter") > 0, what, "a parameter is 0")
    routing = enrol_pb2.Routing(pol=RoutingPolicy.LINK_STATE, ls=_link_state(ls.policy, *times))
    message = enrol_pb2.Unicast(
        dt=enrol_pb2.DataTransfer(
            addr_size=ADDRESS_SIZE, eid_size=EID_SIZE, max_ttl=conf.max_ttl, routing=routing
        ),
        dir=enrol_pb2.Directory(pol=DirectoryPolicy.DHT, dht=_dht(*numbers, dht.peer)),
        addr_auth_type=conf.addr_auth,
        cong_avoid=conf.cong_avoid,
    )
    if conf.max_packet:
        message.max_packet = proto.fits(conf.max_packet, 32, what, "the largest packet")
    return message


def _link_state(policy: int, t_recalc: int, t_update: int, t_timeo: int) -> enrol_pb2.LinkState:
    return enrol_pb2.LinkState(pol=policy, t_recalc=t_recalc, t_update=t_update, t_timeo=t_timeo)


def _dht(alpha: int, k: int, t_expire: int, t_refresh: int, t_replicate: int, peer: int) -> enrol_pb2.Dht:
    return enrol_pb2.Dht(
        alpha=alpha, k=k, t_expire=t_expire, t_refresh=t_refresh, t_replicate=t_replicate, peer=peer
    )


def _known(kind: type[Closed], number: int, field: str) -> Closed:
    try:
        return kind(number)
    except ValueError:
        raise MalformedPacket(_WHAT, f"{field} {number} is unknown") from None


def _id(octets: bytes) -> bytes:
    if len(octets) != ID_LENGTH:
        raise MalformedPacket(_WHAT, f"its id has {len(octets)} octets and not {ID_LENGTH}")
    return octets


def _sound_id(octets: bytes, what: str) -> bytes:
    must(len(octets) == ID_LENGTH, what, f"its id has {len(octets)} octets and not {ID_LENGTH}")
    return octets


def _text(octets: bytes, field: str, most: int) -> str:
    if len(octets) > most:
        raise MalformedPacket(_WHAT, f"{field} has {len(octets)} octets, {most} is the most")
    return text(octets, _WHAT, field)


def _octets(string: str, what: str, most: int) -> bytes:
    try:
        octets = string.encode()
    except UnicodeEncodeError:
        raise UnsendablePacket(what, f"{string!r} has no UTF-8") from None
    must(len(octets) <= most, what, f"{string!r} has more than {most} octets")
    return octets
