"""Udp: the socket of a UDP IPCP and its flows, served by the relay's thread (`src/udp.h`)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from ouroboros.errors import error

from ._ipcp import ffi, lib
from .handle import Handle
from .paths import Paths
from .punt import Punt
from .relay import Relay

_ADDRESS = Struct("=16sIHH")  # struct udp_address

Peer = tuple[bytes, int, int]
"""IP address (4 or 16 octets), port, scope."""


def pack_peer(peer: Peer) -> bytes:
    """A `struct udp_address`."""
    ip, port, scope = peer
    return _ADDRESS.pack(ip, scope, port, 4 if len(ip) == 4 else 6)


def unpack_peer(record: bytes) -> Peer:
    """The address at the start of a record, a `struct udp_address`."""
    ip, scope, port, version = _ADDRESS.unpack_from(record)
    return ip[:4] if version == 4 else ip, port, scope


class Udp:
    """Flows over one UDP socket, which stays the caller's and must outlive this object.

    Management datagrams go to `on_management(peer, datagram)`, from the dispatch of `punt`. `offload` is off where the
    kernel has to process every datagram by itself.
    """

    def __init__(
        self,
        relay: Relay,
        punt: Punt,
        *,
        component: int,
        quota: int,
        socket: int,
        max_packet: int,
        on_management: Callable[[Peer, bytes], None],
        offload: bool = True,
    ) -> None:
        def handed_over(_fd: int, record: bytes) -> None:
            on_management(unpack_peer(record), record[_ADDRESS.size :])

        punt.component(component, quota, handed_over)
        with relay.handle as within, punt.handle as to:
            udp = lib.udp_create(within, socket, max_packet, offload, to, component)
        if not udp:
            raise MemoryError("no memory for the flows over UDP")
        self.handle = Handle(udp, lib.udp_destroy, "the data plane over UDP")
        """Of `struct udp`."""
        self.paths = Paths(self.handle, lib.udp_paths)

    def open(self, eid: int, fd: int, peer: Peer) -> None:
        """The flow end `fd` of the relay receives packets that `peer` sends to `eid`; it ends with `Relay.remove(fd)`.

        Packets that its process writes wait for `connect`. A second call gives another peer, after the first did not answer.
        """
        address = ffi.new("struct udp_address *")
        ffi.buffer(address)[:] = pack_peer(peer)
        with self.handle as udp:
            result = lib.udp_open(udp, eid, fd, address)
        _check(result, f"cannot open endpoint {eid} for descriptor {fd}")

    def leave(self, eid: int) -> None:
        """An endpoint that was opened and not connected is closed: its port may be opened again."""
        with self.handle as udp:
            result = lib.udp_leave(udp, eid)
        _check(result, f"endpoint {eid} cannot be left")

    def connect(self, eid: int, peer_eid: int) -> None:
        """Packets that the process of the flow at `eid` writes are sent to `peer_eid` of its peer."""
        with self.handle as udp:
            result = lib.udp_connect(udp, eid, peer_eid)
        _check(result, f"cannot connect endpoint {eid} to {peer_eid}")

    def counters(self) -> dict[str, int]:
        """Packets of the layer at this member, and packets dropped for each reason (`struct udp_counters`)."""
        counters = ffi.new("struct udp_counters *")
        with self.handle as udp:
            lib.udp_read(udp, counters)
        return _fields(counters)

    def flow_counters(self, eid: int) -> dict[str, int]:
        """The same for one flow (`struct udp_flow_counters`)."""
        counters = ffi.new("struct udp_flow_counters *")
        with self.handle as udp:
            result = lib.udp_flow_read(udp, eid, counters)
        _check(result, f"there is no flow at endpoint {eid}")
        return _fields(counters)

    def close(self) -> None:
        """Release the socket and all flows, which stay with the relay. May be repeated."""
        self.handle.close()


def _fields(struct: Any) -> dict[str, int]:
    return {name: int(getattr(struct, name)) for name, _ in ffi.typeof(struct).item.fields}


def _check(result: int, text: str) -> None:
    if result < 0:
        raise error(-result, text)
