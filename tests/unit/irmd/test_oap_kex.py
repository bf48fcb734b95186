"""Key exchange and key derivation: the specification's vectors, those of the RFCs, a second library, and refused keys.

RFC 7748 6.1, 6.2 (X25519, X448); RFC 5903 8 (ECDH P-256, P-384, P-521); RFC 5869 A (HKDF); RFC 7919 A (groups).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from hypothesis import given, settings
from hypothesis import strategies as st

from irmd.oap import crypto, kex
from irmd.oap.algorithms import Cipher, Hash, Kex, rank
from irmd.oap.crypto import KeyExchangeFailed, Secret
from irmd.oap.kex import PublicKey
from ouroboros.errors import ECRYPT
from ouroboros.wire import MalformedPacket

SUPPORTED = [one for one in Kex if one is not Kex.ML_KEM_512]
DH = [one for one in SUPPORTED if not one.kem]
KEM = [one for one in SUPPORTED if one.kem]
CURVES = {Kex.P_256: ec.SECP256R1(), Kex.P_384: ec.SECP384R1(), Kex.P_521: ec.SECP521R1()}
LENGTHS = {  # spec/oap 2
    Kex.P_256: 91,
    Kex.P_384: 120,
    Kex.P_521: 158,
    Kex.X25519: 44,
    Kex.X448: 68,
    Kex.ML_KEM_768: 1206,
    Kex.ML_KEM_1024: 1590,
    Kex.X25519MLKEM768: 1216,
    Kex.X448MLKEM1024: 1624,
}


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def x25519_secret(private: bytes) -> Secret:
    key = x25519.X25519PrivateKey.from_private_bytes(private)
    return Secret(PublicKey(Kex.X25519, key.public_key().public_bytes_raw()), key)


def x448_secret(private: bytes) -> Secret:
    key = x448.X448PrivateKey.from_private_bytes(private)
    return Secret(PublicKey(Kex.X448, key.public_key().public_bytes_raw()), key)


def curve_secret(algorithm: Kex, number: int) -> Secret:
    key = ec.derive_private_key(number, CURVES[algorithm])
    raw = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return Secret(PublicKey(algorithm, raw), key)


# ---------------------------------------------------------------- the specification's vector (5.8)

ASKS = x25519_secret(bytes(range(1, 33)))
ACCEPTS = x25519_secret(bytes(range(33, 65)))
ASKS_SPKI = octets("302a300506032b656e03210007a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c")
ACCEPTS_SPKI = octets(
    "302a300506032b656e0321005869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b"
)


def test_the_specification_s_keys() -> None:
    assert kex.encode(ASKS.public) == ASKS_SPKI and kex.encode(ACCEPTS.public) == ACCEPTS_SPKI
    assert kex.decode(ASKS_SPKI, hybrid=False) == ASKS.public
    shared = octets("a84dc7c3c8f058b1b2dc4cd1e9b5dc0a7987f88b6a9564cde3391fc421159e77")
    assert crypto.agree(ASKS, ACCEPTS.public) == crypto.agree(ACCEPTS, ASKS.public) == shared


@pytest.mark.parametrize(
    ("kdf", "key"),
    [
        (Hash.SHA_256, "6615f6b2cdab49dc428820e2c4bcb42e9237efc9bd842a7f73f93eceaa014f61"),
        (Hash.NONE, "6615f6b2cdab49dc428820e2c4bcb42e9237efc9bd842a7f73f93eceaa014f61"),
        (Hash.SHA_384, "a594a0b94ad8cb2b861353b6a393476afbc5ec0e6f595afc2970a6b7077165b9"),
        (Hash.SHA_512, "7540ce465dc3148dd829efacfcd4d388ceba455cfd5887bbd47ad29bbfe3671e"),
        (Hash.SHA3_256, "080952208116701ed3ff3662f14f4e15aa27f2b8fddf392ed0f0c6d92be66759"),
    ],
)
def test_the_specification_s_flow_keys(kdf: Hash, key: str) -> None:
    shared = crypto.agree(ASKS, ACCEPTS.public)
    assert crypto.dhe_key(kdf, shared, ASKS_SPKI, ACCEPTS_SPKI) == octets(key)
    assert crypto.dhe_key(kdf, shared, ACCEPTS_SPKI, ASKS_SPKI) == octets(key), "the same at both ends"


def test_rotated_keys_of_the_specification() -> None:
    """spec/protection 3: the same derivation, with the hash of the first key for salt."""
    first = octets("6615f6b2cdab49dc428820e2c4bcb42e9237efc9bd842a7f73f93eceaa014f61")
    salt = hashlib.sha256(first).digest()
    second = crypto.derive(Hash.SHA_256, first, salt, b"o7s-key-rotation")
    assert second.hex() == "046ada72b0297f9c52517e465551b2f5e145462bfb6ad96ea4efec90be798ca6"
    third = crypto.derive(Hash.SHA_256, second, salt, b"o7s-key-rotation")
    assert third.hex() == "62ec26dce793d0da01104da799783dfa7b09253d3022d41ff4a6000126f02b13"


# ---------------------------------------------------------------- RFCs


def test_rfc_7748() -> None:
    alice = x25519_secret(octets("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = x25519_secret(octets("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public.raw == octets("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob.public.raw == octets("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    shared = octets("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert crypto.agree(alice, bob.public) == crypto.agree(bob, alice.public) == shared


def test_rfc_7748_x448() -> None:
    alice = x448_secret(
        octets(
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b"
        )
    )
    bob = x448_secret(
        octets(
            "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d"
        )
    )
    shared = octets(
        "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d"
    )
    assert crypto.agree(alice, bob.public) == crypto.agree(bob, alice.public) == shared


@pytest.mark.parametrize(
    ("algorithm", "i", "r", "shared"),
    [
        (
            Kex.P_256,
            "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
            "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
            "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
        ),
        (
            Kex.P_384,
            "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
            "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
            "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
        ),
        (
            Kex.P_521,
            "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA85A30FE1C2952C6771D937BA9777"
            "F5957B2639BAB072462F68C27A57382D4A52",
            "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C677D600B343757A3BDBF2A3163E4C2"
            "F869CCA7458AA4A4EFFC311F5CB151685EB9",
            "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D1427E73CA4BAA240A34786859810C06"
            "B3C715A3A8CC3151F2BEE417996D19F3DDEA",
        ),
    ],
)
def test_rfc_5903(algorithm: Kex, i: str, r: str, shared: str) -> None:
    one, other = curve_secret(algorithm, int(i, 16)), curve_secret(algorithm, int(r, 16))
    assert crypto.agree(one, other.public) == crypto.agree(other, one.public) == octets(shared)


def test_rfc_5869() -> None:
    """A.1 and A.3; our outputs have 32 octets, those of the RFC go on."""
    secret = b"\x0b" * 22
    made = crypto.derive(Hash.SHA_256, secret, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert made.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    made = crypto.derive(Hash.SHA_256, secret, b"", b"")
    assert made.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@pytest.mark.parametrize("kdf", list(Hash))
def test_hkdf_by_hand(kdf: Hash) -> None:
    """RFC 5869 2 written down with hmac of the standard library."""
    import hmac

    name = {
        Hash.NONE: "sha256",
        Hash.BLAKE2S_256: "blake2s",
        Hash.SHA_256: "sha256",
        Hash.SHA3_256: "sha3_256",
        Hash.SHA_384: "sha384",
        Hash.SHA3_384: "sha3_384",
        Hash.BLAKE2B_512: "blake2b",
        Hash.SHA_512: "sha512",
        Hash.SHA3_512: "sha3_512",
    }[kdf]
    extracted = hmac.digest(b"salt" * 8, b"secret", name)
    assert crypto.derive(kdf, b"secret", b"salt" * 8, b"info") == hmac.digest(extracted, b"info\1", name)[:32]


@pytest.mark.parametrize(
    ("group", "digest"),
    [(Kex.FFDHE2048, 2048), (Kex.FFDHE3072, 3072), (Kex.FFDHE4096, 4096)],
)
def test_rfc_7919(group: Kex, digest: int) -> None:
    """Safe primes of the right length whose ends are those of the RFC."""
    prime = kex.prime(group)
    assert prime.bit_length() == digest
    text = f"{prime:X}"
    assert text.startswith("FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695")
    tails = {2048: "886B423861285C97", 3072: "25E41D2B66C62E37", 4096: "C68A007E5E655F6A"}
    assert text.endswith(tails[digest] + "F" * 16)
    assert pow(2, prime - 1, prime) == 1 and pow(2, (prime - 1) // 2, prime) == 1


# ---------------------------------------------------------------- all algorithms


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_keys_on_the_wire(algorithm: Kex) -> None:
    public = crypto.generate(algorithm).public
    field = kex.encode(public)
    assert kex.decode(field, hybrid=algorithm.hybrid) == public
    assert len(field) == LENGTHS.get(algorithm, len(field))
    with pytest.raises(MalformedPacket):
        kex.decode(field, hybrid=not algorithm.hybrid)


@pytest.mark.parametrize("algorithm", [*CURVES, Kex.X25519, Kex.X448])
def test_keys_on_the_wire_are_the_library_s(algorithm: Kex) -> None:
    secret = crypto.generate(algorithm)
    spki = secret.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert kex.encode(secret.public) == spki


@pytest.mark.parametrize("algorithm", DH)
def test_both_ends_agree(algorithm: Kex) -> None:
    one, other = crypto.generate(algorithm), crypto.generate(algorithm)
    assert crypto.agree(one, other.public) == crypto.agree(other, one.public)
    assert crypto.agree(one, other.public) != crypto.agree(one, crypto.generate(algorithm).public)


@pytest.mark.parametrize("algorithm", [*CURVES, Kex.X25519, Kex.X448])
def test_a_second_library_agrees(algorithm: Kex) -> None:
    from Crypto.Protocol.DH import key_agreement
    from Crypto.PublicKey import ECC

    theirs = ECC.generate(
        curve={Kex.X25519: "Curve25519", Kex.X448: "Curve448"}.get(
            algorithm, algorithm.name.replace("_", "-")
        )
    )
    ours = crypto.generate(algorithm)
    public = kex.decode(theirs.public_key().export_key(format="DER"), hybrid=False)
    imported = ECC.import_key(kex.encode(ours.public))
    assert crypto.agree(ours, public) == key_agreement(static_priv=theirs, static_pub=imported, kdf=bytes)


def test_leading_zeros_of_a_finite_field_secret_are_not_part_of_it() -> None:
    """spec/oap 7; g^1 with a private key of 1 makes a secret of one octet."""
    one = Secret(PublicKey(Kex.FFDHE2048, b"\2"), 1)
    assert crypto.agree(one, PublicKey(Kex.FFDHE2048, b"\7")) == b"\7"
    assert crypto.agree(replace(one, private=9), PublicKey(Kex.FFDHE2048, b"\2")) == b"\2\0"


@pytest.mark.parametrize("algorithm", KEM)
def test_encapsulation(algorithm: Kex) -> None:
    ours = crypto.generate(algorithm)
    secret, ciphertext = crypto.encapsulate(ours.public)
    assert len(ciphertext) == kex.CIPHERTEXT_LENGTH[algorithm]
    assert crypto.decapsulate(ours, ciphertext) == secret
    other = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert crypto.decapsulate(ours, other) != secret
    for wrong in (b"", ciphertext[:-1], ciphertext + b"\0"):
        with pytest.raises(KeyExchangeFailed):
            crypto.decapsulate(ours, wrong)


def test_an_algorithm_that_the_library_does_not_have() -> None:
    with pytest.raises(KeyExchangeFailed, match="ML_KEM_512") as failed:
        crypto.generate(Kex.ML_KEM_512)
    assert failed.value.errno == ECRYPT
    with pytest.raises(KeyExchangeFailed, match="ML_KEM_512"):
        crypto.encapsulate(PublicKey(Kex.ML_KEM_512, bytes(800)))


# ---------------------------------------------------------------- what is refused

LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order(point: str) -> None:
    """RFC 7748 6.1: a shared secret of zeros only is no secret."""
    with pytest.raises(KeyExchangeFailed):
        crypto.agree(ASKS, PublicKey(Kex.X25519, octets(point)))


@pytest.mark.parametrize("point", [bytes(56), b"\1" + bytes(55), b"\xff" * 28 + b"\xfe" + b"\xff" * 27])
def test_points_of_low_order_x448(point: bytes) -> None:
    with pytest.raises(KeyExchangeFailed):
        crypto.agree(crypto.generate(Kex.X448), PublicKey(Kex.X448, point))


@pytest.mark.parametrize("algorithm", list(CURVES))
def test_points_that_are_not_on_the_curve(algorithm: Kex) -> None:
    ours = crypto.generate(algorithm)
    size = (len(ours.public.raw) - 1) // 2
    off = ours.public.raw[:-1] + bytes([ours.public.raw[-1] ^ 1])
    for raw in (off, b"\4" + bytes(2 * size), b"\4" + b"\xff" * (2 * size)):
        with pytest.raises(KeyExchangeFailed):
            crypto.agree(ours, PublicKey(algorithm, raw))


def test_numbers_that_are_not_in_the_group() -> None:
    ours = crypto.generate(Kex.FFDHE2048)
    prime = kex.prime(Kex.FFDHE2048)
    for number in (1, prime - 1, prime, prime + 1):
        raw = number.to_bytes(256, "big").lstrip(b"\0")
        with pytest.raises(KeyExchangeFailed):
            crypto.agree(ours, PublicKey(Kex.FFDHE2048, raw))


def test_a_key_of_another_algorithm() -> None:
    with pytest.raises(KeyExchangeFailed):
        crypto.agree(ASKS, crypto.generate(Kex.P_256).public)


@pytest.mark.parametrize(
    "spki",
    [
        "3056301006072a8648ce3d020106052b8104000a034200" + "04" + "11" * 64,  # secp256k1
        "3039301306072a8648ce3d020106082a8648ce3d030107032200" + "02" + "11" * 32,  # compressed
        "3059301306072a8648ce3d020106082a8648ce3d030107034200" + "06" + "11" * 64,  # hybrid form of a point
        "302c300706032b656e0500032100" + "11" * 32,  # parameters where there are none
        "302a300506032b6570032100" + "11" * 32,  # Ed25519
        "302a300506032b656e032101" + "11" * 32,  # unused bits
    ],
)
def test_keys_that_are_recognised_by_nobody(spki: str) -> None:
    with pytest.raises(MalformedPacket):
        kex.decode(octets(spki), hybrid=False)


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_keys_cut_at_every_octet(algorithm: Kex) -> None:
    field = kex.encode(crypto.generate(algorithm).public)
    for length in sorted(
        {*range(len(field))} - ({1216} if algorithm.hybrid else set())
    ):  # the length of another hybrid, and all it has
        with pytest.raises(MalformedPacket):
            kex.decode(field[:length], hybrid=algorithm.hybrid)
    with pytest.raises(MalformedPacket):
        kex.decode(field + b"\0", hybrid=algorithm.hybrid)


FFDHE_FIELD = kex.encode(PublicKey(Kex.FFDHE2048, b"\5" * 256))


@pytest.mark.parametrize("group", [Kex.FFDHE2048, Kex.FFDHE3072, Kex.FFDHE4096])
def test_finite_field_keys_of_every_length(group: Kex) -> None:
    """One key in 512 of the smallest group is short enough for a length of one octet."""
    for length in range(1, kex.prime(group).bit_length() // 8 + 1):
        for first in (b"\1", b"\x7f", b"\x80", b"\xff"):
            public = PublicKey(group, first + b"\5" * (length - 1))
            assert kex.decode(kex.encode(public), hybrid=False) == public, (length, first)


@pytest.mark.parametrize("at", [0, 1, 4, 10, 20, 30, 250, len(FFDHE_FIELD) - 262, len(FFDHE_FIELD) - 258])
def test_finite_field_keys_have_one_encoding(at: int) -> None:
    changed = bytearray(FFDHE_FIELD)
    changed[at] ^= 1
    with pytest.raises(MalformedPacket):
        kex.decode(bytes(changed), hybrid=False)


@given(st.binary(max_size=2000), st.booleans())
@settings(max_examples=200)
def test_anything_else_is_refused(field: bytes, hybrid: bool) -> None:
    try:
        found = kex.decode(field, hybrid=hybrid)
    except MalformedPacket:
        return
    assert kex.encode(found) == field


# ---------------------------------------------------------------- ranks and lengths (5.2)


def test_ranks() -> None:
    assert [one.value for one in sorted(Cipher, key=rank)] == [0, 904, 905, 906, 895, 898, 901, 1018]
    assert [one.value for one in sorted(Hash, key=rank)] == [
        *(0, 1057, 672, 1097, 673, 1098, 1056, 674, 1099),
    ]
    assert [one.name for one in sorted(Kex, key=rank)] == [one.name for one in Kex]


def test_key_lengths() -> None:
    assert [(one.name[:7], one.key_length) for one in Cipher] == [
        ("NONE", 0),
        *[(f"AES_{bits}", bits // 8) for bits in (128, 192, 256)] * 2,
        ("CHACHA2", 32),
    ]


def test_stored_keys() -> None:
    ours = crypto.generate(Kex.ML_KEM_768)
    pem = ours.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = ours.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert crypto.stored_secret(pem).public == crypto.stored_public(public) == ours.public
    other = crypto.generate(Kex.P_256).private
    for wrong in (b"", b"nonsense", public):
        with pytest.raises(KeyExchangeFailed):
            crypto.stored_secret(wrong)
    with pytest.raises(KeyExchangeFailed):
        crypto.stored_public(
            other.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
