"""The prototype's directory: Kademlia in one round (spec/dht).

Used by the prototype of the tests, on its loop. In a layer of the size that tests have all its contacts are in one bucket, the root.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from . import upper
from .judge import Judge
from .lower import Config
from .octets import Wrong
from .upper import Contact, DhtMessage

MOST_VALUES = 8
QUERY_TIME = 2.0


@dataclass(slots=True)
class _Stored:
    expires: int
    replicated: float = 0.0


@dataclass(slots=True)
class _Request:
    """The nodes that were asked for a key, by cookie, and their answers."""

    cookies: set[int] = field(default_factory=set)
    values: list[bytes] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)


class Directory:
    """`send(address, payload)` is false when there is no route."""

    def __init__(
        self, address: int, config: Config, judge: Judge, hash_length: int, send: Callable[[int, bytes], bool]
    ) -> None:
        self.own = Contact(os.urandom(hash_length), address)
        self.contacts: list[Contact] = []
        """Least recent message first."""
        self.foreign: dict[bytes, dict[bytes, _Stored]] = {}
        self.local: dict[bytes, bytes] = {}
        self.replications = 0
        self.asked = 0
        """Requests of others that were answered."""
        self._config = config
        self._judge = judge
        self._send = send
        self._length = hash_length
        self._requests: dict[bytes, _Request] = {}
        self._magic = int.from_bytes(os.urandom(8), "big") | 1
        self._tasks = [asyncio.get_running_loop().create_task(self._live())]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    # ---------------------------------------------------------------- names

    def register(self, key: bytes) -> None:
        """Said once, to alpha contacts, and never of one's own accord again."""
        self.local[key] = self.own.address.to_bytes(8, "big")
        self._store(key, self.local[key], int(time.time()) + self._config.t_expire)

    def unregister(self, key: bytes) -> None:
        del self.local[key]

    def _store(self, key: bytes, value: bytes, expires: int) -> None:
        message = DhtMessage(upper.STORE, self.own, key, value=value, expires=expires).write()
        for contact in self._near()[: self._config.alpha]:
            self._send(contact.address, message)

    def _values(self, key: bytes) -> list[bytes]:
        return [*self.foreign.get(key, ()), *([self.local[key]] if key in self.local else [])]

    async def query(self, key: bytes, timeout: float) -> int | None:
        """The address of a member that has the name. `timeout`: how long the IRMd waits, seconds."""
        values = self._values(key)
        if not values:
            request = self._requests.setdefault(key, _Request())
            if not request.values and not await self._ask(key, request, min(timeout, QUERY_TIME)):
                return None
            values = request.values
        own = self.own.address.to_bytes(8, "big")
        others = [value for value in values[:2] if value != own]
        return int.from_bytes(others[0], "big") if others else None

    async def _ask(self, key: bytes, request: _Request, timeout: float) -> bool:
        contacts = self._near()[: self._config.alpha]
        sent = []
        for contact in contacts:
            cookie = int.from_bytes(os.urandom(8), "big") | 1
            request.cookies.add(cookie)
            sent.append(self._find(contact.address, upper.FIND_VALUE, key, cookie))
        if not contacts or not all(sent):
            return False
        try:
            async with asyncio.timeout(timeout):
                await request.came.wait()
        except TimeoutError:
            return False
        return True

    def _find(self, address: int, code: int, key: bytes, cookie: int) -> bool:
        return self._send(address, DhtMessage(code, self.own, key, cookie).write())

    # ---------------------------------------------------------------- contacts

    def _near(self) -> list[Contact]:
        return self.contacts[: self._config.k]

    def _heard(self, contact: Contact) -> None:
        self.contacts = [other for other in self.contacts if other.address != contact.address]
        if contact.address != self.own.address and len(self.contacts) < self._config.k:
            self.contacts.append(contact)

    # ---------------------------------------------------------------- messages

    def arrived(self, payload: bytes) -> None:
        self._judge.look("directory", payload, self._take, payload)

    def _take(self, payload: bytes) -> None:
        message = upper.read_dht(payload, self._length)
        if message.source.address == self.own.address:
            raise Wrong("it says that it comes from its receiver")
        request = self._requests.get(message.key)
        if message.code in (upper.NODE_REPLY, upper.VALUE_REPLY):
            if message.cookie != self._magic and (request is None or message.cookie not in request.cookies):
                raise Wrong("an answer that nobody asked for")
        self._heard(message.source)
        if message.code == upper.STORE:
            self._keep(message)
        elif message.code in (upper.FIND_NODE, upper.FIND_VALUE):
            self._answer(message)
        else:
            for contact in message.contacts:
                self._heard(contact)
            if request is not None and message.values:
                request.values += message.values
                request.came.set()

    def _keep(self, message: DhtMessage) -> None:
        if message.expires < time.time() or self.local.get(message.key) == message.value:
            return
        stored = self.foreign.setdefault(message.key, {}).setdefault(message.value, _Stored(0))
        stored.expires = max(stored.expires, message.expires)

    def _answer(self, message: DhtMessage) -> None:
        self.asked += 1
        contacts = tuple(self._near())
        answer = DhtMessage(upper.NODE_REPLY, self.own, message.key, message.cookie, contacts=contacts)
        if message.code == upper.FIND_VALUE:
            values = tuple(self._values(message.key)[:MOST_VALUES])
            answer = replace(answer, code=upper.VALUE_REPLY, values=values)
        self._send(message.source.address, answer.write())

    # ---------------------------------------------------------------- time

    async def _live(self) -> None:
        config = self._config
        pause = 0.002
        while config.peer and not self._join():
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
        five = math.gcd(
            config.t_expire,
            config.t_expire - 5 * config.t_replicate,
            config.t_replicate,
            config.t_refresh,
        )
        while True:
            if not self.contacts and config.peer:
                self._join()
            await asyncio.sleep(max(1.0, five / 10))
            self._expire()
            self._replicate()

    def _join(self) -> bool:
        return self._find(self._config.peer, upper.FIND_NODE, self.own.id, self._magic)

    def _expire(self) -> None:
        for values in self.foreign.values():
            for value in [value for value, stored in values.items() if stored.expires < time.time()]:
                del values[value]

    def _replicate(self) -> None:
        """Of the keys only the last is ever looked at."""
        if not self.foreign:
            return
        key = max(self.foreign, key=lambda key: int.from_bytes(key[:8], "big") ^ self._first)
        for value, stored in self.foreign[key].items():
            if time.time() - stored.replicated > self._config.t_replicate:
                stored.replicated = time.time()
                self.replications += 1
                self._store(key, value, stored.expires)

    @property
    def _first(self) -> int:
        return int.from_bytes(self.own.id[:8], "big")
