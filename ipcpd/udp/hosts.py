"""The hosts file: names of a UDP layer as lines `10.1.1.1 MD5-OF-THE-NAME` (paper 5.10, Listing 10; spec/udp 3).

Used by the UDP IPCPs on their loop. The IPCP checks the file at every query, and reads it again when it has changed:
an administrator who adds a line, moves a name to another machine or removes it need not notify a process.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from pathlib import Path

from .address import is_of_one_machine

log = logging.getLogger("ipcpd/udp")

VARIABLE = "OUROBOROS_HOSTS"
"""Environment variable that names another file than /etc/hosts."""

_KEY = re.compile(r"[0-9a-fA-F]{32}")


def default_path() -> Path:
    """The path in the environment variable, or that of the system's hosts file."""
    return Path(os.environ.get(VARIABLE) or "/etc/hosts")


class HostsFile:
    """The lines of a hosts file whose name is the MD5 of something."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: tuple[int, int, int] | None = None
        self._addresses: dict[str, list[bytes]] = {}

    def addresses(self, key: str, octets: int) -> tuple[bytes, ...]:
        """The IP addresses of `octets` octets that have this name, in the order of the file."""
        self._look()
        return tuple(ip for ip in self._addresses.get(key, ()) if len(ip) == octets)

    def _look(self) -> None:
        try:
            status = self.path.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state == self._state:
                return
            text = self.path.read_text(errors="replace")
        except OSError as error:
            if self._state is not None:
                log.warning("cannot read %s: %s", self.path, error.strerror)
            self._state, self._addresses = None, {}
            return
        self._state, self._addresses = state, parse(text)


def parse(text: str) -> dict[str, list[bytes]]:
    """Addresses by MD5, in lower case. Lines other than `address name...` are ignored."""
    found: dict[str, list[bytes]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        keys = [word.lower() for word in words[1:] if _KEY.fullmatch(word)]
        if not keys:
            continue
        try:
            ip = ipaddress.ip_address(words[0].partition("%")[0]).packed
        except ValueError:
            log.debug("not an IP address: %s", words[0])
            continue
        if not is_of_one_machine(ip):
            continue
        for key in keys:
            ips = found.setdefault(key, [])
            if ip not in ips:
                ips.append(ip)
    return found
