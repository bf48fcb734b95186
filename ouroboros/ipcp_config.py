"""Configuration of a layer, as objects (docs/reference/api.md): the argument of `ouroboros.irm.bootstrap_ipcp`.

A library module of tools and applications. The classes have the nesting of the C structures that the existing
binding mirrors; `IpcpConfig.options()` flattens them to the options of the command line (`ipcp_options`), in which
form they travel and are checked, and `IpcpConfig.from_options()` goes the other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import ipcp_options
from .ipcp_types import DirectoryHashAlgo, IpcpType
from .name_info import Requirement
from .policies import (
    AddressAuthPolicy,
    CongestionAvoidPolicy,
    DirectoryPolicy,
    LinkStatePolicy,
    Policy,
    RoutingPolicy,
)

if TYPE_CHECKING:
    from .rpc.messages_pb2 import IpcpConfig as ProtoIpcpConfig


@dataclass(slots=True)
class LinkStateConfig:
    """Link-state routing; times in seconds."""

    pol: LinkStatePolicy = LinkStatePolicy.SIMPLE
    t_recalc: int = 4
    t_update: int = 15
    t_timeo: int = 60


@dataclass(slots=True)
class RoutingConfig:
    """Routing of a unicast layer."""

    pol: RoutingPolicy = RoutingPolicy.LINK_STATE
    ls: LinkStateConfig = field(default_factory=LinkStateConfig)


@dataclass(slots=True)
class DtConfig:
    """Data transfer of a unicast layer; sizes in octets."""

    addr_size: int = 4
    eid_size: int = 8
    max_ttl: int = 60
    routing: RoutingConfig = field(default_factory=RoutingConfig)


@dataclass(slots=True)
class DhtConfig:
    """Directory as a distributed hash table; times in seconds."""

    alpha: int = 3
    k: int = 8
    t_expire: int = 86400
    t_refresh: int = 900
    t_replicate: int = 900


@dataclass(slots=True)
class DirConfig:
    """Directory of a unicast layer."""

    pol: DirectoryPolicy = DirectoryPolicy.DHT
    dht: DhtConfig = field(default_factory=DhtConfig)


@dataclass(slots=True)
class UnicastConfig:
    """A unicast layer. `max_packet` is its largest packet, octets; 0: the largest that its first lower flow can carry."""

    dt: DtConfig = field(default_factory=DtConfig)
    dir: DirConfig = field(default_factory=DirConfig)
    addr_auth: AddressAuthPolicy = AddressAuthPolicy.FLAT
    cong_avoid: CongestionAvoidPolicy = CongestionAvoidPolicy.MB_ECN
    max_packet: int = 0


@dataclass(slots=True)
class EthConfig:
    """An ethernet layer, LLC or DIX; `ethertype` is for DIX only. `rate`: "none", "auto" or bits per second, for each neighbour."""

    dev: str = ""
    ethertype: int = 0xA000
    rate: str = "none"


@dataclass(slots=True)
class Udp4Config:
    """A layer over UDP and IPv4; `dns_addr` "" means the hosts file and the resolver only."""

    ip_addr: str = ""
    dns_addr: str = ""
    port: int = 3435
    rate: str = "none"


@dataclass(slots=True)
class Udp6Config:
    """A layer over UDP and IPv6; `dns_addr` "" means the hosts file and the resolver only."""

    ip_addr: str = ""
    dns_addr: str = ""
    port: int = 3435
    rate: str = "none"


@dataclass(slots=True)
class IpcpConfig:
    """The configuration to bootstrap a layer. The part for its type may be left out where it has defaults.

    `require` and `admit` are for unicast and broadcast layers: requirements on the flows between members, and patterns of the
    common names of admitted members, separated by commas.
    """

    ipcp_type: IpcpType
    layer_name: str = ""
    dir_hash_algo: DirectoryHashAlgo = DirectoryHashAlgo.SHA3_256
    unicast: UnicastConfig | None = None
    eth: EthConfig | None = None
    udp4: Udp4Config | None = None
    udp6: Udp6Config | None = None
    require: Requirement = Requirement(0)
    admit: str = ""

    def __post_init__(self) -> None:
        self.ipcp_type = IpcpType(self.ipcp_type)
        part = self.ipcp_type.row.part
        if part and getattr(self, part) is None:
            setattr(self, part, _PARTS[part]())

    @classmethod
    def from_options(
        cls, ipcp_type: IpcpType, layer_name: str, options: Mapping[str, str] | None = None
    ) -> IpcpConfig:
        """From options of the command line. Raises OptionError, a ValueError."""
        config = cls(ipcp_type, layer_name)
        for key, value in config.ipcp_type.check(options or {}).items():
            place, name = config._place(key)
            setattr(place, name, _from_text(getattr(place, name), key, value))
        return config

    def options(self) -> dict[str, str]:
        """As options of the command line. Raises OptionError, a ValueError, when a value is not legal."""
        texts = {}
        for option in self.ipcp_type.row.options:
            if option.fixed:
                continue
            place, name = self._place(option.key)
            text = _to_text(option.key, getattr(place, name))
            if text or option.default is not None:
                texts[option.key] = text
        return self.ipcp_type.check(texts)

    def to_proto(self) -> ProtoIpcpConfig:
        """As it travels in RPC messages. Raises OptionError, a ValueError."""
        from .rpc.messages_pb2 import IpcpConfig as Proto

        layer = ipcp_options.check_name("Layer", self.layer_name)
        return Proto(layer=layer, type=self.ipcp_type, options=self.options())

    def _place(self, key: str) -> tuple[Any, str]:
        if key in _COMMON:
            return self, _COMMON[key]
        path = _PATHS[key]
        place: Any = getattr(self, self.ipcp_type.row.part)
        for name in path[:-1]:
            place = getattr(place, name)
        return place, path[-1]


_PARTS: dict[str, type[Any]] = {
    "unicast": UnicastConfig,
    "eth": EthConfig,
    "udp4": Udp4Config,
    "udp6": Udp6Config,
}

# Where the value of an option lies: of one that several types have, and of one in the part of its type.
_COMMON = {"hash": "dir_hash_algo", "require": "require", "admit": "admit"}
_PATHS = {
    "ip": ("ip_addr",),
    "dns": ("dns_addr",),
    "port": ("port",),
    "dev": ("dev",),
    "ethertype": ("ethertype",),
    "rate": ("rate",),
    "addr": ("dt", "addr_size"),
    "eid": ("dt", "eid_size"),
    "ttl": ("dt", "max_ttl"),
    "addr_auth": ("addr_auth",),
    "routing": ("dt", "routing", "ls", "pol"),
    "congestion": ("cong_avoid",),
    "directory": ("dir", "pol"),
    "dht_alpha": ("dir", "dht", "alpha"),
    "dht_k": ("dir", "dht", "k"),
    "dht_t_expire": ("dir", "dht", "t_expire"),
    "dht_t_refresh": ("dir", "dht", "t_refresh"),
    "dht_t_replicate": ("dir", "dht", "t_replicate"),
    "ls_t_recalc": ("dt", "routing", "ls", "t_recalc"),
    "ls_t_update": ("dt", "routing", "ls", "t_update"),
    "ls_t_timeo": ("dt", "routing", "ls", "t_timeo"),
    "max_packet": ("max_packet",),
}

_POLICIES: dict[str, type[Policy]] = {
    "addr_auth": AddressAuthPolicy,
    "routing": LinkStatePolicy,
    "congestion": CongestionAvoidPolicy,
    "directory": DirectoryPolicy,
}


def _from_text(default: object, key: str, text: str) -> object:
    if key in _POLICIES:
        return _POLICIES[key].of(text)
    if key == "hash":
        return DirectoryHashAlgo[text]
    if key == "require":
        return Requirement.from_words(text.split(","))
    return int(text, 0) if isinstance(default, int) else text


def _to_text(key: str, value: object) -> str:
    if key in _POLICIES:
        return next(policy.word for policy in _POLICIES[key] if policy == value)
    if key == "hash":
        return DirectoryHashAlgo(value).name  # type: ignore[arg-type]
    if key == "require":
        return ",".join(Requirement(value).words)  # type: ignore[arg-type]
    if key == "max_packet" and not value:
        return ""
    return f"0x{value:04X}" if key == "ethertype" and isinstance(value, int) else str(value)
