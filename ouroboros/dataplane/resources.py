"""Shared-memory objects of a process: mapped when the IRMd sends their descriptors, by the ids it gave them.

Used by the library and by IPCPs, each with its own build of the data plane (`ffi`, `lib`). A descriptor is needed
only to map; what is mapped stays until the IRMd says that it is gone.
"""

from __future__ import annotations

import os
from errno import EINVAL, EPROTO
from typing import TYPE_CHECKING, Any

from ..errors import error
from ..rpc.messages_pb2 import Envelope, FlowEndpoint, Resource, SegmentGone

if TYPE_CHECKING:
    from collections.abc import Iterable

_FDS = {Resource.POOL: 1, Resource.SEGMENT: 1, Resource.EVENTS: 2}


class Resources:
    """The pools, segments and event regions that this process has mapped.

    `token` is the owner token of the process; `reserve` says whether it may use the blocks reserved for IPCPs.
    """

    def __init__(self, ffi: Any, lib: Any, *, reserve: bool = False) -> None:
        self.token = 0
        self.pools: dict[int, Any] = {}
        self.segments: dict[int, Any] = {}
        self.events: dict[int, Any] = {}
        self._bells: dict[int, int] = {}
        self._ffi = ffi
        self._lib = lib
        self._reserve = reserve

    def learn(self, envelope: Envelope, fds: list[int]) -> None:
        """Map what a message brings, before anything else is done with it. The descriptors stay the caller's.

        Raises OSError when an object cannot be mapped, or is not what the message says.
        """
        body = envelope.WhichOneof("body")
        if body == "welcome":
            self.token = envelope.welcome.process
            self.take(envelope.welcome.resources, fds)
        elif body == "flow_endpoint":
            self.take(envelope.flow_endpoint.resources, fds)
        elif body == "flow_done":
            self.take(envelope.flow_done.endpoint.resources, fds)

    def take(self, resources: Iterable[Resource], fds: list[int]) -> None:
        """Map these objects; see `learn`."""
        at = 0
        for resource in resources:
            own = fds[at : at + _FDS[resource.kind]]
            at += len(own)
            if len(own) != _FDS[resource.kind]:
                raise error(
                    EPROTO, f"the IRMd announced {Resource.Kind.Name(resource.kind)} without its descriptor"
                )
            self._map(resource.kind, resource.id, own)

    def _map(self, kind: Resource.Kind.ValueType, number: int, fds: list[int]) -> None:
        ffi, lib = self._ffi, self._lib
        if kind == Resource.POOL:
            mapped = self.pools[number] = lib.pool_map(fds[0], self.token, self._reserve)
        elif kind == Resource.SEGMENT:
            mapped = self.segments[number] = lib.segment_map(fds[0])
        else:
            bell = os.dup(fds[1])
            mapped = self.events[number] = lib.events_map(fds[0], bell)
            self._bells[number] = bell
        if mapped == ffi.NULL:
            self._forget(kind, number)
            raise error(ffi.errno or EINVAL, f"cannot map {Resource.Kind.Name(kind)} {number} of the IRMd")

    def _forget(self, kind: Resource.Kind.ValueType, number: int) -> None:
        table = {Resource.POOL: self.pools, Resource.SEGMENT: self.segments, Resource.EVENTS: self.events}[
            kind
        ]
        table.pop(number, None)
        if kind == Resource.EVENTS and (bell := self._bells.pop(number, -1)) >= 0:
            os.close(bell)

    def gone(self, message: SegmentGone) -> None:
        """Unmap what the IRMd has given up. No flow of this process uses it any more."""
        for number in message.segments:
            if (segment := self.segments.pop(number, None)) is not None:
                self._lib.segment_unmap(segment)
        for number in message.events:
            if (events := self.events.pop(number, None)) is not None:
                self._lib.events_unmap(events)
                os.close(self._bells.pop(number))
        for number in message.pools:
            if (pool := self.pools.pop(number, None)) is not None:
                self._lib.pool_unmap(pool)

    def close(self) -> None:
        """Unmap everything."""
        self.gone(SegmentGone(segments=list(self.segments), events=list(self.events), pools=list(self.pools)))

    def spec(self, endpoint: FlowEndpoint) -> Any:
        """`struct flow_spec` of an end that the IRMd described."""
        return self._ffi.new(
            "struct flow_spec *",
            {
                "fd": endpoint.fd,
                "index": endpoint.index,
                "side": endpoint.side,
                "peer_fd": endpoint.peer_fd,
                "serial": endpoint.serial,
                "max_packet": endpoint.max_packet,
            },
        )
