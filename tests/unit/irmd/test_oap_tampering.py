"""An attacker on the path changes, truncates, repeats or answers a handshake: neither end accepts the result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irmd.oap import crypto, header, kex
from irmd.oap.algorithms import Cipher, Hash, Kex
from irmd.oap.header import decode_reply, decode_request
from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.rpc.service import Refusal
from tests.unit.irmd.handshakes import NAME, NOW, PLAIN, End, Pair


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
        with pytest.raises(Refusal) as fault:
            fresh.oap.received(both.request[:length], NAME, PLAIN, "net")
        assert fault.value.errno == EAUTH
    assert not len(fresh.oap._guard)
    fresh.oap.received(both.request, NAME, PLAIN, "net")


def test_replies_cut_at_every_octet(both: Pair) -> None:
    both.accept()
    for length in range(len(both.reply)):
        with pytest.raises(Refusal) as fault:
            both.client.oap.complete(both.asking, both.reply[:length], NAME, "net")
        assert fault.value.errno == EAUTH
    both.client.oap.complete(both.asking, both.reply, NAME, "net")


def test_every_octet_of_a_request_counts(both: Pair) -> None:
    both.run()
    fresh = End(both.server.folder)
    for at in range(len(both.request)):
        changed = bytearray(both.request)
        changed[at] ^= 1
        with pytest.raises(Refusal):
            fresh.oap.received(bytes(changed), NAME, PLAIN, "net")
    assert not len(fresh.oap._guard)


def test_every_octet_of_a_reply_counts(both: Pair) -> None:
    both.accept()
    for at in range(len(both.reply)):
        changed = bytearray(both.reply)
        changed[at] ^= 1
        with pytest.raises(Refusal):
            both.client.oap.complete(both.asking, bytes(changed), NAME, "net")


def test_replay_and_clocks(both: Pair) -> None:
    both.run()
    with pytest.raises(Refusal, match="has been here before"):
        both.server.oap.received(both.request, NAME, PLAIN, "net")
    for moved, match in ((-101, "from the future"), (20_001, "too old")):
        late = End(both.server.folder)
        late.now = NOW + moved * 1_000_000
        with pytest.raises(Refusal, match=match):
            late.oap.received(both.request, NAME, PLAIN, "net")


def test_a_reply_to_another_request(both: Pair) -> None:
    both.accept()
    old = both.reply
    both.change_reply = lambda _: old
    both.reply_refused(EAUTH, "id of another request")
