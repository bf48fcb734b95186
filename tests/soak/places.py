"""Places: where flows are allocated in the soak, each a layer between a server and its clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import link
from tests.bench.networks import RECALC, Ethernet, Udp
from tests.bench.path import World
from tests.bench.system import PrivateSystem


@dataclass(frozen=True, slots=True)
class Place:
    """`layer` is None where the flows are direct."""

    word: str
    name: str
    layer: str | None
    server: PrivateSystem
    client: PrivateSystem


def _one_system(world: World, word: str, layer: str | None) -> Place:
    return Place(word, f"soak.{word}", layer, world.system, world.system)


def _direct(world: World) -> Place:
    return _one_system(world, "direct", None)


def _local(world: World) -> Place:
    world.system.local_layer("local")
    world.system.register("soak.local", "local")
    return _one_system(world, "local", "local")


def _here(world: World) -> Place:
    """A unicast layer whose only member has both the server and its clients."""
    world.system.bootstrap("unicast", "here", *RECALC)
    world.system.register("soak.here", "here")
    return _one_system(world, "here", "here")


def _udp(world: World) -> Place:
    server, client = Udp("udp", port=0, unicast=False).systems(world)
    server.register("bench.udp", "udp")
    return Place("udp", "bench.udp", "udp", server, client)


def _unicast(world: World) -> Place:
    """A unicast layer over UDP, with a member on either system."""
    server, client = Udp("unicast", port=0, unicast=True).systems(world)
    server.register("soak.unicast", "unicast")
    return Place("unicast", "soak.unicast", "unicast", server, client)


def _eth(world: World) -> Place:
    server, client = Ethernet("eth", unicast=False).systems(world)
    server.register("soak.eth", "eth")
    return Place("eth", "soak.eth", "eth", server, client)


PLACES: dict[str, Callable[[World], Place]] = {
    "direct": _direct,
    "local": _local,
    "here": _here,
    "udp": _udp,
    "unicast": _unicast,
    "eth": _eth,
}


def missing(word: str) -> str | None:
    """Why there can be no such place here, or None."""
    return link.missing() if word == "eth" else None
