"""Networks: paths of several IPCPs, on one system or on two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from hashlib import md5
from pathlib import Path as File

from tests.bench import link
from tests.bench.path import WINDOW, Path, World, bound, patiently
from tests.bench.subjects.subject import Wiring, scratch
from tests.bench.system import PrivateSystem
from tests.ports import free_port

MEMBER, NEWCOMER = "member", "newcomer"  # the two of a layer that has no more
SERVER_IP, CLIENT_IP = "127.0.0.1", "127.0.0.2"
RECALC = ("ls_t_recalc", "1")  # seconds between two looks at the graph


def line(system: PrivateSystem, layer: str, below: str, count: int, *options: str) -> list[str]:
    """Members of a unicast layer on one system, over `below`, each connected to the one before: their names."""
    names = [f"{layer}.{number}" for number in range(count)]
    system.irm("ipcp", "bootstrap", "type", "unicast", "name", names[0], "layer", layer, "autobind", *options)
    system.irm("name", "register", names[0], "layer", below)
    for before, name in zip(names, names[1:], strict=False):
        join(system, name, layer, before)
        system.irm("name", "register", name, "layer", below)
    return names


def join(system: PrivateSystem, name: str, layer: str, member: str) -> None:
    """A new member of a unicast layer, enrolled by and connected to another."""
    patiently(lambda: system.irm("ipcp", "enroll", "name", name, "layer", layer, "dst", member, "autobind"))
    patiently(lambda: system.irm("ipcp", "connect", "name", name, "dst", member))


class Chain(Path):
    """Members of a unicast layer on one system, in a line over a local layer; packets go from the first to the last."""

    def __init__(self, name: str, forwarders: int) -> None:
        super().__init__(name, rivals=("udp",), ratios=("udp",))
        self.forwarders = forwarders

    def build(self, world: World) -> tuple[PrivateSystem, str]:
        """The layers, and their last member."""
        system = world.new_system()
        system.local_layer("below")
        names = line(system, self.name, "below", self.forwarders + 2, *RECALC)
        return system, names[-1]

    def wire(self, world: World, word: str = "bench") -> Wiring:
        """The client's flows leave by the first member, which has the lowest pid."""
        system, last = world.once(self.name, lambda: self.build(world))
        name = f"{word}.{self.name}"
        system.register(name, last, kind="ipcp")
        return bound(system, system, name, self.name, window=WINDOW)


class Ethernet(Path):
    """Two systems on an ethernet link; with `unicast`, in a unicast layer over it."""

    def __init__(self, name: str, *, unicast: bool, options: Sequence[str] = RECALC) -> None:
        super().__init__(name, rivals=("veth", "ping", "udp"), ratios=("veth", "ping"))
        self.unicast = unicast
        self.options = options

    def missing(self) -> str | None:
        """Needs namespaces."""
        return link.missing()

    def systems(self, world: World) -> tuple[PrivateSystem, PrivateSystem]:
        """Server and client."""
        return world.once(self.name, lambda: self._build(world))

    def _build(self, world: World) -> tuple[PrivateSystem, PrivateSystem]:
        systems = [world.new_system(end.enter) for end in world.link.ends]
        for system in systems:
            system.bootstrap(
                "eth-dix", "eth", "dev", link.DEVICE, "ethertype", "A001" if self.unicast else "A000"
            )
        server, client = systems
        if self.unicast:
            between(server, client, self.name, "eth", MEMBER, self.options)
        return server, client

    def wire(self, world: World, word: str = "bench") -> Wiring:
        """The server at one end, the client at the other."""
        server, client = self.systems(world)
        layer, name = self.name if self.unicast else "eth", f"{word}.{self.name}"
        server.register(name, layer)
        return bound(server, client, name, layer, window=WINDOW)


def between(
    server: PrivateSystem,
    client: PrivateSystem,
    layer: str,
    below: str,
    member: str,
    options: Sequence[str] = RECALC,
) -> None:
    """A unicast layer with a member on each of two systems; that on the server is known below as `member`."""
    server.irm("ipcp", "bootstrap", "type", "unicast", "name", member, "layer", layer, "autobind", *options)
    register(server, member, below)
    join(client, NEWCOMER, layer, member)


def register(system: PrivateSystem, name: str, layer: str) -> None:
    """Make a name known in a layer."""
    system.irm("name", "register", name, "layer", layer)


class Udp(Path):
    """Two systems that reach each other over UDP on the loopback device; with `unicast`, in a unicast layer over it.

    Names are in a hosts file that both share. `port` 0: a free one.
    """

    def __init__(self, name: str, *, port: int, unicast: bool) -> None:
        super().__init__(name, rivals=("udp", "udp_floor", "udp_gso"), ratios=("udp", "udp_floor", "udp_gso"))
        self.port = port
        self.unicast = unicast

    def systems(self, world: World) -> tuple[PrivateSystem, PrivateSystem]:
        """Server and client."""
        return world.once(self.name, lambda: self._build(world))

    def _build(self, world: World) -> tuple[PrivateSystem, PrivateSystem]:
        name, member = f"bench.{self.name}", f"member.{self.name}"
        known = hosts(world.stack, {word: SERVER_IP for word in (name, member)})
        systems = []
        port = self.port or free_port(SERVER_IP, CLIENT_IP)
        for ip in (SERVER_IP, CLIENT_IP):
            system = world.new_system(env={"OUROBOROS_HOSTS": known})
            system.bootstrap("udp4", "udp", "ip", ip, "port", str(port))
            systems.append(system)
        server, client = systems
        if self.unicast:
            between(server, client, self.name, "udp", member)
        return server, client

    def wire(self, world: World, word: str = "bench") -> Wiring:
        """The server at one end, the client at the other."""
        server, client = self.systems(world)
        layer, name = self.name if self.unicast else "udp", f"{word}.{self.name}"
        server.register(name, layer)
        return bound(server, client, name, layer, window=WINDOW)


def hosts(stack: ExitStack, names: Mapping[str, str]) -> str:
    """A hosts file that gives the addresses of names, for as long as `stack` lasts."""
    path = File(scratch(stack), "hosts")
    path.write_text("".join(f"{ip} {md5(name.encode()).hexdigest()}\n" for name, ip in names.items()))
    return str(path)
