"""Settings for all tests: the number of Hypothesis' examples, and the checks that no process of this project faults unnoticed, that
tests close their descriptors, and that the C is compiled.

`make fuzz` takes the profile `long`. No example has a deadline: the machine may be busy with something else.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from ouroboros.statedir import VARIABLE
from tests.compiled import outdated
from tests.descriptors import DescriptorWatch
from tests.kernel_log import PATH, KernelLog

# State that IPCPs of the tests keep over a restart must not reach those of the user.
if VARIABLE not in os.environ:
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix="ouro-state-", dir="/tmp")
    atexit.register(shutil.rmtree, os.environ[VARIABLE], ignore_errors=True)

settings.register_profile("ours", deadline=None)
settings.register_profile(
    "long", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("mutants", deadline=None, max_examples=40, derandomize=True, database=None)
settings.load_profile("ours")


class KernelWatch:
    """Makes the run fail when the kernel has logged a fault of a process of this project; see `tests/kernel_log.py`."""

    def __init__(self, log: KernelLog) -> None:
        self.log = log
        self.faults: list[str] = []

    def pytest_report_header(self) -> str:
        return f"kernel log: {PATH} is watched for faults of our processes"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._read(f"during {nodeid}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._read("at the end of the run")
        if self.faults and self.log.alone and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.faults:
            return
        red = self.log.alone
        whose = "processes of ours" if red else "processes of this run, or of another one on this machine"
        terminalreporter.section(f"faults of {whose}", red=red, yellow=not red)
        for line in self.faults:
            terminalreporter.write_line(line)

    def _read(self, when: str) -> None:
        self.faults += [f"{when}: {line}" for line in self.log.faults()]


class NoKernelWatch:
    """Says that the kernel's log could not be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def pytest_report_header(self) -> str:
        return f"kernel log: not watched ({PATH}: {self.reason})"


def pytest_configure(config: pytest.Config) -> None:
    if modules := outdated():
        raise pytest.UsageError(
            f"{', '.join(modules)}: not compiled from the C in this checkout; run `make install`"
        )
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in the background of a shell without job control ignores it, and all that it starts would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(DescriptorWatch())
    try:
        log = KernelLog()
    except OSError as error:
        config.pluginmanager.register(NoKernelWatch(error.strerror or str(error)))
        return
    config.add_cleanup(log.close)
    config.pluginmanager.register(KernelWatch(log))
