"""A small DNS server on loopback for tests: answers queries, accepts updates (RFC 2136), and misbehaves on request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update

SOA = "ns.example. root.example. 1 3600 600 86400 60"


class DnsServer:
    """Serves one zone. `records` is what it knows: (name, type) to addresses."""

    def __init__(self, zone: str = ".", *, ip: str = "127.0.0.1", port: int = 0, ttl: int = 120) -> None:
        self.zone = dns.name.from_text(zone)
        self.ttl = ttl
        self.records: dict[tuple[str, str], list[str]] = {}
        self.asked: list[str] = []
        """What was asked for, as "A name" or "update +A name address"."""
        self.misbehave: Callable[[bytes], bytes | None] | None = None
        """Called with a datagram, gives the answer (None: silence)."""
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ip, port))
        self.ip, self.port = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> DnsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", (self.ip, self.port))
        self._thread.join()
        self._socket.close()

    def wait_for(self, condition: Callable[[DnsServer], bool]) -> None:
        """Until the server has seen what makes the condition true."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), 60), self.asked

    def _serve(self) -> None:
        while True:
            datagram, client = self._socket.recvfrom(4096)
            if not datagram:
                return
            with self._changed:
                answer = self.misbehave(datagram) if self.misbehave else self.answer(datagram)
                self._changed.notify_all()
            if answer is not None:
                self._socket.sendto(answer, client)

    def answer(self, datagram: bytes) -> bytes:
        """What a server in good order answers."""
        message = dns.message.from_wire(datagram)
        if message.opcode() == dns.opcode.UPDATE:
            return self._update(message)
        question = message.question[0]
        name, kind = question.name, dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{kind} {name}")
        response = dns.message.make_response(message)
        response.flags |= dns.flags.AA
        addresses = self.records.get((str(name), kind), [])
        if addresses:
            response.answer.append(dns.rrset.from_text_list(name, self.ttl, "IN", kind, addresses))
        else:
            response.authority.append(dns.rrset.from_text(self.zone, self.ttl, "IN", "SOA", SOA))
            if not any(key[0] == str(name) for key in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    def _update(self, message: dns.message.Message) -> bytes:
        assert isinstance(message, dns.update.UpdateMessage)
        response = dns.message.make_response(message)
        if message.zone[0].name != self.zone:
            response.set_rcode(dns.rcode.NOTZONE)
            return response.to_wire()
        for rrset in message.update:
            kind = dns.rdatatype.to_text(rrset.rdtype)
            delete = rrset.deleting == dns.rdataclass.NONE
            for record in rrset:
                self.asked.append(f"update {'-' if delete else '+'}{kind} {rrset.name} {record}")
                have = self.records.setdefault((str(rrset.name), kind), [])
                if delete and str(record) in have:
                    have.remove(str(record))
                elif not delete and str(record) not in have:
                    have.append(str(record))
        return response.to_wire()
