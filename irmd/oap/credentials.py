"""The files that secure a name at one side, and the policy of the name (spec/oap 4; docs/reference/irm.md).

Used by the IRMd on its loop. They are read afresh at every allocation, as octets; the modules that use them decode
them. Without any file the check costs one `stat`. A file that exists and cannot be used refuses the flow: a mistyped path must
not make a secure name be served in the clear.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.name_info import Requirement

from . import encryption
from .encryption import EncConfError, Encryption

MAX_FILE = 64 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Side(Enum):
    """The side of a flow; the value is the name of its folder."""

    SERVER = "server"
    CLIENT = "client"

    @property
    def static_file(self) -> str:
        """Name, less its suffix, of the static key of client encapsulation."""
        return "kex.key" if self is Side.SERVER else "kex.srv.pub"


class Unusable(OSError):
    """A file cannot be used, or a needed one is missing; errno EAUTH or ECRYPT."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)


@dataclass(slots=True, frozen=True)
class SecurityPaths:
    """Credentials of one side of a name; empty: the default below the security directory."""

    enc: str = ""
    crt: str = ""
    key: str = ""


@dataclass(slots=True, frozen=True)
class Policy:
    """The rule of a name of this system for the security of flows to it."""

    server: SecurityPaths = SecurityPaths()
    client: SecurityPaths = SecurityPaths()
    require: Requirement = Requirement(0)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of one side of a name. Files are octets; `static` is one of `kex.key.*`, `kex.srv.pub.*`."""

    encryption: Encryption | None = None
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    static: bytes = field(default=b"", repr=False)
    static_raw: bool = False
    require: Requirement = Requirement(0)
    files: str = field(default="", compare=False)
    """The paths of certificate and key, for errors."""

    @property
    def plain(self) -> bool:
        """Whether a plain handshake is enough."""
        return self is _PLAIN or self == _PLAIN

    def requiring(self, require: Requirement) -> Credentials:
        """These credentials with more requirements; encryption has the default algorithms where there is no enc.conf."""
        own = self.encryption
        if own is None and Requirement.ENCRYPTION in require:
            own = Encryption()
        return replace(self, encryption=own, require=self.require | require)


_PLAIN = Credentials()
_NO_PATHS = SecurityPaths()


def any_below(directory: str) -> bool:
    """Whether a security directory has any file that flows may need."""
    for folder in ("cacert", "untrusted", *(side.value for side in Side)):
        try:
            with os.scandir(os.path.join(directory, folder)) as entries:
                if next(entries, None) is not None:
                    return True
        except OSError:
            continue  # a flow that needs it reports the fault
    return False


def certificate_hint(directory: str, names: Iterable[str]) -> str:
    """A sentence about the certificate that this system shows as requester: that of the first of these names that has one."""
    folders = [f"{directory}/{Side.CLIENT.value}/{name}" for name in names]
    for folder in folders:
        if os.path.isfile(f"{folder}/crt.pem"):
            return f"This system shows {folder}/crt.pem, and trusts {directory}/cacert"
    return f"This system shows no certificate: there is no crt.pem in {' or '.join(folders)}"


def read(directory: str, side: Side, name: str, policy: Policy, *, otherwise: str = "") -> Credentials:
    """The credentials of `name` at `side`; where it has no folder, those in that of the name `otherwise`. Raises Unusable."""
    paths, require = (policy.server if side is Side.SERVER else policy.client), policy.require
    folder = _folder(directory, side, name)
    if not folder and otherwise and paths == _NO_PATHS:
        folder = _folder(directory, side, otherwise)
    if not folder and paths == _NO_PATHS:
        return Credentials(require=require) if require else _PLAIN
    own = _encryption(*_given(paths.enc, folder, "enc.conf"))
    certificate, where = _given(paths.crt, folder, "crt.pem")
    key, key_where = _given(paths.key, folder, "key.pem", private=True)
    if bool(certificate) != bool(key):
        missing, there = (key_where, where) if certificate else (where, key_where)
        raise Unusable(EAUTH, f"there is {there}, but not {missing or 'the file that belongs to it'}")
    static, raw = b"", False
    if own is not None and own.kex.kem and folder:
        raw = own.kex.hybrid
        path = os.path.join(folder, f"{side.static_file}.{'raw' if raw else 'pem'}")
        static = _read(path, ECRYPT, needed=False, private=side is Side.SERVER)
    return Credentials(own, certificate, key, static, raw, require, f"{where}, {key_where}")


def _folder(directory: str, side: Side, name: str) -> str:
    """The folder of a name, "" when there is none. A name is no path: one with a slash has no folder."""
    if not directory or "/" in name or "\0" in name or name in (".", ".."):
        return ""
    folder = f"{directory}/{side.value}/{name}"
    try:
        return folder if stat.S_ISDIR(os.stat(folder).st_mode) else ""
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return ""
        raise Unusable(EAUTH, f"cannot look into {folder}: {error.strerror}") from None


def _given(path: str, folder: str, default: str, *, private: bool = False) -> tuple[bytes, str]:
    """A file and where it is, or would be. One whose path was given must be there."""
    where = path or (os.path.join(folder, default) if folder else "")
    number = ECRYPT if default == "enc.conf" else EAUTH
    return (_read(where, number, needed=bool(path), private=private) if where else b""), where


def _encryption(octets: bytes, where: str) -> Encryption | None:
    if not octets:
        return None
    try:
        return encryption.parse(octets)
    except EncConfError as error:
        raise Unusable(ECRYPT, f"{where}: {error.strerror}") from None


def _read(path: str, number: int, *, needed: bool, private: bool = False) -> bytes:
    """The octets of a file; of an empty one a line end, which distinguishes it from a missing one. Raises Unusable, also when a
    `private` file can be read or written by another user than its owner."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not stop the daemon
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and not needed:
            return b""
        raise Unusable(number, f"cannot read {path}: {error.strerror}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise Unusable(number, f"{path} is not a file")
        if private and mode & _OTHERS:
            raise Unusable(
                number,
                f"the private key {path} is open to other users (mode {stat.S_IMODE(mode):04o}); `chmod 600 {path}`",
            )
        octets = os.read(fd, MAX_FILE + 1)
    except OSError as error:
        if isinstance(error, Unusable):
            raise
        raise Unusable(number, f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(octets) > MAX_FILE:
        raise Unusable(number, f"{path} has more than {MAX_FILE} octets")
    return octets or b"\n"
