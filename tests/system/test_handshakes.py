"""Hostile handshakes on real daemons, over a UDP layer: handshakes that an attacker on the path, or in the place of one end, can send. Each is
refused with a typed error and a line in the log, leaves no state, and disturbs no other flow.

The checks that `tests/unit/irmd/test_oap*` make octet by octet are here once end to end. The stranger has a socket, and the machines of `irmd.oap`.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from irmd.oap import credentials, header
from irmd.oap.acceptor import accept
from irmd.oap.algorithms import Cipher, Hash
from irmd.oap.credentials import Policy, Side
from irmd.oap.header import Header
from irmd.oap.replay import ReplayGuard
from irmd.oap.requester import Requester, sign
from irmd.oap.trust import Trust
from tests.authority import Authority

from .conftest import MakeSystem, Program
from .test_security import EAUTH, ECRYPT, Secured, accepted, ask, signed
from .test_udp import B, C

REPLY = 47  # octets of a reply of a UDP layer before the header of the handshake

WITNESS = """
    import sys
    from ouroboros import flow_accept, flow_alloc
    flow = flow_alloc("witness") if sys.argv[1] == "asks" else None
    print("ready", flush=True)
    if flow is None:
        with flow_accept() as flow:
            while True:
                flow.write(flow.read())
    for line in sys.stdin:
        flow.write(line.encode())
        assert flow.read() == line.encode()
        print("undisturbed", flush=True)
"""
CLIENTS = """
    import sys
    from ouroboros import flow_alloc
    for number in range(int(sys.argv[1])):
        try:
            flow_alloc("echo", None, 20).dealloc()
            print("flow", number, flush=True)
        except OSError as error:
            print("refused", number, error.errno, flush=True)
    print("over", flush=True)
"""


@pytest.fixture
def secured(make_system: MakeSystem, tmp_path: Path) -> Secured:
    return Secured(make_system, tmp_path)


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((C, 0))
        sock.settimeout(60)
        yield sock


class Witness:
    """A flow between the two systems that was there before, and is there after."""

    def __init__(self, secured: Secured) -> None:
        secured.net.name("witness", B)
        server = secured.b.python(WITNESS, "serves")
        server.expect("ready")
        secured.b.irm(f"bind process {server.pid} name witness")
        secured.b.irm("name register witness ipcp udp")
        script = secured.a.base / "witness.py"
        script.write_text("\n".join(line[4:] for line in WITNESS.splitlines()))
        python = os.sys.executable  # type: ignore[attr-defined]
        self.client = Program([python, str(script), "asks"], env=secured.a.env, stdin=subprocess.PIPE)
        secured.a.programs.append(self.client)
        self.client.expect("ready")
        self._flows = {letter: self._count(letter, secured) for letter in "ab"}

    @staticmethod
    def _count(letter: str, secured: Secured) -> int:
        return len(getattr(secured, letter).json("flow list")["flows"])

    def asserts_that_nothing_is_left(self, secured: Secured) -> None:
        self.client.send("still here?\n")
        self.client.expect("undisturbed")
        for letter in "ab":
            assert self._count(letter, secured) == self._flows[letter], letter


def answer(stranger: socket.socket, secured: Secured, oap: bytes, eid: int) -> tuple[int, bytes]:
    """The acceptor's reply to a request: 0 or a negative errno, and its header."""
    stranger.sendto(ask(oap, eid), (B, secured.net.port))
    while True:
        got = stranger.recv(4096)
        if len(got) >= REPLY and struct.unpack_from(">I", got, 4)[0] == eid:
            return int(struct.unpack_from(">i", got, 12)[0]), got[REPLY:]


# ---------------------------------------------------------------- requests


def test_requests_with_one_bit_changed(secured: Secured, stranger: socket.socket) -> None:
    alice = secured.ca.issue("alice")
    secured.start("require", "authentication")
    witness, whole = Witness(secured), signed(alice, 1)
    for at in range(len(whole)):
        forged = bytearray(whole)
        forged[at] ^= 1 << at % 8
        assert answer(stranger, secured, bytes(forged), 64 + at)[0] == -EAUTH, f"octet {at}"
    secured.b.irmd.expect('refused a flow to "echo" over layer net')
    witness.asserts_that_nothing_is_left(secured)
    assert "accepted" not in secured.server.output
    assert answer(stranger, secured, whole, 4000)[0] == 0, "none of them counts as the first of a replay"
    assert accepted(secured.server) == alice.der


def test_requests_that_come_again(secured: Secured, stranger: socket.socket) -> None:
    alice = secured.ca.issue("alice")
    secured.start("require", "authentication")
    whole = signed(alice, 1)
    assert answer(stranger, secured, whole, 64)[0] == 0
    assert accepted(secured.server) == alice.der
    witness = Witness(secured)
    for eid in range(65, 75):
        assert answer(stranger, secured, whole, eid)[0] == -EAUTH
    secured.b.irmd.expect("has been here before")
    witness.asserts_that_nothing_is_left(secured)
    assert secured.server.output.count("accepted") == 1


@pytest.mark.parametrize(
    ("seconds", "reason"), [(3600.0, "ms ahead of ours"), (-60.0, "it was made .* ms ago"), (-1e9, "ms ago")]
)
def test_clocks_that_differ(secured: Secured, stranger: socket.socket, seconds: float, reason: str) -> None:
    secured.ca.issue("alice").install(secured.at["a"], "client", "echo")
    secured.start("require", "authentication")
    witness = Witness(secured)
    ours = credentials.read(str(secured.at["a"]), Side.CLIENT, "echo", Policy())
    made = Requester("echo", ours, identity=b"1" * 16, now=time.time_ns() + int(seconds * 1e9))
    assert answer(stranger, secured, made.octets, 64)[0] == -EAUTH
    secured.b.irmd.expect(reason)
    witness.asserts_that_nothing_is_left(secured)


def offer(folder: Path, lines: str, identity: bytes) -> bytes:
    """A request of a system with this enc.conf."""
    place = folder / "client" / "echo"
    place.mkdir(parents=True, exist_ok=True)
    (place / "enc.conf").write_text(lines)
    ours = credentials.read(str(folder), Side.CLIENT, "echo", Policy())
    return Requester("echo", ours, identity=identity, now=time.time_ns()).octets


def test_offers_that_are_too_weak(secured: Secured, stranger: socket.socket, tmp_path: Path) -> None:
    """None at all, a weaker key exchange: refused. A weaker cipher: the stronger of the two is used."""
    secured.start("require", "encryption")
    place = secured.at["b"] / "server" / "echo"
    place.mkdir(parents=True)
    (place / "enc.conf").write_text("kex=X448\ncipher=aes-256-gcm\n")
    witness = Witness(secured)
    weak = {
        "none\n": "it does not ask for encryption",
        "kex=X25519\ncipher=aes-256-gcm\n": "key exchange X25519 is weaker than the X448",
        "kex=prime256v1\ncipher=chacha20-poly1305\n": "is weaker than the X448",
    }
    for eid, (lines, reason) in enumerate(weak.items(), 64):
        assert answer(stranger, secured, offer(tmp_path / "s", lines, bytes([eid] * 16)), eid)[0] == -ECRYPT
        secured.b.irmd.expect(reason)
    witness.asserts_that_nothing_is_left(secured)
    assert "accepted" not in secured.server.output
    lines = "kex=X448\ncipher=aes-128-ctr\n"
    result, reply = answer(stranger, secured, offer(tmp_path / "s", lines, bytes(15) + b"1"), 100)
    assert result == 0 and header.decode_reply(reply, digest=Hash.SHA_256).cipher is Cipher.AES_256_GCM


# ---------------------------------------------------------------- replies


@contextmanager
def impostor(secured: Secured) -> Iterator[socket.socket]:
    """A process at the address to which "echo" is resolved."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((C, secured.net.port))
        sock.settimeout(60)
        yield sock


def replies(secured: Secured, count: int, make: Callable[[int, bytes], bytes]) -> Program:
    """A client that sends a number of requests, and gets the replies of `make(number, request)`."""
    witness = Witness(secured)
    secured.net.name("echo", C)
    with impostor(secured) as sock:
        client = secured.a.python(CLIENTS, str(count))
        for number in range(count):
            while True:
                got, source = sock.recvfrom(4096)
                if len(got) > 63 and got[44] == 1:  # a request, and not the keep-alive of a flow
                    break
            fixed = got[:8] + struct.pack(">I", 4095) + bytes(32) + b"\2\0\0"
            sock.sendto(fixed + make(number, got[63:]), source)
        client.expect("over")
    assert client.wait() == 0
    witness.asserts_that_nothing_is_left(secured)
    return client


def genuine(folder: Path, request: bytes) -> bytes:
    """The reply of a system with the credentials in this security directory."""
    ours = credentials.read(str(folder), Side.SERVER, "echo", Policy())
    octets, _ = accept(request, ours, ReplayGuard(), Trust(str(folder)), now=time.time_ns()).reply(
        now=time.time_ns()
    )
    return octets


def test_replies_cut_at_every_octet_and_with_one_bit_changed(secured: Secured) -> None:
    secured.ca.issue("alice").install(secured.at["a"], "client", "echo")
    secured.ca.issue("echo").install(secured.at["b"], "server", "echo")
    secured.start("require", "authentication")
    ours = credentials.read(str(secured.at["a"]), Side.CLIENT, "echo", Policy())
    request = Requester("echo", ours, identity=bytes(16), now=time.time_ns()).octets
    # Signatures differ in length by some octets, and a cut there is found out as well.
    length = len(genuine(secured.at["b"], request)) - 4

    def make(number: int, asked: bytes) -> bytes:
        whole = bytearray(genuine(secured.at["b"], asked))
        if number < length:
            return bytes(whole[:number])
        at = number - length
        if 16 <= at < 24:  # its time, which counts only together with the signature, as everything else does
            whole[at] ^= 0x80
        whole[at] ^= 1 << at % 7
        return bytes(whole)

    client = replies(secured, 2 * length, make)
    assert client.output.count("refused") == 2 * length, client.output
    errors = {line.split()[2] for line in client.output.splitlines() if line.startswith("refused")}
    assert errors <= {str(EAUTH), str(ECRYPT)}, errors
    secured.a.irmd.expect('the reply to a request for a flow to "echo" over layer net is not good')


def test_replies_that_are_too_weak(secured: Secured) -> None:
    """An attacker who changes the algorithms of an unsigned reply gets no flow, and no unencrypted one."""
    for side, letter in (("client", "a"), ("server", "b")):
        place = secured.at[letter] / side / "echo"
        place.mkdir(parents=True)
        (place / "enc.conf").write_text("kex=X25519\ncipher=aes-256-gcm\nkdf=sha512\ndigest=sha256\n")
    secured.start("require", "encryption")
    weaker: list[dict[str, object]] = [
        {"cipher": Cipher.NONE},
        {"cipher": Cipher.AES_128_CTR},
        {"cipher": Cipher.AES_192_GCM},
        {"kdf": Hash.SHA_256},
        {"kex": b""},
        {"cipher": Cipher.NONE, "kex": b"", "kdf": Hash.NONE},
    ]

    def make(number: int, asked: bytes) -> bytes:
        answered = header.decode_reply(genuine(secured.at["b"], asked), digest=Hash.SHA_256)
        return header.encode(replace(answered, **weaker[number]))  # type: ignore[arg-type]

    client = replies(secured, len(weaker), make)
    for number in range(len(weaker)):
        assert f"refused {number} {ECRYPT}" in client.output, client.output


def test_replies_to_another_request(secured: Secured) -> None:
    """A genuine reply, signed by the server, to the request of a minute ago: of no use."""
    secured.ca.issue("echo").install(secured.at["b"], "server", "echo")
    secured.start()
    kept: list[bytes] = []

    def make(_number: int, asked: bytes) -> bytes:
        kept.append(genuine(secured.at["b"], asked))
        return kept[0]

    client = replies(secured, 4, make)
    assert "flow 0" in client.output and client.output.count(f" {EAUTH}") == 3, client.output


def test_a_certificate_of_the_requester_s_that_is_taken_away(secured: Secured) -> None:
    """An attacker on the path who makes a signed request anonymous is detected by the request's hash in the reply."""
    secured.ca.issue("alice").install(secured.at["a"], "client", "echo")
    secured.ca.issue("echo").install(secured.at["b"], "server", "echo")
    secured.start()

    def make(_number: int, asked: bytes) -> bytes:
        request = header.decode_request(asked)
        bare = Header(request.id, request.timestamp, digest=request.digest, data=request.data)
        return genuine(secured.at["b"], sign(bare, credentials.Credentials()))

    client = replies(secured, 2, make)
    assert client.output.count(f" {EAUTH}") == 2, client.output


@pytest.mark.parametrize("layer", [None, "local"])
def test_post_quantum_certificates(make_system: MakeSystem, tmp_path: Path, layer: str | None) -> None:
    """Where a layer can carry them: they fit no packet of Ethernet or UDP (spec/oap OAP-24), where the allocation fails with EMSGSIZE."""
    mldsa = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.mldsa", reason="the installed cryptography has no ML-DSA"
    )
    ca = Authority("ca", key=mldsa.MLDSA65PrivateKey.generate())
    ca.trust(tmp_path)
    alice, echo = (ca.issue(name, key=mldsa.MLDSA44PrivateKey.generate()) for name in ("alice", "echo"))
    alice.install(tmp_path, "client", "echo")
    echo.install(tmp_path, "server", "echo")
    config = tmp_path / "irmd.conf"
    config.write_text(f'[irmd]\nsecurity = "{tmp_path}"\n')
    system = make_system("--config", str(config))
    system.local_layer()
    system.irm("name create echo require authentication")
    program = system.python(
        """
        import os, sys, threading
        from ouroboros import flow_accept, flow_alloc, irm
        irm.bind_process(os.getpid(), "echo")
        irm.reg_name("echo", next(one.pid for one in irm.list_ipcps()))
        accepted = []
        server = threading.Thread(target=lambda: accepted.append(flow_accept()))
        server.start()
        with flow_alloc("echo", layer=sys.argv[1] or None) as flow:
            flow.write(b"x")
            server.join()
            assert accepted[0].read() == b"x"
            print(len(flow.peer_certificate), len(accepted[0].peer_certificate))
        """,
        layer or "",
    )
    assert program.wait() == 0, program.output
    assert program.output == f"{len(echo.der)} {len(alice.der)}"
