"""Leaving a flow whose peer has not acknowledged everything (paper 2.14; spec/frcp 10).

`Leaving` is one end and the time for which its caller waits. `Lingering` holds the ends whose caller waits no longer: the process's
C thread retransmits their data and takes acknowledgements; a Python thread, which lives as long as there is such an end,
gives each back to the IRMd when its peer has acknowledged everything, or after R (120 s), when FRCP gives up.
"""

from __future__ import annotations

import threading
from errno import ETIMEDOUT
from time import monotonic_ns, sleep
from typing import Any, Protocol

from .dataplane._dataplane import ffi, lib
from .errors import EFLOWDOWN, FlowLingerException, FlowLingerTimeout

LINGER_TIMEOUT = 5.0
"""Seconds without progress by the peer after which a caller waits no longer, unless it has asked for another time."""

_SLEEP = 5_000_000  # ns for which a caller that waits sleeps at most
_PERIOD = 0.05  # s between two looks at the ends that no caller waits for
_MOST = 256  # of those: when there are more, the oldest is let go


class Keeper(Protocol):
    """The keeper of the ends of a process, which is its `Library`."""

    lingering: Lingering

    def let_go(self, handle: Any) -> None:
        """The memory of an end is not used any more."""

    def release(self, fd: int, instance: int, quiet: int = 0) -> None:
        """The IRMd gets the descriptor back; its layer should not use the endpoint for `quiet` seconds."""


class Leaving:
    """An end that is being left, until it is given back.

    stall_timeout  seconds without progress by the peer after which its caller waits no longer
    timeo     seconds after which it waits no longer in any case, in place of that; None: no such bound
    """

    __slots__ = (
        "_deadline",
        "_fd",
        "_handle",
        "_instance",
        "_keeper",
        "_octets",
        "_stall_timeout",
        "_quiet",
        "_una",
        "_until",
        "_was_down",
        "_went_down",
    )

    def __init__(
        self,
        keeper: Keeper,
        handle: Any,
        fd: int,
        instance: int,
        *,
        stall_timeout: float,
        timeo: float | None = None,
    ) -> None:
        self._keeper, self._handle, self._fd, self._instance = keeper, handle, fd, instance
        now = monotonic_ns()
        self._was_down = bool(lib.flow_is_down(handle))
        self._went_down = False
        self._quiet = -1
        self._octets = 0
        self._una = -1
        self._stall_timeout = int(stall_timeout * 1e9)
        self._until = now + self._stall_timeout
        self._deadline = None if timeo is None else now + int(timeo * 1e9)

    @property
    def done(self) -> bool:
        """Whether nothing is waited for: everything is acknowledged, or the flow is down."""
        return self._quiet >= 0

    def over(self) -> bool:
        """Look once more. Whether its caller waits no longer: it is done, or the time is over."""
        self._quiet = lib.frcp_io_close(self._handle)
        if self._quiet >= 0:
            self._went_down = not self._was_down and bool(lib.flow_is_down(self._handle))
            if self._went_down:
                self._octets = lib.frcp_io_unacked(self._handle).octets
            return True
        unacked = lib.frcp_io_unacked(self._handle)
        self._octets = unacked.octets
        now = monotonic_ns()
        if unacked.una != self._una:
            self._una, self._until = unacked.una, now + self._stall_timeout
        return now >= self._ends_at

    @property
    def _ends_at(self) -> int:
        return self._until if self._deadline is None else self._deadline

    def wait(self) -> None:
        """Wait until it is over, and give the end back."""
        try:
            while not self.over():
                self.sleep()
        except BaseException:
            self.give_up()
            raise
        self.give_back()

    def sleep(self) -> None:
        """Sleep until there may be an acknowledgement, for some ms at most."""
        lib.frcp_io_linger(self._handle, min(monotonic_ns() + _SLEEP, self._ends_at))

    def give_up(self) -> None:
        """The caller was interrupted: nothing waits for this end any more, nor does the end of the process."""
        self._stall_timeout = self._until = 0
        self.give_back()

    def give_back(self) -> None:
        """The caller waits no longer: the end goes back to the IRMd now, or when the peer has acknowledged everything."""
        self._deadline = None
        if self.done:
            self.release()
        else:
            self._keeper.lingering.add(self)

    def release(self) -> None:
        """Give the end back now, with or without unacknowledged data; its endpoint is unused for the quiet time of Delta-t."""
        quiet = self._quiet if self.done else quiet_time(self._handle)
        self.let_go()
        self._keeper.release(self._fd, self._instance, quiet)

    def let_go(self) -> None:
        """The memory of the end is not used any more; the IRMd learns it from the end of the connection."""
        self._keeper.let_go(self._handle)

    @property
    def failure(self) -> OSError | None:
        """The error of the deallocation: the octets that the peer has not acknowledged. None where the flow was down before, since
        reads and writes have raised that."""
        if self._octets and self._went_down:
            return FlowLingerException(
                EFLOWDOWN,
                f"flow {self._fd} went down before its peer had acknowledged the last {self._octets} octets",
                octets=self._octets,
            )
        if self._octets and not self.done:
            return FlowLingerTimeout(
                ETIMEDOUT,
                f"flow {self._fd} is left, but its peer has not acknowledged the last {self._octets} octets in time; "
                "they are sent on as long as this process runs, for two minutes at most",
                octets=self._octets,
            )
        return None


class Lingering:
    """The ends of a process that linger without a caller."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the collector may leave a flow in the middle of everything
        self._ends: dict[Leaving, None] = {}
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, leaving: Leaving) -> None:
        """This one goes on by itself."""
        with self._lock:
            self._ends[leaving] = None
            if len(self._ends) > _MOST:
                oldest = next(iter(self._ends))
                del self._ends[oldest]
                oldest.release()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="ouroboros-linger", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or there is no thread left: nothing looks after them
            for leaving in list(self._ends):
                leaving.release()
            self._ends.clear()
        else:
            self._thread = thread

    def _run(self) -> None:
        while True:
            sleep(_PERIOD)
            with self._lock:
                for leaving in list(self._ends):
                    leaving.over()
                    if leaving.done:
                        self._ends.pop(leaving, None)
                        leaving.release()
                if not self._ends:
                    self._thread = None
                    return

    def wait_all(self, others: list[Leaving]) -> None:
        """The process ends: wait for `others` and those that linger already, all together, as long as any of their callers would."""
        with self._lock:
            ends = [*others, *self._ends]
            self._ends.clear()
        try:
            waiting = ends
            while waiting := [leaving for leaving in waiting if not leaving.over()]:
                waiting[0].sleep()
        finally:
            for leaving in ends:
                leaving.let_go()


def quiet_time(handle: Any) -> int:
    """The remaining quiet time of Delta-t, in seconds; 0 without FRCP."""
    look = ffi.new("struct frcp *")
    return int(lib.frcp_quiet_time(look, monotonic_ns())) if lib.frcp_io_look(handle, look) == 0 else 0
