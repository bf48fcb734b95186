"""Messages that look right, with values at and beyond every limit of every field (`ouroboros.rpc.limits`)."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from ouroboros.rpc import limits
from ouroboros.rpc import messages_pb2 as messages

_MOST = {
    FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1,
    FieldDescriptor.CPPTYPE_INT32: 2**31 - 1,
    FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
    FieldDescriptor.CPPTYPE_INT64: 2**63 - 1,
}


def around(field: FieldDescriptor) -> st.SearchStrategy[object]:
    """A value of a field: an ordinary one, or one at a limit of its own, of its kind, or of its type, or just beyond."""
    kind = field.containing_type
    limit = limits.LIMITS.get(kind.name if kind else "", {}).get(field.name, limits.ANY)
    if field.enum_type is not None:
        known = sorted(field.enum_type.values_by_number)
        return st.sampled_from([*known, known[-1] + 1, 2**31 - 1])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        most = limits.TEXT if limit == limits.ANY else limit
        sizes = st.sampled_from([0, 1, most - 1, most, most + 1])
        if field.type == FieldDescriptor.TYPE_BYTES:
            return sizes.map(bytes)
        return st.one_of(sizes.map(lambda size: "x" * size), st.sampled_from(["a", "a\0", "*", "é" * 128]))
    largest = _MOST[field.cpp_type]
    edges = {0, 1, 255, 256, 2**16 - 1, 2**31 - 1, 2**32 - 1, largest}
    if limit != limits.ANY:
        edges |= {limit - 1, limit, limit + 1}
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        edges |= {-1, -limit - 1, -largest - 1}
    return st.sampled_from(sorted(number for number in edges if -largest - 1 <= number <= largest))


@st.composite
def strained(draw: st.DrawFn, base: Message, *, depth: int = 0) -> Message:
    """`base`, some of whose fields have a value from `around`; most keep theirs, so that the message gets far."""
    message = type(base)()
    message.CopyFrom(base)
    for field in message.DESCRIPTOR.fields:
        if draw(st.integers(0, 3)) or depth > 3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            count = draw(st.sampled_from([0, 1, 64, 65]))
            getattr(message, field.name).update({f"key{number}": "value" for number in range(count)})
        elif field.message_type is not None:
            kind = getattr(messages, field.message_type.name)
            if field.is_repeated:
                getattr(message, field.name).append(draw(strained(kind(), depth=depth + 1)))
            else:
                getattr(message, field.name).CopyFrom(
                    draw(strained(getattr(message, field.name), depth=depth + 1))
                )
        elif field.is_repeated:
            getattr(message, field.name).append(draw(around(field)))
        else:
            setattr(message, field.name, draw(around(field)))
    return message
