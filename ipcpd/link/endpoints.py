"""Endpoints: which endpoint ids, or SAPs, the flows of an IPCP have (paper 5.4; spec/common 7, spec/ethernet 1, 5).

Runs in the ethernet IPCPs as a machine without I/O: `now` goes in. All IPCPs on one device (and with one ethertype) get
each other's frames, and only the endpoint in a frame identifies the IPCP that it is for. So an IPCP claims endpoints in
blocks, as many as it needs, and `claim` returns whether the block was free.

An endpoint that was given back rests before it is used again, and the one that has rested longest comes first: the
other end of a flow gets no notice of the end, and may send on for a while (spec/lessons 29). The least rest depends on the
lifetime of packets. A flow with FRCP requires its quiet time on top of it, more than two minutes (spec/frcp 10): its endpoint
is not used for that long while other endpoints are free, but no request for an endpoint is refused because of it.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

REST = 1.0
"""Seconds before an endpoint is used again: ten times the lifetime of a packet."""

ENOUGH = 8
"""Endpoints that are ready before another block is claimed: with fewer, ids would be used again too soon."""


class Endpoints:
    """The endpoints of one IPCP.

    every  all endpoints of the type
    block  endpoints that are claimed at a time
    claim  takes the number of a block (from 0 up), and returns whether this IPCP has it now
    rest   seconds before an endpoint is used again
    rng    chooses the first endpoint: after a restart the ids of flows that peers still have are not used first
    """

    def __init__(
        self,
        every: range,
        block: int,
        claim: Callable[[int], bool],
        rng: random.Random | None = None,
        *,
        rest: float = REST,
    ) -> None:
        self._every = every
        self._block = block
        self._claim = claim
        self._rest = rest
        rng = rng or random.Random()
        blocks = list(range((len(every) + block - 1) // block))
        rng.shuffle(blocks)
        # A prototype uses the first block first: here it is the last resort.
        self._unclaimed = deque(sorted(blocks, key=lambda number: number == 0))
        self._rng = rng
        self._free: list[
            tuple[float, int, int, float]
        ] = []  # a heap: from when on, in order, earliest time if need be
        self._order = 0
        self._used: set[int] = set()

    @property
    def used(self) -> int:
        """Flows that have an endpoint."""
        return len(self._used)

    def take(self, now: float) -> int | None:
        """An endpoint for a new flow; None when there is none."""
        if len(self._free) < ENOUGH or self._free[0][0] > now:
            self._claim_more()
        if not self._free or (self._free[0][0] > now and self._free[0][3] > now):
            return None
        endpoint = heapq.heappop(self._free)[2]
        self._used.add(endpoint)
        return endpoint

    def give_back(self, endpoint: int, now: float, rest: float = 0.0, *, quiet: float = 0.0) -> None:
        """A flow has ended; the endpoint rests for `rest` at least, and for `quiet` while other endpoints are free.

        An endpoint that this IPCP had not taken is ignored.
        """
        if endpoint in self._used:
            self._used.remove(endpoint)
            earliest = max(rest, self._rest)
            self._push(now + max(quiet, earliest), endpoint, now + earliest)

    def _push(self, when: float, endpoint: int, earliest: float) -> None:
        self._order += 1
        heapq.heappush(self._free, (when, self._order, endpoint, earliest))

    def _claim_more(self) -> None:
        claimed = 0
        # Blocks of other IPCPs are claimed again: their owners may have ended meanwhile.
        for _ in range(len(self._unclaimed)):
            number = self._unclaimed.popleft()
            if not self._claim(number):
                self._unclaimed.append(number)
                continue
            ids = list(self._every[number * self._block : (number + 1) * self._block])
            at = self._rng.randrange(len(ids))
            for endpoint in ids[at:] + ids[:at]:
                self._push(float("-inf"), endpoint, float("-inf"))
            claimed += len(ids)
            if claimed >= ENOUGH:
                return
