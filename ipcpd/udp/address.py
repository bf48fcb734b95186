"""Socket address: where a datagram goes to or came from. Used by the control plane of the UDP IPCPs; pure."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple


class Address(NamedTuple):
    """An IP address and a UDP port; `scope` is the interface of a link-local IPv6 address, else 0."""

    ip: bytes
    """4 or 16 octets."""
    port: int
    scope: int = 0

    @property
    def host(self) -> str:
        """The IP address as people write it."""
        text = socket.inet_ntop(self.family, self.ip)
        return f"{text}%{self.scope}" if self.scope else text

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET if len(self.ip) == 4 else socket.AF_INET6

    @property
    def sockaddr(self) -> Any:
        """As the socket module takes it."""
        host = socket.inet_ntop(self.family, self.ip)
        return (host, self.port) if self.family is socket.AF_INET else (host, self.port, 0, self.scope)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if len(self.ip) == 4 else f"[{self.host}]:{self.port}"

    @classmethod
    def of(cls, host: str, port: int, scope: int = 0) -> Address:
        """From an IP address as text. Raises ValueError when it is none."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return cls(socket.inet_pton(family, host), port, scope)
            except OSError:
                continue
        raise ValueError(f'"{host}" is not an IP address')


def is_link_local(ip: bytes) -> bool:
    """Whether an IPv6 address means something on one link only: fe80::/10."""
    return len(ip) == 16 and ip[0] == 0xFE and ip[1] & 0xC0 == 0x80
