"""Handle: a C object of the data plane as Python holds it: borrowed for a call, and given back once.

The one way from Python into the C of an IPCP: `with handle as pointer:` takes the pointer, and raises when the object has been
given back. Calls and the end of the object exclude each other, also between threads; the packet threads need none of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from errno import ESHUTDOWN
from typing import Generic, TypeVar

from ouroboros.errors import error
from ouroboros.owner import Owner

P = TypeVar("P")
"""The type of the pointer: `struct relay *` and the like."""


class Handle(Owner, Generic[P]):
    """`pointer`, until `close` hands it to `destroy`. `what` is its name in error texts."""

    __slots__ = ("_destroy", "_lock", "_pointer", "_what")

    def __init__(self, pointer: P, destroy: Callable[[P], None], what: str) -> None:
        self._pointer: P | None = pointer
        self._destroy = destroy
        self._what = what
        self._lock = threading.RLock()

    def __enter__(self) -> P:
        """The pointer, for calls within the `with` block. Raises OSError (ESHUTDOWN) when the object is closed."""
        self._lock.acquire()
        if self._pointer is None:
            self._lock.release()
            raise error(ESHUTDOWN, f"{self._what} is closed")
        return self._pointer

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def closed(self) -> bool:
        """Whether the object has been given back."""
        return self._pointer is None

    def close(self) -> None:
        """Give the object back. May be repeated."""
        with self._lock:
            pointer, self._pointer = self._pointer, None
            if pointer is not None:
                self._destroy(pointer)
