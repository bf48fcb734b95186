"""Accepting flows: the common part of the servers of oping, oecho, ocbr and operf.

A failed accept is printed and the server goes on (the C prototype of 2019 stopped); only a missing IRMd ends
it. `FlowServer` gives every flow a thread of its own and has a bound on their number. Main thread unless
noted.
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
    """The next flow, or None after `timeout` seconds or after a temporary failure.

    Raises OSError when there is no IRMd, so no flow can arrive any more.
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
        # For example out of descriptors: let a flow end before the next try.
        time.sleep(_PAUSE_AFTER_FAILURE_S)
        return None


def is_fatal(error: OSError) -> bool:
    """Whether the IRMd is not there (any more)."""
    from ouroboros.errors import EIRMD

    return error.errno == EIRMD


def dismiss(flow: "Flow") -> None:
    """Close a flow without waiting for the client's acknowledgements, so that other flows are served immediately."""
    with suppress(OSError):
        flow.dealloc(0)


class FlowServer:
    """Serves each accepted flow by `handle(flow)` in a thread of its own, at most `limit` threads."""

    def __init__(self, handle: "Callable[[Flow], None]", *, limit: int) -> None:
        self._handle = handle
        self._slots = threading.Semaphore(limit)

    def run(self) -> None:
        """Accept and serve until the program is interrupted; raises OSError when the IRMd has exited."""
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
        except OutputError:  # the main thread meets the same error, and reports it
            interrupt_main()
        except OSError as error:
            warn_of_peer(f"Flow {fd} ended: {reason(error)}")
        finally:
            self._slots.release()
