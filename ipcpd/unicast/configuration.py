"""Configuration of a unicast layer: from the options of bootstrap, in the machines' form (paper 5.3; spec/connections 3).

Used by the unicast IPCP; pure. The configuration travels in the form of the enrolment message: bootstrap makes it from options, a
newcomer gets it from a member, and passes it on unchanged, but with its own address as the directory's first contact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ipcpd.wire.dt import HEADER_LENGTH
from ipcpd.wire.enrol import Configuration, DhtConfig, LinkStateConfig, UnicastConfig
from ouroboros import ipcp_config
from ouroboros.access import Access
from ouroboros.ipcp_types import DirectoryHashAlgo, IpcpType
from ouroboros.wire import HASH_LENGTHS


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """A unicast layer. `peer` is the address of the member that enrolled this one; 0: this member made the layer."""

    layer: str
    hash: DirectoryHashAlgo
    unicast: UnicastConfig
    access: Access = Access()

    @classmethod
    def from_options(cls, layer: str, options: dict[str, str]) -> LayerConfig:
        """From the options of bootstrap, which have been checked."""
        whole = ipcp_config.IpcpConfig.from_options(IpcpType.UNICAST, layer, options)
        given = whole.unicast
        assert given is not None
        ls, dht = given.dt.routing.ls, given.dir.dht
        unicast = UnicastConfig(
            dht=DhtConfig(0, dht.alpha, dht.k, dht.t_expire, dht.t_refresh, dht.t_replicate),
            link_state=LinkStateConfig(ls.pol, ls.t_recalc, ls.t_update, ls.t_timeo),
            max_ttl=given.dt.max_ttl,
            addr_auth=given.addr_auth,
            cong_avoid=given.cong_avoid,
            max_packet=given.max_packet,
        )
        access = Access.from_texts(options.get("require", ""), options.get("admit", ""))
        return cls(layer, whole.dir_hash_algo, unicast, access)

    @classmethod
    def from_enrolment(cls, configuration: Configuration) -> LayerConfig:
        """From the configuration that a member sent."""
        assert configuration.unicast is not None  # the codec checks this
        return cls(configuration.layer, configuration.hash, configuration.unicast, configuration.access)

    def to_enrolment(self, address: int, max_packet: int) -> Configuration:
        """For a newcomer: `address` is this member's, `max_packet` the largest packet known by now, octets (0: not known)."""
        dht = replace(self.unicast.dht, peer=address)
        unicast = replace(self.unicast, dht=dht, max_packet=max_packet)
        return Configuration(self.layer, IpcpType.UNICAST, self.hash, unicast, self.access)

    @property
    def key_length(self) -> int:
        """Octets of a name's hash."""
        return HASH_LENGTHS[self.hash]

    @property
    def peer(self) -> int:
        """The directory's first contact."""
        return self.unicast.dht.peer

    @property
    def link_state(self) -> ipcp_config.LinkStateConfig:
        """For the link-state machine."""
        ls = self.unicast.link_state
        return ipcp_config.LinkStateConfig(ls.policy, ls.t_recalc, ls.t_update, ls.t_timeo)

    @property
    def dht(self) -> ipcp_config.DhtConfig:
        """For the directory's machine."""
        dht = self.unicast.dht
        return ipcp_config.DhtConfig(dht.alpha, dht.k, dht.t_expire, dht.t_refresh, dht.t_replicate)


def most_over(max_packet: int) -> int:
    """The largest packet of the layer, octets, that a lower flow with this largest packet can carry."""
    return max(0, max_packet - HEADER_LENGTH)
