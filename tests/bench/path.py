"""Path: what lies between the two ends of a flow. A new path is one class here, in `PATHS`.

A path makes what it needs (layers, names, on a later day several systems and links) in its World, and wires the peers
to it; its rows carry its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

from tests.bench.subjects.subject import Wiring
from tests.bench.system import PrivateSystem


class World:
    """Systems that paths may share, made when the first one asks; `stack` stops them."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self._system: PrivateSystem | None = None

    @property
    def system(self) -> PrivateSystem:
        """The one system of the paths that stay on it."""
        if self._system is None:
            self._system = self.stack.enter_context(PrivateSystem())
        return self._system


class Path(ABC):
    """A way for flows, by its name in the rows."""

    name: ClassVar[str]

    @abstractmethod
    def wire(self, world: World) -> Wiring:
        """Build the path; how the two peers get to its ends."""


def on_one_system(system: PrivateSystem, name: str, layer: str | None) -> Wiring:
    """Server and client on the same system, the server bound to `name`."""

    def bind(hello: Mapping[str, Any]) -> None:
        system.irm("bind", "process", str(hello["pid"]), "name", name)

    return Wiring(
        client={"name": name, "layer": layer},
        server_env=system.env,
        client_env=system.env,
        on_hello=bind,
        helpers=system.pids,
    )


class Direct(Path):
    """Two processes of one system, one endpoint, no IPCP (paper 2.11, Fig. 4)."""

    name = "direct"

    def wire(self, world: World) -> Wiring:
        """A name that is bound locally."""
        return on_one_system(world.system, "bench.direct", None)


class Local(Path):
    """Two processes of one system over a local IPCP."""

    name = "local"

    def wire(self, world: World) -> Wiring:
        """A local layer, and a name registered in it."""
        world.system.local_layer("local")
        world.system.register("bench.local", "local")
        return on_one_system(world.system, "bench.local", "local")


PATHS: dict[str, Path] = {p.name: p for p in (Direct(), Local())}
