"""The handshake with certificates and encryption: two ends, with credentials for files, and what each refuses of the other.

Octets of the prototype are in enc.pcap (wire-lower 5.11); its authority is not, so its certificates are trusted as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from irmd.complaints import Complaints
from irmd.oap import certificate, crypto, header, kex
from irmd.oap.algorithms import Cipher, Hash, Kex, rank
from irmd.oap.certificate import Chain
from irmd.oap.credentials import Policy, SecurityPaths
from irmd.oap.header import Header, decode_reply, decode_request
from irmd.oap.oap import Oap, Received
from irmd.oap.replay import ReplayGuard
from irmd.oap.requester import Outcome, verify
from irmd.refused import Refused
from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.name_info import Requirement
from tests.authority import DAY, Authority
from tests.unit.wire.captures import VECTORS, values

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
            Complaints(logging.getLogger("test/oap"), lambda: 0.0),
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
        with pytest.raises(Refused, match=match) as fault:
            self.accept()
        assert fault.value.errno == number and "\n" not in fault.value.text
        assert not len(self.server.oap._guard)

    def reply_refused(self, number: int, match: str) -> None:
        """The requester refuses the reply."""
        self.accept()
        with pytest.raises(Refused, match=match) as fault:
            self.client.oap.complete(self.asking, self.reply, NAME, "net")
        assert fault.value.errno == number and "\n" not in fault.value.text


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


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
    (pair.refused if side == "client" else pair.reply_refused)(EAUTH, "nobody in cacert has issued")


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
    with pytest.raises(Refused, match="not that of its certificate's owner"):
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
    with pytest.raises(Refused, match="cannot be used together with enc.conf") as fault:
        pair.run()
    assert fault.value.errno == EAUTH


# ---------------------------------------------------------------- encryption


@pytest.mark.parametrize("algorithm", [one for one in Kex if one is not Kex.ML_KEM_512])
def test_key_exchange(pair: Pair, algorithm: Kex) -> None:
    pair.client.enc("client", f"kex={algorithm.name}")
    ours, theirs = pair.run()
    assert ours.key == theirs.key and len(ours.key) == 32
    assert ours.cipher is theirs.cipher is Cipher.AES_256_GCM
    asked, answer = decode_request(pair.request), decode_reply(pair.reply, digest=Hash.SHA_256)
    assert asked.hybrid is answer.hybrid is algorithm.hybrid and not asked.encapsulated
    first = ours.key
    assert pair.run()[0].key != first, "every flow has a key of its own"


def test_an_algorithm_that_is_not_there_is_refused_by_name(pair: Pair) -> None:
    pair.client.enc("client", "kex=ML-KEM-512")
    with pytest.raises(Refused, match="ML_KEM_512") as fault:
        pair.run()
    assert fault.value.errno == ECRYPT


@pytest.mark.parametrize("kdf", [one for one in Hash if one is not Hash.NONE])
@pytest.mark.parametrize("cipher", [one for one in Cipher if one is not Cipher.NONE])
def test_ciphers_and_hashes(pair: Pair, cipher: Cipher, kdf: Hash) -> None:
    lines = ("kex=X25519", f"cipher={cipher.name}", f"kdf={kdf.name}")
    pair.client.enc("client", *lines)
    pair.server.enc("server", *lines)
    ours, theirs = pair.run()
    assert ours.key == theirs.key and ours.cipher is theirs.cipher is cipher
    assert decode_reply(pair.reply, digest=Hash.SHA_256).kdf is kdf


@pytest.mark.parametrize("client", list(Cipher)[1:])
@pytest.mark.parametrize("server", list(Cipher)[1:])
def test_the_stronger_cipher_wins(pair: Pair, client: Cipher, server: Cipher) -> None:
    pair.client.enc("client", f"cipher={client.name}", "kex=X25519")
    pair.server.enc("server", f"cipher={server.name}", "kex=X25519")
    ours, theirs = pair.run()
    assert ours.cipher is theirs.cipher is max(client, server, key=rank) and ours.key == theirs.key


def test_the_stronger_hash_wins(pair: Pair) -> None:
    pair.client.enc("client", "kdf=sha3-256")
    pair.server.enc("server", "kdf=blake2b-512", "digest=sha3-512")
    ours, theirs = pair.run()
    reply = decode_reply(pair.reply, digest=Hash.SHA_256)
    assert (reply.kdf, reply.digest) == (Hash.BLAKE2B_512, Hash.SHA3_512) and ours.key == theirs.key


@pytest.mark.parametrize(
    ("client", "server", "good"),
    [
        ("X25519", "P-256", True),
        ("P-256", "X25519", False),
        ("P-521", "X25519MLKEM768", False),
        ("X448", "X448", True),
    ],
)
def test_a_key_exchange_is_never_weaker_than_the_acceptor_s(
    pair: Pair, client: str, server: str, good: bool
) -> None:
    pair.client.enc("client", f"kex={client}")
    pair.server.enc("server", f"kex={server}")
    if good:
        pair.run()
    else:
        pair.refused(ECRYPT, "is weaker than the")


def test_encryption_that_only_one_side_wants(pair: Pair) -> None:
    pair.server.enc("server", "")
    pair.refused(ECRYPT, "does not ask for encryption, and enc.conf wants it")
    pair.client.enc("client", "none")
    pair.refused(ECRYPT, "does not ask for encryption")
    pair.client.enc("client", "")
    pair.server.enc("server", "none")
    ours, theirs = pair.run()
    assert ours.key == theirs.key != b""


def test_none_is_plain(pair: Pair) -> None:
    pair.client.enc("client", "kex=X25519", "none")
    pair.run()
    assert len(pair.request) == 36 and pair.request[24:] == bytes(12)


# ---------------------------------------------------------------- client encapsulation


@pytest.fixture
def static(pair: Pair) -> Pair:
    ours = crypto.generate(Kex.ML_KEM_768)
    pair.client.enc("client", "kex=ML-KEM-768", "kem_mode=client", "kdf=sha512")
    pair.server.enc("server", "kex=ML-KEM-768", "kdf=sha256")
    (pair.server.folder / "server" / NAME / "kex.key.pem").write_bytes(
        ours.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (pair.client.folder / "client" / NAME / "kex.srv.pub.pem").write_bytes(
        ours.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair


def test_client_encapsulation(static: Pair) -> None:
    ours, theirs = static.run()
    assert ours.key == theirs.key and len(ours.key) == 32
    asked, answer = decode_request(static.request), decode_reply(static.reply, digest=Hash.SHA_256)
    assert asked.encapsulated and len(asked.kex) == 1088 and not answer.kex
    assert answer.kdf is Hash.SHA_512, "that of the requester, who has used it already"


def test_client_encapsulation_with_a_weaker_hash(static: Pair) -> None:
    static.server.enc("server", "kex=ML-KEM-768", "kdf=sha3-512")
    static.refused(ECRYPT, "key derivation hash SHA_512 is weaker")


def test_client_encapsulation_without_the_keys(static: Pair) -> None:
    (static.server.folder / "server" / NAME / "kex.key.pem").unlink()
    static.refused(ECRYPT, "the name has none")
    (static.client.folder / "client" / NAME / "kex.srv.pub.pem").unlink()
    with pytest.raises(Refused, match=r"kex\.srv\.pub\.pem") as fault:
        static.run()
    assert fault.value.errno == ECRYPT


def test_client_encapsulation_to_another_key(static: Pair) -> None:
    other = crypto.generate(Kex.ML_KEM_768)
    (static.client.folder / "client" / NAME / "kex.srv.pub.pem").write_bytes(
        other.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    ours, theirs = static.run()
    assert ours.key != theirs.key, "a server without the private key can read nothing"


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
    with pytest.raises(Refused, match=r"has no enc\.conf for clients"):
        pair.run()
    pair.client.enc("client", "kex=X25519")
    ours, theirs = pair.run()
    assert ours.key == theirs.key != b""


# ---------------------------------------------------------------- what somebody on the way changes


def _asked(octets: bytes, **fields: object) -> bytes:
    return header.encode(replace(decode_request(octets), **fields))  # type: ignore[arg-type]


def _answered(octets: bytes, **fields: object) -> bytes:
    return header.encode(replace(decode_reply(octets, digest=Hash.SHA_256), **fields))  # type: ignore[arg-type]


@pytest.fixture
def both(pair: Pair) -> Pair:
    pair.identify(client="alice", server=NAME)
    lines = ("kex=X25519", "cipher=aes-256-gcm", "kdf=sha3-384")
    pair.client.enc("client", *lines)
    pair.server.enc("server", *lines)
    return pair


@pytest.mark.parametrize(
    "fields",
    [
        {"cipher": Cipher.AES_128_CTR},
        {"kdf": Hash.BLAKE2S_256},
        {"kex": b""},
        {"kex": kex.encode(crypto.generate(Kex.X25519).public)},
        {"data": b"O7"},
        {"id": b"x" * 16},
        {"timestamp": NOW + 1},
    ],
)
def test_a_signed_request_that_was_changed(both: Pair, fields: dict[str, object]) -> None:
    both.change_request = lambda octets: _asked(octets, **fields)
    both.refused(EAUTH, "not that of its certificate's owner")


@pytest.mark.parametrize(
    "fields", [{"cipher": Cipher.AES_128_CTR}, {"kex": b"", "cipher": Cipher.NONE}, {"kdf": Hash.NONE}]
)
def test_a_signed_reply_that_was_changed(both: Pair, fields: dict[str, object]) -> None:
    both.change_reply = lambda octets: _answered(octets, **fields)
    both.reply_refused(EAUTH, "not that of its certificate's owner")


def test_a_certificate_that_was_taken_away(both: Pair) -> None:
    """The acceptor takes an anonymous requester; the requester sees by the request hash that it was not what it sent."""
    both.change_request = lambda octets: _asked(octets, certificate=b"", signature=b"")
    both.reply_refused(EAUTH, "request hash")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"cipher": Cipher.NONE}, "does not encrypt"),
        ({"cipher": Cipher.AES_192_GCM}, "cipher AES_192_GCM is weaker"),
        ({"cipher": Cipher.AES_256_CTR}, "cipher AES_256_CTR is weaker"),
        ({"kdf": Hash.SHA_256}, "key derivation hash SHA_256 is weaker"),
        ({"kex": b""}, "without a key exchange"),
        ({"kex": b"nonsense"}, "no key of a known algorithm"),
        ({"kex": kex.encode(crypto.generate(Kex.P_256).public)}, "a key for P_256 is the answer"),
        ({"kex": bytes.fromhex("302a300506032b656e032100") + bytes(32)}, "X25519 key is not good"),
        ({"kex": kex.encode(crypto.generate(Kex.X25519MLKEM768).public), "hybrid": True}, "is the answer"),
    ],
)
def test_an_unsigned_reply_that_is_weaker(pair: Pair, fields: dict[str, object], match: str) -> None:
    pair.client.enc("client", "kex=X25519", "cipher=aes-256-gcm", "kdf=sha3-384")
    pair.change_reply = lambda octets: _answered(octets, **fields)
    pair.reply_refused(ECRYPT, match)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"cipher": Cipher.NONE}, "neither side names a cipher"),
        ({"kex": b"nonsense"}, "no key of a known algorithm"),
        ({"kex": kex.encode(crypto.generate(Kex.P_256).public)[:-1] + b"\0"}, "P_256 key is not good"),
        ({"kex": b"c" * 1088, "encapsulated": True}, "the name has none"),
        ({"hybrid": True}, "no key of a known algorithm"),
    ],
)
def test_an_unsigned_request_that_makes_no_sense(pair: Pair, fields: dict[str, object], match: str) -> None:
    pair.client.enc("client", "kex=X25519")
    pair.change_request = lambda octets: _asked(octets, **fields)
    pair.refused(ECRYPT, match)


def test_requests_cut_at_every_octet(both: Pair) -> None:
    both.run()
    fresh = End(both.server.folder)
    for length in range(len(both.request)):
        with pytest.raises(Refused) as fault:
            fresh.oap.received(both.request[:length], NAME, PLAIN, "net")
        assert fault.value.errno == EAUTH
    assert not len(fresh.oap._guard)
    fresh.oap.received(both.request, NAME, PLAIN, "net")


def test_replies_cut_at_every_octet(both: Pair) -> None:
    both.accept()
    for length in range(len(both.reply)):
        with pytest.raises(Refused) as fault:
            both.client.oap.complete(both.asking, both.reply[:length], NAME, "net")
        assert fault.value.errno == EAUTH
    both.client.oap.complete(both.asking, both.reply, NAME, "net")


def test_every_octet_of_a_request_counts(both: Pair) -> None:
    both.run()
    fresh = End(both.server.folder)
    for at in range(len(both.request)):
        changed = bytearray(both.request)
        changed[at] ^= 1
        with pytest.raises(Refused):
            fresh.oap.received(bytes(changed), NAME, PLAIN, "net")
    assert not len(fresh.oap._guard)


def test_every_octet_of_a_reply_counts(both: Pair) -> None:
    both.accept()
    for at in range(len(both.reply)):
        changed = bytearray(both.reply)
        changed[at] ^= 1
        with pytest.raises(Refused):
            both.client.oap.complete(both.asking, bytes(changed), NAME, "net")


def test_replay_and_clocks(both: Pair) -> None:
    both.run()
    with pytest.raises(Refused, match="has been here before"):
        both.server.oap.received(both.request, NAME, PLAIN, "net")
    for moved, match in ((-101, "from the future"), (20_001, "too old")):
        late = End(both.server.folder)
        late.now = NOW + moved * 1_000_000
        with pytest.raises(Refused, match=match):
            late.oap.received(both.request, NAME, PLAIN, "net")


def test_a_reply_to_another_request(both: Pair) -> None:
    both.accept()
    old = both.reply
    both.change_reply = lambda _: old
    both.reply_refused(EAUTH, "id of another request")


# ---------------------------------------------------------------- both ends here


def test_direct_flows(tmp_path: Path) -> None:
    end = End(tmp_path)
    assert end.oap.direct(NAME, PLAIN) == (Outcome(), Outcome()) and end._ids == 0
    ca = Authority("ca", now=MOMENT)
    ca.trust(tmp_path)
    ca.issue(NAME).install(tmp_path, "server", NAME)
    ours, theirs = end.oap.direct(NAME, PLAIN)
    assert ours.certificate and not theirs.certificate
    with pytest.raises(Refused, match="must show a certificate"):
        end.oap.direct(NAME, Policy(require=AUTHENTIC))
    ca.issue("alice").install(tmp_path, "client", NAME)
    ours, theirs = end.oap.direct(NAME, Policy(require=AUTHENTIC))
    assert ours.certificate and theirs.certificate
    end.enc("client", "kex=P-384")
    ours, theirs = end.oap.direct(NAME, Policy(require=AUTHENTIC | ENCRYPTED))
    assert ours.key == theirs.key != b""
    end.enc("client", "kex=nonsense")
    with pytest.raises(Refused, match='kex "nonsense" is unknown') as fault:
        end.oap.direct(NAME, PLAIN)
    assert fault.value.errno == ECRYPT


def test_paths_of_a_name(pair: Pair, tmp_path: Path) -> None:
    alice = pair.ca.issue("alice")
    (tmp_path / "a.crt").write_bytes(alice.pem)
    (tmp_path / "a.key").write_bytes(alice.key_pem)
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
    ours = decode_reply(taken.reply(now=reply.timestamp), digest=request.digest)
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
    with pytest.raises(Refused, match="not that of its certificate's owner"):
        pair.accept()


def test_credentials_of_a_layer(pair: Pair) -> None:
    """An IPCP shows what is there for the member that it asks; where there is nothing, what is there for its layer."""
    lan = pair.ca.issue("of the layer")
    lan.install(pair.client.folder, "client", "lan")
    pair.ca.issue(NAME).install(pair.server.folder, "server", NAME)

    def shown(layer: str) -> bytes:
        asking = pair.client.oap.request(NAME, PLAIN, layer=layer)
        return decode_request(asking.octets).certificate

    assert shown("") == shown("other") == b"" and shown("lan") == lan.der
    (pair.client.folder / "client" / NAME).mkdir()
    assert shown("lan") == b"", "a folder that is there counts, if nothing is in it"
    own = pair.ca.issue("of the name")
    own.install(pair.client.folder, "client", NAME)
    assert shown("lan") == own.der


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

    with pytest.raises(Refused) as fault:
        run(without_grant)
    assert fault.value.errno == EAUTH
    request = pair.client.oap.request(NAME, PLAIN, every)
    stripped = header.encode(replace(decode_request(request.octets), data=b""))
    with pytest.raises(Refused) as fault:
        pair.server.oap.received(stripped, NAME, PLAIN, "net", every)
    assert fault.value.errno == EAUTH


def test_a_certificate_leaves_no_room_for_an_offer(pair: Pair) -> None:
    pair.identify(client="alice")
    every = frozenset({1, 2, 3, 4})
    length = len(pair.client.oap.request(NAME, PLAIN, every).octets)
    asked = pair.client.oap.request(NAME, PLAIN, every, room=length - 10)
    assert not decode_request(asked.octets).data
    assert pair.server.oap.received(asked.octets, NAME, PLAIN, "net", every).granted is None
