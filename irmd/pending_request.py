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
    """What was asked for, by whom, and how to give it up. `descriptor` is reserved from the start.

    A synchronous request is answered under its `id`; an asynchronous one was answered at once with the
    descriptor, and ends with a FlowDone notification.
    """

    connection: Connection
    process: Process
    id: int
    descriptor: Descriptor
    asynchronous: bool
    timeout: float | None
    """Seconds the caller gave, or None."""
    undo: Callable[[], None] | None = None
    """Takes back what is under way; set while the request waits."""
    timer: asyncio.TimerHandle | None = None
    done: bool = False

    def finish(self) -> None:
        """The request is answered or given up: no timer, nothing to undo."""
        self.done = True
        self.undo = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
