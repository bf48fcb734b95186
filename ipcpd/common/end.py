"""End: the name of this IPCP's end of a flow, in messages and in machines (docs/design/rpc.md, "Names of instances").

Runs in every IPCP; pure data. A descriptor alone does not name an end: the IRMd reuses it for the next flow, while
messages about the old end may still wait in a socket, in a queue of events or behind a timer.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Named(Protocol):
    """A message that names an end."""

    @property
    def fd(self) -> int: ...

    @property
    def instance(self) -> int: ...


class End(NamedTuple):
    """`fd` is a descriptor of this IPCP, `instance` the serial of this use of it, which the IRMd never gives again."""

    fd: int
    instance: int

    @classmethod
    def of(cls, message: Named) -> End:
        """The end that a message of the IRMd names."""
        return cls(message.fd, message.instance)
