"""Two ends of an allocation handshake that can show certificates and encrypt, with credentials for files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irmd.oap.credentials import Policy
from irmd.oap.oap import Oap, Received
from irmd.oap.requester import Outcome
from ouroboros.log import LogLimiter
from ouroboros.name_info import Requirement
from ouroboros.rpc.service import Refusal
from tests.authority import Authority

MOMENT = datetime(2031, 5, 17, 12, 0, 0, tzinfo=UTC)
NOW = int(MOMENT.timestamp()) * 10**9
NAME = "oping"
PLAIN = Policy()
ENCRYPTED, AUTHENTIC = Requirement.ENCRYPTION, Requirement.AUTHENTICATION


class End:
    """One system, with a security directory of its own. `now` is ns since 1970."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self._ids = 0
        self.oap = Oap(
            LogLimiter(logging.getLogger("test/oap"), lambda: 0.0),
            directory=str(folder),
            clock=lambda: self.now,
            random=self._random,
        )

    def _random(self, length: int) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(length, "big")

    def enc(self, side: str, *lines: str) -> None:
        (self.folder / side / NAME).mkdir(parents=True, exist_ok=True)
        (self.folder / side / NAME / "enc.conf").write_text("\n".join(lines) + "\n")


class Pair:
    """A requester and an acceptor that trust the same authority."""

    def __init__(self, tmp_path: Path) -> None:
        self.ca = Authority("ca", now=MOMENT)
        self.client, self.server = End(tmp_path / "client"), End(tmp_path / "server")
        for end in (self.client, self.server):
            self.ca.trust(end.folder)
        self.ask, self.serve = PLAIN, PLAIN
        self.change_request: Callable[[bytes], bytes] = lambda octets: octets
        self.change_reply: Callable[[bytes], bytes] = lambda octets: octets
        self.request = self.reply = b""
        self.received: Received | None = None

    def identify(self, *, client: str = "", server: str = "") -> None:
        if client:
            self.ca.issue(client).install(self.client.folder, "client", NAME)
        if server:
            self.ca.issue(server).install(self.server.folder, "server", NAME)

    def accept(self) -> Outcome:
        """The acceptor's half."""
        self.asking = self.client.oap.request(NAME, self.ask)
        self.request = self.change_request(self.asking.octets)
        self.received = self.server.oap.received(self.request, NAME, self.serve, "net")
        self.reply = self.change_reply(self.server.oap.reply(self.received, NAME))
        return self.received.outcome

    def run(self) -> tuple[Outcome, Outcome]:
        """What comes of it for requester and acceptor."""
        accepted = self.accept()
        return self.client.oap.complete(self.asking, self.reply, NAME, "net"), accepted

    def refused(self, number: int, match: str) -> None:
        """The acceptor refuses, and remembers nothing."""
        with pytest.raises(Refusal, match=match) as fault:
            self.accept()
        assert fault.value.errno == number and "\n" not in fault.value.text
        assert not len(self.server.oap._guard)

    def reply_refused(self, number: int, match: str) -> None:
        """The requester refuses the reply."""
        self.accept()
        with pytest.raises(Refusal, match=match) as fault:
            self.client.oap.complete(self.asking, self.reply, NAME, "net")
        assert fault.value.errno == number and "\n" not in fault.value.text
