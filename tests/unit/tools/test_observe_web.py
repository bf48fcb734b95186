"""The server of pages: who may ask, and how much."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from ouroboros_tools.observe import state as observe_state
from ouroboros_tools.observe import web
from ouroboros_tools.observe.reader import Reader
from ouroboros_tools.observe.state import State
from ouroboros_tools.observe.web import Page, Server, Where

from ouroboros import irm
from ouroboros.readout import FlowEnd, FlowInfo
from tests.unit.tools.test_observe import EVIL, UNI, System

LOCAL = Where("127.0.0.1", 0)


async def page() -> Page:
    return Page(b"fine\n", "text/plain")


async def unreadable() -> Page:
    raise OSError(110, "no answer")


def serving(
    use: Callable[[Server, int], Coroutine[Any, Any, None]], make: Callable[[], Awaitable[Page]] = page
) -> None:
    """Run `use` with a server of one page, and its port."""

    async def run() -> None:
        pages = Server({"/metrics": make})
        server, _ = await pages.start(LOCAL)
        async with server:
            await use(pages, server.sockets[0].getsockname()[1])

    asyncio.run(run())


async def ask(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request.encode())
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /metrics HTTP/1.1", "Host: localhost:9273", 200),
        ("GET /metrics HTTP/1.1", "host: [::1]:9273", 200),
        ("GET /metrics?x=1 HTTP/1.0", "Host: 127.0.0.1", 200),
        ("HEAD /metrics HTTP/1.1", "Host: localhost", 200),
        ("GET /metrics HTTP/1.1", "Host: localhost\r\nOrigin: http://localhost:3000", 200),
        ("GET /metrics HTTP/1.1", "Host: attacker.example", 403),
        ("GET /metrics HTTP/1.1", "Host: localhost.attacker.example", 403),
        ("GET /metrics HTTP/1.1", "Accept: */*", 403),
        ("GET /metrics HTTP/1.1", "Host: localhost\r\nOrigin: http://attacker.example", 403),
        ("GET /metrics HTTP/1.1", "Host: localhost\r\nOrigin: null", 403),
        ("POST /metrics HTTP/1.1", "Host: localhost", 405),
        ("GET /etc/passwd HTTP/1.1", "Host: localhost", 404),
        ("GET /../metrics HTTP/1.1", "Host: localhost", 404),
        ("GET", "Host: localhost", 400),
        ("\x16\x03\x01", "Host: localhost", 400),
    ],
)
def test_requests(request_line: str, headers: str, status: int) -> None:
    async def use(pages: Server, port: int) -> None:
        answer = await ask(port, f"{request_line}\r\n{headers}\r\n\r\n")
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
        assert answer.endswith(b"fine\n") == (status == 200 and request_line.startswith("GET"))
        assert pages.refused == (status != 200)

    serving(use)


def test_a_thousand_requests_together_are_answered_or_closed() -> None:
    async def use(pages: Server, port: int) -> None:
        request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answers = await asyncio.gather(*(ask(port, request) for _ in range(400)))
        answers += await asyncio.gather(*(ask(port, request) for _ in range(400)))
        assert all(answer == b"" or answer.endswith(b"fine\n") for answer in answers)
        assert sum(map(bool, answers)) == pages.served and pages.served > 0

    serving(use)


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 2)

    async def use(pages: Server, port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        while pages._connections < 2:
            await asyncio.sleep(0)
        assert await ask(port, "") == b"" and pages.refused == 1
        for _, writer in idle:
            writer.close()

    serving(use)


def test_a_client_that_sends_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIME", 0.01)

    async def use(pages: Server, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"" and pages.refused == 1
        writer.close()

    serving(use)


def test_a_long_request_is_refused() -> None:
    async def use(pages: Server, port: int) -> None:
        assert await ask(port, "GET /" + "x" * 100_000) == b""
        assert pages.refused == 1

    serving(use)


def test_a_page_that_cannot_be_made_says_why() -> None:
    async def use(pages: Server, port: int) -> None:
        answer = await ask(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503") and b"no answer" in answer

    serving(use, unreadable)


def test_a_socket_that_an_earlier_server_left_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async def run(where: Where) -> bytes:
        server, address = await Server({"/metrics": page}).start(where)
        assert address == f"unix:{path}"
        async with server:
            reader, writer = await asyncio.open_unix_connection(where.path)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(run(Where.parse(f"unix:{path}"))).endswith(b"fine\n")
    path.unlink(missing_ok=True)
    path.write_text("precious")
    with pytest.raises(OSError):
        asyncio.run(run(Where.parse(f"unix:{path}")))
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "word", ["0.0.0.0:1", "example.org:80", "x", "127.0.0.1:65536", "unix:", "[::]:1", ":x"]
)
def test_places_that_are_refused(word: str) -> None:
    with pytest.raises(ValueError):
        Where.parse(word)


@pytest.mark.parametrize(
    ("word", "where"), [("9273", Where("127.0.0.1", 9273)), ("[::1]:1", Where("::1", 1))]
)
def test_places(word: str, where: Where) -> None:
    assert Where.parse(word) == where


def test_a_large_page_is_compressed_for_those_that_ask() -> None:
    async def large() -> Page:
        return Page(b"fine\n" * 1000, "text/plain")

    async def use(pages: Server, port: int) -> None:
        request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
        head, _, body = (await ask(port, request.format("Accept-Encoding: br, gzip\r\n"))).partition(
            b"\r\n\r\n"
        )
        assert b"Content-Encoding: gzip" in head and gzip.decompress(body) == b"fine\n" * 1000
        head, _, body = (await ask(port, request.format(""))).partition(b"\r\n\r\n")
        assert b"gzip" not in head and body == b"fine\n" * 1000

    serving(use, large)


# ---------------------------------------------------------------- the state of the page


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    found = System()
    found.install(monkeypatch)
    monkeypatch.setattr(irm, "list_names", list)
    return found


def test_the_state_of_a_system(system: System) -> None:
    state = State(Reader(kept=0))
    found = state.look()
    assert [ipcp["name"] for ipcp in found["ipcps"]] == [ipcp.name for ipcp in system.ipcps]
    assert found["ipcps"][0]["neighbours"] == [
        {"peer": "a.b", "component": "a.b", "state": "up", "layer": "a.b", "fd": "a.b", "packets": 6}
    ]
    assert [end["lost"] for end in found["flows"][0]["ends"]] == [0, 9]
    assert [event["line"].split(" ipcps")[0] for event in found["events"]] == ["monitor started"]
    system.ipcps = system.ipcps[1:]
    assert [event["line"] for event in state.look()["events"]][1:] == [
        "ipcp ended ipcp=uni/1 pid=11 type=unicast layer=net",
        "neighbour lost ipcp=uni/1 neighbour=a.b component=a.b fd=a.b state=up layer=net",
        "route removed ipcp=uni/1 address=a.b cube=a.b next=a.b",
    ]
    system.ipcps = [UNI]
    system.broken.add(UNI.name)
    assert state.look()["ipcps"][0]["state"] == "does not answer"


def test_events_are_bounded(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe_state, "MAX_EVENTS", 3)
    state = State(Reader(kept=0))
    for at in range(5):
        system.ipcps = [EVIL._replace(pid=100 + at)]
        found = state.look()
    assert len(found["events"]) == 3


def test_a_large_system_fits_a_slow_line(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 IPCPs and 1,000 flows: less than 200 kB a second, as a browser gets it."""
    system.ipcps = [UNI._replace(pid=at, name=f"unicast-{at}", instance=at) for at in range(100)]
    flows = [
        FlowInfo(
            at,
            "allocated",
            f"name-{at}",
            f"layer-{at % 100}",
            (FlowEnd(at, 64, "program", 1, at * 7919), FlowEnd(at + 1, 65, "other", 0, at * 104729)),
        )
        for at in range(1000)
    ]
    monkeypatch.setattr(irm, "list_flows", lambda: flows)
    octets = json.dumps(State(Reader(kept=0)).look(), separators=(",", ":")).encode()
    assert len(gzip.compress(octets, 1)) < 100_000
