"""Encrypted and checked flows on real daemons. The wire between two systems is a UDP proxy, which receives every datagram and may change
it; plaintext of flows within one system is searched for in its packet pools."""

from __future__ import annotations

import mmap
import os
import random
import select
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.authority import Authority

from .conftest import MakeSystem, Program, System
from .test_udp import A, B, C, Net

SECRET = b"what nobody shall read but who it is for"

SERVER = """
    import sys, threading
    from ouroboros import flow_accept
    def echo(flow):
        with flow:
            try:
                while True:
                    flow.write(flow.read(1 << 20))
            except OSError:
                pass
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=(flow_accept(),), daemon=True).start()
"""
CLIENT = """
    import sys
    from ouroboros import QOS_DATA, QOS_RAW, QOS_RAW_NO_ERRORS, flow_alloc
    name, kind, layer, count, secret, patience = sys.argv[1:7]
    spec = {"raw": QOS_RAW, "data": QOS_DATA, "checked": QOS_RAW_NO_ERRORS}[kind]
    try:
        flow = flow_alloc(name, spec, 20, layer=layer or None)
    except OSError as error:
        print("refused", error.errno, error)
        sys.exit()
    got = 0
    with flow:
        flow.rcv_timeout = float(patience)
        for i in range(int(count)):
            packet = b"%d %s" % (i, secret.encode() * (1 + i % 25))
            flow.write(packet)
            try:
                while (answer := flow.read(1 << 20)) != packet:
                    assert kind != "data" and answer.endswith(secret.encode()), answer
                got += 1
            except TimeoutError:
                assert kind != "data"
        print("cipher", flow.cipher, "most", flow.max_packet, flush=True)
        if flow.frcp is not None:
            print("checked", flow.frcp.checked, "forged", flow.frcp.forged, "spoilt", flow.frcp.spoilt)
    print("got", got)
"""

Tamper = Callable[[bytes], list[bytes]]


class Proxy:
    """Stands at address C between A and B: keeps what passes, and hands on what `tamper` makes of it."""

    def __init__(self, port: int) -> None:
        self.seen: list[bytes] = []
        self.tamper: Tamper = lambda data: [data]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((C, port))
        self._port = port
        self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._stop[0]], [], [])
            if self._stop[0] in ready:
                return
            data, (source, _) = self._socket.recvfrom(1 << 16)
            self.seen.append(data)
            for one in self.tamper(data) if data[:4] != bytes(4) else [data]:
                self._socket.sendto(one, (B if source == A else A, self._port))

    def saw(self, octets: bytes) -> bool:
        return any(octets in data for data in self.seen)

    def close(self) -> None:
        os.write(self._stop[1], b".")
        self._thread.join()
        self._socket.close()
        for fd in self._stop:
            os.close(fd)


class World:
    """Systems with a security directory each; a server is where it is wanted."""

    def __init__(self, make_system: MakeSystem, folder: Path) -> None:
        self.net = Net(make_system, folder)
        self.folder = folder
        self._make_system = make_system
        self.proxy: Proxy | None = None

    def system(self, name: str) -> System:
        security = self.folder / name
        security.mkdir()
        (security / "irmd.conf").write_text(f'[irmd]\nsecurity = "{security}"\n')
        return self._make_system(
            "--config", str(security / "irmd.conf"), env={"OUROBOROS_HOSTS": str(self.net.hosts)}
        )

    def enc(self, system: str, side: str, name: str, text: str) -> None:
        folder = self.folder / system / side / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enc.conf").write_text(text + "\n")

    def over_udp(self, *names: str) -> tuple[System, System]:
        """A asks B, through the proxy."""
        self.proxy = Proxy(self.net.port)
        a, b = self.system("a"), self.system("b")
        self.net.bootstrap(a, A)
        self.net.bootstrap(b, B)
        for name in names:
            self.net.name(name, C)
        return a, b

    def serve(self, system: System, name: str, register: str = "", *words: str) -> Program:
        server = system.python(SERVER)
        server.expect("ready")
        if words:
            system.irm(f"name create {name}", *words)
        system.irm(f"bind process {server.pid} name {name}")
        if register:
            system.irm(f"name register {name} ipcp {register}")
        return server

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()


@pytest.fixture
def world(make_system: MakeSystem, tmp_path: Path) -> Iterator[World]:
    world = World(make_system, tmp_path)
    yield world
    world.close()


def told(
    system: System, name: str, kind: str, layer: str = "", *, count: int, patience: float = 60
) -> dict[str, str]:
    """The client's report about a flow on which it has written a number of packets, and waited for each for some seconds."""
    program = system.python(CLIENT, name, kind, layer, str(count), SECRET.decode(), str(patience))
    assert program.wait() == 0, program.output
    words = program.output.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def ask(
    system: System,
    name: str = "echo",
    kind: str = "raw",
    *,
    layer: str = "",
    count: int = 50,
    cipher: str | None = None,
    patience: float = 60,
) -> tuple[int, int]:
    """How many answers came, and how long a packet of the flow may be; it is encrypted with this."""
    said = told(system, name, kind, layer, count=count, patience=patience)
    assert said["cipher"] == str(cipher)
    return int(said["got"]), int(said["most"])


def lies_in_memory(system: System, octets: bytes) -> bool:
    """Whether some shared memory of the system holds them, in use or not."""
    folder = Path(f"/proc/{system.irmd.pid}/fd")
    for link in folder.iterdir():
        try:
            if "memfd:" not in os.readlink(link):
                continue
            fd = os.open(link, os.O_RDONLY)
        except FileNotFoundError:
            continue  # closed meanwhile: of a process that has just ended
        try:
            with mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
                if memory.find(octets) >= 0:
                    return True
        finally:
            os.close(fd)
    return False


# ---------------------------------------------------------------- over a wire


@pytest.mark.parametrize(
    ("cipher", "kind"),
    [
        ("", "raw"),
        ("", "data"),
        ("aes-256-gcm", "raw"),
        ("aes-256-gcm", "checked"),
        ("chacha20-poly1305", "data"),
        ("aes-128-ctr", "raw"),
    ],
)
def test_nothing_is_to_be_seen_on_the_wire(world: World, cipher: str, kind: str) -> None:
    """Nor in the memory of the systems on its way. The first case shows that one would see it."""
    a, b = world.over_udp("echo")
    if cipher:
        world.enc("a", "client", "echo", f"cipher={cipher}")
    world.serve(b, "echo", "udp")
    got, most = ask(a, kind=kind, cipher=cipher or None)
    assert got == 50
    assert world.proxy is not None
    if cipher:
        assert not world.proxy.saw(SECRET) and not lies_in_memory(a, SECRET) and not lies_in_memory(b, SECRET)
    else:
        assert world.proxy.saw(SECRET) and lies_in_memory(a, SECRET) and lies_in_memory(b, SECRET)
        return
    overhead = (16 if "ctr" in cipher else 28) + 4 * (kind == "checked")
    if kind != "data":
        (world.folder / "a" / "client" / "echo" / "enc.conf").write_text("none\n")
        assert ask(a, count=1)[1] == most + overhead


def test_of_who_is_known(world: World) -> None:
    """Certificates at both ends, and encryption that the server's system requires."""
    a, b = world.over_udp("echo")
    ca = Authority("ca")
    for system in "ab":
        ca.trust(world.folder / system)
    ca.issue("alice").install(world.folder / "a", "client", "echo")
    ca.issue("echo").install(world.folder / "b", "server", "echo")
    world.enc("b", "server", "echo", "cipher=aes-128-gcm\nkex=X25519")
    world.enc("a", "client", "echo", "kex=X25519")
    world.serve(b, "echo", "udp", "require", "encryption", "require", "authentication")
    assert ask(a, kind="data", cipher="aes-256-gcm")[0] == 50
    assert world.proxy is not None and not world.proxy.saw(SECRET)


def hostile(seed: int) -> Tamper:
    chance = random.Random(seed)
    before: list[bytes] = []

    def tamper(data: bytes) -> list[bytes]:
        before.append(data)
        what, at = chance.random(), chance.randrange(4, max(5, len(data)))
        if what < 0.05 and len(data) > 4:
            return [data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]]
        if what < 0.1:
            return [data[:at]]
        if what < 0.2:
            return [data, chance.choice(before)[:4] + chance.randbytes(80), chance.choice(before)]
        return [data]

    return tamper


@pytest.mark.parametrize("kind", ["raw", "data"])
def test_somebody_changes_packets_on_the_way(world: World, kind: str) -> None:
    """Changed, cut, forged, and old ones again: only written packets are read, and with FRCP all of them."""
    a, b = world.over_udp("echo", "other")
    world.enc("a", "client", "echo", "kex=X25519")
    world.serve(b, "echo", "udp")
    assert world.proxy is not None
    world.proxy.tamper = hostile(7)
    got, _ = ask(a, kind=kind, count=60, cipher="aes-256-gcm", patience=60 if kind == "data" else 0.5)
    assert got == 60 if kind == "data" else 20 < got <= 60
    world.proxy.tamper = lambda data: [data]
    assert ask(a, kind=kind, count=5, cipher="aes-256-gcm")[0] == 5


@pytest.mark.parametrize("encrypted", [True, False])
def test_what_was_changed_on_the_way_is_counted(world: World, encrypted: bool) -> None:
    """The check of flows of data detects changes, without encryption too; the cipher detects packets of another key."""
    a, b = world.over_udp("echo")
    if encrypted:
        world.enc("a", "client", "echo", "kex=X25519")
    world.serve(b, "echo", "udp")
    assert world.proxy is not None
    said = told(a, "echo", "data", count=5)
    assert said | {"most": ""} == {
        "cipher": "aes-256-gcm" if encrypted else "None",
        "most": "",
        "checked": "True",
        "forged": "0",
        "spoilt": "0",
        "got": "5",
    }
    world.proxy.tamper = hostile(3)
    said = told(a, "echo", "data", count=60)
    assert said["got"] == "60" and int(said["spoilt"]) > 0 and said["forged"] == "0"

    def forge(data: bytes) -> list[bytes]:
        body = data[4:-5] + bytes([data[-5] ^ 1])
        return [data, data[:4] + body + zlib.crc32(body).to_bytes(4)] if len(data) > 40 else [data]

    if encrypted:
        world.proxy.tamper = forge
        said = told(a, "echo", "data", count=5)
        assert said["got"] == "5" and int(said["forged"]) > 0 and said["spoilt"] == "0"


@pytest.mark.parametrize("encrypted", [True, False])
def test_lower_flows_of_a_layer(world: World, encrypted: bool) -> None:
    """The members of a unicast layer talk through encrypted flows; the applications know nothing of it."""
    a, b = world.over_udp("uni.b")
    if encrypted:
        world.enc("a", "client", "uni.b", "cipher=aes-256-gcm")
        world.enc("b", "server", "uni.b", "cipher=aes-256-gcm")
    b.irm("ipcp bootstrap name uni.b layer net2 type unicast autobind")
    b.irm("name register uni.b ipcp udp")
    b.irm("name register net2 ipcp udp")
    a.irm("ipcp enroll name uni.a type unicast dst uni.b autobind")
    a.irm("ipcp connect name uni.a dst uni.b")
    world.serve(b, "echo", "uni.b")
    got, _ = ask(a, layer="net2", kind="data")
    assert got == 50
    assert world.proxy is not None
    assert world.proxy.saw(SECRET) != encrypted
    assert world.proxy.saw(b"net2") != encrypted, "enrolment is part of it"


# ---------------------------------------------------------------- in one system


@pytest.mark.parametrize("kind", ["raw", "data"])
@pytest.mark.parametrize("layer", ["", "local"])
def test_in_one_system(world: World, layer: str, kind: str) -> None:
    """Direct, and over a local layer: other processes that map the system's memory see no plaintext."""
    system = world.system("a")
    system.local_layer()
    world.enc("a", "server", "echo", "kex=X25519")
    world.enc("a", "client", "echo", "kex=X25519")
    world.serve(system, "echo", "local", "require", "encryption")
    world.serve(system, "plain", "local")
    assert ask(system, kind=kind, layer=layer, cipher="aes-256-gcm")[0] == 50
    assert not lies_in_memory(system, SECRET)
    assert ask(system, "plain", kind=kind, layer=layer)[0] == 50
    assert lies_in_memory(system, SECRET)


def test_no_direct_flow_in_the_clear(world: World) -> None:
    """`require encryption` holds between two processes of one system too."""
    system = world.system("a")
    world.serve(system, "echo", "", "require", "encryption")
    program = system.python(CLIENT, "echo", "raw", "", "1", "x", "60")
    assert program.wait() == 0
    assert program.output.startswith("refused 1008")
