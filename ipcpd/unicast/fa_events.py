"""What the flow allocator's machine wants done: its events, and the packets that it wants sent (spec/fa).

Runs in the unicast IPCP; pure data, made by `fa` and carried out by `unicast`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipcpd.common.end import End
from ouroboros.qos import QoSSpec

from .wire.fa import Message


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the directory who holds this name; the answer goes to `resolved`."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """Deliver what comes for this endpoint id. The peer's data may overtake its reply, so this is said before we ask."""

    end: End
    eid: int
    cube: int


@dataclass(frozen=True, slots=True)
class Connected:
    """The other end is known too: send what the process writes there."""

    end: End
    peer_eid: int
    address: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Both ends are here."""

    one: End
    other: End


@dataclass(frozen=True, slots=True)
class Granted:
    """Tell the IRMd: the flow it asked for is there, with the data of the reply."""

    end: End
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """Tell the IRMd: the flow it asked for is not to be had. Its end is forgotten."""

    end: End
    key: bytes
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the IRMd that a flow for one of its names arrived; the answer goes to `announced` or `declined`."""

    offer: int
    key: bytes
    qos: QoSSpec
    data: bytes
    source: int
    """Address of the member that requests it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Tell the IRMd that a flow which it accepted is gone. Its end is forgotten."""

    end: End


@dataclass(frozen=True, slots=True)
class Congestion:
    """The peer says how congested the way of our packets is."""

    end: End
    level: int


Event = Resolve | Opened | Connected | Joined | Granted | Failed | Announce | Lost | Congestion


def ends_of(event: Event) -> tuple[End, ...]:
    """The ends that an event is about. It is carried out later, and one of them may have been left by then."""
    if isinstance(event, Joined):
        return event.one, event.other
    return () if isinstance(event, Resolve | Announce) else (event.end,)


@dataclass(frozen=True, slots=True)
class Packet:
    """A message to a member. `tries` counts for which time it is to be sent."""

    address: int
    message: Message
    tries: int = 1
