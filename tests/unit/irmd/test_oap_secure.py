"""The handshake with certificates: certificates shown, required, and refused by the other end.

Octets of the prototype are in enc.pcap (spec/oap OAP-25); its authority is not, so its certificates are trusted as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from irmd.oap import certificate, header
from irmd.oap.algorithms import Hash
from irmd.oap.certificate import Chain
from irmd.oap.credentials import Policy, SecurityPaths
from irmd.oap.header import Header, decode_reply, decode_request
from irmd.oap.replay import ReplayGuard
from irmd.oap.requester import Outcome, verify
from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.rpc.service import Refusal
from tests.authority import DAY, Authority
from tests.unit.irmd.handshakes import AUTHENTIC, ENCRYPTED, MOMENT, NAME, NOW, PLAIN, End, Pair
from tests.unit.wire.captures import VECTORS, values

# ---------------------------------------------------------------- certificates


@pytest.mark.parametrize("client", ["", "alice"])
@pytest.mark.parametrize("server", ["", NAME])
def test_whoever_has_a_certificate_shows_it(pair: Pair, client: str, server: str) -> None:
    pair.identify(client=client, server=server)
    ours, theirs = pair.run()
    assert bool(ours.certificate) is bool(server) and bool(theirs.certificate) is bool(client)
    if server:
        assert certificate.common_name(certificate.load(ours.certificate)) == NAME
    if client:
        assert certificate.common_name(certificate.load(theirs.certificate)) == "alice"
    assert not ours.key and not theirs.key and ours.cipher == 0


def test_the_layout_of_5_11(pair: Pair) -> None:
    """X25519, ChaCha20-Poly1305, SHA-512, SHA-384 here, no enc.conf there: all numbers as in the specification."""
    pair.identify(client="alice", server=NAME)
    pair.client.enc("client", "kex=X25519", "cipher=chacha20-poly1305", "kdf=sha512", "digest=sha384")
    pair.run()
    assert pair.request[24:30] == bytes.fromhex("03fa02a202a1") and pair.request[32:36] == b"\0\x2c\0\0"
    assert pair.reply[24:30] == bytes.fromhex("03fa02a20000") and pair.reply[32:36] == b"\0\x2c\0\0"
    reply = decode_reply(pair.reply, digest=Hash.SHA_384)
    assert len(reply.request_hash) == 48


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize(
    ("begin", "end", "match"), [(-2 * DAY, -DAY, "expired at"), (DAY, 2 * DAY, "not valid before")]
)
def test_times(pair: Pair, side: str, begin: object, end: object, match: str) -> None:
    name, end_of = (NAME, pair.server) if side == "server" else ("alice", pair.client)
    pair.ca.issue(name, begin=begin, end=end).install(end_of.folder, side, NAME)  # type: ignore[arg-type]
    (pair.refused if side == "client" else pair.reply_refused)(EAUTH, match)


def test_a_certificate_for_another_name(pair: Pair) -> None:
    pair.identify(server="oecho")
    pair.reply_refused(EAUTH, 'its certificate is for "oecho" and not for "oping"')


def test_the_name_of_a_requester_is_its_own(pair: Pair) -> None:
    pair.identify(client="somebody else entirely", server=NAME)
    pair.run()


@pytest.mark.parametrize("side", ["client", "server"])
def test_certificates_of_strangers(pair: Pair, side: str) -> None:
    stranger = Authority("stranger", now=MOMENT)
    end = pair.client if side == "client" else pair.server
    stranger.issue(NAME).install(end.folder, side, NAME)
    (pair.refused if side == "client" else pair.reply_refused)(EAUTH, "no authority in cacert has issued")


def test_a_key_that_is_none(pair: Pair) -> None:
    pair.identify(client="alice")
    key = pair.client.folder / "client" / NAME / "key.pem"
    key.write_text("not a key\n")
    with pytest.raises(Refusal, match="our private key cannot be read") as fault:
        pair.accept()
    assert str(key) in fault.value.text


def test_a_certificate_without_its_key(pair: Pair) -> None:
    """Whoever copies a certificate from the network cannot sign."""
    pair.identify(client="alice", server=NAME)
    mallory = pair.ca.issue("mallory")
    alice = (pair.client.folder / "client" / NAME / "crt.pem").read_bytes()
    fake = certificate.Identity(
        certificate.x509.load_pem_x509_certificate(alice).public_bytes(serialization.Encoding.DER),
        mallory.key,
    )
    request = header.encode_signed(
        Header(b"m" * 16, NOW, certificate=fake.der), lambda octets: fake.sign(Hash.NONE, octets)
    )
    with pytest.raises(Refusal, match="not that of its certificate's owner"):
        pair.server.oap.received(request, NAME, PLAIN, "net")


@pytest.mark.parametrize("kind", ["RSA", "Ed25519"])
def test_other_kinds_of_keys(pair: Pair, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ed25519.Ed25519PrivateKey.generate()
    pair.ca.issue(NAME, key=key).install(pair.server.folder, "server", NAME)
    ours, _ = pair.run()
    assert ours.certificate
    pair.server.enc("server", "kex=X25519")
    pair.client.enc("client", "kex=X25519")
    if kind == "RSA":
        pair.run()
        return
    with pytest.raises(Refusal, match="cannot be used together with enc.conf") as fault:
        pair.run()
    assert fault.value.errno == EAUTH


# ---------------------------------------------------------------- requirements


def test_authentication_that_is_required(pair: Pair) -> None:
    pair.serve = Policy(require=AUTHENTIC)
    pair.refused(EAUTH, "must show a certificate")
    pair.identify(client="alice")
    pair.run()
    pair.ask = Policy(require=AUTHENTIC)
    pair.reply_refused(EAUTH, '"oping" must show a certificate')
    pair.identify(server=NAME)
    ours, theirs = pair.run()
    assert ours.certificate and theirs.certificate


def test_encryption_that_is_required(pair: Pair) -> None:
    pair.serve = Policy(require=ENCRYPTED)
    pair.refused(ECRYPT, "the name requires it")
    pair.ask = Policy(require=ENCRYPTED)
    with pytest.raises(Refusal, match=r"has no enc\.conf for clients"):
        pair.run()
    pair.client.enc("client", "kex=X25519")
    ours, theirs = pair.run()
    assert ours.key == theirs.key != b""


# ---------------------------------------------------------------- both ends here


def test_direct_flows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    end = End(tmp_path)
    assert end.oap.direct(NAME, PLAIN) == (Outcome(), Outcome()) and end._ids == 0
    ca = Authority("ca", now=MOMENT)
    ca.trust(tmp_path)
    ca.issue(NAME).install(tmp_path, "server", NAME)
    ours, theirs = end.oap.direct(NAME, PLAIN)
    assert ours.certificate and not theirs.certificate
    with pytest.raises(Refusal, match="must show a certificate"):
        end.oap.direct(NAME, Policy(require=AUTHENTIC))
    assert f'refused a flow to "{NAME}" within this system: the requester must show' in caplog.text
    ca.issue("alice").install(tmp_path, "client", NAME)
    ours, theirs = end.oap.direct(NAME, Policy(require=AUTHENTIC))
    assert ours.certificate and theirs.certificate
    end.enc("client", "kex=P-384")
    ours, theirs = end.oap.direct(NAME, Policy(require=AUTHENTIC | ENCRYPTED))
    assert ours.key == theirs.key != b""
    end.enc("client", "kex=nonsense")
    with pytest.raises(Refusal, match='kex "nonsense" is unknown') as fault:
        end.oap.direct(NAME, PLAIN)
    assert fault.value.errno == ECRYPT


def test_paths_of_a_name(pair: Pair, tmp_path: Path) -> None:
    alice = pair.ca.issue("alice")
    (tmp_path / "a.crt").write_bytes(alice.pem)
    (tmp_path / "a.key").write_bytes(alice.key_pem)
    (tmp_path / "a.key").chmod(0o600)
    paths = SecurityPaths(crt=str(tmp_path / "a.crt"), key=str(tmp_path / "a.key"))
    pair.ask = Policy(client=paths)
    _, theirs = pair.run()
    assert theirs.certificate == alice.der
    pair.ask = Policy(server=paths)
    assert not pair.run()[1].certificate


# ---------------------------------------------------------------- the prototype's octets


class Trusting:
    """Authorities for certificates of which only the owner is to be found out."""

    def chain(self) -> Chain:
        class Any(Chain):
            def check(self, certificate: object, *, now: int) -> None:
                pass

        return Any([], [])


def captured() -> tuple[bytes, Header, bytes, Header]:
    request, reply = values(Header, "enc.pcap")
    assert isinstance(request, Header) and isinstance(reply, Header)
    return header.encode(request), request, header.encode(reply), reply


def test_signatures_of_the_capture() -> None:
    octets, request, answer, reply = captured()
    verify(octets, request, Trusting(), now=request.timestamp)
    verify(answer, reply, Trusting(), now=reply.timestamp, name=NAME)
    assert certificate.common_name(certificate.load(request.certificate)) == "alice"
    with pytest.raises(OSError, match='is for "oping" and not for "oecho"'):
        verify(answer, reply, Trusting(), now=reply.timestamp, name="oecho")
    with pytest.raises(OSError, match="not that of its certificate's owner"):
        verify(
            octets[:-1] + bytes([octets[-1] ^ 1]),
            decode_request(octets[:-1] + bytes([octets[-1] ^ 1])),
            Trusting(),
            now=0,
        )


def test_the_capture_s_requester_would_be_answered() -> None:
    """Our acceptor and the request of the prototype: taken, and answered with the numbers of the prototype's reply."""
    from irmd.oap.acceptor import accept
    from irmd.oap.credentials import Credentials

    octets, request, _, reply = captured()
    taken = accept(octets, Credentials(), ReplayGuard(), Trusting(), now=request.timestamp + 10**6)
    ours = decode_reply(taken.reply(now=reply.timestamp)[0], digest=request.digest)
    assert (ours.id, ours.cipher, ours.kdf, ours.digest) == (reply.id, reply.cipher, reply.kdf, reply.digest)
    assert ours.request_hash == reply.request_hash and len(ours.kex) == len(reply.kex)
    assert len(taken.negotiated.key) == 32


def test_the_capture_is_there() -> None:
    assert (VECTORS / "enc.pcap").is_file()


@pytest.mark.parametrize("encrypted", [False, True])
def test_post_quantum_signatures(pair: Pair, encrypted: bool) -> None:
    """By an authority and ends with keys of ML-DSA, with enc.conf too: their signatures use no other hash."""
    mldsa = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.mldsa", reason="the installed cryptography has no ML-DSA"
    )
    pair.ca = Authority("post quantum", now=MOMENT, key=mldsa.MLDSA65PrivateKey.generate())
    for end, side, cn in ((pair.client, "client", "alice"), (pair.server, "server", NAME)):
        pair.ca.trust(end.folder)
        pair.ca.issue(cn, key=mldsa.MLDSA44PrivateKey.generate()).install(end.folder, side, NAME)
        if encrypted:
            end.enc(side, "kex=X25519", "digest=sha384")
    ours, theirs = pair.run()
    assert ours.certificate and theirs.certificate and bool(ours.key) is encrypted and ours.key == theirs.key
    pair.change_request = lambda octets: octets[:-1] + bytes([octets[-1] ^ 1])
    with pytest.raises(Refusal, match="not that of its certificate's owner"):
        pair.accept()


def test_credentials_of_a_layer(pair: Pair) -> None:
    """An IPCP shows what is there for the member that it asks; where there is nothing, what is there for its layer."""
    lan = pair.ca.issue("of the layer")
    lan.install(pair.client.folder, "client", "lan")
    pair.ca.issue(NAME).install(pair.server.folder, "server", NAME)

    def certificate_hint(layer: str) -> bytes:
        asking = pair.client.oap.request(NAME, PLAIN, layer=layer)
        return decode_request(asking.octets).certificate

    assert certificate_hint("") == certificate_hint("other") == b"" and certificate_hint("lan") == lan.der
    (pair.client.folder / "client" / NAME).mkdir()
    assert certificate_hint("lan") == b"", "a folder that is there counts, if nothing is in it"
    own = pair.ca.issue("of the name")
    own.install(pair.client.folder, "client", NAME)
    assert certificate_hint("lan") == own.der


# ---------------------------------------------------------------- extensions


def test_extensions_are_signed_with_the_rest(pair: Pair) -> None:
    """They are agreed on beside certificates; who takes an offer or a grant out on the way breaks the signature."""
    pair.identify(client="alice", server=NAME)
    every = frozenset({1, 2, 3, 4})

    def run(change: Callable[[bytes], bytes]) -> frozenset[int]:
        asking = pair.client.oap.request(NAME, PLAIN, every)
        received = pair.server.oap.received(asking.octets, NAME, PLAIN, "net", frozenset({1, 3}))
        reply = change(pair.server.oap.reply(received, NAME))
        return pair.client.oap.complete(asking, reply, NAME, "net").extensions

    assert run(lambda reply: reply) == {1, 3}

    def without_grant(reply: bytes) -> bytes:
        return header.encode(replace(decode_reply(reply, digest=Hash.NONE), data=b""))

    with pytest.raises(Refusal) as fault:
        run(without_grant)
    assert fault.value.errno == EAUTH
    request = pair.client.oap.request(NAME, PLAIN, every)
    stripped = header.encode(replace(decode_request(request.octets), data=b""))
    with pytest.raises(Refusal) as fault:
        pair.server.oap.received(stripped, NAME, PLAIN, "net", every)
    assert fault.value.errno == EAUTH


def test_a_certificate_leaves_no_room_for_an_offer(pair: Pair) -> None:
    pair.identify(client="alice")
    every = frozenset({1, 2, 3, 4})
    length = len(pair.client.oap.request(NAME, PLAIN, every).octets)
    asked = pair.client.oap.request(NAME, PLAIN, every, max_octets=length - 10)
    assert not decode_request(asked.octets).data
    assert pair.server.oap.received(asked.octets, NAME, PLAIN, "net", every).granted is None
