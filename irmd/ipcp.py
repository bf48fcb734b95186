"""The facts about each type of IPCP that the IRMd needs (spec/rpc 4)."""

from __future__ import annotations

from ouroboros.rpc.messages_pb2 import ETH_DIX, ETH_LLC, LOCAL, RAPTOR, UDP4, UDP6, UNICAST, IpcpType

QUERY_ORDER = (LOCAL, UNICAST, ETH_LLC, ETH_DIX, UDP4, UDP6, RAPTOR)
"""Types in the order in which their layers are preferred (spec/rpc 4); broadcast is joined only."""

QUERY_TIME: dict[int, float] = {
    LOCAL: 2.5,  # it answers immediately, unless the machine is overloaded
    UNICAST: 3.5,  # its directory queries one member after the other, for 3 s
    ETH_LLC: 2.5,  # these wait 2 s for answers from the link
    ETH_DIX: 2.5,
    UDP4: 2.5,  # resolvers are slow
    UDP6: 2.5,
    RAPTOR: 2.5,
}
"""Seconds that a layer may take to answer whether it knows a name; the prototype's IRMd waits 0.2 s for any."""

HANDSHAKE_ROOM: dict[int, int] = {
    UNICAST: 1280,  # over ethernet, with two more layers in between
    ETH_LLC: 1385,  # of 1497 a fixed part and the hash of a name, of 112 at most
    ETH_DIX: 1384,  # with frames of 1500
    UDP4: 1936,
    UDP6: 1936,
}
"""Octets of a handshake that a layer certainly carries."""

_TYPE_NAMES: dict[int, str] = {
    int(number): name.lower().replace("_", "-") for name, number in IpcpType.items()
}


def type_name(number: int) -> str:
    """The name of an IPCP type, e.g. `eth-dix`."""
    return _TYPE_NAMES.get(number, str(number))
