"""Errors: one exception tree, every leaf an `OSError` with an errno and one line of text.

Imported by every process of a system. The numbers from 1000 up are Ouroboros' own (docs/reference/api.md); the names
are those of the existing Python binding (docs/reference/api.md). `error()` turns an errno from the data plane or from an
RPC reply into the class that fits, so that both `except TimeoutError` and `except FlowException` catch it.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import ClassVar

ENOTALLOC = 1000
EIPCPTYPE = 1001
EIRMD = 1002
EIPCP = 1003
EIPCPSTATE = 1004
EFLOWDOWN = 1005
EFLOWPEER = 1006
ENAME = 1007
ECRYPT = 1008
EAUTH = 1009

_TEXTS = {
    ENOTALLOC: "Flow is not allocated",
    EIPCPTYPE: "Unknown or unsuitable IPCP type",
    EIRMD: "The IRMd does not answer; start it with `irmd`",
    EIPCP: "The IPCP does not answer or refused",
    EIPCPSTATE: "The IPCP is in the wrong state for this",
    EFLOWDOWN: "Flow is down",
    EFLOWPEER: "The peer of the flow does not answer any more",
    ENAME: "Name is not known",
    ECRYPT: "Encryption failed",
    EAUTH: "The request was not accepted as authentic: most often clocks differ by more than 0.1 s, or a certificate is missing "
    "or not trusted; the log of the IRMd that refused says which",
}


def strerror(number: int) -> str:
    """Text for an errno, the system's or one of Ouroboros' own."""
    return _TEXTS.get(number) or os.strerror(number)


def known_errno(response: int) -> int:
    """The errno of a response in another member's message, which may carry any number: other systems have
    other numbers, and some send positive ones. ECONNREFUSED for a number without a meaning."""
    number = abs(response)
    return number if number in _errno.errorcode or number in _TEXTS else _errno.ECONNREFUSED


class OuroborosError(OSError):
    """Root of the tree. `errno` is always set; `str()` is one line fit for a person.

    `name`, `layer` and `reason` are for programs. Called with nothing it takes the errno of its class, with a text only that errno and the text, else
    (errno, text) as any OSError.
    """

    default_errno: ClassVar[int] = _errno.EIO
    name: str | None = None
    """The name of the flow, the IPCP or the service that the call was about, where it was about one."""
    layer: str | None = None
    """The layer that the call named."""

    @property
    def reason(self) -> str:
        """The text, without anything around it."""
        return str(self.strerror)

    def __init__(self, number: int | str | None = None, text: str = "") -> None:
        if isinstance(number, str):
            text = number
        code = number if isinstance(number, int) else self.default_errno
        super().__init__(code, text or strerror(code))

    def __str__(self) -> str:
        return str(self.strerror)


# ---------------------------------------------------------------- flows


class FlowException(OuroborosError):
    """A call on a flow failed."""


class FlowTimeout(FlowException, TimeoutError):
    """The time that was set for the call is over."""

    default_errno = _errno.ETIMEDOUT


class FlowLingerException(FlowException):
    """The flow was deallocated, and went down before its peer had acknowledged everything; `octets` is the unacknowledged part."""

    default_errno = EFLOWDOWN

    def __init__(self, number: int | str | None = None, text: str = "", *, octets: int = 0) -> None:
        super().__init__(number, text)
        self.octets = octets


class FlowLingerTimeout(FlowLingerException, FlowTimeout):
    """The flow was left, and its peer has not acknowledged everything in time."""

    default_errno = _errno.ETIMEDOUT


class FlowWouldBlock(FlowException, BlockingIOError):
    """The flow, or the set, is non-blocking and the call would have to wait."""

    default_errno = _errno.EAGAIN


class FlowInterrupted(FlowException, InterruptedError):
    """The call was given up before it had an answer."""

    default_errno = _errno.EINTR


class FlowValueError(FlowException, ValueError):
    """An argument is invalid."""

    default_errno = _errno.EINVAL


class FlowMemoryError(FlowException, MemoryError):
    """The packet pool, or a table, is full."""

    default_errno = _errno.ENOMEM


class FlowPermissionException(FlowException, PermissionError):
    """The flow's access mode or the user's rights forbid it."""

    default_errno = _errno.EPERM


class FlowResetException(FlowException, ConnectionResetError):
    """An allocation failed because the member of the layer that carries the request took another address. Allocate again."""

    default_errno = _errno.ECONNRESET


class FlowAllocatedException(FlowException):
    """The Flow object already has a flow."""

    default_errno = _errno.EISCONN


class FlowNotAllocatedException(FlowException):
    """The Flow object has no flow, or no longer."""

    default_errno = ENOTALLOC


class FlowDownException(FlowException):
    """The flow is down; everything received before has been delivered."""

    default_errno = EFLOWDOWN


class FlowPeerException(FlowDownException):
    """The keep-alive of the peer has run out."""

    default_errno = EFLOWPEER


class FlowEventError(FlowException):
    """A call on a flow set or an event queue failed."""

    default_errno = _errno.EINVAL


class FlowEventValueError(FlowEventError, FlowValueError):
    """An argument of a call on a flow set is invalid, or the set was destroyed."""


class FlowEventTimeout(FlowEventError, FlowTimeout):
    """No event within the time-out."""

    default_errno = _errno.ETIMEDOUT


class FlowDeallocWarning(FlowException, Warning):
    """Deallocation found nothing to deallocate."""

    default_errno = ENOTALLOC


# ---------------------------------------------------------------- management


class IrmError(OuroborosError):
    """A management call failed."""


class IrmdError(IrmError, FlowException, ConnectionError):
    """There is no IRMd, or it has exited: both a management and a flow error, since either call can meet it."""

    default_errno = EIRMD


class ArgumentError(IrmError, FlowValueError):
    """An argument of a call has a value that it does not take: both a management and a flow error. (A type: TypeError.)"""


class IpcpCreateError(IrmError):
    """An IPCP could not be created or destroyed."""

    default_errno = EIPCP


class IpcpBootstrapError(IrmError):
    """An IPCP could not be bootstrapped."""

    default_errno = EIPCP


class IpcpEnrollError(IrmError):
    """An IPCP could not be enrolled."""

    default_errno = EIPCP


class IpcpConnectError(IrmError):
    """Two IPCPs could not be connected or disconnected."""

    default_errno = EIPCP


class IrmNameError(IrmError):
    """A name could not be created, destroyed or registered. `ouroboros.irm.NameError` in the binding."""

    default_errno = ENAME


class BindError(IrmError):
    """A program, process or IPCP could not be bound or unbound."""


# ---------------------------------------------------------------- from numbers

_FLOW_CLASSES: dict[int, type[FlowException]] = {
    _errno.ETIMEDOUT: FlowTimeout,
    _errno.EAGAIN: FlowWouldBlock,
    _errno.EINTR: FlowInterrupted,
    _errno.EINVAL: FlowValueError,
    _errno.ENOMEM: FlowMemoryError,
    _errno.EPERM: FlowPermissionException,
    _errno.EACCES: FlowPermissionException,
    _errno.ECONNRESET: FlowResetException,
    _errno.EBADF: FlowNotAllocatedException,
    ENOTALLOC: FlowNotAllocatedException,
    EFLOWDOWN: FlowDownException,
    EFLOWPEER: FlowPeerException,
}


def error(number: int, text: str = "", *, default: type[OuroborosError] = FlowException) -> OuroborosError:
    """The exception for an errno (its sign does not matter), to be raised by the caller.

    `default` is the class of the call: FlowException, or one derived from it, is made more precise by the
    number; a management class stays, except that a lost IRMd is always IrmdError.
    """
    number = abs(number)
    if number == EIRMD:
        return IrmdError(number, text)
    if default is FlowException:
        default = _FLOW_CLASSES.get(number, default)
    return default(number, text)


def about(failure: BaseException, name: str | None, layer: str | None = None) -> None:
    """Note in an error what the call that failed was about."""
    if isinstance(failure, OuroborosError):
        failure.name = failure.name or name or None
        failure.layer = failure.layer or layer or None
