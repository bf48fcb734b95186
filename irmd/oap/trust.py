"""The authorities that this system trusts: certificates in `cacert` and `untrusted` of the security directory (spec/oap 4).

Used by the IRMd on its loop. `check` reads the files when the IRMd starts, without a cryptographic library: a file that is no
certificate stops the start. They are read in full when the first certificate has to be checked, and again when a
file has changed, so a new authority needs no restart.
"""

from __future__ import annotations

import binascii
import os
import re
import stat
from typing import TYPE_CHECKING

from ouroboros.errors import EAUTH

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from .certificate import Chain

ANCHORS, BETWEEN = "cacert", "untrusted"
MAX_FILE = 1 << 20
MAX_FILES = 1024

_ARMOUR = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class TrustError(OSError):
    """A file of the security directory is malformed; errno EAUTH. The text names it."""

    def __init__(self, reason: str) -> None:
        super().__init__(EAUTH, reason)


class Trust:
    """The authorities below `directory`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._chain: Chain | None = None
        self._seen: tuple[tuple[str, int, int, int], ...] = ()

    def check(self) -> None:
        """Check that every file may be one of certificates. Raises TrustError."""
        for path, *_ in self._files():
            _read(path)

    def chain(self) -> Chain:
        """The authorities as they are on the disk now. Raises TrustError."""
        files = self._files()
        if self._chain is None or files != self._seen:
            from . import certificate

            found: dict[str, list[Certificate]] = {ANCHORS: [], BETWEEN: []}
            for path, *_ in files:
                kind = os.path.basename(os.path.dirname(path))
                try:
                    found[kind] += certificate.load_authorities(_read(path))
                except certificate.NotAuthentic as error:
                    raise TrustError(f"{path} is not a certificate: {error.strerror}") from None
            self._chain = certificate.Chain(found[ANCHORS], found[BETWEEN])
            self._seen = files
        return self._chain

    def _files(self) -> tuple[tuple[str, int, int, int], ...]:
        """Path, inode, size and time of change of every file, in order."""
        found: list[tuple[str, int, int, int]] = []
        for kind in (ANCHORS, BETWEEN):
            folder = os.path.join(self._directory, kind)
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        about = entry.stat()
                        if not stat.S_ISREG(about.st_mode):
                            raise TrustError(f"{entry.path} is not a file")
                        found.append((entry.path, about.st_ino, about.st_size, about.st_mtime_ns))
                        if len(found) > MAX_FILES:
                            raise TrustError(f"{folder} has more than {MAX_FILES} files")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except TrustError:
                raise
            except OSError as error:
                raise TrustError(f"cannot look into {folder}: {error.strerror}") from None
        return tuple(sorted(found))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        raise TrustError(f"cannot read {path}: {error.strerror}") from None
    bodies = _ARMOUR.findall(octets)
    if len(octets) > MAX_FILE or not bodies:
        raise TrustError(f"{path} is not a certificate in PEM form")
    for body in bodies:
        try:
            der = binascii.a2b_base64(body)
        except binascii.Error:
            der = b""
        if der[:1] != b"\x30":
            raise TrustError(f"{path} is not a certificate in PEM form")
    return octets
