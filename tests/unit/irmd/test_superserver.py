"""When a program is started on demand, and when not."""

from __future__ import annotations

import errno

import pytest

from irmd.superserver import PAUSE_LAST, Starter
from ouroboros.rpc.service import Refusal


def test_one_start_at_a_time() -> None:
    starter = Starter("/bin/server", limit=4)
    assert starter.may_start(0.0)
    starter.started(100)
    assert not starter.may_start(0.1)
    starter.accepted(100)
    assert starter.may_start(0.2)


def test_the_end_after_the_first_accept_is_no_failure() -> None:
    starter = Starter("/bin/server", limit=4)
    starter.started(100)
    starter.accepted(100)
    assert starter.exited(100, 0, 1.0) is None
    assert starter.may_start(1.0)


def test_one_that_ends_at_once_is_not_started_again_and_again() -> None:
    starter = Starter("/bin/server", limit=4)
    now, pauses = 0.0, []
    for pid in range(100, 112):
        assert starter.may_start(now)
        starter.started(pid)
        assert starter.exited(pid, 3, now) == "/bin/server exited with status 3 before it accepted a flow"
        with pytest.raises(Refusal, match="exited with status 3.*not started again for another") as refused:
            starter.may_start(now)
        assert refused.value.errno == errno.ECONNREFUSED
        pause = 0.0
        while True:
            pause += 0.25
            try:
                starter.may_start(now + pause)
            except Refusal:
                continue
            break
        pauses.append(pause)
        now += pause
    assert pauses == sorted(pauses) and pauses[0] == 0.5 and pauses[-1] == PAUSE_LAST


def test_success_forgets_old_failures() -> None:
    starter = Starter("/bin/server", limit=4)
    for pid in (1, 2, 3):
        starter.started(pid)
        starter.exited(pid, 1, 0.0)
    starter.started(4)
    starter.accepted(4)
    starter.exited(4, 0, 100.0)
    starter.started(5)
    starter.exited(5, 1, 100.0)
    assert starter.may_start(100.5)


def test_there_is_a_limit_on_instances() -> None:
    starter = Starter("/bin/server", limit=2)
    for pid in (1, 2):
        assert starter.may_start(0.0)
        starter.started(pid)
        starter.accepted(pid)
    with pytest.raises(Refusal, match="2 instances of /bin/server"):
        starter.may_start(0.0)
    starter.exited(1, 0, 1.0)
    assert starter.may_start(1.0)
