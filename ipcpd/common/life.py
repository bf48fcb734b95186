"""The life cycle of an IPCP, as a table (spec/rpc RPC-7), and the requests that are legal in each state.

null -> init -> boot -> operational -> shutdown
"""

from __future__ import annotations

from enum import Enum

from ouroboros.errors import EIPCPSTATE
from ouroboros.rpc.service import Refusal


class State(Enum):
    """States of an IPCP; the values are what `irm ipcp list` shows."""

    NULL = "null"
    INIT = "init"
    BOOT = "boot"
    OPERATIONAL = "operational"
    SHUTDOWN = "shutdown"


class Step(Enum):
    """A transition of an IPCP from one state to another."""

    START = "start"
    CONNECT = "connect to the IRMd"
    BECOME_MEMBER = "bootstrap or enroll"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.NULL, Step.START): State.INIT,
    (State.INIT, Step.CONNECT): State.BOOT,
    (State.BOOT, Step.BECOME_MEMBER): State.OPERATIONAL,
    (State.INIT, Step.STOP): State.SHUTDOWN,
    (State.BOOT, Step.STOP): State.SHUTDOWN,
    (State.OPERATIONAL, Step.STOP): State.SHUTDOWN,
}

_MEMBER = frozenset({State.OPERATIONAL})
_ANY = frozenset({State.BOOT, State.OPERATIONAL})

LEGAL: dict[str, frozenset[State]] = {
    "ipcp_bootstrap": frozenset({State.BOOT}),
    "ipcp_enroll": frozenset({State.BOOT}),
    "ipcp_connect": _MEMBER,
    "ipcp_disconnect": _MEMBER,
    "ipcp_reg": _MEMBER,
    "ipcp_unreg": _MEMBER,
    "ipcp_query": _MEMBER,
    "ipcp_flow_alloc": _MEMBER,
    "ipcp_flow_join": _MEMBER,
    "ipcp_flow_alloc_resp": _MEMBER,
    "ipcp_flow_again": _MEMBER,
    "ipcp_flow_dealloc": _ANY | {State.SHUTDOWN},
    "readout": _MEMBER,
}
"""States in which a request is legal, by its message."""


_HINTS = {State.OPERATIONAL: "it is a member of a layer already", State.SHUTDOWN: "it is ending"}


class StateError(Refusal):
    """A request is not legal in this state."""

    def __init__(self, text: str) -> None:
        super().__init__(EIPCPSTATE, text)


def advance(state: State, step: Step) -> State:
    """The state that `step` leads to. Raises StateError."""
    after = TRANSITIONS.get((state, step))
    if after is None:
        raise StateError(f"cannot {step.value} an IPCP that is in state {state.value}")
    return after


def check(state: State, request: str) -> None:
    """Raises StateError when `request` is not legal in `state`."""
    legal = LEGAL[request]
    if state not in legal:
        hint = _HINTS.get(state, "bootstrap or enroll it first")
        what = request.removeprefix("ipcp_").replace("_", " ")
        raise StateError(f"the IPCP is in state {state.value}, which does not allow {what}: {hint}")
