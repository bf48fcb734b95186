"""tools/server.py: the functions that all servers share."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ouroboros_tools import server
from ouroboros_tools.server import FlowServer


class Stop(Exception):
    """Ends the server of the test."""


class FakeFlow:
    fd = 70

    def __enter__(self) -> FakeFlow:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_flows_beyond_the_limit_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No client can make a server have more threads than its limit: the next flow is accepted when one has ended."""
    limit, flows = 3, 10
    served = threading.Semaphore(0)
    go_on = threading.Semaphore(0)
    accepted = 0

    def accept(_timeout: float | None) -> Any:
        nonlocal accepted
        if accepted == flows:
            raise Stop
        accepted += 1
        if accepted >= limit:  # all places are taken: only now may one end
            go_on.release()
        return FakeFlow()

    running = most = 0
    lock = threading.Lock()

    def handle(_flow: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.acquire()
        with lock:
            running -= 1
        served.release()

    monkeypatch.setattr(server, "accept", accept)
    with pytest.raises(Stop):
        FlowServer(handle, limit=limit).run()
    go_on.release(flows)
    for _ in range(flows):
        served.acquire()
    assert most <= limit
