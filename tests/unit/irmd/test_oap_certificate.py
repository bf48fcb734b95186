"""Certificates: chains, times, names, keys and signatures; the trusted authorities are read from files that may change."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from irmd.oap import certificate
from irmd.oap.algorithms import Hash
from irmd.oap.certificate import TOLERANCE, Chain, NotAuthentic
from irmd.oap.trust import Trust, TrustError
from ouroboros.errors import EAUTH
from tests.authority import DAY, Authority, Issued, usage

MOMENT = datetime(2031, 5, 17, 12, 0, 0, tzinfo=UTC)
NOW = int(MOMENT.timestamp()) * 10**9
SECOND = timedelta(seconds=1)


def authority(name: str = "ca", **more: Any) -> Authority:
    return Authority(name, now=MOMENT, **more)


def check(leaf: Issued, *anchors: Authority, between: tuple[Authority, ...] = (), now: int = NOW) -> None:
    certificates = [one.certificate for one in between]
    Chain([one.certificate for one in anchors], certificates).check(certificate.load(leaf.der), now=now)


def refused(match: str, leaf: Issued, *anchors: Authority, **more: Any) -> None:
    with pytest.raises(NotAuthentic, match=match) as fault:
        check(leaf, *anchors, **more)
    assert fault.value.errno == EAUTH and "\n" not in str(fault.value)


# ---------------------------------------------------------------- chains


def test_issued_by_one_we_trust() -> None:
    ca = authority()
    check(ca.issue("alice"), ca)
    check(ca.issue("alice"), authority("other"), ca)


def test_issued_by_nobody_we_know() -> None:
    refused("no authority in cacert", authority("stranger").issue("alice"), authority())
    refused("no authority in cacert", authority().issue("alice"))


def test_an_authority_that_only_has_the_name() -> None:
    """The same subject, another key."""
    refused("has not issued", authority().issue("alice"), authority())


def test_one_of_two_with_the_same_name_has_issued_it() -> None:
    ca, namesake = authority(), authority()
    check(ca.issue("alice"), namesake, ca)
    check(ca.issue("alice"), ca, between=(namesake,))


def test_an_authority_between() -> None:
    root = authority("root")
    middle = authority("middle", issuer=root)
    check(middle.issue("alice"), root, between=(middle,))
    refused("no authority in cacert", middle.issue("alice"), root)
    refused("no authority in cacert", middle.issue("alice"), authority("other"), between=(middle,))
    check(middle.issue("alice"), middle)  # trusted by itself


def test_what_is_between_is_not_trusted() -> None:
    root, other = authority("root"), authority("other")
    refused("no authority in cacert", root.issue("alice"), other, between=(root,))


def test_a_certificate_that_is_trusted_itself() -> None:
    alone = authority("alice")
    check(Issued(alone.certificate, alone.key), alone)


def test_a_leaf_that_issues() -> None:
    root = authority("root")
    leaf = authority("leaf", issuer=root, ca=False)
    refused("may not issue others", leaf.issue("alice"), root, between=(leaf,))
    bare = root.issue("bare")
    forged = authority("bare", key=bare.key)
    forged.certificate = bare.certificate
    refused("may not issue others", forged.issue("alice"), root, between=(forged,))


def test_an_authority_that_may_not_sign_certificates() -> None:
    ca = authority(usage=False)
    refused("may not sign certificates", ca.issue("alice"), ca)


def test_path_length() -> None:
    root = authority("root", path_length=0)
    middle = authority("middle", issuer=root)
    check(root.issue("alice"), root)
    refused("may not have 1 others below", middle.issue("alice"), root, between=(middle,))


def test_a_chain_has_an_end() -> None:
    chain = [authority("0")]
    for number in range(1, 10):
        chain.append(authority(str(number), issuer=chain[-1]))
    check(chain[6].issue("alice"), chain[0], between=tuple(chain[1:]))
    refused("too long", chain[8].issue("alice"), chain[0], between=tuple(chain[1:]))


def test_two_that_issue_each_other() -> None:
    one = authority("one")
    two = authority("two", issuer=one)
    again = authority("one", issuer=two, key=one.key)
    refused("no authority in cacert", two.issue("alice"), authority("other"), between=(two, again))


def test_many_namesakes_cost_a_bounded_time() -> None:
    crowd = tuple(authority() for _ in range(certificate.MAX_ATTEMPTS + 1))
    refused("too many branches", authority().issue("alice"), authority("root"), between=crowd)


# ---------------------------------------------------------------- time

ENDS = TOLERANCE + SECOND


@pytest.mark.parametrize(
    ("begin", "end", "match"),
    [
        (-DAY, DAY, None),
        (-DAY, -DAY + SECOND, "its certificate has expired at 2031-05-16 12:00:01 UTC"),
        (DAY, 2 * DAY, "its certificate is not valid before 2031-05-18 12:00:00 UTC"),
        (TOLERANCE, DAY, None),
        (ENDS, DAY, "not valid before"),
        (-DAY, -TOLERANCE, None),
        (-DAY, -ENDS, "expired"),
    ],
)
def test_times(begin: timedelta, end: timedelta, match: str | None) -> None:
    """Clocks may differ by as much as the handshake lets them."""
    ca = authority(begin=-3 * DAY, end=3 * DAY)
    leaf = ca.issue("alice", begin=begin, end=end)
    if match is None:
        check(leaf, ca)
    else:
        refused(match, leaf, ca)


@pytest.mark.parametrize(("begin", "end"), [(-2 * DAY, -DAY), (DAY, 2 * DAY)])
def test_times_of_authorities(begin: timedelta, end: timedelta) -> None:
    root = authority("root")
    middle = authority("middle", issuer=root, begin=begin, end=end)
    refused("the authority CN=middle", middle.issue("alice"), root, between=(middle,))
    old = authority("old", begin=begin, end=end)
    refused("the authority CN=old", old.issue("alice"), old)


# ---------------------------------------------------------------- extensions and keys


def test_key_usage() -> None:
    ca = authority()
    check(ca.issue("alice", extensions=((usage(sign=True), True),)), ca)
    refused("not for signatures", ca.issue("alice", extensions=((usage(sign=False), True),)), ca)


def test_critical_extensions_that_are_unknown() -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    ca = authority()
    check(ca.issue("alice", extensions=((strange, False),)), ca)
    refused(r"critical extension 1\.2\.3\.4", ca.issue("alice", extensions=((strange, True),)), ca)
    limits = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example")], excluded_subtrees=None)
    bounded = authority("bounded", extensions=((limits, True),))
    refused("critical extension", bounded.issue("alice"), bounded)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "curve secp256k1"),
    ],
)
def test_keys_that_are_not_good_enough(key: Callable[[], Any], match: str) -> None:
    made = key()
    ca = authority(key=made)
    refused(match, ca.issue("alice"), ca)
    leaf = authority().issue("alice", key=made)
    with pytest.raises(NotAuthentic, match=match):
        certificate.check_signature(leaf.certificate, Hash.NONE, b"data", b"signature")
    with pytest.raises(NotAuthentic, match=match):
        certificate.identity(leaf.pem, leaf.key_pem)


def test_a_broken_hash_in_the_chain() -> None:
    """No library of today makes such a certificate: one is made to seem so."""

    class Old:
        def __init__(self, real: x509.Certificate) -> None:
            self._real = real
            self.signature_hash_algorithm = hashes.SHA1()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    ca = authority()
    leaf: Any = Old(ca.issue("alice").certificate)
    with pytest.raises(NotAuthentic, match="a hash that is broken"):
        Chain([ca.certificate], []).check(leaf, now=NOW)


# ---------------------------------------------------------------- signatures

KEYS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}
PURE = ("Ed25519", "Ed448")
POST_QUANTUM: list[str] = []
try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:
    pass
else:
    KEYS |= {
        "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
        "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
        "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
    }
    POST_QUANTUM = [kind for kind in KEYS if kind.startswith("ML")]


@pytest.mark.parametrize("kind", KEYS)
def test_signatures(kind: str) -> None:
    leaf = authority().issue("alice", key=KEYS[kind]())
    ours = certificate.identity(leaf.pem, leaf.key_pem)
    assert ours.der == leaf.der
    for digest in Hash:
        if kind in POST_QUANTUM:
            pass  # they never use another hash, whatever the digest id says (spec/oap 7)
        elif digest in (Hash.BLAKE2S_256, Hash.BLAKE2B_512) or (kind in PURE and digest is not Hash.NONE):
            with pytest.raises(NotAuthentic):
                ours.sign(digest, b"data")
            with pytest.raises(NotAuthentic):
                certificate.check_signature(leaf.certificate, digest, b"data", b"signature")
            continue
        signature = ours.sign(digest, b"data")
        certificate.check_signature(leaf.certificate, digest, b"data", signature)
        for data, wrong in ((b"dat", signature), (b"data", signature[:-1]), (b"data", b"")):
            with pytest.raises(NotAuthentic):
                certificate.check_signature(leaf.certificate, digest, data, wrong)


def test_no_digest_means_sha_256() -> None:
    leaf = authority().issue("alice")
    signature = certificate.identity(leaf.pem, leaf.key_pem).sign(Hash.NONE, b"data")
    certificate.check_signature(leaf.certificate, Hash.SHA_256, b"data", signature)
    with pytest.raises(NotAuthentic, match="its signature is not"):
        certificate.check_signature(leaf.certificate, Hash.SHA_384, b"data", signature)


def test_a_second_library_agrees() -> None:
    from Crypto.Hash import SHA3_256
    from Crypto.PublicKey import ECC, RSA
    from Crypto.Signature import DSS, pkcs1_15

    for kind in ("P-384", "RSA"):
        leaf = authority().issue("alice", key=KEYS[kind]())
        signature = certificate.identity(leaf.pem, leaf.key_pem).sign(Hash.SHA3_256, b"data")
        hashed = SHA3_256.new(b"data")
        if kind == "RSA":
            pkcs1_15.new(RSA.import_key(leaf.der)).verify(hashed, signature)
        else:
            DSS.new(ECC.import_key(leaf.der), "fips-186-3", encoding="der").verify(hashed, signature)


def test_credentials_of_our_own_that_are_no_good() -> None:
    one, other = authority().issue("alice"), authority().issue("alice")
    for crt, key, match in (
        (one.pem, other.key_pem, "not that of our certificate"),
        (b"\n", one.key_pem, "our certificate cannot be read"),
        (one.key_pem, one.key_pem, "our certificate cannot be read"),
        (one.pem, one.pem, "our private key cannot be read"),
        (one.pem, b"\n", "our private key cannot be read"),
    ):
        with pytest.raises(NotAuthentic, match=match):
            certificate.identity(crt, key)


# ---------------------------------------------------------------- names and octets


def test_common_names() -> None:
    ca = authority()
    assert certificate.common_name(ca.issue("alice").certificate) == "alice"
    assert certificate.common_name(ca.issue("a/CN=b, c").certificate) == "a/CN=b, c"
    for names in ((), ("alice", "bob")):
        with pytest.raises(NotAuthentic, match=f"has {len(names)} common names"):
            certificate.common_name(ca.issue(*names).certificate)


def test_common_names_that_would_forge_a_line_of_the_log() -> None:
    with pytest.raises(NotAuthentic, match="cannot be printed"):
        certificate.common_name(authority().issue("alice\n==1== irmd(II): all is well").certificate)


def test_certificates_that_cannot_be_read() -> None:
    der = authority().issue("alice").der
    for length in range(0, len(der)):
        with pytest.raises(NotAuthentic):
            certificate.load(der[:length])


def test_certificates_with_one_octet_changed() -> None:
    """Whatever it hits: a certificate of alice's, with this signature, it is not any more."""
    ca = authority()
    leaf = ca.issue("alice")
    for at in range(len(leaf.der)):
        changed = bytearray(leaf.der)
        changed[at] ^= 0x41
        with pytest.raises(NotAuthentic):
            Chain([ca.certificate], []).check(certificate.load(bytes(changed)), now=NOW)


# ---------------------------------------------------------------- files


def test_no_files_no_authorities(tmp_path: Path) -> None:
    trust = Trust(str(tmp_path / "nowhere"))
    trust.check()
    with pytest.raises(NotAuthentic, match="no authority in cacert"):
        trust.chain().check(authority().issue("alice").certificate, now=NOW)


def test_files(tmp_path: Path) -> None:
    root = authority("root")
    middle = authority("middle", issuer=root)
    trust = Trust(str(tmp_path))
    root.trust(tmp_path)
    with pytest.raises(NotAuthentic):
        trust.chain().check(middle.issue("alice").certificate, now=NOW)
    middle.trust(tmp_path, "untrusted")
    trust.check()
    trust.chain().check(middle.issue("alice").certificate, now=NOW)
    assert trust.chain() is trust.chain(), "read once, until something changes"
    os.unlink(tmp_path / "cacert" / "root.pem")
    with pytest.raises(NotAuthentic):
        trust.chain().check(middle.issue("alice").certificate, now=NOW)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n",
    ],
)
@pytest.mark.parametrize("folder", ["cacert", "untrusted"])
def test_files_that_are_none(tmp_path: Path, octets: bytes, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "bad.pem").write_bytes(octets)
    for look in (Trust(str(tmp_path)).check, Trust(str(tmp_path)).chain):
        with pytest.raises(TrustError, match="bad.pem") as error:
            look()
        assert error.value.errno == EAUTH


def test_a_folder_among_the_files(tmp_path: Path) -> None:
    (tmp_path / "cacert" / "more").mkdir(parents=True)
    with pytest.raises(TrustError, match="more is not a file"):
        Trust(str(tmp_path)).check()


def test_what_looks_like_a_certificate(tmp_path: Path) -> None:
    """Found when it is needed: looking closer at every start would cost too much."""
    (tmp_path / "cacert").mkdir()
    (tmp_path / "cacert" / "odd.pem").write_bytes(
        b"-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"
    )
    Trust(str(tmp_path)).check()
    with pytest.raises(TrustError, match="odd.pem is not a certificate"):
        Trust(str(tmp_path)).chain()
