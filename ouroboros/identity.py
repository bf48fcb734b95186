"""Identity: address and directory node of an IPCP in its layer, kept over a restart of its process and of the system (paper 5.3; docs/spec/connections.md).

A library module, used by the unicast IPCP when it becomes a member, and by the IRMd when an IPCP is destroyed: a user who destroys an
IPCP destroys its identity. It reads and writes small files, and waits for them. Other members, prototypes above all, go on
using the address of a member that was killed: for as long as the directory keeps a name, up to a day. So a member that returns
asks for its former address, and is the same node of the directory.

There is one file for each IPCP, by run directory, name and layer. It is replaced as a whole, and used only when all of it
is valid. An IPCP holds a lock as long as it lives, so two IPCPs never have the same identity; without the lock, or
a folder to write to, an IPCP has a new identity at each start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from .rundir import default_rundir

log = logging.getLogger("ipcpd/identity")

FOLDER = "ipcp"
VERSION = 1
MAX_OCTETS = 4096
"""Largest size of a file; a longer one is invalid."""

MAX_FILES = 512
"""Identities that are kept; beyond, the one that was written longest ago is dropped."""

MAX_ADDRESS = 0xFFFFFFFF

MAX_NODE = 64
"""Octets of a node's id in the directory: the longest hash."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`address` in the layer, and the id of the `node` in its directory."""

    address: int
    node: bytes = b""


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogateescape"), digest_size=12).hexdigest()


def _decode(octets: bytes, name: str) -> Identity:
    """The identity in a file. Raises ValueError."""
    if len(octets) > MAX_OCTETS:
        raise ValueError(f"it has more than {MAX_OCTETS} octets")
    kept = json.loads(octets)
    if not isinstance(kept, dict) or kept.get("version") != VERSION or kept.get("name") != name:
        raise ValueError("it is of another version, or of another IPCP")
    address, node = kept.get("address"), kept.get("node")
    if not isinstance(address, int) or isinstance(address, bool) or not 0 < address <= MAX_ADDRESS:
        raise ValueError("it has no address")
    if not isinstance(node, str) or len(node) > 2 * MAX_NODE:
        raise ValueError("it has no id of a node")
    return Identity(address, bytes.fromhex(node))


class IdentityFile:
    """The identity of the IPCP `name`; `open` it for a layer, then `read` and `write`. No method raises OSError.

    state  the state directory; "": nothing is kept
    """

    def __init__(self, name: str, state: str = "") -> None:
        self._name = name
        self._folder = os.path.join(state, FOLDER) if state else ""
        self._prefix = _digest(f"{default_rundir()}\0{name}")
        self._path = ""
        self._lock = -1

    # ------------------------------------------------------------ one layer

    def open(self, layer: str) -> bool:
        """Use the file of this layer, under its lock. False: there is none to be had."""
        self.close()
        if not self._folder:
            return False
        path = self._at(layer)
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _take(self._lock, f"{path}.lock")
        except OSError as error:
            self.close()
            why = "another one of this name lives" if error.errno == errno.EWOULDBLOCK else error.strerror
            log.warning('IPCP "%s" does not keep its address: %s: %s', self._name, self._folder, why)
            return False
        self._path = path
        return True

    def read(self) -> Identity | None:
        """The stored identity; an invalid one is ignored."""
        return self._read(f"{self._path}.json") if self._path else None

    def write(self, identity: Identity) -> None:
        """Keep this identity."""
        if not self._path:
            return
        kept = {
            "version": VERSION, "name": self._name, "address": identity.address, "node": identity.node.hex()
        }  # fmt: skip
        unborn = f"{self._path}.new"
        try:
            with open(
                unborn, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)
            ) as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unborn, f"{self._path}.json")
        except OSError as error:
            log.warning('IPCP "%s" does not keep its address: %s: %s', self._name, self._path, error.strerror)
        self._prune()

    def delete(self, layer: str) -> None:
        """The IPCP was destroyed: one of its name that joins the layer later is another member."""
        for kind in (".json", ".lock") if self._folder else ():
            with contextlib.suppress(OSError):
                os.unlink(f"{self._at(layer)}{kind}")

    def _at(self, layer: str) -> str:
        return os.path.join(self._folder, f"{self._prefix}-{_digest(layer)}")

    def close(self) -> None:
        """Give the lock back."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock, self._path = -1, ""

    # ------------------------------------------------------------ all layers

    def latest(self) -> Identity | None:
        """The identity written last, in any layer: for an IPCP that does not know yet which layer it enrols in."""
        mine = sorted((when, path) for when, path in self._files() if self._prefix in path)
        return self._read(mine[-1][1]) if mine else None

    def _read(self, path: str) -> Identity | None:
        try:
            with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW)) as file:
                return _decode(file.read(MAX_OCTETS + 1), self._name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("ignored %s: %s", path, error)
            return None

    def _files(self) -> Iterator[tuple[float, str]]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json"):
                    with contextlib.suppress(OSError):
                        yield entry.stat(follow_symlinks=False).st_mtime, entry.path

    def _prune(self) -> None:
        files = sorted(self._files())
        for _, path in files[: max(0, len(files) - MAX_FILES)]:
            lock_path = path.removesuffix(".json") + ".lock"
            with contextlib.suppress(OSError):
                lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    _take(lock, lock_path)
                    os.unlink(path)
                    os.unlink(lock_path)
                finally:
                    os.close(lock)


def _take(lock: int, path: str) -> None:
    """Lock the file that has this path. Raises OSError: another IPCP has the lock, or has just removed the file."""
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(lock), os.stat(path)):
        raise OSError(errno.EWOULDBLOCK, "the lock has just been removed")
