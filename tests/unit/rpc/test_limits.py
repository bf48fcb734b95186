"""Limits of RPC messages: at each limit a value passes, beyond it the message is refused whole, with the field named."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import Counter
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from ouroboros.qos import QOS_DATA
from ouroboros.rpc import limits
from ouroboros.rpc import messages_pb2 as messages
from ouroboros.rpc.aio_session import Session
from ouroboros.rpc.codec import receive, send
from ouroboros.rpc.messages_pb2 import Envelope, FlowAlloc, FlowDealloc, IpcpLayer, QosSpec

LIMITED = [
    (kind, field, most)
    for kind, fields in limits.LIMITS.items()
    for field, most in fields.items()
    if most != limits.ANY and kind != "Envelope"
]


def with_value(kind: str, name: str, amount: int) -> Any:
    """A message whose field has that size: a number, octets of a string, or a count of entries."""
    message = getattr(messages, kind)()
    field = message.DESCRIPTOR.fields_by_name[name]
    target = getattr(message, name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        target.update({str(number): "" for number in range(amount)})
    elif field.is_repeated and field.message_type is not None:
        for _ in range(amount):
            target.add()
    elif field.is_repeated:
        empty = "" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else 0
        target.extend([empty] * amount)
    elif field.type == FieldDescriptor.TYPE_STRING:
        setattr(message, name, "é" * (amount // 2) + "x" * (amount % 2))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, name, bytes(amount))
    else:
        setattr(message, name, amount)
    return message


@pytest.mark.parametrize(("kind", "field", "most"), LIMITED)
def test_each_limit(kind: str, field: str, most: int) -> None:
    assert limits.check(with_value(kind, field, most)) is None
    if most == limits.PACKET:
        return  # some of these fields cannot hold more
    wrong = limits.check(with_value(kind, field, most + 1))
    assert wrong is not None and wrong.text.startswith(f"{field} of {kind} ")
    assert wrong.errno in (errno.EINVAL, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.E2BIG)


def test_the_largest_packet() -> None:
    wrong = limits.check(messages.FlowEndpoint(max_packet=2**32))
    assert wrong is not None and "max_packet" in wrong.text


@pytest.mark.parametrize("kind", [one for one in dir(messages) if one in limits.LIMITS])
def test_strings_of_every_message(kind: str) -> None:
    """A string that has no limit of its own has one all the same, and none has a NUL."""
    made = getattr(messages, kind)
    for field in made.DESCRIPTOR.fields:
        if field.type != FieldDescriptor.TYPE_STRING or field.is_repeated or kind == "Envelope":
            continue
        if limits.LIMITS[kind].get(field.name) == limits.ANY:
            continue
        for text in ("a\0b", "x" * (limits.TEXT + 1)):
            wrong = limits.check(made(**{field.name: text}))
            assert wrong is not None and field.name in wrong.text


def test_what_is_nested_is_checked() -> None:
    envelope = Envelope(flow_alloc=FlowAlloc(dst="a", qos=QosSpec(availability=256)))
    wrong = limits.violation(envelope)
    assert wrong == (errno.EINVAL, "availability of QosSpec is 256; 255 is the most")
    endpoint = messages.FlowEndpoint()
    endpoint.resources.add(kind=3)  # type: ignore[arg-type]
    done = Envelope(flow_done=messages.FlowDone(endpoint=endpoint))
    wrong = limits.violation(done)
    assert wrong is not None and "kind of Resource is 3, which is unknown" in wrong.text
    config = Envelope()
    config.ipcp_bootstrap.config.options["a\0"] = ""
    assert limits.violation(config) is not None


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31), 65536])
def test_errors_are_errnos(number: int) -> None:
    assert limits.violation(Envelope(id=1, reply=True, error=number)) is not None
    reply = Envelope()
    reply.ipcp_flow_alloc_reply.response = number
    assert limits.violation(reply) is not None


def test_what_everybody_says_passes() -> None:
    assert limits.violation(Envelope()) is None
    assert limits.violation(Envelope(flow_alloc=FlowAlloc(dst="a", qos=QOS_DATA.to_proto()))) is None


def test_a_session_refuses_before_anybody_hears_of_it() -> None:
    """A request gets an error, a reply counts as one, a notification goes nowhere; descriptors are closed."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        heard: list[Envelope] = []
        refused: Counter[str] = Counter()
        session = Session(
            loop,
            ours,
            on_message=lambda _session, envelope, _fds: heard.append(envelope),
            on_close=lambda _session, _reason: None,
            refused=refused,
        )
        wrong = FlowAlloc(dst="x" * 256)
        before = len(os.listdir("/proc/self/fd"))
        send(theirs, Envelope(flow_dealloc=FlowDealloc(fd=65536)), (theirs.fileno(),))
        send(theirs, Envelope(id=7, flow_alloc=wrong), (theirs.fileno(),))
        session.drain()
        answer = receive(theirs)
        assert answer is not None and answer[0].id == 7 and answer[0].error == errno.ENAMETOOLONG
        assert "dst of FlowAlloc is longer than 255 octets" in answer[0].text
        asked = loop.create_task(session.call(Envelope(), timeout=None))
        await asyncio.sleep(0)
        assert receive(theirs) is not None
        send(theirs, Envelope(id=1, reply=True, ipcp_layer=IpcpLayer(hash=99)))  # type: ignore[arg-type]
        reply = await asked
        assert reply is not None and reply.error == errno.EINVAL and not reply.HasField("ipcp_layer")
        assert refused == {"flow_dealloc": 1, "flow_alloc": 1, "ipcp_layer": 1}
        assert not heard and len(os.listdir("/proc/self/fd")) == before
        session.close()
        theirs.close()
        await asyncio.sleep(0)

    asyncio.run(test())


def test_enumerations_have_no_gaps() -> None:
    """The compiled expression compares with the count of values."""
    for kind in vars(messages).values():
        for field in getattr(getattr(kind, "DESCRIPTOR", None), "fields", ()):
            if field.enum_type is not None:
                known = sorted(field.enum_type.values_by_number)
                assert known == list(range(len(known))), field.full_name


@pytest.mark.parametrize("kind", limits.LIMITS)
def test_nothing_that_has_a_reason_passes_unsuspected(kind: str) -> None:
    """What the compiled expression lets pass is what the field by field check lets pass."""
    made = getattr(messages, kind)
    for field in made.DESCRIPTOR.fields:
        if kind == "Envelope" or field.message_type is not None:
            continue
        for amount in (0, 1, 2, 3, 4, 254, 255, 256, 257, 4096, 4097, 16384, 16385, 65535, 65536, 2**31 - 1):
            if amount > 2**17 and field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
                continue
            if (
                amount > 1
                and field.cpp_type == FieldDescriptor.CPPTYPE_BOOL
                or field.is_repeated
                and amount > 2**17
            ):
                continue
            message = with_value(kind, field.name, amount)
            assert limits.check(message) == limits._reason(message), (field.name, amount)
