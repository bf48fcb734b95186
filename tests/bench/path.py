"""Path: the layers and links between the two ends of a flow. A new path is one class, named in `paths`.

A path makes its systems, links, layers and names in its World, and wires the peers to it; its rows carry its
name.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from tests.bench.link import Link
from tests.bench.process import PeerError
from tests.bench.row import Mode
from tests.bench.subjects.subject import Wiring
from tests.bench.system import PrivateSystem

PATIENCE = 30.0  # seconds until a name that was registered must be reachable
WINDOW = 512  # packets on their way over a path that does not wait for a slow reader

Made = TypeVar("Made")


class World:
    """Objects that paths share, made on first use; `stack` removes them."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self._made: dict[object, object] = {}

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """The result of `make`; the same object for the same key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]

    @property
    def system(self) -> PrivateSystem:
        """The one system of the paths that need no IPCP, or a local one."""
        return self.once("system", self.new_system)

    @property
    def link(self) -> Link:
        """A virtual cable between two namespaces."""
        return self.once("link", lambda: Link(self.stack))

    def new_system(
        self, enter: Callable[[], None] | None = None, env: Mapping[str, str] | None = None
    ) -> PrivateSystem:
        """A system, in a namespace and with an environment of its own perhaps."""
        return self.stack.enter_context(PrivateSystem(enter, env or {}))


class Path(ABC):
    """A way for flows: its name in the rows, the sizes of packets, and the subjects that are measured beside it."""

    def __init__(
        self,
        name: str,
        *,
        sizes: tuple[int, ...] = (64, 1400),
        rivals: tuple[str, ...],
        ratios: tuple[str, ...],
        paced: bool = True,
        modes: tuple[Mode, ...] = tuple(Mode),
    ) -> None:
        self.name = name
        self.sizes = sizes
        self.rivals = rivals
        self.paced = paced  # whether round trips with pauses are measured too
        self.modes = modes  # of one way
        self.ratios = ratios  # rivals that the table gives our ratio to

    def missing(self) -> str | None:
        """Why there can be no such path here, or None."""
        return None

    @abstractmethod
    def wire(self, world: World, word: str = "bench") -> Wiring:
        """Build the path; how the two peers get to its ends. Several flows over it have names that begin with other words."""

    def beside(self, subject: str, world: World) -> Wiring:
        """The wiring for a subject that is one of our flows."""
        return self.wire(world)


def bound(
    server: PrivateSystem, client: PrivateSystem, name: str, layer: str | None, *, window: int = 0
) -> Wiring:
    """A server that is bound to `name` on one system, and a client on another or the same."""

    def bind(hello: Mapping[str, Any]) -> None:
        server.irm("bind", "process", str(hello["pid"]), "name", name)

    def helpers() -> list[int]:
        return sorted({*server.pids(), *client.pids()})

    return Wiring(
        client={"name": name, "layer": layer, "window": window},
        server={"window": window},
        server_env=server.env,
        client_env=client.env,
        server_enter=server.enter,
        client_enter=client.enter,
        on_hello=bind,
        helpers=helpers,
    )


def patiently(attempt: Callable[[], Made]) -> Made:
    """Another process must act first: try again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except PeerError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def with_qos(wiring: Wiring, qos: Mapping[str, int]) -> Wiring:
    """The same, for a flow of that quality of service."""
    return replace(wiring, client={**wiring.client, "qos": dict(qos)})


class Direct(Path):
    """Two processes of one system, one endpoint, no IPCP (paper 2.11, Fig. 4)."""

    def wire(self, world: World, word: str = "bench") -> Wiring:
        """A name that is bound locally."""
        return bound(world.system, world.system, f"{word}.direct", None)


class Local(Path):
    """Two processes of one system over a local IPCP."""

    def wire(self, world: World, word: str = "bench") -> Wiring:
        """A local layer, and a name registered in it."""
        world.system.local_layer("local")
        world.system.register(f"{word}.local", "local")
        return bound(world.system, world.system, f"{word}.local", "local")
