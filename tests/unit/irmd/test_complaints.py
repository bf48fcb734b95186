"""Complaints in the log are bounded for each culprit, and none is lost uncounted."""

from __future__ import annotations

import logging

import pytest

from irmd.complaints import BURST, PERIOD, Complaints


def test_a_flood_is_counted_not_written(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    complaints = Complaints(logging.getLogger("test/complaints"), lambda: now)
    with caplog.at_level(logging.WARNING, logger="test/complaints"):
        for number in range(BURST + 7):
            complaints.warn("processes of uid 1000", "garbage %d", number)
        complaints.warn("processes of uid 1001", "another user")
        assert [r.getMessage() for r in caplog.records] == [f"garbage {n}" for n in range(BURST)] + [
            "another user"
        ]
        caplog.clear()
        now += PERIOD
        complaints.warn("processes of uid 1000", "again")
        assert [r.getMessage() for r in caplog.records] == [
            "7 more complaints about processes of uid 1000",
            "again",
        ]
