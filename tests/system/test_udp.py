"""udp4 and udp6 on real daemons: two systems on loopback addresses of this machine, as any user, with a hosts file of their
own (OUROBOROS_HOSTS); strangers on the port; and one end played by a packet generator with the octets of a prototype.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.unit.ipcpd.udp.dns_server import DnsServer

from .conftest import MakeSystem, Program, System

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
A, B, C = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def md5(name: str) -> str:
    return hashlib.md5(name.encode()).hexdigest()


class Net:
    """A UDP layer over loopback addresses, its hosts file, and systems in it."""

    def __init__(self, make_system: MakeSystem, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.hosts.write_text("")
        self.port = free_port(A, B, C)
        self._make_system = make_system

    def name(self, name: str, *addresses: str) -> None:
        """Lines of the hosts file: the name is there, and nowhere else."""
        lines = [line for line in self.hosts.read_text().splitlines() if md5(name) not in line]
        lines += [f"{address} {md5(name)}  # {name}" for address in addresses]
        # As an editor does it: a new file takes the place of the old one.
        new = self.hosts.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.replace(self.hosts)

    def system(self, address: str, *options: str, kind: str = "udp") -> System:
        system = self._make_system(env={"OUROBOROS_HOSTS": str(self.hosts)})
        self.bootstrap(system, address, *options, kind=kind)
        return system

    def bootstrap(self, system: System, address: str, *options: str, kind: str = "udp") -> None:
        words = f"ipcp bootstrap type {kind} name udp layer net ip {address} port {self.port}"
        system.irm(words, *options)

    def serve(self, system: System, program: str = "oping", name: str = "oping") -> Program:
        """A server that is registered with the layer."""
        server = system.spawn(program, "--listen")
        system.irm(f"bind process {server.pid} name {name}")
        system.irm(f"name register {name} ipcp udp")
        return server


@pytest.fixture
def net(make_system: MakeSystem, tmp_path: Path) -> Net:
    return Net(make_system, tmp_path)


def counters(system: System) -> dict[str, int]:
    return {row["counter"]: row["value"] for row in system.json("ipcp counters name udp")["counters"]}


def ping(system: System, name: str = "oping", *more: str) -> str:
    return system.run("oping", "-n", name, "-c", "3", "-i", "1", *more).stdout


def ipcp_pid(system: System) -> int:
    (pid,) = [ipcp["pid"] for ipcp in system.json("ipcp list")["ipcps"] if ipcp["name"] == "udp"]
    return int(pid)


# ---------------------------------------------------------------- two systems


@pytest.mark.parametrize("qos", ["raw", "best", "voice", "data"])
def test_pings(net: Net, qos: str) -> None:
    a, b = net.system(A), net.system(B)
    net.name("oping", B)
    net.serve(b)
    assert "3 received" in ping(a, "oping", "-q", qos)
    assert "3 received" in ping(a, "oping", "-q", qos, "-s", "1500")


def test_many_flows_and_more_at_once(net: Net) -> None:
    """One after another and sixty at a time, both ways between the two."""
    a, b = net.system(A), net.system(B)
    for name, address, system in (("one", A, a), ("two", B, b)):
        net.name(name, address)
        server = system.python(
            """
            import threading
            from ouroboros import flow_accept
            def echo(flow):
                try:
                    while True:
                        flow.write(flow.read(9000))
                except OSError:
                    pass
            while True:
                flow = flow_accept()
                threading.Thread(target=echo, args=(flow,), daemon=True).start()
            """
        )
        system.irm(f"bind process {server.pid} name {name}")
        system.irm(f"name register {name} ipcp udp")
    clients = [
        system.python(
            """
            import sys, threading
            from ouroboros import flow_alloc
            done = []
            def one(number):
                with flow_alloc(sys.argv[1]) as flow:
                    flow.rcv_timeout = 30
                    for size in (1, 1400, 8976):
                        flow.write(bytes([number]) * size)
                        assert flow.read(9000) == bytes([number]) * size
                    done.append(number)
            threads = [threading.Thread(target=one, args=(n,)) for n in range(60)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print(len(done), "done")
            """,
            name,
        )
        for system, name in ((a, "two"), (b, "one"))
    ]
    for client in clients:
        client.expect("60 done")
    for system in (a, b):
        found = counters(system)
        assert found["flow_requests"] == found["flow_arrivals"] == 60
        assert found["sent"] == found["received"] == 60 * 6
        assert found["flow_strange"] == found["stranger"] == 0


def test_udp6(net: Net) -> None:
    """One system, whose layer leads back to itself: loopback has one address of IPv6."""
    net.port = free_port("::1")
    system = net.system("::1", kind="udp6")
    net.name("oping", "::1")
    net.serve(system)
    client = system.python(
        """
        from ouroboros import flow_alloc
        with flow_alloc("oping", layer="net") as flow:
            print("largest", flow.max_packet, "mpl", flow.mpl)
        """
    )
    client.expect("largest 8948 mpl 5.0")
    (status,) = system.json("ipcp status name udp")["status"]
    assert status["address"] == f"[::1]:{net.port}"


def test_what_there_is_to_see(net: Net) -> None:
    a, b = net.system(A), net.system(B)
    net.name("oping", B)
    net.serve(b)
    ping(a)
    (neighbour,) = a.json("ipcp neighbours name udp")["neighbours"]
    assert neighbour["machine"] == f"{B}:{net.port}" and neighbour["name"] == md5("oping")
    assert neighbour["source"] == "hosts"
    assert b.json("ipcp directory name udp")["directory"] == [{"name": md5("oping")}]
    (status,) = b.json("ipcp status name udp")["status"]
    assert status["address"] == f"{B}:{net.port}" and status["hosts"] == str(net.hosts)


def test_a_name_that_is_not_registered_is_refused_at_once(net: Net) -> None:
    """Not after 20 s of silence; and one that is registered but not served in the time that a server may take."""
    a, b = net.system(A), net.system(B)
    net.name("oping", B)
    net.serve(b, name="other")
    b.irm("name create oping")
    refused = a.run("oping", "-n", "oping", "-c", "1", check=False)
    assert refused.returncode and f"refused by {B}:{net.port}" in refused.stderr
    b.irm("name register oping ipcp udp")
    assert a.run("oping", "-n", "oping", "-c", "1", check=False).returncode
    assert counters(b)["flow_unregistered"] == 1
    assert counters(a)["flow_replies"] == 2


def test_a_name_that_nobody_has(net: Net) -> None:
    a = net.system(A)
    refused = a.run("oping", "-n", "nowhere", "-c", "1", check=False)
    assert refused.returncode and "no layer knows the name" in refused.stderr


def test_a_service_moves_to_another_host(net: Net) -> None:
    a, b, c = (net.system(address) for address in (A, B, C))
    net.serve(b)
    net.name("oping", B)
    ping(a)
    b.irm("name unregister oping ipcp udp")
    net.serve(c)
    net.name("oping", C)
    ping(a)
    net.name("oping", B, C)  # the first refuses, the second has it
    ping(a)
    assert counters(c)["flow_arrivals"] == 2


def test_names_in_dns(net: Net, make_system: MakeSystem) -> None:
    try:
        server = DnsServer(ip="127.53.53.53", port=53)
    except PermissionError:
        pytest.skip("port 53 needs CAP_NET_BIND_SERVICE")
    with server:
        a, b = net.system(A, "dns", server.ip), net.system(B, "dns", server.ip)
        net.serve(b)
        assert server.records == {(f"{md5('oping')}.", "A"): [B]}
        ping(a)
        assert a.json("ipcp neighbours name udp")["neighbours"][0]["source"] == "dns"
        b.irm("name unregister oping ipcp udp")
        assert server.records == {(f"{md5('oping')}.", "A"): []}
        b.irm("name register oping ipcp udp")
        b.kill(ipcp_pid(b), signal.SIGTERM)
        server.wait_for(lambda it: it.asked[-1].startswith("update -A"))


# ---------------------------------------------------------------- what is wrong


def test_a_bootstrap_that_cannot_be(net: Net, make_system: MakeSystem) -> None:
    system = net.system(A)
    other = make_system(env={"OUROBOROS_HOSTS": str(net.hosts)})
    for words, reason in (
        (f"ip {A} port {net.port}", rf"UDP port {net.port} of {A} is used by .*\(pid {ipcp_pid(system)}\)"),
        ("ip 203.0.113.7", "203.0.113.7 is not an address of this system; .*`ip address"),
        ("ip 0.0.0.0", "0.0.0.0"),
        ("ip 224.0.0.1", "224.0.0.1 is not the address of an interface"),
        ("ip ::1", "Invalid IPv4 address"),
        (f"ip {B} hash SHA3_256", "hash"),
        (f"ip {B} port 0", "port"),
    ):
        refused = other.irm(f"ipcp bootstrap type udp4 name udp layer net {words}", check=False)
        assert refused.returncode == (
            1 if "UDP" in reason or "address of" in reason or "interface" in reason else 2
        )
        assert re.search(reason, refused.stderr), refused.stderr
        assert other.json("ipcp list")["ipcps"] == []


def test_an_ipcp_is_killed(net: Net) -> None:
    """Its flows go down at its own system; made again at the same port, it serves as before; the other end hears of it when
    it asks for a flow that gets the endpoint of the old one, or by its keep-alive."""
    a, b = net.system(A), net.system(B)
    net.name("oping", B)
    net.serve(b)
    client = a.spawn("oping", "-n", "oping", "-i", "10")
    client.expect("seq=2")
    b.kill(ipcp_pid(b))
    b.irmd.expect("IPCP.*(ended|killed|died|signal)")
    b.irm("ipcp bootstrap type udp4 name again layer net", "ip", B, "port", str(net.port))
    b.irm("name register oping ipcp again")
    ping(a)
    client.stop()
    a.kill(ipcp_pid(a))
    a.irmd.expect("IPCP.*(ended|killed|died|signal)")


def test_garbage_on_the_live_port(net: Net) -> None:
    """Ten thousand datagrams, random, truncated and with bits flipped, while a ping runs: it loses nothing."""
    a, b = net.system(A), net.system(B)
    net.name("oping", B)
    net.serve(b)
    client = a.spawn("oping", "-n", "oping", "-i", "2", "-c", "250")
    client.expect("seq=3")
    chance = random.Random(11)
    request, reply, data = prototype("udp4.pcap")[:3]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for n in range(10_000):
            sample = bytearray((request, reply, data, chance.randbytes(chance.randrange(1, 3000)))[n % 4])
            match n % 3:
                case 0:
                    del sample[chance.randrange(len(sample)) :]
                case 1:
                    for _ in range(chance.randrange(1, 8)):
                        sample[chance.randrange(len(sample))] ^= 1 << chance.randrange(8)
                case _:
                    sample[:4] = chance.choice((bytes(4), b"\0\0\0\x40", b"\xff\xff\xff\xff"))
            sock.sendto(sample, (chance.choice((A, B)), net.port))
            if n % 50 == 0:
                client.expect("time=")
    before = {id(system): counters(system) for system in (a, b)}
    assert "3 received" in ping(a)
    assert client.wait() == 0
    assert " 0% packet loss" in client.output and "0 out-of-order" in client.output
    for found in before.values():
        assert all(found[name] > 0 for name in ("short_header", "unknown", "malformed", "flow_unregistered"))
        assert found["management_long"] > 0


# ---------------------------------------------------------------- a prototype


def prototype(capture: str) -> list[bytes]:
    """The UDP payloads of a capture, in order; read here, without our own codecs."""
    octets = (VECTORS / capture).read_bytes()
    at, found = 24, []
    while at < len(octets):
        (length,) = struct.unpack_from("<I", octets, at + 8)
        frame = octets[at + 16 : at + 16 + length]
        if frame[12:14] == b"\x08\0":
            found.append(frame[14 + 20 + 8 :])
        at += 16 + length
    return found


@pytest.fixture
def stranger(net: Net) -> Iterator[socket.socket]:
    """A host of the layer that is not ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((C, net.port))
        sock.settimeout(60)
        yield sock


def fresh(header: bytes) -> bytes:
    """The handshake's header of a capture, made new: an identifier and a time of its own."""
    return secrets.token_bytes(16) + struct.pack(">Q", time.time_ns()) + header[24:36]


def test_a_prototype_asks(net: Net, stranger: socket.socket) -> None:
    """The requester's octets are those of the capture; ours differ from it in what must differ only."""
    b = net.system(B)
    server = net.serve(b)
    server.expect("started")
    request, reply, data, answer = prototype("udp4.pcap")[:4]
    header = fresh(request[63:])
    stranger.sendto(request[:63] + header, (B, net.port))
    got, source = stranger.recvfrom(4096)
    assert source == (B, net.port)
    assert len(got) == len(reply) == 131
    (eid,) = struct.unpack_from(">I", got, 8)
    assert 64 <= eid <= 4095
    assert got[:8] + got[12:47] == reply[:8] + reply[12:47]
    assert got[47:63] == header[:16] and got[71:83] == reply[71:83]
    assert got[83:] == hashlib.sha384(header).digest()
    for number in range(3):
        stranger.sendto(struct.pack(">I", eid) + struct.pack(">II", 0, number) + data[12:], (B, net.port))
        echoed = stranger.recv(4096)
        assert echoed == b"\0\0\0\x40" + struct.pack(">II", 1, number) + data[12:], "a reply of oping"
    # A keep-alive, as it has to be; and the same request once more, which must not be answered.
    stranger.sendto(struct.pack(">I", eid), (B, net.port))
    stranger.sendto(request[:63] + header, (B, net.port))
    stranger.sendto(struct.pack(">I", eid) + data[4:], (B, net.port))
    assert stranger.recv(4096)[:4] == b"\0\0\0\x40"
    found = counters(b)
    assert found["flow_repeated"] == 1 and found["received"] == 5 and found["flow_arrivals"] == 1


def test_a_prototype_accepts(net: Net, stranger: socket.socket) -> None:
    a = net.system(A)
    net.name("proto", C)
    client = a.spawn("oping", "-n", "proto", "-c", "3", "-i", "1")
    request, reply = prototype("udp4.pcap")[:2]
    got, source = stranger.recvfrom(4096)
    assert source == (A, net.port)
    (eid,) = struct.unpack_from(">I", got, 4)
    assert 64 <= eid <= 4095
    assert got[:4] + got[8:47] == request[:4] + request[8:47]
    assert got[47:63] == hashlib.md5(b"proto").digest()
    assert got[87:99] == bytes(12)
    header = got[63:]
    answer = header[:16] + struct.pack(">Q", time.time_ns()) + bytes(12) + hashlib.sha384(header).digest()
    good = reply[:4] + struct.pack(">II", eid, 4095) + reply[12:47] + answer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.bind((B, net.port))
        forger.sendto(good, source)  # not from the host that was asked
    stranger.sendto(good, source)
    for _ in range(3):
        data = stranger.recv(4096)
        assert data[:4] == struct.pack(">I", 4095)
        stranger.sendto(struct.pack(">II", eid, 1) + data[8:], source)
    assert client.wait() == 0, client.output
    assert "3 received" in client.output
    assert counters(a)["flow_strange"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda reply: reply[:12] + struct.pack(">i", -1009) + reply[16:47],
        lambda reply: reply[:12] + struct.pack(">i", 5) + reply[16:47],
        lambda reply: reply[:12] + struct.pack(">i", -1009) + reply[16:],
        lambda reply: reply,
        lambda reply: reply[:47],
    ],
    ids=["refused", "refused-positive", "refused-with-data", "of-another-request", "without-handshake"],
)
def test_a_prototype_refuses(net: Net, stranger: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """The client gets an error immediately, whatever the failure."""
    a = net.system(A)
    net.name("proto", C)
    client = a.spawn("oping", "-n", "proto", "-c", "1")
    got, source = stranger.recvfrom(4096)
    reply = prototype("udp4.pcap")[1]
    stranger.sendto(answer(reply[:4] + got[4:8] + reply[8:]), source)
    assert client.wait() == 1
    found = counters(a)
    assert found["flow_replies"] == 1
