"""The output of the flow allocator's machine: its events, and the packets that it wants sent (spec/fa).

Runs in the unicast IPCP; pure data, made by `fa` and carried out by `unicast`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipcpd.common.end import End
from ipcpd.wire.fa import Message
from ouroboros.qos import QoSSpec


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the directory which members hold this name; the answer goes to `resolved`."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """Deliver packets for this endpoint id. The peer's data may overtake its reply, so this event precedes the request."""

    end: End
    eid: int
    cube: int


@dataclass(frozen=True, slots=True)
class Connected:
    """The other end is known too: send the packets of the process there."""

    end: End
    peer_eid: int
    address: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Both ends are at this member."""

    one: End
    other: End


@dataclass(frozen=True, slots=True)
class Granted:
    """Report to the IRMd: the flow that it requested is allocated, with the data of the reply."""

    end: End
    data: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """Report to the IRMd: the flow that it requested cannot be allocated. Its end is removed."""

    end: End
    key: bytes
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Report to the IRMd that a flow for one of its names arrived; the answer goes to `announced` or `declined`."""

    offer: int
    key: bytes
    qos: QoSSpec
    data: bytes
    source: int
    """Address of the member that requests it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Report to the IRMd that a flow which it accepted has ended. Its end is removed."""

    end: End


@dataclass(frozen=True, slots=True)
class Congestion:
    """The peer reports how congested the path of this member's packets is."""

    end: End
    level: int


Output = Resolve | Opened | Connected | Joined | Granted | Failed | Announce | Lost | Congestion


def ends_of(event: Output) -> tuple[End, ...]:
    """The ends that an event concerns. It is carried out later, and one of them may have been given up by then."""
    if isinstance(event, Joined):
        return event.one, event.other
    return () if isinstance(event, Resolve | Announce) else (event.end,)


@dataclass(frozen=True, slots=True)
class Packet:
    """A message to a member. `tries` is the number of the next attempt to send it."""

    address: int
    message: Message
    tries: int = 1
