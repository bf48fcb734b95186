"""The UDP port of an IPCP: binding it, and explaining a failure to bind it (paper 5.5; spec/udp 1).

Used by the UDP IPCPs when a layer is bootstrapped. For an error number of the kernel the text names the command that
helps; the process that holds a port is looked up in /proc, as far as that may be read.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from .address import Address, is_link_local, is_of_one_machine

RECEIVE_ROOM = 4 << 20
"""Octets of datagrams that may wait: all flows of the IPCP share them, and a burst must not be lost."""

_SO_RCVBUFFORCE = 33


class PortError(OSError):
    """The port cannot be bound; errno, and a text for administrators."""


def take(ip: str, port: int) -> tuple[socket.socket, Address]:
    """A socket that is bound to the address, and its socket address. Raises PortError."""
    address = _checked(ip, port)
    sock = socket.socket(address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if address.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_ROOM)  # needs CAP_NET_ADMIN
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_ROOM)
        sock.bind(address.sockaddr)
    except OSError as error:
        sock.close()
        raise _explained(error, address) from None
    return sock, address


def _checked(ip: str, port: int) -> Address:
    host, _, device = ip.partition("%")
    address = Address.of(host, port)
    if not is_of_one_machine(address.ip):
        raise PortError(
            errno.EINVAL, f"{ip} is not the address of an interface; `ip address` lists those there are"
        )
    if not is_link_local(address.ip):
        return address
    scopes = _scopes(address.ip)
    if device:
        wanted = _index(device)
        if wanted not in scopes:
            raise PortError(
                errno.EADDRNOTAVAIL,
                f"device {device} has no address {host}; `ip address show dev {device}` lists those it has",
            )
        return address._replace(scope=wanted)
    if len(scopes) > 1:
        raise PortError(
            errno.EINVAL,
            f"several interfaces have the address {ip}: add the one that is meant, `ip {ip}%DEVICE`",
        )
    return address._replace(scope=scopes[0] if scopes else 0)


def _index(device: str) -> int:
    """The number of an interface, given by its name or by that number. Raises PortError."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        if device.isascii() and device.isdigit():
            return int(device[:10])
        raise PortError(
            errno.ENODEV, f"there is no device {device}; `ip link` lists those there are"
        ) from None


def _scopes(ip: bytes) -> list[int]:
    """Numbers of the interfaces with this IPv6 address."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1], 16) for line in lines if bytes.fromhex(line.split()[0]) == ip]


def _explained(error: OSError, address: Address) -> PortError:
    number = error.errno or errno.EIO
    match number:
        case errno.EADDRNOTAVAIL | errno.EINVAL:
            text = (
                f"{address.host} is not an address of this system; `ip address` lists those there are, and "
                f"`ip address add {address.host}/PREFIX dev DEVICE` adds one"
            )
            number = errno.EADDRNOTAVAIL
        case errno.EADDRINUSE:
            holder = holder_of(address)
            who = f"by {holder}" if holder else "already; `ss -lunp` (as root) says by whom"
            text = f"UDP port {address.port} of {address.host} is used {who}; another one is chosen with `port PORT`"
        case errno.EACCES | errno.EPERM:
            text = (
                f"UDP port {address.port} needs the capability CAP_NET_BIND_SERVICE, and irmd has not got it: "
                "use a port from 1024 up, or start irmd as root"
            )
        case errno.EAFNOSUPPORT:
            text = f"this kernel has no {'IPv4' if address.family is socket.AF_INET else 'IPv6'}"
        case _:
            text = f"cannot use UDP port {address.port} of {address.host}: {os.strerror(number)}"
    return PortError(number, text)


# ---------------------------------------------------------------- who holds it


def holder_of(address: Address) -> str:
    """The process that has the port, e.g. "named (pid 77)"; "" when that cannot be seen."""
    inodes = set(_inodes(address))
    if not inodes:
        return ""
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(os.readlink(fd) in links for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return ""


def _inodes(address: Address) -> Iterator[str]:
    """Sockets that are bound to the port, at this address or at all."""
    for table, octets in (("udp", 4), ("udp6", 16)):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            ip, _, port = words[1].partition(":")
            if int(port, 16) != address.port:
                continue
            binary = _from_proc(ip)
            if binary == address.ip or not any(binary):
                if octets == len(address.ip) or not any(binary):
                    yield words[9]


def _from_proc(text: str) -> bytes:
    """An address as /proc/net writes it: words of 32 bits in this machine's order."""
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)
