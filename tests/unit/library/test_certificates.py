"""Authorities, certificates and keys in the files of a security directory."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from irmd.oap import certificate
from irmd.oap.credentials import Policy, Side, read
from irmd.oap.trust import Trust
from ouroboros import certificates
from ouroboros.certificates import Bundle, CertificateError
from tests.authority import Authority


@pytest.fixture
def security(tmp_path: Path) -> str:
    certificates.init(str(tmp_path / "security"), "our authority")
    return str(tmp_path / "security")


def states(directory: str) -> dict[tuple[str, str], str]:
    return {(one.use, one.name): one.problem for one in certificates.show(directory) if one.use != "cacert"}


def test_the_irmd_accepts_what_was_issued(security: str) -> None:
    bundle = certificates.issue(security, "echo")
    assert certificates.install(security, bundle, servers=["echo"], clients=["a", "b"]) == [
        f"{security}/server/echo",
        f"{security}/client/a",
        f"{security}/client/b",
    ]
    for side, name in ((Side.SERVER, "echo"), (Side.CLIENT, "a")):
        files = read(security, side, name, Policy())
        ours = certificate.identity(files.certificate, files.key)
        theirs = certificate.load(ours.der)
        Trust(security).chain().check(theirs, now=time.time_ns())
        assert certificate.common_name(theirs) == "echo"


def test_openssl_accepts_what_was_issued(security: str, tmp_path: Path) -> None:
    bundle = certificates.issue(security, "echo")
    (tmp_path / "crt.pem").write_bytes(bundle.certificate)
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-x509_strict",
            "-CAfile",
            f"{security}/authority/crt.pem",
            tmp_path / "crt.pem",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_for_their_owner(security: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bundle = certificates.issue(security, "echo")
        certificates.install(security, bundle, servers=["echo"])
        certificates.save_bundle(str(tmp_path / "echo.pem"), bundle)
    finally:
        os.umask(before)
    for path in (f"{security}/authority/key.pem", f"{security}/server/echo/key.pem", tmp_path / "echo.pem"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{security}/authority").st_mode) == 0o700
    assert b"PRIVATE" not in repr(bundle).encode()
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.endswith(".new")]


def test_a_bundle_goes_to_another_machine(security: str, tmp_path: Path) -> None:
    other, file = str(tmp_path / "other"), str(tmp_path / "echo.pem")
    certificates.save_bundle(file, certificates.issue(security, "echo"))
    bundle = certificates.read_bundle(file)
    assert certificates.common_name_of(bundle) == "echo"
    certificates.install(other, bundle, servers=["echo"])
    assert states(other) == {("server", "echo"): ""}
    with pytest.raises(CertificateError, match=r"echo\.pem exists") as refused:
        certificates.save_bundle(file, bundle)
    assert refused.value.errno == errno.EEXIST


def test_nothing_is_replaced_by_accident(security: str) -> None:
    first, second = certificates.issue(security, "echo"), certificates.issue(security, "echo")
    certificates.install(security, first, servers=["echo"])
    with pytest.raises(CertificateError, match='crt.pem exists; "replace" replaces it'):
        certificates.install(security, second, clients=["new"], servers=["echo"])
    assert not os.path.exists(f"{security}/client/new")
    assert Path(security, "server/echo/crt.pem").read_bytes() == first.certificate
    certificates.install(security, second, servers=["echo"], replace=True)
    assert Path(security, "server/echo/crt.pem").read_bytes() == second.certificate
    assert states(security)["server", "echo"] == ""
    with pytest.raises(CertificateError, match="exists"):
        certificates.init(security, "another")


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    security = str(tmp_path)
    certificates.init(security, "ca", days=3)
    certificates.install(security, certificates.issue(security, "echo", days=365), servers=["echo"])
    ends = {one.use: one.not_after for one in certificates.show(security)}
    assert ends["server"] == ends["authority"] <= datetime.now(UTC) + timedelta(days=3)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "a\x1b[2J"])
def test_names_that_no_certificate_has(security: str, name: str) -> None:
    with pytest.raises(CertificateError, match="common name"):
        certificates.issue(security, name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc", "a\0b"])
def test_names_that_no_folder_has(security: str, name: str) -> None:
    bundle = certificates.issue(security, "x")
    with pytest.raises(CertificateError, match="can have no folder"):
        certificates.install(security, bundle, clients=["fine", name])
    assert not os.path.exists(f"{security}/client")


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_days(security: str, days: int) -> None:
    with pytest.raises(CertificateError, match="1 to 36500 days"):
        certificates.issue(security, "x", days=days)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        (b"x" * 70_000, "more than 65536 octets"),
        (b"\xff\xfe\0", "no certificate"),
    ],
)
def test_files_that_are_no_bundle(tmp_path: Path, octets: bytes, reason: str) -> None:
    (tmp_path / "f").write_bytes(octets)
    with pytest.raises(CertificateError, match=reason):
        certificates.read_bundle(str(tmp_path / "f"))


def test_parts_that_do_not_belong_together(security: str, tmp_path: Path) -> None:
    one, two = certificates.issue(security, "one"), certificates.issue(security, "two")
    file = tmp_path / "f"
    file.write_bytes(one.key + two.certificate)
    with pytest.raises(CertificateError, match="none of the certificates belongs to the private key"):
        certificates.read_bundle(str(file))
    file.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + two.certificate)
    with pytest.raises(CertificateError, match="private key in .* cannot be read"):
        certificates.read_bundle(str(file))
    with pytest.raises(CertificateError, match="not one of an authority"):
        certificates.trust(security, two.certificate)
    Path(security, "authority/key.pem").write_bytes(one.key)
    with pytest.raises(CertificateError, match="is not the key of"):
        certificates.issue(security, "x")


def test_what_cannot_be_used_is_shown_with_the_reason(security: str) -> None:
    foreign = Authority("foreign")
    foreign.issue("foreign").install(Path(security), "client", "peer")
    certificates.install(security, certificates.issue(security, "echo"), servers=["echo", "other"])
    for name in ("open", "alone", "mixed"):
        certificates.install(security, certificates.issue(security, name), servers=[name])
    os.chmod(f"{security}/server/open/key.pem", 0o644)
    os.unlink(f"{security}/server/alone/key.pem")
    Path(security, "server/mixed/key.pem").write_bytes(certificates.issue(security, "x").key)
    foreign_ca = x509.load_pem_x509_certificate(Path(security, "authority/crt.pem").read_bytes())
    assert foreign_ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    found = states(security)
    assert found.pop(("client", "peer")) == "its authority is not in cacert"
    assert found.pop(("server", "other")) == 'it is for "echo"'
    assert found.pop(("server", "open")) == "its key is open to other users (mode 0644)"
    assert found.pop(("server", "alone")) == "there is no key.pem beside it"
    assert found.pop(("server", "mixed")) == "key.pem is not its key"
    assert set(found.values()) == {""}


def test_without_an_authority(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="`irm cert init` makes an authority"):
        certificates.issue(str(tmp_path), "x")
    assert list(certificates.show(str(tmp_path / "nowhere"))) == []


def test_a_key_with_a_pass_phrase_is_refused(security: str, tmp_path: Path) -> None:
    bundle = certificates.issue(security, "x")
    key = serialization.load_pem_private_key(bundle.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "f").write_bytes(Bundle(bundle.certificate, locked, b"").to_pem())
    with pytest.raises(CertificateError, match="cannot be read"):
        certificates.read_bundle(str(tmp_path / "f"))
