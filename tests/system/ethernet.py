"""Two network namespaces and a virtual Ethernet link between them, for tests that need a device.

As root, or as an ordinary user through a user namespace. A namespace lives as long as an idle process in it;
its devices and sockets end with it. If the kernel lacks a feature, the test is skipped, and names the feature.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

HOLD = "import sys; print('there', flush=True); sys.stdin.read()"
AS_ROOT = os.geteuid() == 0


class Namespace:
    """A network namespace. `prefix` makes a command run in it."""

    def __init__(self, inside: Namespace | None = None) -> None:
        user = [] if AS_ROOT or inside is not None else ["--user", "--map-root-user"]
        within = inside.prefix if inside is not None and not AS_ROOT else []
        argv = [*within, "unshare", *user, "--net", "--", sys.executable, "-c", HOLD]
        self._holder = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != "there\n":
            pytest.skip(f"no network namespaces here: {self._holder.stderr.read().strip()}")
        self.pid = self._holder.pid
        user = [] if AS_ROOT else ["--user", "--preserve-credentials"]
        self.prefix = ["nsenter", "--target", str(self.pid), *user, "--net", "--"]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        result = subprocess.run([*self.prefix, *argv], capture_output=True, text=True)
        if check and result.returncode:
            raise AssertionError(f"{' '.join(argv)}: {result.stderr}")
        return result

    def ip(self, words: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`namespace.ip("link set va up")`."""
        return self.run("ip", *words.split(), check=check)

    def close(self) -> None:
        """Let it go."""
        self._holder.communicate()


class Cable:
    """A veth pair: device `va` in namespace `a`, `vb` in `b`."""

    def __init__(self, a: Namespace, b: Namespace) -> None:
        self.a, self.b = a, b
        made = a.ip(f"link add va type veth peer name vb netns {b.pid}", check=False)
        if made.returncode:
            pytest.skip(f"no veth devices in this kernel: {made.stderr.strip()}")
        a.ip("link set va up")
        b.ip("link set vb up")


@contextmanager
def cable() -> Iterator[Cable]:
    """Two namespaces with a link, taken down at the end."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            pytest.skip(f"the tool `{tool}` is not installed")
    a = Namespace()
    try:
        b = Namespace(a)
        try:
            yield Cable(a, b)
        finally:
            b.close()
    finally:
        a.close()
