"""Closed sets that several modules need: types of IPCPs, hashes, load-balance policies (docs/reference/api.md).

A library module of every process, kept apart from `ipcp_config` because every list needs these and no list needs those. `IpcpType` is
the table of the types: library, IRMd, IPCP daemon and tools have no other knowledge of a type. To add one, write `ipcpd/<folder>/`
with a subclass of `ipcpd.common.ipcp.Ipcp`, and a member here.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from .ipcp_options import OPTIONS, Option, OptionError, check_value, ip_address, one_word

DT_COMP = "Data Transfer"
MGMT_COMP = "Management"

COMPONENT_WORDS = {"dt": DT_COMP, "mgmt": MGMT_COMP}
"""Components by their short names on the command line."""

_BROADCAST_HASH = "SHA3_256"


def _broadcast_hash(value: str) -> str:
    try:
        return one_word(_BROADCAST_HASH)(value)
    except ValueError:
        raise OptionError(f"A broadcast layer has the hash {_BROADCAST_HASH} and no other.") from None


def _addresses(family: socket.AddressFamily) -> tuple[Option, ...]:
    return (
        OPTIONS["ip"].narrowed(ip_address("", family, specific=True)),
        OPTIONS["dns"].narrowed(ip_address("DNS ", family)),
        OPTIONS["port"],
        OPTIONS["rate"],
    )


class _Row(NamedTuple):
    """The facts about one type of IPCP."""

    implementation: str = ""
    """Module and class, with a colon between them; empty: this version has none."""
    options: tuple[Option, ...] = ()
    """The options of bootstrap, in the order of `OPTIONS`."""
    part: str = ""
    """The part of IpcpConfig that holds the values of its own options."""
    components: tuple[str, ...] = ()
    """The components that it connects, in the order in which it connects them. A type without any does not enrol."""
    query_timeout: float = 2.5
    """Seconds that its layer may take to answer whether it knows a name; the prototype's IRMd waits 0.2 s for any."""
    is_joined: bool = False
    """Whether its layers know no names: a flow joins the layer."""
    handshake_octets: int | None = None
    """Octets of an allocation handshake that its layer certainly carries; None: of any handshake."""
    is_inside: bool = False
    """Whether the packets of its layer stay in the memory of this system."""
    is_link: bool = False
    """Whether its layer is a network that is not Ouroboros, whose paths the IPCP measures."""


_UNIMPLEMENTED = _Row()


def _options(keys: str) -> tuple[Option, ...]:
    return tuple(OPTIONS[key] for key in keys.split())


class IpcpType(IntEnum):
    """Type of an IPCP. The numbers are those of RPC messages and of enrolment; in their order the IRMd prefers layers (spec/rpc 4).
    The members are in the order in which a prefix of a name is looked up: `eth` is eth-dix."""

    row: _Row

    def __new__(cls, number: int, row: _Row = _UNIMPLEMENTED) -> IpcpType:
        """A member from its number and its facts."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.row = row
        return member

    UNICAST = (
        1,
        _Row(
            "ipcpd.unicast.unicast:UnicastIpcp",
            _options(
                "hash addr eid ttl addr_auth routing congestion directory dht_alpha dht_k dht_t_expire dht_t_refresh "
                "dht_t_replicate ls_t_recalc ls_t_update ls_t_timeo max_packet require admit"
            ),
            part="unicast",
            components=(MGMT_COMP, DT_COMP),
            query_timeout=3.5,  # its directory queries one member after the other, for 3 s
            handshake_octets=1280,  # over ethernet, with two more layers in between
        ),
    )
    BROADCAST = (
        2,
        _Row(
            "ipcpd.broadcast.broadcast:BroadcastIpcp",
            (
                OPTIONS["hash"].narrowed(_broadcast_hash, legal=_BROADCAST_HASH, fixed=True),
                *_options("require admit"),
            ),
            components=(DT_COMP,),
            is_joined=True,
        ),
    )
    UDP4 = (
        5,
        _Row(
            "ipcpd.udp.udp:Udp4Ipcp",
            _addresses(socket.AF_INET),
            part="udp4",
            handshake_octets=1936,
            is_link=True,
        ),
    )
    UDP6 = (
        6,
        _Row(
            "ipcpd.udp.udp:Udp6Ipcp",
            _addresses(socket.AF_INET6),
            part="udp6",
            handshake_octets=1936,
            is_link=True,
        ),
    )
    ETH_DIX = (
        4,
        _Row(
            "ipcpd.eth.eth:EthDixIpcp",
            _options("hash dev ethertype rate"),
            part="eth",
            handshake_octets=1384,  # with frames of 1500
            is_link=True,
        ),
    )
    ETH_LLC = (
        3,
        _Row(
            "ipcpd.eth.eth:EthLlcIpcp",
            _options("hash dev rate"),
            part="eth",
            handshake_octets=1385,  # of 1497 a fixed part and the hash of a name, of 112 at most
            is_link=True,
        ),
    )
    LOCAL = 0, _Row("ipcpd.local.local:LocalIpcp", _options("hash"), is_inside=True)
    RAPTOR = 7

    @property
    def type_name(self) -> str:
        """As the tools write it, e.g. "eth-dix"."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_type_name(cls, type_name: str, *, prefix: bool = False) -> IpcpType:
        """From the name that the tools use, or, where the grammar allows it, a prefix; "udp", the paper's, is UDP4. Raises OptionError,
        a ValueError."""
        type_name = _ALIASES.get(type_name, type_name)
        fitting = [name for name in TYPES if name == type_name]
        if prefix and not fitting:
            fitting = [name for name in TYPES if name.startswith(type_name)]
        if fitting:
            return cls[fitting[0].upper().replace("-", "_")]
        raise OptionError(f'IPCP type "{type_name}" is unknown; it must be one of {" ".join(TYPES)}.')

    @property
    def enrols(self) -> bool:
        """Whether an IPCP of this type becomes a member by enrolment, and connects with other members."""
        return bool(self.row.components)

    def check(self, options: Mapping[str, str]) -> dict[str, str]:
        """All options of one bootstrap as they are sent: legal, of this type, and none missing. Raises OptionError."""
        own = {option.key: option for option in self.row.options}
        checked = {}
        for key, value in options.items():
            if key in OPTIONS and key not in own:
                raise OptionError(
                    f"Option {key} is not for an IPCP of type {self.type_name}; its options are: {' '.join(own) or 'none'}."
                )
            checked[key] = check_value(key, value, own.get(key))
        if "admit" in checked and "authentication" not in checked.get("require", ""):
            raise OptionError(
                'Option admit is about the certificates of members; it needs "require authentication".'
            )
        for option in own.values():
            if option.required and option.key not in checked:
                raise OptionError(
                    f"An IPCP of type {self.type_name} needs the option {option.key}, which is {option.legal}."
                )
            if option.fixed:
                checked.pop(option.key, None)
        return checked

    word = type_name  # deprecated, as is the next
    from_word = from_type_name


_ALIASES = {"udp": IpcpType.UDP4.type_name}  # the paper's word

CONFIG_ALIASES = _ALIASES | {"eth": IpcpType.ETH_DIX.type_name}
"""Names that the configuration file takes for those of types."""

TYPES = tuple(one.type_name for one in IpcpType if one.row.implementation)
"""The names of the types that this version implements."""

ENROLLING = tuple(one.type_name for one in IpcpType if one.enrols)
"""The names of the types whose IPCPs enrol."""


def type_name(number: int) -> str:
    """The name of the type with this number, which a message may carry and this version not know."""
    try:
        return IpcpType(number).type_name
    except ValueError:
        return str(number)


class DirectoryHashAlgo(IntEnum):
    """Hash by which a layer knows names. The UDP types always use MD5."""

    SHA3_224 = 0
    SHA3_256 = 1
    SHA3_384 = 2
    SHA3_512 = 3
    CRC32 = 4
    MD5 = 5


class LoadBalancePolicy(IntEnum):
    """Which of several processes that are bound to a name gets the next flow."""

    ROUND_ROBIN = 0
    SPILLOVER = 1
    SPILL = 1

    @property
    def policy_name(self) -> str:
        """As the tools write it: "round-robin" or "spillover"."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_policy_name(cls, policy_name: str) -> LoadBalancePolicy:
        """From the name that the tools use. Raises OptionError, a ValueError."""
        try:
            return cls[policy_name.upper().replace("-", "_")]
        except KeyError:
            raise OptionError(
                f'Unknown load-balance policy "{policy_name}"; it must be round-robin or spillover.'
            ) from None

    word = policy_name  # deprecated, as is the next
    from_word = from_policy_name
