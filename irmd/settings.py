"""Limits and policies of the IRMd: table `[irmd]` of the configuration file, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_DESCRIPTORS = 16384


class Applications(Enum):
    """The users whose processes may have flows."""

    ANY = "any"
    MANAGERS = "managers"


@dataclass(slots=True, frozen=True)
class Settings:
    """The settings; numbers are counts, times are seconds."""

    applications: Applications = Applications.ANY
    flows: int = 10240
    """Flows of the whole system."""
    descriptors: int = 4096
    """Flow descriptors of one process."""
    connections: int = 1024
    """Connections of one user, fewer where a quarter of the IRMd's file descriptors allows fewer; only the file descriptors bound
    those of its own user and of root."""
    requests: int = 1024
    """Requests of one connection that are not answered yet."""
    instances: int = 16
    """Running instances of a program that is started on demand, for one name."""
    grace: float = 5.0
    """How long a process that the IRMd started may take to exit before it is killed."""
    security: str = ""
    """Directory of certificates and of the credentials of names; empty: the default."""
    debug: bool = False
    """Write debug lines to the log."""


LIMITS: dict[str, tuple[float, float]] = {
    "flows": (1, 1 << 20),
    "descriptors": (1, MAX_DESCRIPTORS),
    "connections": (1, 1 << 20),
    "requests": (1, 1 << 20),
    "instances": (1, 1 << 16),
    "grace": (0.1, 3600.0),
}
"""Least and greatest value of each number."""
