"""The log: lines about one subject, and lines from one place in the code, are bounded, and omitted lines are counted."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from ouroboros.limiter import PERIOD, SUBJECTS
from ouroboros.log import (
    BURST,
    SITE_BURST,
    TRACE_BURST,
    WARNING_BURST,
    WARNING_PERIOD,
    Format,
    LogLimiter,
    SiteLimit,
)


def test_a_flood_about_one_culprit_is_counted_and_not_written(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    limiter = LogLimiter(logging.getLogger("test/limiter"), lambda: now)
    with caplog.at_level(logging.WARNING, logger="test/limiter"):
        for number in range(BURST + 7):
            limiter.warning("processes of uid 1000", "garbage %d", number)
        limiter.warning("processes of uid 1001", "another user")
        assert [r.getMessage() for r in caplog.records] == [f"garbage {n}" for n in range(BURST)] + [
            "another user"
        ]
        caplog.clear()
        now += PERIOD
        limiter.warning("processes of uid 1000", "again")
        assert [r.getMessage() for r in caplog.records] == [
            "7 more lines about processes of uid 1000 were left out",
            "again",
        ]


def test_culprits_that_are_made_up_take_no_memory() -> None:
    limiter = LogLimiter(logging.getLogger("test/limiter"), lambda: 0.0)
    for number in range(3 * SUBJECTS):
        limiter.log(logging.DEBUG, f"culprit {number}", "x")
    assert len(limiter._windows) == SUBJECTS


class Daemon:
    """The log of a daemon, as `ouroboros.log.start` sets it up, with a clock of the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log = logging.getLogger("test/daemon")
        self.log.propagate = False
        self.log.setLevel(logging.DEBUG)
        self.out = io.StringIO()
        self._handler = logging.StreamHandler(self.out)
        self._handler.setFormatter(Format())
        self._handler.addFilter(SiteLimit(lambda: self.now))
        self.log.addHandler(self._handler)

    def lines(self) -> list[str]:
        """What was written since the last call."""
        lines = [
            line.partition("): ")[2] for line in self.out.getvalue().splitlines() if line.startswith("==")
        ]
        self.out.seek(0)
        self.out.truncate()
        return lines

    def close(self) -> None:
        self.log.removeHandler(self._handler)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.close()


def test_a_place_in_the_code_writes_a_bounded_number_of_lines(daemon: Daemon) -> None:
    def refuse(number: int) -> None:
        daemon.log.error("%s: no endpoint is left", number)

    for number in range(WARNING_BURST + 9):
        refuse(number)
    daemon.log.info("another line")
    assert daemon.lines() == [f"{n}: no endpoint is left" for n in range(WARNING_BURST)] + ["another line"]
    daemon.now += WARNING_PERIOD
    refuse(0)
    assert daemon.lines() == ["0: no endpoint is left (9 more lines like this were left out)"]


def test_tracebacks_are_fewer(daemon: Daemon) -> None:
    for _ in range(40):
        try:
            raise ValueError("what a request brought about")
        except ValueError:
            daemon.log.exception("cannot handle a request")
    assert daemon.out.getvalue().count("Traceback") == TRACE_BURST


def test_lines_of_limiters_are_bounded_by_the_place_they_come_from(daemon: Daemon) -> None:
    limiter = LogLimiter(daemon.log, lambda: 0.0)
    for number in range(4 * SITE_BURST):
        limiter.info(f"culprit {number}", "one place")
    limiter.warning("culprit", "another place")
    assert daemon.lines() == ["one place"] * SITE_BURST + ["another place"]
    daemon.now += PERIOD
    limiter.info("culprit", "the next place")
    assert daemon.lines() == ["the next place"]


def test_debugging_is_not_bounded(daemon: Daemon) -> None:
    for _ in range(4 * SITE_BURST):
        daemon.log.debug("as a person wanted")
    assert len(daemon.lines()) == 4 * SITE_BURST
