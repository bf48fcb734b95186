"""A mixed network for tests: Python systems and prototypes, over UDP on loopback addresses of their own.

Each Python system is an IRMd with its IPCPs, in a run directory of its own; prototypes share one event loop in a thread of
pytest. Names of IPCPs are resolved by a hosts file, as in the paper.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from tests.system.conftest import MakeSystem, Program, System

from .judge import Judge
from .member import Broadcast, Prototype, Unicast

Result = TypeVar("Result")
Kind = TypeVar("Kind", bound=Prototype)

PATIENCE = 60.0
"""Seconds after which a hang becomes a failure."""

READOUT = """
    import json, sys
    from ouroboros import cli
    print(json.dumps(cli.readout_ipcp(sys.argv[1], sys.argv[2])))
"""


class Ours:
    """A Python system with a udp4 IPCP `udp` and an IPCP with the name `name`."""

    def __init__(self, name: str, system: System, ip: str) -> None:
        self.name = name
        self.system = system
        self.ip = ip
        system.irm(f"ipcp bootstrap type udp4 name udp layer udp ip {ip}")

    def bootstrap(self, layer: str = "unicast", *, kind: str = "unicast", **options: object) -> None:
        """Make a layer."""
        words = " ".join(f"{key} {value}" for key, value in options.items())
        self.system.irm(f"ipcp bootstrap type {kind} name {self.name} layer {layer} autobind {words}")
        self.open()

    def enroll(self, dst: str, *, kind: str = "unicast", check: bool = True) -> str:
        """Become a member of the layer of `dst`; returns the output of `irm`."""
        run = self.system.irm(f"ipcp enroll name {self.name} type {kind} dst {dst} autobind", check=check)
        if not run.returncode:
            self.open()
        return run.stdout + run.stderr

    def open(self) -> None:
        """Others can enrol with us, and connect."""
        self.system.irm(f"name register {self.name} layer udp")

    def connect(self, dst: str, more: str = "") -> None:
        self.system.irm(f"ipcp connect name {self.name} dst {dst} {more}")

    def serve(self, name: str) -> Program:
        """`oping` as a server, registered with the layer."""
        server = self.system.spawn("oping", "-l")
        server.expect("started")
        self.system.irm(f"bind process {server.pid} name {name}")
        self.system.irm(f"name register {name} ipcp {self.name}")
        return server

    def ping(self, name: str, count: int = 3, *more: str, check: bool = True) -> str:
        run = self.system.run("oping", "-n", name, "-c", f"{count}", "-i", "1", *more, check=check)
        return run.stdout + run.stderr

    def pings(self, name: str, count: int = 3, *more: str) -> None:
        said = self.ping(name, count, *more)
        assert f"{count} packets transmitted, {count} received" in said, said

    def readout(self, what: str, ipcp: str = "") -> list[dict[str, Any]]:
        program = self.system.python(READOUT, ipcp or self.name, what)
        assert program.wait() == 0, program.output
        rows: list[dict[str, Any]] = json.loads(program.output)
        return rows

    def counter(self, component: str, counter: str) -> int:
        return sum(
            row["value"]
            for row in self.readout("counters")
            if (row["component"], row["counter"]) == (component, counter)
        )


class World:
    """`call` runs something on the prototypes' loop; `judge` is the judge of all of them."""

    _taken = 0

    def __init__(self, make_system: MakeSystem) -> None:
        self.judge = Judge()
        self.hosts: dict[str, str] = {}
        World._taken += 1
        self._net = f"127.{64 + os.getpid() // 250 % 128}.{1 + os.getpid() % 250}"
        self._next = 2 + (World._taken * 8) % 240
        self._make_system = make_system
        self._file = Path(tempfile.mkstemp(prefix="ouro-hosts-", dir="/tmp")[1])
        self._prototypes: list[Prototype] = []
        self.errors: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, context: self.errors.append(repr(context)))
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # ---------------------------------------------------------------- who takes part

    def ours(self, name: str) -> Ours:
        """A Python system, with only a UDP layer so far."""
        ip = self._place(name)
        system = self._make_system(env={"OUROBOROS_HOSTS": str(self._file)})
        return Ours(name, system, ip)

    def prototype(self, name: str) -> Unicast:
        """A prototype with a unicast IPCP of this name."""
        return self.prototype_at(Unicast, name, self._place(name))

    def broadcaster(self, name: str) -> Broadcast:
        """A prototype with a broadcast IPCP of this name."""
        return self.prototype_at(Broadcast, name, self._place(name))

    def prototype_at(self, kind: type[Kind], name: str, ip: str) -> Kind:
        """One at an address that another had before."""

        def make() -> Kind:
            return kind(name, self.judge, self.hosts, ip=ip)

        made = self.now(make)
        self._prototypes.append(made)
        return made

    def again(self, before: Kind) -> Kind:
        """One of the same name at the address of another that has been closed: it knows nothing any more."""
        return self.prototype_at(type(before), before.name, self.hosts[before.name])

    def _place(self, name: str) -> str:
        ip = f"{self._net}.{self._next}"
        self._next += 1
        self.host(name, ip)
        return ip

    def host(self, name: str, ip: str) -> None:
        """Every member resolves the name to this address."""
        self.hosts[name] = ip
        lines = (
            f"{ip} {hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}\n"
            for name, ip in self.hosts.items()
        )
        self._file.write_text("".join(lines))

    # ---------------------------------------------------------------- the prototypes' loop

    def start(self, coroutine: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run to its end."""
        return self.start(coroutine).result(PATIENCE)

    def now(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a function there."""

        async def run() -> Result:
            return function(*args, **kwargs)

        return self.call(run())

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so at the prototypes."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        self.call(wait())

    def settled(self, proto: Unicast, members: int) -> None:
        """Wait until a prototype can reach this number of members, and has found another node of the directory.

        Before that it answers that there is no such name, and stores its own registrations at no node.
        """
        self.call(proto.reachable(members))
        self.until(lambda: proto.directory.contacts)

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """End the prototypes; raises AssertionError when a rule was broken."""
        for prototype in self._prototypes:
            if not prototype.closed:
                self.now(prototype.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        self._file.unlink()
        assert not self.errors, f"the prototype itself failed: {self.errors}"
        self.judge.verdict()
