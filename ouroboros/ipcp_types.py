"""Closed sets that several modules need: types of IPCPs and their components, hashes, load-balance policies (spec
docs/reference/api.md).

A library module of tools and applications, kept apart from `ipcp_config` because every list needs these and no list
needs those. The numbers are those of the RPC messages.
"""

from __future__ import annotations

from enum import IntEnum

from . import ipcp_options


class IpcpType(IntEnum):
    """Type of an IPCP."""

    LOCAL = 0
    UNICAST = 1
    BROADCAST = 2
    ETH_LLC = 3
    ETH_DIX = 4
    UDP4 = 5
    UDP6 = 6
    RAPTOR = 7

    @property
    def type_name(self) -> str:
        """As the tools write it, e.g. "eth-dix"."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_type_name(cls, type_name: str) -> IpcpType:
        """From the name that the tools use; "udp", the paper's, is UDP4. Raises OptionError, a ValueError."""
        return cls[ipcp_options.type_name(type_name).upper().replace("-", "_")]

    word = type_name  # deprecated, as is the next
    from_word = from_type_name


DT_COMP = "Data Transfer"
MGMT_COMP = "Management"

COMPONENTS: dict[IpcpType, tuple[str, ...]] = {
    IpcpType.UNICAST: (MGMT_COMP, DT_COMP),
    IpcpType.BROADCAST: (DT_COMP,),
}
"""The components that each IPCP type can connect, in the order in which it connects them."""

COMPONENT_WORDS = {"dt": DT_COMP, "mgmt": MGMT_COMP}
"""Components by their short names on the command line."""


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
            raise ipcp_options.OptionError(
                f'Unknown load-balance policy "{policy_name}"; it must be round-robin or spillover.'
            ) from None

    word = policy_name  # deprecated, as is the next
    from_word = from_policy_name
