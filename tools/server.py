"""Accepting flows: what the servers of oping, oecho, ocbr and operf have in common.

A failed accept is printed and the server goes on (the C prototype of 2019 stopped); only a missing IRMd ends
it. `FlowServer` gives every flow a thread of its own and has a bound on their number. Main thread unless said
otherwise.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from .program import interrupt_main, reason, warn_of_peer
from .stdio import OutputError

if TYPE_CHECKING:
    from ouroboros.dev import Flow

_PAUSE_AFTER_FAILURE_S = 0.1


def accept(timeout: float | None) -> "Flow | None":
    """The next flow, or None after `timeout` seconds or after a failure that is not for good.

    Raises OSError when no flow can come any more, because there is no IRMd.
    """
    from ouroboros.dev import flow_accept

    try:
        return flow_accept(timeout)
    except TimeoutError as error:
        if timeout is None:
            warn_of_peer(f"Failed to accept a flow: {reason(error)}")
        return None
    except OSError as error:
        if is_fatal(error):
            raise
        warn_of_peer(f"Failed to accept a flow: {reason(error)}")
        time.sleep(_PAUSE_AFTER_FAILURE_S)  # out of descriptors, say: let some flow end before the next try
        return None


def is_fatal(error: OSError) -> bool:
    """Whether the IRMd is not there (any more)."""
    from ouroboros.errors import EIRMD

    return error.errno == EIRMD


def dismiss(flow: "Flow") -> None:
    """Leave a flow where others are served meanwhile: what its client has not acknowledged, and may never, is not waited for."""
    with suppress(OSError):
        flow.dealloc(0)


class FlowServer:
    """Serves each accepted flow by `handle(flow)` in a thread of its own, at most `limit` at once."""

    def __init__(self, handle: "Callable[[Flow], None]", *, limit: int) -> None:
        self._handle = handle
        self._slots = threading.Semaphore(limit)

    def run(self) -> None:
        """Accept and serve until the program is interrupted; raises OSError when the IRMd is gone."""
        while True:
            if not self._slots.acquire(blocking=False):
                print("Can't accept any more flows, waiting.")
                self._slots.acquire()
            flow = None
            try:
                flow = accept(None)
            finally:
                if flow is None:
                    self._slots.release()
            if flow is not None:
                threading.Thread(target=self._serve, args=(flow,), daemon=True).start()

    def _serve(self, flow: "Flow") -> None:
        fd = flow.fd
        try:
            with flow:
                self._handle(flow)
        except OutputError:  # the main thread meets it again, and tells of it
            interrupt_main()
        except OSError as error:
            warn_of_peer(f"Flow {fd} ended: {reason(error)}")
        finally:
            self._slots.release()
