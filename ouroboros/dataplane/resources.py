"""Shared-memory objects of a process: mapped when the IRMd sends their descriptors, by the IRMd's ids.

Used by the library and by IPCPs, each with its own build of the data plane (`ffi`, `lib`). A descriptor is needed
only to map. This object holds each mapping until the IRMd releases the object; ends of flows that use it hold it too, so
the last of them unmaps it, in whatever order messages arrive.
"""

from __future__ import annotations

import threading
from errno import EINVAL, EMFILE, EPROTO
from typing import TYPE_CHECKING, Any

from ..errors import error, strerror
from ..owner import Owner
from ..rpc.codec import open_files
from ..rpc.messages_pb2 import Envelope, FlowEndpoint, Resource, SegmentGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_FDS = {Resource.POOL: 1, Resource.SEGMENT: 1, Resource.EVENTS: 2}

_NAMES = {Resource.POOL: "pool", Resource.SEGMENT: "segment", Resource.EVENTS: "event region"}

KEY_OCTETS = 32


class Resources(Owner):
    """The pools, segments and event regions that this process has mapped.

    `token` is the owner token of the process; `reserve` allows it to use the blocks reserved for IPCPs.
    """

    def __init__(self, ffi: Any, lib: Any, *, reserve: bool = False) -> None:
        self.token = 0
        self.pools: dict[int, Any] = {}
        self.segments: dict[int, Any] = {}
        self.events: dict[int, Any] = {}
        self._failed: dict[tuple[int, int], OSError] = {}
        """Errors of objects that could not be mapped, by kind and number: the IRMd sends each object once."""
        self.held = threading.RLock()
        """Of the tables: while a thread holds it, nothing that it has looked up goes."""
        self._ffi = ffi
        self._lib = lib
        self._reserve = reserve

    def learn(self, envelope: Envelope, fds: list[int]) -> None:
        """Map the objects of a message, before it is handled. The caller keeps the descriptors.

        Raises OSError when an object cannot be mapped, or does not match the message.
        """
        body = envelope.WhichOneof("body")
        if body == "welcome":
            self.token = envelope.welcome.process
            self.take(envelope.welcome.resources, fds)
        elif body == "flow_endpoint":
            self.take(envelope.flow_endpoint.resources, fds)
        elif body == "flow_done":
            self.take(envelope.flow_done.endpoint.resources, fds)

    def learn_or_remember(self, envelope: Envelope, fds: list[int]) -> None:
        """The same without an error: it is raised later, by the end of a flow that needs the object."""
        try:
            self.learn(envelope, fds)
        except OSError:
            pass

    def take(self, resources: Sequence[Resource], fds: list[int]) -> None:
        """Map these objects; see `learn`. An error does not prevent the mapping of the others: the IRMd sends each object once."""
        if not resources and not fds:  # almost always: the IRMd sends each object once
            return
        needed = [_FDS.get(resource.kind, 0) for resource in resources]
        if 0 in needed or sum(needed) != len(fds):
            raise error(EPROTO, f"the IRMd sent {len(fds)} descriptors for {len(needed)} memory objects")
        at, failure = 0, None
        for resource, count in zip(resources, needed, strict=True):
            try:
                self._map(resource.kind, resource.id, fds[at : at + count])
            except OSError as one:
                self._failed[resource.kind, resource.id] = failure = one
            at += count
        if failure is not None:
            raise failure

    def _map(self, kind: Resource.Kind.ValueType, number: int, fds: list[int]) -> None:
        ffi, lib = self._ffi, self._lib
        with self.held:
            table = self._table(kind)
            if number in table:
                return
            if kind == Resource.POOL:
                mapped = lib.pool_map(fds[0], self.token, self._reserve)
            elif kind == Resource.SEGMENT:
                mapped = lib.segment_map(fds[0])
            else:
                mapped = lib.events_map(*fds)
            if mapped == ffi.NULL:
                raise error(ffi.errno or EINVAL, _unmappable(f"{_NAMES[kind]} {number}", ffi.errno))
            table[number] = mapped

    def _table(self, kind: Resource.Kind.ValueType) -> dict[int, Any]:
        if kind == Resource.POOL:
            return self.pools
        return self.segments if kind == Resource.SEGMENT else self.events

    def release(self, message: SegmentGone) -> None:
        """Release the objects that the IRMd has released."""
        self._let_go(Resource.SEGMENT, message.segments, self._lib.segment_unmap)
        self._let_go(Resource.EVENTS, message.events, self._lib.events_unmap)
        self._let_go(Resource.POOL, message.pools, self._lib.pool_unmap)

    def _let_go(
        self, kind: Resource.Kind.ValueType, numbers: Iterable[int], unmap: Callable[[Any], None]
    ) -> None:
        table = self._table(kind)
        with self.held:
            for number in numbers:
                self._failed.pop((kind, number), None)
                if (mapped := table.pop(number, None)) is not None:
                    unmap(mapped)

    def close(self) -> None:
        """Let go of everything."""
        self.release(
            SegmentGone(segments=list(self.segments), events=list(self.events), pools=list(self.pools))
        )

    # ------------------------------------------------------------ the objects of a flow end

    def end(self, endpoint: FlowEndpoint) -> tuple[Any, Any, Any, Any]:
        """`struct pool *`, `struct segment *`, the peer's `struct events *` (it may be NULL) and `struct flow_spec *` of an end
        that the IRMd described. The caller holds `held` until the end has them. Raises OSError."""
        pool = self.pools.get(endpoint.pool) or self._named(Resource.POOL, endpoint.pool)
        segment = self.segments.get(endpoint.segment) or self._named(Resource.SEGMENT, endpoint.segment)
        peer = self.events.get(endpoint.peer_events)
        if peer is None:
            self._check_mapped(Resource.EVENTS, endpoint.peer_events)
            peer = self._ffi.NULL
        return pool, segment, peer, self._spec(endpoint)

    def region(self, number: int) -> Any:
        """`struct events *` of this process. Raises OSError."""
        return self._named(Resource.EVENTS, number)

    def _named(self, kind: Resource.Kind.ValueType, number: int) -> Any:
        found = self._table(kind).get(number)
        if found is None:
            self._check_mapped(kind, number)
            raise error(EPROTO, f"the IRMd named {_NAMES[kind]} {number}, which this process does not have")
        return found

    def _check_mapped(self, kind: Resource.Kind.ValueType, number: int) -> None:
        """Raise again why an object could not be mapped: without it, a flow would be deaf to its peer, or dumb."""
        failure = self._failed.get((kind, number)) if self._failed else None
        if failure is not None:
            raise error(failure.errno or EINVAL, str(failure))

    def key(self, endpoint: FlowEndpoint) -> Any:
        """The key of a flow whose packets are encrypted, else NULL. Raises OSError."""
        if not endpoint.cipher:
            return self._ffi.NULL
        if len(endpoint.key) != KEY_OCTETS:
            raise error(EPROTO, f"the IRMd gave flow {endpoint.flow_id} a key of {len(endpoint.key)} octets")
        return endpoint.key

    def _spec(self, endpoint: FlowEndpoint) -> Any:
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


def _unmappable(what: str, number: int) -> str:
    text = f"cannot map {what} of the IRMd: {strerror(number or EINVAL)}"
    if number == EMFILE:
        text += f"; this process may have {open_files()} open files; raise the limit (`ulimit -n`)"
    return text
