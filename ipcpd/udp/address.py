"""Socket address: where a datagram goes to or came from. Used by the control plane of the UDP IPCPs; pure."""

from __future__ import annotations

import ipaddress
import socket
from struct import Struct
from typing import Any, NamedTuple

_END = Struct(">HI")


class Address(NamedTuple):
    """An IP address and a UDP port; `scope` is the interface of a link-local IPv6 address, else 0."""

    ip: bytes
    """4 or 16 octets."""
    port: int
    scope: int = 0

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET if len(self.ip) == 4 else socket.AF_INET6

    @property
    def host(self) -> str:
        """The IP address in its usual text form."""
        text = socket.inet_ntop(self.family, self.ip)
        return f"{text}%{self.scope}" if self.scope else text

    @property
    def sockaddr(self) -> Any:
        """As the socket module takes it."""
        host = socket.inet_ntop(self.family, self.ip)
        return (host, self.port) if self.family is socket.AF_INET else (host, self.port, 0, self.scope)

    @property
    def packed(self) -> bytes:
        """As the flow allocator knows a peer; `unpack` undoes it."""
        return self.ip + _END.pack(self.port, self.scope)

    @classmethod
    def unpack(cls, octets: bytes) -> Address:
        """From `packed`."""
        return cls(octets[: -_END.size], *_END.unpack(octets[-_END.size :]))

    @classmethod
    def of(cls, host: str, port: int, scope: int = 0) -> Address:
        """From an IP address as text. Raises ValueError for other text."""
        return cls(ipaddress.ip_address(host).packed, port, scope)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if len(self.ip) == 4 else f"[{self.host}]:{self.port}"


def is_link_local(ip: bytes) -> bool:
    """Whether an IPv6 address means something on one link only."""
    return len(ip) == 16 and ipaddress.ip_address(ip).is_link_local


def is_of_one_machine(ip: bytes) -> bool:
    """Whether datagrams can be sent to and from it: not unspecified, not multicast, not broadcast."""
    address = ipaddress.ip_address(ip)
    return not (address.is_unspecified or address.is_multicast or ip == b"\xff" * 4)
