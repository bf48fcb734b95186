"""The interface of a flow: the methods that `Flow` and the fake flows of `ouroboros.testing` both have (docs/reference/api.md).

    def greet(flow: AnyFlow) -> bytes:
        flow.write(b"hello")
        return flow.read()

A library module for applications whose functions take flows of either kind: mypy checks them against this protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from .qos import QoSSpec


@runtime_checkable
class AnyFlow(Protocol):
    """A flow that is allocated. Times are seconds; errors as for `Flow`."""

    rcv_timeout: float | None
    """How long a read waits; None: for ever."""

    @property
    def qos(self) -> QoSSpec:
        """The QoS of the flow."""

    def write(self, buf: bytes | bytearray | memoryview, count: int | None = None) -> int:
        """Write one packet; returns the number of octets."""

    def read(self, count: int = 2048) -> bytes:
        """Read up to `count` octets of the packet at the front."""

    def recv(self) -> bytes:
        """Read the whole packet at the front."""

    def dealloc(self, timeo: float | None = None) -> None:
        """Deallocate the flow."""

    def close(self) -> None:
        """Deallocate the flow; without one it does nothing."""

    def __iter__(self) -> Iterator[bytes]:
        """Whole packets, until the peer has left."""

    def __enter__(self) -> Self:
        """The flow itself."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Deallocates the flow."""
