"""Limits of the fields of RPC messages: a message is checked whole at the boundary, before anything is acquired for it.

Both daemons check each message that arrives (`aio_session`), the library each flow end that it is to attach to. `LIMITS` has the
bounds beyond a field's protobuf type; every enumeration must have a known value, and no string has a NUL character,
which no path can have. The code that carries a message out checks whether its values are valid at the time.

The checks of a type are made once, from its descriptor. Almost every message passes one compiled expression (`_suspicion`);
the others are looked at field by field, for the reason.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from .messages_pb2 import Envelope

NAME = 255
"""Octets of a name: of a service, a layer, an IPCP, a user, a component."""
TEXT = 4096
"""Octets of any other string; a path, for one."""
HASH = 64
"""Octets of the hash of a name."""
DATA = 16384
"""Octets of the handshake that an allocation carries."""
KEY = 32
SOURCE = 64
"""Octets of an address in a layer, of any kind of layer."""
PATH = 8 + SOURCE
"""Octets of a path: the number of the IPCP, and such an address."""
CERTIFICATE = 16384
MPL_MS = 3_600_000
"""Longest maximum packet lifetime of a layer, ms: an hour."""
CONFIG_FILE = 1 << 20
"""Octets of a configuration file, which travels compressed."""
PACKET = 0xFFFFFFFF
DESCRIPTOR = 0xFFFF
RESPONSE = 0xFFFF
"""Largest errno, of either sign."""
ANY = -1
"""No limit but that of the whole message."""

_UNSIGNED = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)

LIMITS: dict[str, dict[str, int]] = {
    "Envelope": {"error": RESPONSE, "text": ANY},
    "QosSpec": {"availability": 0xFF, "in_order": 0xFF},
    "Hello": {"program": ANY, "version": NAME},
    "FlowAlloc": {"dst": NAME, "layer": NAME, "require": 3},
    "FlowJoin": {"layer": NAME},
    "FlowDealloc": {"fd": DESCRIPTOR},
    "FlowEndpoint": {
        "fd": DESCRIPTOR,
        "peer_fd": DESCRIPTOR,
        "side": 1,
        "mpl_ms": MPL_MS,
        "max_packet": PACKET,
        "data": DATA,
        "key": KEY,
        "peer_certificate": CERTIFICATE,
        "path": PATH,
        "layer": NAME,
        "resources": 16,
        "extensions": 64,
    },
    "FlowDone": {"error": RESPONSE, "text": ANY},
    "IpcpInfo": {"name": NAME, "layer": NAME, "state": NAME},
    "IpcpConfig": {"layer": NAME, "options": 64},
    "IpcpCreate": {"name": NAME},
    "IpcpEnroll": {"dst": NAME, "layer": NAME, "require": 3},
    "IpcpLayer": {"layer": NAME},
    "Access": {"require": 3},
    "IpcpConnect": {"dst": NAME, "component": NAME},
    "IpcpDisconnect": {"dst": NAME, "component": NAME},
    "BindProgram": {"name": NAME, "user": NAME, "args": 4096},
    "UnbindProgram": {"name": NAME},
    "BindProcess": {"name": NAME},
    "UnbindProcess": {"name": NAME},
    "NameInfo": {"name": NAME},
    "NameCreate": {"given": 8},
    "NameSet": {"name": NAME},
    "NameDestroy": {"name": NAME},
    "NameRegister": {"name": NAME},
    "NameUnregister": {"name": NAME},
    "NameList": {"name": NAME},
    "Readout": {"what": NAME},
    "ReadoutTable": {"rows": ANY},
    "NodeApply": {"file": ANY},
    "NodeReport": {"changes": ANY, "file": ANY},
    "IpcpReg": {"hash": HASH},
    "IpcpUnreg": {"hash": HASH},
    "IpcpQuery": {"hash": HASH},
    "IpcpFlowAlloc": {"dst": HASH, "data": DATA},
    "IpcpFlowJoin": {"dst": HASH},
    "IpcpFlowAllocResp": {"fd": DESCRIPTOR, "response": RESPONSE, "data": DATA},
    "IpcpFlowDealloc": {"fd": DESCRIPTOR},
    "IpcpFlowAgain": {"fd": DESCRIPTOR, "data": DATA},
    "IpcpFlowReq": {
        "hash": HASH,
        "mpl_ms": MPL_MS,
        "max_packet": PACKET,
        "data": DATA,
        "source": SOURCE,
    },
    "IpcpFlowAllocReply": {
        "fd": DESCRIPTOR,
        "response": RESPONSE,
        "mpl_ms": MPL_MS,
        "max_packet": PACKET,
        "data": DATA,
    },
    "IpcpState": {"state": NAME},
    "IpcpFlowEvent": {"fd": DESCRIPTOR},
}
"""By message and field: the largest number (of either sign), octets of a string or of bytes, or how many entries. A string that is
not here has up to TEXT octets; numbers and bytes that are not may be any."""


class Violation(NamedTuple):
    """A violation in a message: an errno, and a text that names the field."""

    errno: int
    text: str


Check = Callable[[Any], Violation | None]


def violation(envelope: Envelope) -> Violation | None:
    """The violation in a message; None when its fields are within their limits."""
    if not -RESPONSE <= envelope.error <= RESPONSE:
        return Violation(errno.EINVAL, f"error is {envelope.error}, which is no errno")
    body = envelope.WhichOneof("body")
    if body is None:
        return None
    message = getattr(envelope, body)
    suspicious = _suspicions.get(type(message))
    return check(message) if suspicious is None or suspicious(message) else None


def check(message: Any) -> Violation | None:
    """The same of one of the messages in it."""
    kind = type(message)
    suspicious = _suspicions.get(kind)
    if suspicious is None:
        source = " or ".join(_suspicion(kind.DESCRIPTOR, "message")) or "False"
        suspicious = _suspicions[kind] = eval(f"lambda message: {source}")
    return _reason(message) if suspicious(message) else None


_suspicions: dict[type[Any], Callable[[Any], bool]] = {}


def _suspicion(kind: Descriptor, message: str) -> Iterator[str]:
    """Expressions, in order, of which one is true when something may be wrong with a message of that kind. A message in another is
    assigned to a variable: protobuf makes an object for it at each access."""
    limits = LIMITS.get(kind.name, {})
    for field in kind.fields:
        value, limit = f"{message}.{field.name}", limits.get(field.name)
        text = field.type == FieldDescriptor.TYPE_STRING
        if limit == ANY:
            continue
        if field.is_repeated:
            if text or field.message_type is not None:
                yield f"len({value}) > 0"
            elif limit is not None:
                yield f"len({value}) > {limit}"
        elif field.message_type is not None:
            variable = f"{message}_{field.name}"
            parts = list(_suspicion(field.message_type, variable))
            if parts:
                yield f"({variable} := {value}) is None"  # never: this assigns it
                yield from parts
        elif field.enum_type is not None:
            yield f"not 0 <= {value} < {len(field.enum_type.values)}"
        elif text:
            yield f"len({value}) > {(TEXT if limit is None else limit) // 4} or '\\0' in {value}"
        elif limit is not None:
            if field.type == FieldDescriptor.TYPE_BYTES:
                yield f"len({value}) > {limit}"
            else:
                yield (
                    f"{value} > {limit}" if field.type in _UNSIGNED else f"not {-limit} <= {value} <= {limit}"
                )


def _reason(message: Any) -> Violation | None:
    for one in _checks(message.DESCRIPTOR):
        wrong = one(message)
        if wrong is not None:
            return wrong
    return None


_made: dict[str, tuple[Check, ...]] = {}


def _checks(kind: Descriptor) -> tuple[Check, ...]:
    found = _made.get(kind.name)
    if found is None:
        limits = LIMITS.get(kind.name, {})
        found = tuple(one for field in kind.fields for one in _checks_of(field, limits.get(field.name)))
        _made[kind.name] = found
    return found


def _checks_of(field: FieldDescriptor, limit: int | None) -> list[Check]:
    """The checks of a field."""
    checks: list[Check] = []
    if field.is_repeated and limit is not None and limit != ANY:
        checks.append(_count(field, limit))
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        checks.append(_map(field))
        return checks
    value = _value(field, None if field.is_repeated else limit)
    if value is None or (field.is_repeated and limit == ANY):
        return checks
    name = field.name
    if field.is_repeated:
        checks.append(lambda message: next(filter(None, map(value, getattr(message, name))), None))
    elif field.message_type is not None:
        checks.append(lambda message: value(getattr(message, name)) if message.HasField(name) else None)
    else:
        checks.append(lambda message: value(getattr(message, name)))
    return checks


def _where(field: FieldDescriptor) -> str:
    kind = field.containing_type
    return field.name if kind is None else f"{field.name} of {kind.name}"


def _count(field: FieldDescriptor, most: int) -> Check:
    name, where = field.name, _where(field)

    def count(message: Any) -> Violation | None:
        entries = len(getattr(message, name))
        if entries <= most:
            return None
        return Violation(errno.E2BIG, f"{where} has {entries} entries; {most} is the most")

    return count


def _map(field: FieldDescriptor) -> Check:
    name, text = field.name, _string(_where(field), TEXT)

    def pairs(message: Any) -> Violation | None:
        for pair in getattr(message, name).items():
            for one in pair:
                wrong = text(one)
                if wrong is not None:
                    return wrong
        return None

    return pairs


def _value(field: FieldDescriptor, limit: int | None) -> Check | None:
    """The check of one value of a field; None when any will do."""
    where = _where(field)
    if field.message_type is not None:
        kind = field.message_type
        return check if _checks(kind) else None
    if field.enum_type is not None:
        return _known(where, frozenset(field.enum_type.values_by_number))
    if field.type == FieldDescriptor.TYPE_STRING:
        return None if limit == ANY else _string(where, TEXT if limit is None else limit)
    if limit is None or limit == ANY:
        return None
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _octets(where, limit)
    return _number(where, limit)


def _known(where: str, numbers: frozenset[int]) -> Check:
    def known(value: int) -> Violation | None:
        return None if value in numbers else Violation(errno.EINVAL, f"{where} is {value}, which is unknown")

    return known


def _string(where: str, most: int) -> Check:
    def string(value: str) -> Violation | None:
        if len(value) * 4 > most and len(value.encode()) > most:
            return Violation(errno.ENAMETOOLONG, f"{where} is longer than {most} octets")
        return Violation(errno.EINVAL, f"{where} has a NUL character") if "\0" in value else None

    return string


def _octets(where: str, most: int) -> Check:
    def octets(value: bytes) -> Violation | None:
        if len(value) <= most:
            return None
        return Violation(errno.EMSGSIZE, f"{where} has {len(value)} octets; {most} is the most")

    return octets


def _number(where: str, most: int) -> Check:
    def number(value: int) -> Violation | None:
        if -most <= value <= most:
            return None
        return Violation(errno.EINVAL, f"{where} is {value}; {most} is the most")

    return number
