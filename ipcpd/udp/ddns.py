"""A DNS server that takes updates: the directory of a UDP layer (paper 5.5; spec/udp 3; RFC 1035, RFC 2136).

Used by the UDP IPCPs on their loop; dnspython speaks the protocol and is imported when a layer has such a server. A name is
a record under its MD5 in hexadecimal, an absolute name of one label: A for udp4, AAAA for udp6. A member adds and deletes
its own address only, so several members may have one name (the prototype deletes the addresses of all).
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dns.message import Message
    from dns.name import Name

log = logging.getLogger("ipcpd/udp")

PORT = 53
TTL = 300
"""TTL of our records, seconds: long enough to keep queries rare, short enough for a name to move."""

TRIES = 3
UPDATE_TIMEOUT = 2.0
"""Seconds of one try."""


class DnsError(Exception):
    """The server does not answer, or refuses; the text names the case."""


class NoSuchName(Exception):
    """The server answers that there is no such record; `ttl`: seconds for which that answer may be cached."""

    def __init__(self, ttl: int) -> None:
        super().__init__("no such name")
        self.ttl = ttl


class DnsServer:
    """One server. `ip` is our own address, as text, with which names are registered."""

    def __init__(self, server: str, ip: str, *, port: int = PORT) -> None:
        # Imported while the IPCP is being made, not at the first query.
        from dns import asyncquery, message, update  # noqa: F401

        self.server = server
        self.port = port
        self._ip = ip
        self._type = "AAAA" if ":" in ip else "A"
        self._zones: dict[str, Name] = {}
        """Zone of every name that is registered."""

    async def lookup(self, key: str) -> tuple[tuple[bytes, ...], int]:
        """Addresses of a name, and the seconds of their TTL. Raises NoSuchName, DnsError."""
        import dns.message
        import dns.rdatatype

        response = await self._ask(dns.message.make_query(_name(key), self._type))
        found: list[bytes] = []
        ttls: list[int] = []
        wanted = dns.rdatatype.from_text(self._type)
        for rrset in response.answer:
            ttls.append(rrset.ttl)
            if rrset.rdtype == wanted:
                family = socket.AF_INET6 if self._type == "AAAA" else socket.AF_INET
                found += [socket.inet_pton(family, record.to_text()) for record in rrset]
        if not found:
            raise NoSuchName(min((rrset.ttl for rrset in response.authority), default=0))
        return tuple(found), min(ttls)

    async def register(self, key: str) -> None:
        """Add our address to a name. Raises DnsError."""
        zone = await self._zone_of(key)
        await self._update(key, zone, add=True)
        self._zones[key] = zone

    async def unregister(self, key: str) -> None:
        """Take our address from a name. Raises DnsError."""
        zone = self._zones.pop(key, None) or await self._zone_of(key)
        await self._update(key, zone, add=False)

    def farewell(self) -> None:
        """Take our address from all names, without waiting for an answer: the IPCP is ending."""
        family = socket.AF_INET6 if ":" in self.server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            for key, zone in self._zones.items():
                try:
                    sock.sendto(self._message(key, zone, add=False).to_wire(), (self.server, self.port))
                except OSError as error:
                    log.warning("DNS server %s still has our names: %s", self.server, error.strerror)
                    break
        self._zones.clear()

    # ------------------------------------------------------------ messages

    async def _zone_of(self, key: str) -> Name:
        """The zone a name belongs to, as the server sees it: the SOA that it answers with."""
        import dns.message
        import dns.name
        import dns.rdatatype

        response = await self._ask(dns.message.make_query(_name(key), dns.rdatatype.SOA))
        for rrset in (*response.answer, *response.authority):
            if rrset.rdtype == dns.rdatatype.SOA:
                return rrset.name
        return dns.name.root

    def _message(self, key: str, zone: Name, *, add: bool) -> Message:
        import dns.update

        message = dns.update.UpdateMessage(zone)
        if add:
            message.add(_name(key), TTL, self._type, self._ip)
        else:
            message.delete(_name(key), self._type, self._ip)
        return message

    async def _update(self, key: str, zone: Name, *, add: bool) -> None:
        await self._ask(self._message(key, zone, add=add))

    async def _ask(self, message: Message) -> Message:
        """The server's answer. Raises DnsError, NoSuchName for a query only."""
        import dns.asyncquery
        import dns.exception
        import dns.opcode
        import dns.rcode

        reason = "it does not answer"
        for _ in range(TRIES):
            try:
                response, _tcp = await dns.asyncquery.udp_with_fallback(
                    message, self.server, timeout=UPDATE_TIMEOUT, port=self.port, ignore_unexpected=True
                )
            except dns.exception.Timeout:
                continue
            except (OSError, dns.exception.DNSException) as error:
                reason = str(error) or type(error).__name__
                continue
            code = response.rcode()
            if code == dns.rcode.NOERROR:
                return response
            if code == dns.rcode.NXDOMAIN and message.opcode() == dns.opcode.QUERY:
                return response
            raise DnsError(f"DNS server {self.server} says {dns.rcode.to_text(code)}")
        raise DnsError(f"DNS server {self.server}: {reason}")


def _name(key: str) -> Name:
    import dns.name

    return dns.name.from_text(key, dns.name.root)
