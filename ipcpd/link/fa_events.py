"""What the flow allocator of a link-level IPCP wants done (see `fa`)."""

from __future__ import annotations

from dataclasses import dataclass

from ipcpd.common.end import End
from ouroboros.qos import QoSSpec


@dataclass(frozen=True, slots=True)
class Open:
    """Event: our end `end` has this endpoint, and receives from the machine `peer`."""

    end: End
    endpoint: int
    peer: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Event: the other end of `end` is known; what is written there can be sent."""

    end: End
    endpoint: int
    peer: bytes


@dataclass(frozen=True, slots=True)
class Allocated:
    """Event: the flow that was asked for is there; `data` is the handshake's header."""

    end: End
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Event: there will be no flow on `end`, which is forgotten."""

    end: End
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Event: another machine, `peer`, wants a flow to one of our names. Answer with `announced` or `turned_down`."""

    ticket: int
    name: bytes
    qos: QoSSpec
    data: bytes
    peer: bytes


@dataclass(frozen=True, slots=True)
class Doubt:
    """Event: the machine `holder` does not do what one that has the name should."""

    name: bytes
    holder: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Event: ask who has the name, whatever is known; `heard` tells of answers."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Stale:
    """Event: the other end of the flow `end` has a new flow at its endpoint: this one is gone, and forgotten here."""

    end: End


@dataclass(frozen=True, slots=True)
class Close:
    """Event: our end `end` does not have this endpoint any more; it gets another."""

    end: End
    endpoint: int


Event = Open | Close | Connect | Allocated | Refused | Announce | Doubt | Ask | Stale


def end_of(event: Event) -> End | None:
    """The end that an event is about. It is carried out later, and the end may have been left by then."""
    return None if isinstance(event, Announce | Doubt | Ask) else event.end
