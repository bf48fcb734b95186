"""The extensions that apply to a flow, by its QoS and its layer (docs/design/wire.md; paper 5.1).

Used by the IRMd; pure functions. They extend FRCP, so a flow without in_order has none, but one: that a link layer measures the
path under the flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ouroboros.extension import Extension

from .extension import REPEATS, Extensions, Item, lasting

if TYPE_CHECKING:
    from collections.abc import Container

    from ouroboros.rpc.messages_pb2 import QosSpec


def applicable(qos: QosSpec, *, inside: bool, link: bool = False) -> frozenset[int]:
    """The extensions that such a flow may have. `inside`: its packets stay in the memory of this system, without bit errors;
    `link`: they go over a link layer."""
    kinds = {Extension.PATH} if link else set()
    if not qos.in_order:
        return frozenset(kinds)
    kinds.add(Extension.FRAGMENTATION)
    if not qos.loss:
        kinds |= {Extension.SELECTIVE, Extension.END}
    if not inside:
        kinds.add(Extension.FRCP_CHECK)
    return frozenset(kinds)


def offered(qos: QosSpec, *, inside: bool, link: bool = False) -> frozenset[int]:
    """The extensions to offer for a flow that an application requests: the check only where its QoS allows no bit error."""
    kinds = applicable(qos, inside=inside, link=link)
    return kinds - {Extension.FRCP_CHECK} if qos.ber else kinds


def make(
    kinds: frozenset[int], supported: Container[int], repeats: bytes = b"", lasts_ms: int | None = None
) -> Extensions | None:
    """An offer of these types, in a request that replaces those with the ids `repeats`, if given, and that its requester cancels
    after `lasts_ms`, if it waits for less time than the layer; None when there is nothing to offer."""
    items = tuple(Item(kind) for kind in sorted(kinds) if kind in supported)
    if repeats:
        items = (*items, Item(REPEATS, repeats))
    if lasts_ms is not None:
        items = (*items, lasting(lasts_ms))
    return Extensions(items) if items else None


def carried(qos: QosSpec, *, inside: bool) -> QosSpec:
    """The QoS in the request to a layer: with FRCP a prototype has no check against bit errors (spec/protection 2)."""
    if inside or not qos.in_order or qos.ber:
        return qos
    return _with_ber(qos, 1)


def obtained(qos: QosSpec, granted: frozenset[int], *, inside: bool) -> QosSpec:
    """The QoS that a flow has over a layer: without bit errors where its packets are checked."""
    if not qos.in_order:
        return qos
    if Extension.FRCP_CHECK in granted:
        return _with_ber(qos, 0)
    return qos if inside else _with_ber(qos, qos.ber or 1)


def _with_ber(qos: QosSpec, ber: int) -> QosSpec:
    changed = type(qos)()
    changed.CopyFrom(qos)
    changed.ber = ber
    return changed
