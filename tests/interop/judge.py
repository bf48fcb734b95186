"""The judge: collects the daemons' packets that a prototype would not have survived, or would not have understood.

Used by the prototype of the tests. Each packet that arrives is checked by functions that raise `Wrong`; the exception is kept with the
packet in hex, and the test fails with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .octets import Wrong

Parameters = ParamSpec("Parameters")
Read = TypeVar("Read")


class Judge:
    """`seen` counts what was looked at, by kind: a test can show that its rules were applied at all."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.seen: Counter[str] = Counter()

    def wrong(self, what: str, rule: str, octets: bytes = b"") -> None:
        """A rule was broken by these octets."""
        self.violations.append(f"{what}: {rule}: {octets.hex() or 'no octets'}")

    def look(
        self,
        what: str,
        octets: bytes,
        read: Callable[Parameters, Read],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Read | None:
        """The result of `read` for the octets; None when they break a rule."""
        self.seen[what] += 1
        try:
            return read(*args, **kwargs)
        except Wrong as broken:
            self.wrong(what, str(broken), octets)
            return None

    def verdict(self) -> None:
        """Raises AssertionError when a rule was broken."""
        assert not self.violations, "what a prototype must not get:\n" + "\n".join(self.violations)
