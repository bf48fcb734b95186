"""Ends of flows for tests in which no descriptor is used twice."""

from __future__ import annotations

from ipcpd.common.end import End


def end(fd: int) -> End:
    """The only instance at this descriptor."""
    return End(fd, 1000 + fd)
