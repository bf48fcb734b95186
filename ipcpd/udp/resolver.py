"""Resolver: the directory of a UDP layer, which is that of the internet (paper 5.5; spec/udp 3).

A name's key is the MD5 of the name in hexadecimal. The resolver asks, in this order: the hosts file; the layer's DNS server, or,
if it has none, the system's resolver. Runs on the loop of a UDP IPCP and never blocks it: the system's resolver blocks, so each
question to it has a thread of its own, a few at a time.

An answer is kept for its TTL, at most FRESH, so that a machine that moves is found again. When no server answers,
the previous answer is used for STALE. Lines of the hosts file are never kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .address import is_of_one_machine
from .ddns import DnsError, DnsServer, NoSuchName
from .hosts import HostsFile

log = logging.getLogger("ipcpd/udp")

FRESH = 300.0
"""Seconds that an answer is kept, at most."""

UNDATED = 60.0
"""Seconds that an answer of the system's resolver is kept: that carries no TTL."""

ABSENT = 2.0
"""Seconds that "no such name" is kept, at most: the name of a server that has just started is found soon."""

STALE = 3600.0
"""Seconds that an old answer is used while no server gives a new one."""

DOUBT = 60.0
"""Seconds that an address which did not answer comes after other addresses of the same name."""

MAX_KEPT = 4096
MAX_ADDRESSES = 16
"""Addresses of one answer that are kept, and asked for a flow one after the other. An answer of a DNS server has room for thousands."""

MAX_QUESTIONS = 64
MAX_THREADS = 8

Lookup = Callable[[str, socket.AddressFamily], list[bytes]]
"""A resolver that blocks: addresses of a host name. Raises OSError when no server answers."""


class Source(Enum):
    """The source of an answer."""

    HOSTS = "hosts"
    SYSTEM = "system"
    DNS = "dns"


class Unresolved(Exception):
    """No source knows the name, or no source can be asked; the text names the case."""


@dataclass(slots=True)
class Entry:
    """The cached answer for a name."""

    ips: tuple[bytes, ...]
    source: Source
    learnt: float
    until: float
    """When to ask again."""


def system_lookup(host: str, family: socket.AddressFamily) -> list[bytes]:
    """The system's resolver. Blocks."""
    try:
        found = socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []
        raise
    return [socket.inet_pton(family, str(info[4][0]).partition("%")[0]) for info in found]


class Resolver:
    """Finds the machines that have a name; `family` is that of the layer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        family: socket.AddressFamily,
        hosts: HostsFile,
        server: DnsServer | None = None,
        system: Lookup = system_lookup,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._loop = loop
        self._family = family
        self._octets = 4 if family is socket.AF_INET else 16
        self._hosts = hosts
        self._server = server
        self._system = system
        self._clock = clock or loop.time
        self._kept: OrderedDict[bytes, Entry] = OrderedDict()
        self._questions: dict[bytes, asyncio.Task[tuple[bytes, ...]]] = {}
        self._doubted: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._threads = asyncio.Semaphore(MAX_THREADS)

    # ------------------------------------------------------------ questions

    def known(self, digest: bytes) -> tuple[bytes, ...] | None:
        """The IP addresses of a name, best first, if that needs no question; () if there is none."""
        now = self._clock()
        ips = self._hosts.addresses(digest.hex(), self._octets)
        if ips:
            self._keep(digest, Entry(ips, Source.HOSTS, now, now))
            return self._ordered(digest, ips)
        entry = self._kept.get(digest)
        if entry is None or entry.until <= now:
            return None
        return self._ordered(digest, entry.ips)

    async def resolve(self, digest: bytes) -> tuple[bytes, ...]:
        """The IP addresses of a name, best first. Raises Unresolved.

        A question continues when its requester is cancelled, and its answer is cached for the next query.
        """
        ips = self.known(digest)
        if ips is None:
            question = self._questions.get(digest)
            if question is None:
                if len(self._questions) >= MAX_QUESTIONS:
                    raise Unresolved(f"{MAX_QUESTIONS} names are being asked for already")
                question = self._loop.create_task(self._question(digest))
                self._questions[digest] = question
                question.add_done_callback(lambda done: self._answered(digest, done))
            ips = self._ordered(digest, await asyncio.shield(question))
        if not ips:
            raise Unresolved(f"no host has the name {digest.hex()}")
        return ips

    def doubt(self, digest: bytes, ip: bytes) -> None:
        """The machine did not answer, or does not have the name: ask again, and try it last."""
        entry = self._kept.get(digest)
        if entry is not None:
            entry.until = min(entry.until, self._clock())
        self._doubted.pop((digest, ip), None)
        self._doubted[digest, ip] = self._clock() + DOUBT
        if len(self._doubted) > MAX_KEPT:
            self._doubted.popitem(last=False)

    def entries(self) -> list[tuple[bytes, Entry]]:
        """Names that have been found."""
        return [(digest, entry) for digest, entry in self._kept.items() if entry.ips]

    def close(self) -> None:
        """Cancel all questions."""
        for question in list(self._questions.values()):
            question.cancel()

    # ------------------------------------------------------------ answers

    def _ordered(self, digest: bytes, ips: tuple[bytes, ...]) -> tuple[bytes, ...]:
        now = self._clock()
        return tuple(sorted(ips, key=lambda ip: self._doubted.get((digest, ip), 0.0) > now))

    def _keep(self, digest: bytes, entry: Entry) -> None:
        self._kept.pop(digest, None)  # the newest comes last
        self._kept[digest] = entry
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _answered(self, digest: bytes, question: asyncio.Task[tuple[bytes, ...]]) -> None:
        del self._questions[digest]
        if not question.cancelled() and question.exception() is not None:
            log.debug("%s: %s", digest.hex(), question.exception())

    async def _question(self, digest: bytes) -> tuple[bytes, ...]:
        before = self._kept.get(digest)
        source = Source.SYSTEM if self._server is None else Source.DNS
        try:
            ips, good = await self._ask(digest.hex())
        except NoSuchName as absent:
            ips, good = (), min(float(absent.ttl), ABSENT)
        except (OSError, DnsError) as error:
            now = self._clock()
            if before is not None and before.ips and now - before.learnt < STALE:
                before.until = now + ABSENT
                log.warning("%s: %s; using what was known before", digest.hex(), error)
                return before.ips
            raise Unresolved(str(error)) from None
        now = self._clock()
        ips = tuple(ip for ip in dict.fromkeys(ips) if len(ip) == self._octets and is_of_one_machine(ip))
        if not ips:
            good = min(good, ABSENT)
        if len(ips) > MAX_ADDRESSES:
            log.warning("%s has %d addresses; the first %d are used", digest.hex(), len(ips), MAX_ADDRESSES)
            ips = ips[:MAX_ADDRESSES]
        self._keep(digest, Entry(ips, source, now, now + min(good, FRESH)))
        return ips

    async def _ask(self, key: str) -> tuple[tuple[bytes, ...], float]:
        """Addresses, and the seconds for which they may be cached."""
        if self._server is not None:
            found, ttl = await self._server.lookup(key)
            return found, float(ttl)
        async with self._threads:
            ips = tuple(await self._in_thread(key))
        return ips, UNDATED if ips else ABSENT

    async def _in_thread(self, key: str) -> list[bytes]:
        # Not the loop's executor: at the end of the process that would wait for questions that are outstanding.
        answer: asyncio.Future[list[bytes]] = self._loop.create_future()

        def settle(ips: list[bytes] | None, error: OSError | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(ips or [])

        def ask() -> None:
            ips, failure = None, None
            try:
                ips = self._system(key, self._family)
            except OSError as error:
                failure = error
            try:
                self._loop.call_soon_threadsafe(settle, ips, failure)
            except RuntimeError:
                pass  # the loop has ended

        threading.Thread(target=ask, name=f"resolve-{key[:8]}", daemon=True).start()
        return await answer
