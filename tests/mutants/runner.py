"""Runner: does a module's tests notice a mutation of it? Each mutation is tried in a fork of one process that has pytest loaded already.

In the fork the module is compiled from the mutated tree when it is imported; no file changes. A mutation is killed by a test that fails,
by an error of its import, and by a run that takes many times as long as without it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from .mutation import Mutation, mutations

CHECKOUT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30
"""Octets that a run may have more than it begins with: a mutation may make a loop that fills memory."""
SLOWER = 10
"""Times as long as without a mutation that a run may take, and some seconds for a machine that is busy."""
SOME = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """A module, by its path in the checkout, and the tests that are there for it."""

    path: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """The name by which it is imported."""
        name = self.path.removesuffix(".py").replace("/", ".")
        return name.replace("tools.", "ouroboros_tools.", 1) if name.startswith("tools.") else name


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from a tree in place of its file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds one module, before others do."""

    def __init__(self, target: Target, tree: ast.Module) -> None:
        self._target = target
        self._tree = tree

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._target.module:
            return None
        file = str(CHECKOUT / self._target.path)
        loader = _Mutated(name, file, self._tree)
        spec = importlib.machinery.ModuleSpec(name, loader, origin=file)
        spec.has_location = True
        return spec


class Runner:
    """Tries the mutations of one module, several at a time."""

    def __init__(self, target: Target, *, jobs: int) -> None:
        self.target = target
        self.jobs = jobs
        self.mutations = list(mutations((CHECKOUT / target.path).read_text()))

    def survivors(self) -> Iterator[Mutation]:
        """Those that no test notices. Raises RuntimeError when the tests fail without any."""
        begin = time.monotonic()
        child = self._fork(None)
        if self._reap(child, None) != 0:
            raise RuntimeError(f"the tests of {self.target.path} fail without a mutation, or there are none")
        limit = (time.monotonic() - begin) * SLOWER + SOME
        running: dict[int, tuple[int, Mutation, float]] = {}  # by pidfd
        todo = iter(self.mutations)
        while True:
            while len(running) < self.jobs and (mutation := next(todo, None)) is not None:
                pid = self._fork(mutation)
                running[os.pidfd_open(pid)] = (pid, mutation, time.monotonic() + limit)
            if not running:
                return
            nearest = min(deadline for _, _, deadline in running.values())
            ended, _, _ = select.select(list(running), [], [], max(0.0, nearest - time.monotonic()))
            now = time.monotonic()
            for fd in [fd for fd, (_, _, deadline) in running.items() if fd in ended or deadline <= now]:
                pid, mutation, deadline = running.pop(fd)
                os.close(fd)
                if self._reap(pid, None if fd in ended else signal.SIGKILL) == 0:
                    yield mutation

    def _reap(self, pid: int, number: int | None) -> int:
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _fork(self, mutation: Mutation | None) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (_memory() + MEMORY,) * 2)
            if mutation is not None:
                sys.meta_path.insert(0, _Finder(self.target, mutation.tree))  # type: ignore[arg-type]
            options = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:faulthandler",
                "--hypothesis-profile=mutants",
            ]
            code = int(pytest.main([*options, *self.target.tests]))
        finally:
            os._exit(code)


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def preload(
    modules: Sequence[str] = (
        "hypothesis",
        "hypothesis.stateful",
        "google.protobuf.message",
        "_pytest.pytester",
    ),
) -> None:
    """Load what all tests need and is not ours."""
    for module in modules:
        with contextlib.suppress(ImportError):
            __import__(module)
