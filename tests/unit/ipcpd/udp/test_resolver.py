"""Names of a UDP layer: hosts file, system, DNS with updates; caching, with a fake clock, and servers that misbehave."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import pytest

from ipcpd.udp import ddns, resolver
from ipcpd.udp.ddns import DnsError, DnsServer, NoSuchName
from ipcpd.udp.hosts import HostsFile
from ipcpd.udp.resolver import (
    ABSENT,
    DOUBT,
    FRESH,
    MAX_ADDRESSES,
    MAX_QUESTIONS,
    STALE,
    UNDATED,
    Resolver,
    Unresolved,
)
from ouroboros.testing import FakeClock
from tests.unit.ipcpd.udp import dns_server

NAME = hashlib.md5(b"oping").digest()
KEY = NAME.hex()


def ip(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


class System:
    """The system's resolver: what it answers, and how often it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers: list[bytes] = [ip(answer) for answer in answers]
        self.error: OSError | None = None
        self.asked: list[str] = []

    def __call__(self, host: str, family: socket.AddressFamily) -> list[bytes]:
        self.asked.append(host)
        if self.error is not None:
            raise self.error
        return self.answers


class World:
    """A resolver with everything around it."""

    def __init__(self, path: Path, server: DnsServer | None = None, *, v6: bool = False) -> None:
        self.clock = FakeClock(1000.0)
        self.system = System()
        self.path = path / "hosts"
        self.resolver = Resolver(
            asyncio.get_running_loop(),
            family=socket.AF_INET6 if v6 else socket.AF_INET,
            hosts=HostsFile(self.path),
            server=server,
            system=self.system,
            clock=self.clock,
        )

    async def find(self, name: bytes = NAME) -> list[str]:
        found = await self.resolver.resolve(name)
        return [socket.inet_ntop(socket.AF_INET if len(one) == 4 else socket.AF_INET6, one) for one in found]

    async def fails(self, name: bytes = NAME) -> str:
        with pytest.raises(Unresolved) as caught:
            await self.resolver.resolve(name)
        return str(caught.value)


Scene = Callable[[World], Coroutine[Any, Any, None]]


def play(tmp_path: Path, scene: Scene, server: DnsServer | None = None, *, v6: bool = False) -> None:
    async def run() -> None:
        world = World(tmp_path, server, v6=v6)
        await scene(world)
        world.resolver.close()

    asyncio.run(run())


# ---------------------------------------------------------------- hosts file and system


def test_the_hosts_file_comes_first_and_is_never_kept(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.system.answers = [ip("10.0.0.9")]
        world.path.write_text(f"10.0.0.1 {KEY}\n10.0.0.2 {KEY}\n2001:db8::1 {KEY}\n")
        assert await world.find() == ["10.0.0.1", "10.0.0.2"]
        world.path.write_text(f"10.0.0.3 {KEY}\n")
        assert await world.find() == ["10.0.0.3"]
        world.path.write_text("")
        assert await world.find() == ["10.0.0.9"]
        assert world.system.asked == [KEY]
        world.path.write_text(f"10.0.0.4 {KEY}\n")
        assert await world.find() == ["10.0.0.4"], "although the other answer is still kept"

    play(tmp_path, scene)


def test_addresses_of_the_layers_family_only(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.path.write_text(f"10.0.0.1 {KEY}\n2001:db8::1 {KEY}\n")
        assert await world.find() == ["2001:db8::1"]
        world.path.write_text("")
        world.system.answers = [ip("10.0.0.1"), ip("::"), ip("ff02::1"), ip("2001:db8::2"), ip("2001:db8::2")]
        assert await world.find() == ["2001:db8::2"]

    play(tmp_path, scene, v6=True)


def test_what_the_system_says_is_kept_for_a_while(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.system.answers = [ip("10.0.0.1")]
        assert await world.find() == ["10.0.0.1"]
        world.system.answers = [ip("10.0.0.2")]
        world.clock.advance(UNDATED - 0.1)
        assert await world.find() == ["10.0.0.1"]
        assert world.resolver.known(NAME) == (ip("10.0.0.1"),)
        world.clock.advance(0.1)
        assert world.resolver.known(NAME) is None
        assert await world.find() == ["10.0.0.2"], "a machine that moved is found again"
        assert len(world.system.asked) == 2

    play(tmp_path, scene)


def test_no_such_name_is_kept_shortly(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        assert KEY in await world.fails()
        world.system.answers = [ip("10.0.0.1")]
        world.clock.advance(ABSENT - 0.1)
        await world.fails()
        assert world.resolver.known(NAME) == ()
        world.clock.advance(0.1)
        assert await world.find() == ["10.0.0.1"]
        assert len(world.system.asked) == 2

    play(tmp_path, scene)


def test_nobody_can_be_asked(tmp_path: Path) -> None:
    """Then what was known before does, for an hour."""

    async def scene(world: World) -> None:
        world.system.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        assert "Temporary failure" in await world.fails()
        world.system.error = None
        world.system.answers = [ip("10.0.0.1")]
        assert await world.find() == ["10.0.0.1"]
        world.system.error = OSError(errno.EIO, "broken")
        world.clock.advance(UNDATED)
        assert await world.find() == ["10.0.0.1"]
        assert await world.find() == ["10.0.0.1"]
        assert len(world.system.asked) == 3, "it is not asked every time"
        world.clock.advance(STALE)
        await world.fails()

    play(tmp_path, scene)


def test_an_address_in_doubt_is_asked_for_again_and_comes_last(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.system.answers = [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")]
        await world.find()
        world.resolver.doubt(NAME, ip("10.0.0.1"))
        assert await world.find() == ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
        assert len(world.system.asked) == 2
        world.clock.advance(DOUBT)
        assert await world.find() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        world.resolver.doubt(b"x" * 16, ip("10.0.0.1"))  # of a name that nobody asked for

    play(tmp_path, scene)


def test_many_ask_for_one_name_and_one_question_is_put(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        gate = threading.Event()
        threads: list[str] = []

        def slow(host: str, family: socket.AddressFamily) -> list[bytes]:
            threads.append(threading.current_thread().name)
            gate.wait(60)
            return [ip("10.0.0.1")]

        world.resolver._system = slow
        askers = [asyncio.create_task(world.find()) for _ in range(50)]
        while not threads:
            await asyncio.sleep(0)
        askers[0].cancel()  # the IRMd waits 0.2 s only; the question goes on
        gate.set()
        results = await asyncio.gather(*askers, return_exceptions=True)
        assert results[1:] == [["10.0.0.1"]] * 49
        assert threads == [f"resolve-{KEY[:8]}"]
        assert world.resolver.known(NAME) == (ip("10.0.0.1"),)

    play(tmp_path, scene)


def test_a_slow_resolver_holds_nobody_up_and_has_bounds(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        gate = threading.Event()
        running = []

        def slow(host: str, family: socket.AddressFamily) -> list[bytes]:
            running.append(host)
            gate.wait(60)
            return []

        world.resolver._system = slow
        names = [bytes([n]) * 16 for n in range(MAX_QUESTIONS)]
        askers = [asyncio.create_task(world.fails(name)) for name in names]
        while len(running) < resolver.MAX_THREADS:
            await asyncio.sleep(0)
        assert "are being asked for" in await world.fails(NAME)
        world.path.write_text(f"10.0.0.1 {KEY}\n")
        assert await world.find() == ["10.0.0.1"]
        assert len(running) == resolver.MAX_THREADS
        gate.set()
        await asyncio.gather(*askers)
        assert len(running) == MAX_QUESTIONS

    play(tmp_path, scene)


def test_the_cache_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_KEPT", 10)

    async def scene(world: World) -> None:
        world.system.answers = [ip("10.0.0.1")]
        for n in range(30):
            await world.find(bytes([n]) * 16)
            world.resolver.doubt(bytes([n]) * 16, ip("10.0.0.1"))
        assert [name[0] for name, _ in world.resolver.entries()] == list(range(20, 30))
        assert len(world.resolver._doubted) == 10

    play(tmp_path, scene)


def test_an_answer_with_many_addresses_is_cut(tmp_path: Path) -> None:
    """Each of them would be kept, and asked for the flow when those before it refuse."""

    async def scene(world: World) -> None:
        world.system.answers = [ip(f"10.{number >> 8}.{number & 255}.1") for number in range(4000)]
        assert await world.find() == [f"10.0.{number}.1" for number in range(MAX_ADDRESSES)]
        ((_, entry),) = world.resolver.entries()
        assert len(entry.ips) == MAX_ADDRESSES

    play(tmp_path, scene)


def test_the_systems_own_resolver() -> None:
    assert resolver.system_lookup("localhost", socket.AF_INET) == [ip("127.0.0.1")]
    try:
        assert resolver.system_lookup(KEY, socket.AF_INET) == []
    except OSError:
        pass  # this machine has no resolver that can be asked


# ---------------------------------------------------------------- DNS


def test_register_look_up_unregister(tmp_path: Path) -> None:
    with dns_server.DnsServer() as server:
        one = DnsServer(server.ip, "10.0.0.1", port=server.port)
        two = DnsServer(server.ip, "10.0.0.2", port=server.port)

        async def scene(world: World) -> None:
            await world.fails()
            await one.register(KEY)
            await two.register(KEY)
            world.clock.advance(ABSENT)
            assert sorted(await world.find()) == ["10.0.0.1", "10.0.0.2"]
            await one.unregister(KEY)
            assert server.records[f"{KEY}.", "A"] == ["10.0.0.2"], "only our own address goes"
            world.clock.advance(server.ttl)
            assert await world.find() == ["10.0.0.2"]

        play(tmp_path, scene, one)
        two.farewell()
        server.wait_for(lambda it: it.asked[-1] == f"update -A {KEY}. 10.0.0.2")
        assert server.records[f"{KEY}.", "A"] == []
        assert f"update +A {KEY}. 10.0.0.1" in server.asked
        assert f"SOA {KEY}." in server.asked


def test_aaaa_for_ipv6(tmp_path: Path) -> None:
    with dns_server.DnsServer() as server:
        own = DnsServer(server.ip, "2001:db8::1", port=server.port)

        async def scene(world: World) -> None:
            await own.register(KEY)
            assert await world.find() == ["2001:db8::1"]

        play(tmp_path, scene, own, v6=True)
        assert server.records == {(f"{KEY}.", "AAAA"): ["2001:db8::1"]}


def test_the_zone_is_the_servers(tmp_path: Path) -> None:
    """A server may have a zone for the one name only."""
    with dns_server.DnsServer(f"{KEY}.") as server:
        asyncio.run(DnsServer(server.ip, "10.0.0.1", port=server.port).register(KEY))
        assert server.records == {(f"{KEY}.", "A"): ["10.0.0.1"]}


def test_how_long_an_answer_is_good_is_what_it_says_and_not_too_long(tmp_path: Path) -> None:
    with dns_server.DnsServer() as server:
        server.records[f"{KEY}.", "A"] = ["10.0.0.1"]

        async def scene(world: World) -> None:
            for ttl, kept in ((7, 7.0), (86400, FRESH)):
                server.ttl = ttl
                server.asked.clear()
                await world.find()
                world.clock.advance(kept - 0.1)
                await world.find()
                assert len(server.asked) == 1
                world.clock.advance(0.1)
            await world.find()
            assert len(server.asked) == 2

        play(tmp_path, scene, DnsServer(server.ip, "10.0.0.9", port=server.port))


def failing(code: dns.rcode.Rcode) -> Callable[[bytes], bytes]:
    """A server that answers everything with this code."""

    def answer(datagram: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(datagram))
        response.set_rcode(code)
        return response.to_wire()

    return answer


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTAUTH])
def test_a_server_that_refuses(code: dns.rcode.Rcode) -> None:
    with dns_server.DnsServer() as server:
        server.misbehave = failing(code)
        own = DnsServer(server.ip, "10.0.0.1", port=server.port)
        for work in (own.register(KEY), own.unregister(KEY), own.lookup(KEY)):
            with pytest.raises(DnsError, match=dns.rcode.to_text(code)):
                asyncio.run(work)


def test_a_server_that_is_silent_and_one_that_talks_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddns, "UPDATE_TIMEOUT", 0.05)
    seen: list[bytes] = []

    def silent(datagram: bytes) -> None:
        seen.append(datagram)

    def garbage(datagram: bytes) -> bytes:
        seen.append(datagram)
        return datagram[:2] + b"\x80\x00nonsense"

    with dns_server.DnsServer() as server:
        own = DnsServer(server.ip, "10.0.0.1", port=server.port)
        for behaviour in (silent, garbage):
            seen.clear()
            server.misbehave = behaviour
            with pytest.raises(DnsError, match=server.ip):
                asyncio.run(own.lookup(KEY))
            assert len(seen) == ddns.TRIES
    with pytest.raises(DnsError):  # nobody there any more
        asyncio.run(own.lookup(KEY))


def test_a_name_with_records_of_another_kind(tmp_path: Path) -> None:
    with dns_server.DnsServer(ttl=1) as server:
        server.records[f"{KEY}.", "AAAA"] = ["2001:db8::1"]
        own = DnsServer(server.ip, "10.0.0.1", port=server.port)
        with pytest.raises(NoSuchName) as caught:
            asyncio.run(own.lookup(KEY))
        assert caught.value.ttl == 1


def test_a_failing_server_and_what_was_known(tmp_path: Path) -> None:
    with dns_server.DnsServer(ttl=10) as server:
        server.records[f"{KEY}.", "A"] = ["10.0.0.1"]

        async def scene(world: World) -> None:
            assert await world.find() == ["10.0.0.1"]
            world.clock.advance(10)
            server.misbehave = failing(dns.rcode.SERVFAIL)
            assert await world.find() == ["10.0.0.1"]
            world.clock.advance(STALE)
            assert "SERVFAIL" in await world.fails()
            server.misbehave = None
            assert await world.find() == ["10.0.0.1"]

        play(tmp_path, scene, DnsServer(server.ip, "10.0.0.9", port=server.port))
