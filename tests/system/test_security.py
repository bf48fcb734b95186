"""Certificates on real daemons: two systems over UDP on loopback addresses, each with a security directory of its own.

Certificates are made for the test, valid from a day ago to tomorrow unless it is about that. The prototype's end is played with
the machines of `irmd.oap` and a socket.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from irmd.oap import header
from irmd.oap.algorithms import Hash, request_hash
from irmd.oap.certificate import common_name, identity, load
from irmd.oap.header import Header
from tests import handshake
from tests.authority import DAY, Authority, Issued

from .conftest import MakeSystem, Program, System
from .test_udp import A, B, C, Net, counters

EAUTH, ECRYPT = 1009, 1008

SERVER = """
    import threading
    from ouroboros import flow_accept
    def echo(flow):
        try:
            flow.write(flow.read())
        except OSError:
            pass
    print("ready", flush=True)
    while True:
        flow = flow_accept()
        certificate = flow.peer_certificate
        print("accepted", certificate.hex() if certificate else None, flush=True)
        # A requester that refuses the acceptor's certificate sends no message: no flow may delay the others.
        threading.Thread(target=echo, args=(flow,), daemon=True).start()
"""
CLIENT = """
    import sys
    from ouroboros import flow_alloc
    try:
        with flow_alloc(sys.argv[1], None, 20) as flow:
            certificate = flow.peer_certificate
            flow.write(b"hello")
            flow.rcv_timeout = 20
            assert flow.read() == b"hello"
            print("flow", certificate.hex() if certificate else None)
    except OSError as error:
        print("refused", error.errno, error)
"""


class Secured:
    """Two systems over UDP: `a` asks, `b` serves."""

    def __init__(self, make_system: MakeSystem, folder: Path) -> None:
        self.net = Net(make_system, folder)
        self._make_system = make_system
        self.ca = Authority("ca")
        self.at = {"a": folder / "a", "b": folder / "b"}
        for security in self.at.values():
            self.ca.trust(security)

    def system(self, letter: str, address: str) -> System:
        config = self.at[letter] / "irmd.conf"
        config.write_text(f'[irmd]\nsecurity = "{self.at[letter]}"\n')
        system = self._make_system("--config", str(config), env={"OUROBOROS_HOSTS": str(self.net.hosts)})
        self.net.bootstrap(system, address)
        return system

    def start(self, *words: str, names: tuple[str, ...] = ("echo",)) -> None:
        """Start both; `words` follow `irm name create echo` at both."""
        self.a, self.b = self.system("a", A), self.system("b", B)
        self.server = self.b.python(SERVER)
        self.server.expect("ready")
        for name in names:
            self.net.name(name, B)
            for system in (self.a, self.b):
                system.irm(f"name create {name}", *(words if name == "echo" else ()))
            self.b.irm(f"bind process {self.server.pid} name {name}")
            self.b.irm(f"name register {name} ipcp udp")

    def client(self, name: str = "echo") -> str:
        program = self.a.python(CLIENT, name)
        assert program.wait() == 0, program.output
        return program.output

    def nothing_left(self) -> None:
        """No flow of a failed allocation is left at either end, but for the accept of the server."""
        assert self.a.json("flow list")["flows"] == []


@pytest.fixture
def secured(make_system: MakeSystem, tmp_path: Path) -> Secured:
    return Secured(make_system, tmp_path)


def accepted(server: Program) -> bytes:
    return bytes.fromhex(server.expect("accepted ([0-9a-f]+|None)")[1].replace("None", ""))


# ---------------------------------------------------------------- who is who


def test_each_knows_the_other(secured: Secured) -> None:
    alice, echo = secured.ca.issue("alice"), secured.ca.issue("echo")
    alice.install(secured.at["a"], "client", "echo")
    echo.install(secured.at["b"], "server", "echo")
    secured.start("require", "authentication")
    assert secured.client() == f"flow {echo.der.hex()}"
    certificate = accepted(secured.server)
    assert certificate == alice.der and common_name(load(certificate)) == "alice"


def test_what_nobody_asked_for_is_not_there(secured: Secured) -> None:
    secured.start()
    assert secured.client() == "flow None"
    assert accepted(secured.server) == b""


def test_a_new_certificate_needs_no_restart(secured: Secured) -> None:
    secured.start()
    assert secured.client() == "flow None"
    echo = secured.ca.issue("echo")
    echo.install(secured.at["b"], "server", "echo")
    assert secured.client() == f"flow {echo.der.hex()}"
    other = Authority("other")
    renewed = other.issue("echo")
    renewed.install(secured.at["b"], "server", "echo")
    assert secured.client().startswith(f"refused {EAUTH}")
    other.trust(secured.at["a"])
    assert secured.client() == f"flow {renewed.der.hex()}"


def test_direct_flows_too(secured: Secured) -> None:
    alice, echo = secured.ca.issue("alice"), secured.ca.issue("echo")
    secured.start("require", "authentication")
    secured.a = secured.b
    assert secured.client().startswith(f"refused {EAUTH}")
    alice.install(secured.at["b"], "client", "echo")
    echo.install(secured.at["b"], "server", "echo")
    assert secured.client() == f"flow {echo.der.hex()}"
    assert accepted(secured.server) == alice.der


def test_in_asyncio(secured: Secured) -> None:
    echo = secured.ca.issue("echo")
    echo.install(secured.at["b"], "server", "echo")
    secured.start()
    program = secured.a.python(
        """
        import asyncio
        from ouroboros import aio
        async def main():
            async with await aio.flow_alloc("echo") as flow:
                print(flow.peer_certificate.hex())
                await flow.write(b"x")
                await flow.read()
        asyncio.run(main())
        """
    )
    assert program.wait() == 0, program.output
    assert program.output == echo.der.hex()


def test_the_library_is_there_before_the_first_flow(
    secured: Secured, make_system: MakeSystem, tmp_path: Path
) -> None:
    """Where there are credentials it is loaded beside everything else; elsewhere never."""
    one = secured.system("a", A)
    one.irmd.expect("the cryptographic library is loaded")
    (tmp_path / "empty").mkdir()
    (tmp_path / "irmd.conf").write_text(f'[irmd]\nsecurity = "{tmp_path}/empty"\n')
    other = make_system("--config", str(tmp_path / "irmd.conf"))
    for irmd, loaded in ((one.irmd, True), (other.irmd, False)):
        mapped = Path(f"/proc/{irmd.pid}/maps").read_text()
        assert ("cryptography" in mapped) is loaded


# ---------------------------------------------------------------- what is refused


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "begin", "end", "reason"),
    [
        ("echo", -DAY, -HOUR, "its certificate has expired"),
        ("echo", HOUR, DAY, "its certificate is not valid before"),
        ("oecho", -DAY, DAY, 'its certificate is for "oecho" and not for "echo"'),
    ],
)
def test_certificates_of_servers(
    secured: Secured, name: str, begin: timedelta, end: timedelta, reason: str
) -> None:
    secured.ca.issue(name, begin=begin, end=end).install(secured.at["b"], "server", "echo")
    secured.start(names=("echo", "other"))
    said = secured.client()
    assert said.startswith(f"refused {EAUTH}") and reason in said
    secured.a.irmd.expect(reason)
    secured.nothing_left()
    assert secured.client("other") == "flow None", "other flows are not disturbed"


@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [
        (-DAY, -HOUR, "its certificate has expired"),
        (HOUR, DAY, "its certificate is not valid before"),
    ],
)
def test_certificates_of_clients(secured: Secured, begin: timedelta, end: timedelta, reason: str) -> None:
    secured.ca.issue("alice", begin=begin, end=end).install(secured.at["a"], "client", "echo")
    secured.start(names=("echo", "other"))
    assert secured.client().startswith(f"refused {EAUTH}")
    secured.b.irmd.expect(reason)
    secured.nothing_left()
    assert "accepted" not in secured.server.output, "the server is not disturbed"
    assert secured.client("other") == "flow None"


def test_certificates_of_strangers(secured: Secured) -> None:
    stranger = Authority("ca")  # it has the name, not the key
    stranger.issue("alice").install(secured.at["a"], "client", "echo")
    secured.start()
    assert secured.client().startswith(f"refused {EAUTH}")
    secured.b.irmd.expect("has not issued a certificate that names it as issuer")
    secured.nothing_left()


def test_authentication_that_is_required(secured: Secured) -> None:
    secured.ca.issue("echo").install(secured.at["b"], "server", "echo")
    secured.start("require", "authentication")
    assert secured.client().startswith(f"refused {EAUTH}")
    secured.b.irmd.expect("the requester must show a certificate")
    secured.ca.issue("alice").install(secured.at["a"], "client", "echo")
    assert secured.client().startswith("flow ")


def test_encryption_that_is_required(secured: Secured) -> None:
    """Never a flow in the clear: refused until both ends know how, and a name for which nothing is required may have it too."""
    secured.start("require", "encryption", names=("echo", "other"))
    said = secured.client()
    assert said.startswith(f"refused {ECRYPT}") and "enc.conf" in said
    enc = secured.at["a"] / "client" / "other"
    enc.mkdir(parents=True)
    (enc / "enc.conf").write_text("kex=X25519\n")
    assert secured.client("other") == "flow None"
    secured.nothing_left()
    (enc / "enc.conf").write_text("none\n")
    assert secured.client("other") == "flow None"
    assert secured.client().startswith(f"refused {ECRYPT}")
    for system, side in (("a", "client"), ("b", "server")):
        enc = secured.at[system] / side / "echo"
        enc.mkdir(parents=True, exist_ok=True)
        (enc / "enc.conf").write_text("kex=X25519\n")
    assert secured.client() == "flow None"


@pytest.mark.parametrize("side", ["client", "server"])
def test_certificates_that_fit_no_packet(secured: Secured, side: str) -> None:
    """A management message over UDP has at most 2048 octets (spec/oap OAP-24); no requester waits for one that cannot be sent."""
    long = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(3000))
    fat = secured.ca.issue("echo", extensions=((long, False),))
    fat.install(secured.at["a" if side == "client" else "b"], side, "echo")
    secured.start(names=("echo", "other"))
    assert secured.client().startswith(f"refused {errno.EMSGSIZE}")
    secured.nothing_left()
    assert "accepted" not in secured.server.output
    assert secured.client("other") == "flow None"


# ---------------------------------------------------------------- the tools


def test_requirements_of_a_name(system: System) -> None:
    system.irm("name create safe require encryption require authentication")
    (name,) = system.json("name show safe")["names"]
    assert name["require"] == ["encryption", "authentication"]
    assert "requires encryption and authentication" in system.irm("name show safe").stdout
    system.irm("name create safe require encryption")
    system.irm("name create plain")
    late = system.irm("name create plain require encryption", check=False)
    assert late.returncode == 1 and "irm name set plain require encryption" in late.stdout + late.stderr
    wrong = system.irm("name create other require luck", check=False)
    assert wrong.returncode == 2 and '"luck" is not one of encryption, authentication' in (
        wrong.stdout + wrong.stderr
    )


def test_what_is_no_certificate_stops_the_start(make_system: MakeSystem, tmp_path: Path) -> None:
    (tmp_path / "cacert").mkdir()
    (tmp_path / "cacert" / "odd.pem").write_text("nonsense")
    config = tmp_path / "irmd.conf"
    config.write_text(f'[irmd]\nsecurity = "{tmp_path}"\n[name.n]\nrequire = ["authentication"]\n')
    with pytest.raises(AssertionError, match=r"odd\.pem is not a certificate"):
        make_system("--config", str(config))
    (tmp_path / "cacert" / "odd.pem").unlink()
    system = make_system("--config", str(config))
    assert system.json("name show n")["names"][0]["require"] == ["authentication"]


# ---------------------------------------------------------------- octets from a stranger


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((C, 0))
        sock.settimeout(60)
        yield sock


def signed(alice: Issued, number: int) -> bytes:
    ours = identity(alice.pem, alice.key_pem)
    asked = Header(number.to_bytes(16, "big"), time.time_ns(), digest=Hash.SHA_384, certificate=ours.der)
    return header.encode_signed(asked, lambda octets: ours.sign(asked.digest, octets))


def ask(oap: bytes, eid: int) -> bytes:
    """A flow request of a UDP layer (spec/udp 2)."""
    fixed = struct.pack(">IIIiQIIIII", 0, eid, 0, 0, 0, 2**32 - 1, 1, 1, 2**32 - 1, 120_000) + b"\1\0\0"
    return fixed + hashlib.md5(b"echo").digest() + oap


def test_a_handshake_cut_at_every_octet(secured: Secured, stranger: socket.socket) -> None:
    """Each is refused with -1009, nothing stays, and the whole one is served after them."""
    alice = secured.ca.issue("alice")
    secured.start("require", "authentication")
    whole = signed(alice, 1)
    address = (B, secured.net.port)
    for length in range(len(whole)):
        stranger.sendto(ask(whole[:length], 64 + length), address)
        reply = stranger.recv(4096)
        assert struct.unpack_from(">Ii", reply, 4)[0] == 64 + length
        assert struct.unpack_from(">i", reply, 12)[0] == -EAUTH and len(reply) == 47, f"cut at {length}"
    forged = bytearray(whole)
    forged[-1] ^= 1
    stranger.sendto(ask(bytes(forged), 4001), address)
    assert struct.unpack_from(">i", stranger.recv(4096), 12)[0] == -EAUTH
    assert secured.b.json("flow list")["flows"][0]["state"] == "accept-pending"
    assert len(secured.b.json("flow list")["flows"]) == 1
    stranger.sendto(ask(whole, 4000), address)
    reply = stranger.recv(4096)
    assert struct.unpack_from(">i", reply, 12)[0] == 0
    assert header.decode_reply(reply[47:], digest=Hash.SHA_384).request_hash == request_hash(
        whole, Hash.SHA_384
    )
    assert accepted(secured.server) == alice.der
    assert counters(secured.b)["flow_arrivals"] == len(whole) + 2


def test_replies_of_a_stranger(secured: Secured, stranger: socket.socket) -> None:
    """A process that answers in place of the server, with its own certificate, is refused."""
    secured.start("require", "authentication")
    mallory = secured.ca.issue("mallory")
    secured.ca.issue("alice").install(secured.at["a"], "client", "echo")
    secured.net.name("echo", C)
    impostor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with impostor:
        impostor.bind((C, secured.net.port))
        impostor.settimeout(60)
        client = secured.a.python(CLIENT, "echo")
        got, source = impostor.recvfrom(4096)
        request = got[63:]
        asked = handshake.decode_request(request)
        ours = identity(mallory.pem, mallory.key_pem)
        answer = Header(
            asked.id, time.time_ns(), certificate=ours.der, request_hash=request_hash(request, asked.digest)
        )
        oap = header.encode_signed(answer, lambda octets: ours.sign(Hash.NONE, octets))
        impostor.sendto(got[:8] + struct.pack(">I", 4095) + bytes(32) + b"\2\0\0" + oap, source)
        assert client.wait() == 0
    assert client.output.startswith(f"refused {EAUTH}") and '"mallory" and not for "echo"' in client.output
    secured.nothing_left()


def test_certificates_of_irm_cert_on_two_machines(secured: Secured, tmp_path: Path) -> None:
    """The how-to, with the machine of the authority as a third one (docs/howto/certificates.md)."""
    secured.start()
    irm, ours = secured.a.irm, tmp_path / "authority"

    def at(letter: str) -> tuple[str, str]:
        return "dir", str(secured.at[letter])

    irm("cert", "init", "name", "our authority", "dir", str(ours))
    irm("cert", "issue", "echo", "out", str(tmp_path / "echo.pem"), "dir", str(ours))
    irm("cert", "issue", "alice", "out", str(tmp_path / "alice.pem"), "dir", str(ours))
    secured.b.irm("cert", "install", str(tmp_path / "echo.pem"), *at("b"))
    for system in (secured.a, secured.b):
        system.irm("name set echo require authentication")
    assert secured.client().startswith(f"refused {EAUTH}")  # its authority is not trusted yet
    irm("cert", "install", str(ours / "authority" / "crt.pem"), *at("a"))
    assert secured.client().startswith(f"refused {EAUTH}")  # the server requires one too
    irm("cert", "install", str(tmp_path / "alice.pem"), "for", "echo", *at("a"))
    echo = x509.load_pem_x509_certificate((secured.at["b"] / "server/echo/crt.pem").read_bytes())
    assert (
        common_name(load(bytes.fromhex(secured.client().removeprefix("flow "))))
        == common_name(echo)
        == "echo"
    )
    assert common_name(load(accepted(secured.server))) == "alice"
    assert secured.a.json(f"cert show alice dir {secured.at['a']}")["certificates"][0]["problem"] == ""


REQUIRING = """
    import sys
    from ouroboros import flow_alloc
    try:
        with flow_alloc("echo", None, 20, require=sys.argv[1].split(",")) as flow:
            flow.write(b"hello")
            flow.rcv_timeout = 20
            assert flow.read() == b"hello"
            print("flow", flow.peer.name, flow.peer.encrypted, flow.peer.authenticated)
    except OSError as error:
        print("refused", error.errno, error.name, error.reason)
"""


def requiring(system: System, words: str) -> str:
    program = system.python(REQUIRING, words)
    assert program.wait() == 0, program.output
    return program.output


def test_a_program_requires_security_of_its_own_flow(secured: Secured) -> None:
    """Over a layer, and directly; no name requires it, and there is no enc.conf."""
    secured.start()
    for system in (secured.a, secured.b):
        assert requiring(system, "encryption") == "flow None True False"
        assert requiring(system, "authentication").startswith(f"refused {EAUTH} echo ")
    echo = secured.ca.issue("echo")
    echo.install(secured.at["b"], "server", "echo")
    for system in (secured.a, secured.b):
        assert requiring(system, "authentication") == "flow echo False True"
        assert requiring(system, "encryption,authentication") == "flow echo True True"


def test_the_page_of_the_package(system: System) -> None:
    import sys

    system.irm("ipcp bootstrap lo layer local type local")
    system.irm("register echo layer local")
    done = system.run(sys.executable, "-m", "ouroboros")
    assert "IPCP lo (local) in layer local, operational" in done.stdout
    assert "name echo: registered in local, 0 bound" in done.stdout and not done.stderr
