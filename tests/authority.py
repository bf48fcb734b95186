"""A certificate authority for tests: certificates with times relative to the present, so that no test expires.

ca = Authority("ca")
alice = ca.issue("alice")                    # P-256, valid from a day before to a day after
late = ca.issue("alice", begin=hour, end=2 * hour)
ca.pem, alice.pem, alice.key_pem
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def install(self, security: Path, side: str, name: str) -> None:
        """As the credentials of a name below a security directory."""
        folder = security / side / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "crt.pem").write_bytes(self.pem)
        (folder / "key.pem").write_bytes(self.key_pem)
        (folder / "key.pem").chmod(0o600)


class Authority:
    """Issues certificates. `now` is the origin of relative times; by default the time of the call."""

    def __init__(
        self,
        name: str,
        *,
        issuer: Authority | None = None,
        now: datetime | None = None,
        begin: timedelta = -DAY,
        end: timedelta = DAY,
        ca: bool = True,
        path_length: int | None = None,
        usage: bool = True,
        key: Any = None,
        hash_: hashes.HashAlgorithm | None = None,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    ) -> None:
        self.name = name
        self.now = now or datetime.now(UTC)
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        extras: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=ca, path_length=path_length), True),
            (_usage(sign=usage, certify=usage), True),
            *extensions,
        ]
        self._hash = hash_ or hashes.SHA256()
        by = issuer or self
        self.certificate = by._make(name, self.key.public_key(), self.now + begin, self.now + end, extras)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        key: Any = None,
        begin: timedelta = -DAY,
        end: timedelta = DAY,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    ) -> Issued:
        """A certificate for the common names (usually one)."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = self._make(names, key.public_key(), self.now + begin, self.now + end, list(extensions))
        return Issued(made, key)

    def trust(self, security: Path, folder: str = "cacert") -> None:
        """Install its certificate below a security directory."""
        (security / folder).mkdir(parents=True, exist_ok=True)
        (security / folder / f"{self.name}.pem").write_bytes(self.pem)

    def _make(
        self,
        names: str | tuple[str, ...],
        public: Any,
        begin: datetime,
        end: datetime,
        extensions: list[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        names = (names,) if isinstance(names, str) else names
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(*names))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        curve = isinstance(self.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        pure = curve or type(self.key).__name__.startswith("MLDSA")
        return builder.sign(self.key, None if pure else self._hash)


def _name(*names: str) -> x509.Name:
    common = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "BE"), *common])


def _usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def usage(*, sign: bool, certify: bool = False) -> x509.KeyUsage:
    """The extension with the usage of a key."""
    return _usage(sign=sign, certify=certify)
