"""Authorities, certificates and keys of names, in the files of a security directory (docs/howto/certificates.md; RFC 5280).

A library module of tools and applications; the IRMd reads what it writes. Keys are on the curve P-256, as the prototype has them too;
they are written to files that only their owner can read, and are never returned as text for people.

    authority/crt.pem, key.pem      the authority of this machine, if it has one
    cacert/*.pem                    the authorities that are trusted
    server/NAME/crt.pem, key.pem    shown when a flow to NAME is accepted
    client/NAME/crt.pem, key.pem    shown when a flow to NAME is allocated
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

MAX_COMMON_NAME = 64
"""Characters of a common name (X.520)."""
MAX_DAYS = 36_500
MAX_FILE = 64 * 1024
_EARLIER = timedelta(hours=1)  # clocks that are behind take a new certificate too
_CRT, _KEY = "crt.pem", "key.pem"
AUTHORITY, TRUSTED, SERVER, CLIENT = "authority", "cacert", "server", "client"


class CertificateError(OSError):
    """A certificate cannot be made, read or installed: the text names the file, the reason and the cure."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A certificate with its key, and the authority that issued it; PEM. The key is not in its representation."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes

    def to_pem(self) -> bytes:
        """All three, for a file."""
        return self.key + self.certificate + self.authority


@dataclass(frozen=True, slots=True)
class CertificateState:
    """A certificate of a security directory, and its validity.

    use      "authority", "cacert", "server" or "client"
    name     of the flows that it is for; the file name of a trusted authority
    problem  why it is not valid now; "" when it is
    """

    use: str
    name: str
    common_name: str
    issuer: str
    not_before: datetime
    not_after: datetime
    fingerprint: str
    path: str
    problem: str


# ---------------------------------------------------------------- making


def init(directory: str, common_name: str, *, days: int = 3650) -> str:
    """Make an authority for `days`, and trust it; returns the path of its certificate. Raises CertificateError: there is one already."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(common_name)
    certificate = (
        _builder(name, name, key.public_key(), _end(days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = os.path.join(directory, AUTHORITY)
    pem = _pem(certificate)
    _put(folder, pem, _key_pem(key), replace=False, mode=0o700)
    trust(directory, pem)
    return os.path.join(folder, _CRT)


def issue(directory: str, common_name: str, *, days: int = 365) -> Bundle:
    """A new key and its certificate, by the authority of this machine, for `days` or as long as the authority is valid.

    Raises CertificateError: there is no authority, or it is not usable.
    """
    folder = os.path.join(directory, AUTHORITY)
    authority_pem = _read(os.path.join(folder, _CRT), cure="`irm cert init` makes an authority")
    authority = _load(authority_pem, os.path.join(folder, _CRT))[0]
    key_path = os.path.join(folder, _KEY)
    issuer = _private(_read(key_path), key_path)
    if issuer.public_key() != authority.public_key():
        raise CertificateError(errno.EINVAL, f"{key_path} is not the key of {_CRT} beside it")
    if authority.not_valid_after_utc <= _now():
        raise CertificateError(
            errno.EINVAL,
            f"the authority has expired at {_text(authority.not_valid_after_utc)}; remove {folder}, and make another with `irm cert init`",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(_end(days), authority.not_valid_after_utc)
    certificate = (
        _builder(_subject(common_name), authority.subject, key.public_key(), end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(issuer, hashes.SHA256())
    )
    return Bundle(_pem(certificate), _key_pem(key), _pem(authority))


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - _EARLIER)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str) -> x509.Name:
    if not 0 < len(common_name) <= MAX_COMMON_NAME or not common_name.isprintable():
        raise CertificateError(
            errno.EINVAL,
            f"the common name {common_name!r} is not usable: a certificate has one of 1 to {MAX_COMMON_NAME} printable characters",
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _end(days: int) -> datetime:
    if not 0 < days <= MAX_DAYS:
        raise CertificateError(errno.EINVAL, f"a certificate is valid for 1 to {MAX_DAYS} days, not {days}")
    return _now() + timedelta(days=days)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


# ---------------------------------------------------------------- installing


def trust(directory: str, pem: bytes, *, where: str = "the certificate") -> str:
    """Trust the authorities of `pem`; returns the path of the file. `where` they come from, for errors. Raises CertificateError."""
    authorities = _load(pem, where)
    for authority in authorities:
        if not _is_authority(authority):
            raise CertificateError(
                errno.EINVAL,
                f'{where}: the certificate of "{_common_name(authority)}" is not one of an authority',
            )
    first = authorities[0]
    folder = os.path.join(directory, TRUSTED)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    word = re.sub(r"[^A-Za-z0-9.]+", "-", _common_name(first)).strip("-.")[:64] or "authority"
    path = os.path.join(folder, f"{word}-{_fingerprint(first)[:8]}.pem")
    _write(path, b"".join(map(_pem, authorities)), 0o644, replace=True)
    return path


def install(
    directory: str,
    bundle: Bundle,
    *,
    servers: Iterable[str] = (),
    clients: Iterable[str] = (),
    replace: bool = False,
) -> list[str]:
    """Put a certificate where it is used: when flows to `servers` are accepted, and when flows to `clients` are allocated. Its authority
    is trusted. Returns the folders. Raises CertificateError: one has a certificate already, and it is not to be replaced."""
    folders = [
        _folder(directory, side, name)
        for side, names in ((SERVER, servers), (CLIENT, clients))
        for name in names
    ]
    for folder in folders:
        if not replace:
            _check_free(folder)
    for folder in folders:
        _put(folder, bundle.certificate, bundle.key, replace=replace)
    if bundle.authority:
        trust(directory, bundle.authority)
    return folders


def read_bundle(path: str) -> Bundle:
    """The certificate, the key and the authority of a file; without a key, the authorities alone. Raises CertificateError."""
    octets = _read(path)
    certificates = _load(octets, path)
    if b"PRIVATE KEY-----" not in octets:
        return Bundle(b"", b"", b"".join(map(_pem, certificates)))
    private = _private(octets, path)
    own = [one for one in certificates if one.public_key() == private.public_key()]
    if not own:
        raise CertificateError(errno.EINVAL, f"{path}: none of the certificates belongs to the private key")
    rest = [one for one in certificates if one is not own[0] and _is_authority(one)]
    return Bundle(_pem(own[0]), _key_pem(private), b"".join(map(_pem, rest)))


def common_name_of(bundle: Bundle) -> str:
    """The common name of a bundle's certificate."""
    return _common_name(_load(bundle.certificate, "the bundle")[0])


def save_bundle(path: str, bundle: Bundle) -> None:
    """Write a bundle to a new file that only its owner can read. Raises CertificateError."""
    _write(path, bundle.to_pem(), 0o600, replace=False)


def _folder(directory: str, side: str, name: str) -> str:
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise CertificateError(
            errno.EINVAL,
            f'the name "{name}" can have no folder; `irm name set` with scrtpath and skeypath gives it files of any place',
        )
    return os.path.join(directory, side, name)


def _check_free(folder: str) -> None:
    for file in (_CRT, _KEY):
        path = os.path.join(folder, file)
        if os.path.lexists(path):
            raise CertificateError(errno.EEXIST, f'{path} exists; "replace" replaces it')


def _put(folder: str, certificate: bytes, key: bytes, *, replace: bool, mode: int = 0o755) -> None:
    """Write certificate and key of a folder: both, or none."""
    try:
        os.makedirs(folder, mode=mode, exist_ok=True)
    except OSError as error:
        raise CertificateError(error.errno, f"cannot make {folder}: {error.strerror}") from None
    if not replace:
        _check_free(folder)
    key_path = os.path.join(folder, _KEY)
    _write(key_path, key, 0o600, replace=replace)
    try:
        _write(os.path.join(folder, _CRT), certificate, 0o644, replace=replace)
    except BaseException:
        if not replace:
            os.unlink(key_path)
        raise


def _write(path: str, octets: bytes, mode: int, *, replace: bool) -> None:
    """Write a file as a whole: a reader finds the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with open(fd, "wb") as file:
                os.fchmod(fd, mode)
                file.write(octets)
                file.flush()
                os.fsync(fd)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)  # fails when there is one
                os.unlink(temporary)
        except BaseException:
            os.unlink(temporary)
            raise
    except FileExistsError:
        raise CertificateError(errno.EEXIST, f"{path} exists") from None
    except OSError as error:
        raise CertificateError(error.errno, f"cannot write {path}: {error.strerror}") from None


# ---------------------------------------------------------------- reading


def show(directory: str) -> Iterator[CertificateState]:
    """The certificates of a security directory: its authority, those that it trusts, those of servers and clients. Raises CertificateError."""
    now = _now()
    trusted: list[x509.Certificate] = []
    found: list[tuple[str, str, str, x509.Certificate]] = []
    for name in _names(os.path.join(directory, TRUSTED)):
        path = os.path.join(directory, TRUSTED, name)
        for certificate in _load(_read(path), path):
            trusted.append(certificate)
            found.append((TRUSTED, name, path, certificate))
    own = os.path.join(directory, AUTHORITY, _CRT)
    if os.path.lexists(own):
        found.insert(0, (AUTHORITY, "", own, _load(_read(own), own)[0]))
    for side in (SERVER, CLIENT):
        for name in _names(os.path.join(directory, side)):
            path = os.path.join(directory, side, name, _CRT)
            if os.path.lexists(path):
                found.append((side, name, path, _load(_read(path), path)[0]))
    for use, name, path, certificate in found:
        problem = _problem(certificate, trusted, now)
        if use in (SERVER, CLIENT, AUTHORITY):
            problem = problem or _key_problem(os.path.join(os.path.dirname(path), _KEY), certificate)
        if use == SERVER and not problem and _common_name(certificate) != name:
            problem = f'it is for "{_common_name(certificate)}"'
        yield CertificateState(
            use,
            name,
            _common_name(certificate),
            certificate.issuer.rfc4514_string(),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            _fingerprint(certificate),
            path,
            problem,
        )


def _problem(certificate: x509.Certificate, trusted: list[x509.Certificate], now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return f"not valid before {_text(certificate.not_valid_before_utc)}"
    if now > certificate.not_valid_after_utc:
        return f"has expired at {_text(certificate.not_valid_after_utc)}"
    if not any(_issued(certificate, authority) for authority in trusted):
        return f"its authority is not in {TRUSTED}"
    return ""


def _key_problem(path: str, certificate: x509.Certificate) -> str:
    try:
        mode = os.stat(path).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            return f"its key is open to other users (mode {stat.S_IMODE(mode):04o})"
        if _private(_read(path), path).public_key() != certificate.public_key():
            return f"{_KEY} is not its key"
    except FileNotFoundError:
        return f"there is no {_KEY} beside it"
    except OSError as error:
        return f"its key cannot be read: {error.strerror}"
    return ""


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CertificateError(error.errno, f"cannot look into {folder}: {error.strerror}") from None


def _read(path: str, *, cure: str = "") -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        hint = f"; {cure}" if cure and error.errno == errno.ENOENT else ""
        raise CertificateError(error.errno, f"cannot read {path}: {error.strerror}{hint}") from None
    if len(octets) > MAX_FILE:
        raise CertificateError(errno.EFBIG, f"{path} has more than {MAX_FILE} octets")
    return octets


def _load(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(errno.EINVAL, f"{where} has no certificate in PEM form ({error})") from None


def _private(pem: bytes, where: str) -> CertificateIssuerPrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, None)  # type: ignore[return-value]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(errno.EINVAL, f"the private key in {where} cannot be read ({error})") from None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
