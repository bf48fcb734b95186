"""Descriptors that tests leave open in the process of pytest.

More than 1,024 of them and `select.select` refuses whatever comes after; a product that forgets to close shows here first.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SLACK = 8
"""Descriptors that a module may leave: of libraries that keep one for the rest of the process, and of ends of flows that a test lets die."""


def kinds() -> Counter[str]:
    """How many descriptors of each kind are open."""
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{fd}").partition(":[")[0]] += 1
        except FileNotFoundError:
            continue  # the one of this directory
    return found


class DescriptorWatch:
    """Makes the run fail when the tests of one module leave descriptors open, whatever the scope of their fixtures."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self._module: Path | None = None
        self._before: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        if item.path != self._module:
            self._module, self._before = item.path, kinds()
        result = yield
        if nextitem is None or nextitem.path != item.path:
            self._look(item)
        return result

    def _look(self, item: pytest.Item) -> None:
        if (kinds() - self._before).total() <= SLACK:
            return
        gc.collect()
        more = kinds() - self._before
        if more.total() > SLACK:
            where = item.nodeid.partition("::")[0]
            self.left.append(f"{where}: " + ", ".join(f"{n} {kind}" for kind, n in more.most_common()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left:
            terminalreporter.section("descriptors that tests left open", red=True)
            for line in self.left:
                terminalreporter.write_line(line)
