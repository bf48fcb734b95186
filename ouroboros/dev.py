"""The calls of the application interface (paper 4.1, Listing 1; docs/reference/api.md).

    with flow_alloc("oecho") as flow:
        flow.write(b"Client says hi!")
        print(flow.read())

A flow carries packets: one write is one packet, and a read returns (a part of) one. Allocating goes over RPC to the
IRMd. Everything that can go wrong raises a class of `ouroboros.errors`, all of them OSErrors with an errno.

Times are seconds (float). A time-out of None waits for ever; one of zero, or less, makes an allocation asynchronous:
the call returns immediately, and FEventType.FlowAlloc reports its end (`ouroboros.event`).
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import ENOTSUP
from typing import TYPE_CHECKING, Any

from . import arguments
from .errors import (
    FlowAllocatedException,
    FlowDeallocWarning,
    FlowDownException,
    FlowException,
    FlowNotAllocatedException,
    FlowPeerException,
    FlowPermissionException,
    FlowTimeout,
    error,
)
from .fccntl import ALL_PROPERTIES, Fccntl, FlowProperties, FrctFlags
from .flow import Flow
from .qos import BILLION, MILLION, QoSSpec

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "BILLION",
    "FRCT_FRAGMENT",
    "FRCT_LINGER",
    "FRCT_REASSEMBLE",
    "FRCT_RESCNTL",
    "FRCT_RETRANSMIT",
    "Fccntl",
    "Flow",
    "FlowAllocatedException",
    "FlowDeallocWarning",
    "FlowDownException",
    "FlowException",
    "FlowNotAllocatedException",
    "FlowPeerException",
    "FlowPermissionException",
    "FlowProperties",
    "FlowTimeout",
    "MILLION",
    "QoSSpec",
    "fccntl",
    "flow_accept",
    "flow_alloc",
    "flow_dealloc",
    "flow_join",
    "flow_read",
    "flow_write",
]

FRCT_RETRANSMIT = FrctFlags.Retransmit
FRCT_RESCNTL = FrctFlags.ResControl
FRCT_LINGER = FrctFlags.Linger
FRCT_FRAGMENT = FrctFlags.Fragment
FRCT_REASSEMBLE = FrctFlags.Reassemble


# ---------------------------------------------------------------- paper Listing 1


def flow_alloc(
    dst: str,
    qos: QoSSpec | None = None,
    timeo: float | None = None,
    *,
    layer: str | None = None,
    require: str | Iterable[str] = (),
) -> Flow:
    """Allocate a flow to the name `dst` (paper 2.11); see `Flow.alloc` for the errors.

    qos      what is asked for, a QoSSpec; None is QOS_RAW
    timeo    seconds; None: until the request is answered, refused or the layer gives up; <= 0: asynchronous
    layer    over this layer only, or through the IPCP of this name
    require  "encryption", "authentication", or both

        with flow_alloc("oecho", QOS_DATA) as flow:
            flow.write(b"hello")
            print(flow.read())
    """
    flow = Flow()
    flow.alloc(dst, qos, timeo, layer=layer, require=require)
    return flow


def flow_accept(timeo: float | None = None) -> Flow:
    """Wait for a flow to a name that this process is bound to (`irm bind`), for `timeo` seconds, or without limit.

    Raises FlowTimeout, and IrmdError without an IRMd; see `Flow.accept`.

        while True:
            with flow_accept() as flow:
                flow.write(flow.read())
    """
    flow = Flow()
    flow.accept(timeo)
    return flow


def flow_join(dst: str, qos: QoSSpec | None = None, timeo: float | None = None) -> Flow:
    """Join the broadcast layer `dst` (paper 2.13): each packet that is written reaches every other process that has joined.

    Arguments and errors as for `flow_alloc`; see `Flow.join`.
    """
    flow = Flow()
    flow.join(dst, timeo, qos=qos)
    return flow


def flow_dealloc(flow: Flow, timeo: float | None = None) -> None:
    """Deallocate a flow, within `timeo` seconds; see `Flow.dealloc`."""
    _method(flow, "dealloc")(timeo)


def flow_write(flow: Flow, buf: ReadableBuffer, count: int | None = None) -> int:
    """Write `buf`, or its first `count` octets, as one packet; returns the number of octets. See `Flow.write`."""
    return int(_method(flow, "write")(buf, count))


def flow_read(flow: Flow, count: int = 2048) -> bytes:
    """Read up to `count` octets of the packet at the front; see `Flow.read`."""
    packet: bytes = _method(flow, "read")(count)
    return packet


def _method(flow: Flow, name: str) -> Any:
    """A method of a flow; a fake one of `ouroboros.testing` will do."""
    method = getattr(flow, name, None)
    if method is None:
        arguments.wrong_type("flow", "a Flow", flow)
    return method


def fccntl(flow: Flow, cmd: int, arg: Any = None) -> Any:
    """Control a flow: `fccntl(flow, Fccntl.FLOWSRCVTIMEO, 0.5)` (docs/reference/api.md).

    Getters return the value, setters None. Time-outs are seconds, None clears one. Getting a time-out that is not set
    raises FlowPermissionException (EPERM); an unknown command raises FlowException with ENOTSUP.
    """
    arguments.instance("flow", flow, Flow)
    arguments.integer("cmd", cmd, takes="a member of Fccntl")
    if cmd in (Fccntl.FLOWGRCVTIMEO, Fccntl.FLOWGSNDTIMEO):
        timeo = flow.rcv_timeout if cmd == Fccntl.FLOWGRCVTIMEO else flow.snd_timeout
        if timeo is None:
            raise FlowPermissionException(f"flow {flow.fd} has no such time-out set")
        return timeo
    if cmd in _GETTERS:
        return getattr(flow, _GETTERS[Fccntl(cmd)])
    if cmd == Fccntl.FRCTGFLAGS:
        return flow.get_frct_flags()
    if cmd == Fccntl.FRCTSFLAGS:
        return flow.set_frct_flags(arguments.flags("arg", arg, arguments.UINT32_MAX, "FrctFlags"))
    if cmd not in _SETTERS:
        raise error(ENOTSUP, f"fccntl has no command {cmd:#o}")
    if cmd == Fccntl.FLOWSFLAGS:
        arg = FlowProperties(arguments.flags("arg", arg, ALL_PROPERTIES, "FlowProperties"))
    elif arg is not None:
        arguments.seconds("arg", arg)
    setattr(flow, _SETTERS[Fccntl(cmd)], arg)
    return None


_GETTERS = {
    Fccntl.FLOWGQOSSPEC: "qos",
    Fccntl.FLOWGFLAGS: "flags",
    Fccntl.FLOWGRXQLEN: "rx_queue_len",
    Fccntl.FLOWGTXQLEN: "tx_queue_len",
}

_SETTERS = {
    Fccntl.FLOWSRCVTIMEO: "rcv_timeout",
    Fccntl.FLOWSSNDTIMEO: "snd_timeout",
    Fccntl.FLOWSFLAGS: "flags",
}
