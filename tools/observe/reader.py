"""Reader: all that a system shows, asked of its IRMd, each answer kept for a moment (docs/reference/facts.md).

Used by the statistics tree, the metrics and the list of events. A reader may be used by several threads, one question at a time: so a thousand
readers of the tree ask the IRMd no more than one does. An IPCP that does not answer costs its time limit once a moment, and
its error is kept as an answer is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from errno import ETIMEDOUT
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ouroboros.facts import FLOW_ENDS, POOL_CLASSES, POOLS, Row, words_of

if TYPE_CHECKING:
    from ouroboros.readout import IpcpInfo

KEPT = 0.5
"""Seconds for which an answer is used again."""

LIMIT = 8.0
"""Seconds after which a question has failed: the IRMd itself does not answer. It gives an IPCP 5."""

Answer = TypeVar("Answer")


def peer_of(row: Row) -> object:
    """The other end in a row of neighbours: its name, else its address, else what a broadcast layer knows; None without any."""
    return row.get("name") or row.get("address") or row.get("member")


class Reader:
    """The facts of the system that this process finds."""

    def __init__(
        self, kept: float = KEPT, limit: float = LIMIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept = kept
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._answers: dict[Hashable, tuple[float, object]] = {}

    def ipcps(self) -> Sequence[IpcpInfo]:
        """All IPCPs. Raises IrmError."""
        from ouroboros import irm

        return self._ask("ipcps", irm.list_ipcps)

    def words(self, ipcp: IpcpInfo) -> list[str]:
        """The read-outs that the IPCP has."""
        return words_of(ipcp.type.type_name) if ipcp.layer else []

    def rows(self, ipcp: IpcpInfo, what: str) -> list[Row]:
        """A read-out of an IPCP. Raises IrmError."""
        from ouroboros import irm

        return self._ask((ipcp.pid, ipcp.instance, what), lambda: irm.readout_ipcp(ipcp, what))

    def irmd(self, what: str) -> list[Row]:
        """A read-out of the IRMd. Raises IrmError."""
        from ouroboros import irm

        return self._ask(what, lambda: irm.readout_irmd(what))

    def flow_ends(self) -> list[Row]:
        """The ends of all flows at processes of the system. Raises IrmError."""
        from ouroboros import irm

        return self._ask(
            "flows",
            lambda: [
                FLOW_ENDS.row(
                    flow_id=flow.flow_id,
                    state="down" if flow.down else flow.state,
                    name=flow.name,
                    layer=flow.layer,
                    **end._asdict(),
                )
                for flow in irm.list_flows()
                for end in flow.ends
            ],
        )

    def names(self) -> Sequence[Any]:
        """All names, with their bindings and registrations. Raises IrmError."""
        from ouroboros import irm

        return self._ask("names", irm.list_names)

    def pools(self) -> tuple[list[Row], list[Row]]:
        """The packet pools, and their blocks by size. Raises IrmError."""
        from ouroboros import irm

        def ask() -> tuple[list[Row], list[Row]]:
            pools = irm.list_pools()
            return (
                [
                    POOLS.row(name=p.name, uid=p.uid, octets=p.octets, taken=p.taken, failures=p.failures)
                    for p in pools
                ],
                [
                    POOL_CLASSES.row(name=p.name, size=c.size, total=c.total, free=c.free)
                    for p in pools
                    for c in p.classes
                ],
            )

        return self._ask("pools", ask)

    def _ask(self, key: Hashable, ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            now = self._clock()
            for old in [old for old, (until, _) in self._answers.items() if until <= now]:
                del self._answers[old]
            if key in self._answers:
                answer = self._answers[key][1]
            else:
                answer = self._bounded(ask)
                self._answers[key] = self._clock() + self._kept, answer
        if isinstance(answer, Exception):
            raise answer
        return cast(Answer, answer)

    def _bounded(self, ask: Callable[[], object]) -> object:
        """The answer, or the error, of one question, within LIMIT: in a thread, because nothing ends a call of the library earlier."""
        answers: list[object] = []

        def run() -> None:
            try:
                answers.append(ask())
            except (OSError, ValueError) as error:
                answers.append(error)

        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=run, daemon=True)
            self._asking.start()
            self._asking.join(self._limit)
        return answers[0] if answers else TimeoutError(ETIMEDOUT, "the IRMd does not answer")
