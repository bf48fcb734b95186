"""A request of a process that may have to wait: alloc, accept or join."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import Connection
    from .descriptors import Descriptor
    from .process import Process


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request, its process, and how to cancel it. `descriptor` is reserved from the start.

    A synchronous request is answered under its `id`; an asynchronous one was answered immediately with the
    descriptor, and ends with a FlowDone notification.
    """

    connection: Connection
    process: Process
    id: int
    descriptor: Descriptor
    asynchronous: bool
    timeout: float | None
    """The caller's time-out in seconds, or None."""
    undo: Callable[[], None] | None = None
    """Cancels the work on the request; set while the request waits."""
    timer: asyncio.TimerHandle | None = None
    done: bool = False

    def finish(self) -> None:
        """The request is answered or cancelled: no timer, nothing to undo."""
        self.done = True
        self.undo = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
