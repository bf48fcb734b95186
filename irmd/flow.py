"""The states of a flow (paper 2.7, spec/rpc RPC-10): a table. A step that is not in it is refused with `IllegalTransition`."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """States of a flow; lists show the values."""

    __hash__ = object.__hash__  # in C; that of Enum is in Python

    INIT = "init"
    ALLOC_PENDING = "alloc-pending"
    ACCEPT_PENDING = "accept-pending"
    ALLOCATED = "allocated"
    DEALLOC_PENDING = "dealloc-pending"
    DEALLOCATED = "deallocated"


class Step(Enum):
    """Steps that change the state of a flow."""

    __hash__ = object.__hash__

    ALLOC = "alloc"
    ACCEPT = "accept"
    GRANT = "grant"
    REFUSE = "refuse"
    DEALLOC = "dealloc"
    RELEASE = "release"


TRANSITIONS: dict[tuple[State, Step], State] = {
    (State.INIT, Step.ALLOC): State.ALLOC_PENDING,
    (State.INIT, Step.ACCEPT): State.ACCEPT_PENDING,
    (State.ALLOC_PENDING, Step.GRANT): State.ALLOCATED,
    (State.ALLOC_PENDING, Step.REFUSE): State.DEALLOCATED,
    (State.ACCEPT_PENDING, Step.GRANT): State.ALLOCATED,
    (State.ACCEPT_PENDING, Step.REFUSE): State.DEALLOCATED,
    (State.ALLOCATED, Step.DEALLOC): State.DEALLOC_PENDING,
    (State.DEALLOC_PENDING, Step.RELEASE): State.DEALLOCATED,
}


class IllegalTransition(Exception):
    """The IRMd tried a step that the table does not allow: a defect of the IRMd, never of a peer."""

    def __init__(self, state: State, step: Step) -> None:
        super().__init__(f"{step.value} is not legal for a flow that is {state.value}")
        self.state = state
        self.step = step


def advance(state: State, step: Step) -> State:
    """The state that `step` leads to from `state`. Raises IllegalTransition."""
    after = TRANSITIONS.get((state, step))
    if after is None:
        raise IllegalTransition(state, step)
    return after
