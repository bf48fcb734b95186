"""Events that the flow allocator of a link-level IPCP emits for its shell (see `fa`)."""

from __future__ import annotations

from dataclasses import dataclass

from ipcpd.common.end import End
from ouroboros.qos import QoSSpec


@dataclass(frozen=True, slots=True)
class Open:
    """Event: the local end `end` has this endpoint, and receives from the machine `peer`."""

    end: End
    endpoint: int
    peer: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Event: the other end of `end` is known; packets that the process writes can be sent."""

    end: End
    endpoint: int
    peer: bytes


@dataclass(frozen=True, slots=True)
class Allocated:
    """Event: the requested flow is allocated; `data` is the handshake's header."""

    end: End
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Event: the flow on `end` was refused, and `end` is removed."""

    end: End
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Event: another machine, `peer`, requests a flow to a registered name. Answer with `announced` or `turned_down`."""

    ticket: int
    name: bytes
    qos: QoSSpec
    data: bytes
    peer: bytes


@dataclass(frozen=True, slots=True)
class Doubt:
    """Event: the machine `holder` does not answer as a holder of the name would."""

    name: bytes
    holder: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """Event: query the name's holders, even if they are cached; `answered_at` returns the time of an answer."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Stale:
    """Event: the other end of the flow `end` has a new flow at its endpoint: this one has ended, and is removed here."""

    end: End


@dataclass(frozen=True, slots=True)
class Close:
    """Event: the local end `end` does not have this endpoint any more; it gets another."""

    end: End
    endpoint: int


Event = Open | Close | Connect | Allocated | Refused | Announce | Doubt | Ask | Stale


def end_of(event: Event) -> End | None:
    """The end that an event names. The shell handles the event later, and the end may have been left by then."""
    return None if isinstance(event, Announce | Doubt | Ask) else event.end
