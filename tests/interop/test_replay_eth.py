"""A capture from Ethernet, played to our eth-dix IPCP over a virtual link: frames for frames, padding aside (spec/ethernet).

The player sends frames on a raw socket, in a network namespace; without namespaces the test is skipped.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from tests.system.conftest import MakeSystem, Program
from tests.system.ethernet import Cable, cable

from . import lower
from .capture import Sent, sent

CAPTURE = "oping-eth.pcap"
"""A name query and its answer, a request and its answer, pings."""
FIXED = 39

PLAYER = """
    import socket, sys
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0xA000))
    link.bind(("vb", 0xA000))
    print(link.getsockname()[4].hex(), flush=True)
    for line in sys.stdin:
        link.send(bytes.fromhex(line))
        print(link.recv(65536).hex(), flush=True)
"""


@pytest.fixture
def link() -> Iterator[Cable]:
    with cable() as made:
        yield made


class Player:
    """The requester of the capture. `ask` sends a frame of its, and returns the one that comes back, without padding."""

    def __init__(self, link: Cable) -> None:
        argv = [*link.b.prefix, sys.executable, "-u", "-c", textwrap.dedent(PLAYER)]
        self.program = Program(argv, env=os.environ, stdin=subprocess.PIPE)
        self.mac = bytes.fromhex(self.program.expect("^[0-9a-f]{12}$")[0])
        self.peer = b"\xff" * 6

    def ask(self, frame: bytes) -> bytes:
        to = b"\xff" * 6 if frame[:6] == b"\xff" * 6 else self.peer
        self.program.send((to + self.mac + frame[12:]).hex() + "\n")
        answer = bytes.fromhex(self.program.expect("^[0-9a-f]+$")[0])
        (length,) = struct.unpack_from(">H", answer, 16)
        assert not any(answer[18 + length :]), "padding that is not zero"
        return answer[: 18 + length]

    def expected(self, packet: Sent) -> bytes:
        """The frame of the capture, between us."""
        (length,) = struct.unpack_from(">H", packet.frame, 16)
        return self.mac + self.peer + packet.frame[12 : 18 + length]


def test_ours_is_the_acceptor(link: Cable, make_system: MakeSystem) -> None:
    query, found, request, granted, ping, pong = sent(CAPTURE)[:6]
    ours = make_system(prefix=link.a.prefix)
    ours.irm("ipcp bootstrap type eth-dix name eth layer eth dev va")
    server = ours.spawn("oping", "-l")
    server.expect("started")
    ours.irm(f"bind process {server.pid} name oping")
    ours.irm("name register oping layer eth")
    player = Player(link)

    name, theirs = hashlib.sha3_256(b"oping").digest(), query.payload[FIXED : FIXED + 32]
    answer = player.ask(query.frame.replace(theirs, name))
    player.peer = answer[6:12]
    assert answer == player.expected(found).replace(theirs, name)

    header = lower.new_header()
    assert len(request.payload) == FIXED + 32 + len(header)
    answer = player.ask(request.frame[: 18 + FIXED] + name + header)
    got, captured = answer[18:], granted.payload
    # Our endpoint is ours to choose; all else up to the handshake is as it was, and that is what it must be.
    assert got[2:FIXED] == captured[2:FIXED] and len(got) == len(captured)
    assert answer[:18] == player.expected(granted)[:18]
    read = lower.read_reply_header(got[FIXED:], header)
    assert abs(time.time_ns() - read.timestamp) < 20 * 10**9
    (endpoint,) = struct.unpack_from(">H", got)
    assert 0 < endpoint

    def to_us(frame: bytes) -> bytes:
        return frame[:14] + struct.pack(">H", endpoint) + frame[16:]

    assert player.ask(to_us(ping.frame)) == player.expected(pong)
    player.program.kill()
