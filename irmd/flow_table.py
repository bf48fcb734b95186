"""The table of flows (paper 2.7).

A flow has an id that is unique in the system, and two ends: side 0 requested it (or is the application over an IPCP), side 1
accepted it (or is the IPCP). Each end is a descriptor of its process.
"""

from __future__ import annotations

import errno

from ouroboros.rpc.service import Refusal

from .descriptors import Numbers
from .flow import IllegalTransition, State, Step
from .records import Flow


class FlowTable:
    """All flows of the system, by id. Raises Refusal(ENOSPC) when the system's limit is reached, and earlier for one user: a
    user who may not manage the system gets at most half of the flows, which leaves the others for other users."""

    def __init__(self, limit: int) -> None:
        self._ids = Numbers(1, limit)
        self._limit = limit
        self.flows: dict[int, Flow] = {}
        self._of: dict[int, int] = {}

    def create(self, step: Step, *, user: int | None = None) -> Flow:
        """A new flow that is `alloc-pending` or `accept-pending`. `user` is the requester's uid, None when that user may manage the system."""
        if user is not None and self._of.get(user, 0) >= self._limit // 2:
            raise Refusal(
                errno.ENOSPC,
                f"user {user} has {self._of[user]} flows already, half of what the system can have; see flows in table "
                "[irmd] of the configuration",
            )
        number = self._ids.take()
        if number is None:
            raise Refusal(
                errno.ENOSPC,
                f"the system has {self._limit} flows already; see flows in table [irmd] of the configuration",
            )
        flow = Flow(number, user=user)
        if user is not None:
            self._of[user] = self._of.get(user, 0) + 1
        flow.step(step)
        self.flows[number] = flow
        return flow

    def remove(self, flow: Flow) -> None:
        """Remove a deallocated flow; from now on its id may be used again."""
        if flow.state is not State.DEALLOCATED:
            raise IllegalTransition(flow.state, Step.RELEASE)
        del self.flows[flow.id]
        if flow.user is not None:
            self._of[flow.user] -= 1
            if not self._of[flow.user]:
                del self._of[flow.user]
        self._ids.give_back(flow.id)
