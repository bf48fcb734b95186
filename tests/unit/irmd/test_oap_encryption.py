"""The handshake with encryption: the algorithms that result from the requests of two ends, and keys that are equal at both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from irmd.config import Config
from irmd.oap import crypto
from irmd.oap.algorithms import Cipher, Hash, Kex, rank
from irmd.oap.header import decode_reply, decode_request
from irmd.settings import Settings
from ouroboros.errors import ECRYPT
from ouroboros.rpc.service import Refusal
from tests.unit.irmd.handshakes import NAME, Pair
from tests.unit.irmd.inside import Inside, accept, alloc, run


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
    with pytest.raises(Refusal, match="ML_KEM_512") as fault:
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
    key = pair.server.folder / "server" / NAME / "kex.key.pem"
    key.touch(0o600)
    key.write_bytes(
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
    with pytest.raises(Refusal, match=r"kex\.srv\.pub\.pem") as fault:
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


def test_the_irmd_forgets_keys(tmp_path: Path) -> None:
    """When both ends have one. Later keys follow from it: who reads the IRMd's memory then learns nothing of what was said."""

    async def test() -> None:
        for side in ("client", "server"):
            (tmp_path / side / "n").mkdir(parents=True)
            (tmp_path / side / "n" / "enc.conf").write_text("kex=X25519\n")
        async with Inside(Config(settings=Settings(security=str(tmp_path)))) as system:
            await system.bind(os.getpid(), "n")
            server, client = await system.application(), await system.application()
            accepting = server.begin(flow_accept=accept())
            ends = [await client.call(flow_alloc=alloc("n")), await accepting]
            (flow,) = system.irmd.facilities.flows.flows.values()
            keys = {end.flow_endpoint.key for end in ends}
            assert len(keys) == 1 and len(keys.pop()) == 32
            assert flow.cipher == Cipher.AES_256_GCM and not flow.key

    run(test)
