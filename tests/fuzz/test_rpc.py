"""Fuzzing of the RPC socket: the codec alone, and an IRMd that receives any message that a process may send.

Every message is either answered, refused with an errno and a text, or ends its own connection. The IRMd continues, keeps
the flows and bindings of others, and logs no traceback. Messages are made by walking the protobuf descriptors, so a new message is
fuzzed from the day on which it is added.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ouroboros.qos import QOS_DATA, QOS_RAW, QOS_VOICE
from ouroboros.rpc import messages_pb2 as messages
from ouroboros.rpc.codec import MAX_MESSAGE, RPC_VERSION, ProtocolError, close_fds, decode, receive, send
from ouroboros.rpc.messages_pb2 import Envelope, FlowAlloc, Hello
from tests.system.conftest import System

from .edges import strained

# Requests that start and end processes must not get random arguments on the machine that runs the tests.
HARMFUL = {"bind_program", "ipcp_create", "ipcp_destroy"}
BODIES = [
    field.name for field in Envelope.DESCRIPTOR.oneofs_by_name["body"].fields if field.name not in HARMFUL
]
SAFE = settings(suppress_health_check=list(HealthCheck), deadline=None)

NUMBERS = st.one_of(
    st.integers(0, 70), st.sampled_from([0, 1, 64, 65, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1])
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "local", "oping", "/", "..", "\0", "x" * 256, "*", "é" * 128]),
    st.text(max_size=40),
)


@st.composite
def filled(draw: st.DrawFn, kind: type[Message], depth: int = 0) -> Message:
    """A message of that kind with some of its fields set to something."""
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        if depth > 2 or draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(draw(st.dictionaries(TEXTS, TEXTS, max_size=3)))
        elif field.message_type is not None:
            part = draw(filled(getattr(messages, field.message_type.name), depth + 1))
            target = getattr(message, field.name)
            target.append(part) if field.is_repeated else target.CopyFrom(part)
        else:
            value = draw(_value(field))
            getattr(message, field.name).append(value) if field.is_repeated else setattr(
                message, field.name, value
            )
    return message


def _value(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=80) if field.type == FieldDescriptor.TYPE_BYTES else TEXTS
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.integers(0, 9)
    most = {FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1, FieldDescriptor.CPPTYPE_INT32: 2**31 - 1}.get(
        field.cpp_type, 2**64 - 1
    )
    return NUMBERS.map(lambda number: min(number, most))


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """Any message, well-formed as protobuf, with any id."""
    name = draw(st.sampled_from(BODIES))
    envelope = Envelope(
        id=draw(NUMBERS), reply=draw(st.integers(0, 9)) == 0, error=draw(st.sampled_from([0, 0, 1, -1]))
    )
    body = getattr(envelope, name)
    body.SetInParent()
    body.CopyFrom(draw(filled(type(body))))
    return envelope


# ---------------------------------------------------------------- the codec


@SAFE
@given(st.binary(max_size=300))
def test_decoding_garbage_gives_an_envelope_or_a_protocol_error(data: bytes) -> None:
    try:
        decoded = decode(data, [], 0)
    except ProtocolError:
        return
    assert (decoded is None) == (not data)


@SAFE
@given(envelopes(), st.data())
def test_a_damaged_message_never_does_more_than_that(envelope: Envelope, data: st.DataObject) -> None:
    octets = bytearray(envelope.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if octets:
            octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(octets)))
    try:
        decode(bytes(octets[:cut]), [], 0)
    except ProtocolError:
        pass


@SAFE
@given(envelopes())
def test_what_is_sent_is_what_is_received(envelope: Envelope) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        if not envelope.SerializeToString():
            return
        send(ours, envelope, (ours.fileno(),))
        received = receive(theirs)
        assert received is not None and received[0] == envelope and len(received[1]) == 1
        close_fds(received[1])


# ---------------------------------------------------------------- a running IRMd


def _greeted(path: Path, kind: Hello.Kind.ValueType) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(30)
    sock.connect(str(path))
    hello = Hello(kind=kind, rpc_version=RPC_VERSION, layout_version=1, program="/fuzz")
    send(sock, Envelope(id=1, hello=hello))
    answer = receive(sock)
    assert answer is not None and answer[0].HasField("welcome"), answer
    close_fds(answer[1])
    return sock


def _flush(sock: socket.socket) -> None:
    """Wait until the IRMd has dealt with everything sent so far: answered a last request, or ended the connection."""
    last = Envelope(id=2**40)
    last.name_list.SetInParent()
    try:
        send(sock, last)
        while (answer := receive(sock)) is not None:
            close_fds(answer[1])
            if answer[0].id == last.id and answer[0].reply:
                return
    except (BrokenPipeError, ConnectionResetError):
        pass


SERVER = """
    import threading
    from ouroboros import flow_accept
    def echo(flow):
        with flow:
            for packet in flow:
                flow.write(packet)
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=(flow_accept(),), daemon=True).start()
"""
BYSTANDER = """
    import signal, threading
    from ouroboros import flow_alloc
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    rounds = 0
    while not ending.is_set():
        for layer in ("", "survivor"):
            with flow_alloc("server", layer=layer) as flow:
                flow.rcv_timeout = 30
                for _ in range(20):
                    flow.write(b"still here")
                    assert flow.read() == b"still here"
        rounds += 1
        print("rounds", rounds, flush=True)
    print("undisturbed", flush=True)
"""


@pytest.fixture(scope="module")
def fuzzed_irmd() -> Iterator[Path]:
    """One IRMd for all examples, with a layer that must survive them, and flows of others that must go on."""
    system = System()
    try:
        system.local_layer("survivor")
        server = system.python(SERVER)
        server.expect("ready")
        system.irm(f"bind process {server.pid} name server")
        system.irm("name register server layer survivor")
        bystander = system.python(BYSTANDER)
        bystander.expect("rounds 1")
        yield system.rundir / "irm.sock"
        bystander.expect("rounds")
        bystander.signal(signal.SIGTERM)
        bystander.expect("undisturbed")
        assert bystander.wait() == 0, bystander.output
        server.kill()
        layers = [ipcp["layer"] for ipcp in system.json("ipcp list")["ipcps"]]
        assert layers == ["survivor"]
        assert "Traceback" not in system.irmd.output, system.irmd.output
        assert system.json("flow list")["flows"] == []
        system.stop()
    finally:
        system.close()


@settings(SAFE, max_examples=150)
@given(
    kind=st.sampled_from([Hello.APPLICATION, Hello.TOOL]), sent=st.lists(envelopes(), min_size=1, max_size=12)
)
def test_no_message_disturbs_the_irmd(
    fuzzed_irmd: Path, kind: Hello.Kind.ValueType, sent: list[Envelope]
) -> None:
    with _greeted(fuzzed_irmd, kind) as sock:
        for envelope in sent:
            try:
                send(sock, envelope)
            except (BrokenPipeError, ConnectionResetError, ProtocolError):
                break
        _flush(sock)


@settings(SAFE, max_examples=60)
@given(data=st.data())
def test_no_value_disturbs_the_flows_of_others(fuzzed_irmd: Path, data: st.DataObject) -> None:
    """Allocations that look right, over the layer and to the server that others use, with values at and beyond each limit."""
    with _greeted(fuzzed_irmd, Hello.APPLICATION) as sock:
        for number in range(data.draw(st.integers(1, 8))):
            qos = data.draw(st.sampled_from([QOS_RAW, QOS_VOICE, QOS_DATA])).to_proto()
            layer = data.draw(st.sampled_from(["", "survivor"]))
            asked = data.draw(strained(FlowAlloc(dst="server", layer=layer, qos=qos, timeout_ns=10**8)))
            assert isinstance(asked, FlowAlloc)
            try:
                send(sock, Envelope(id=number + 1, flow_alloc=asked))
            except (BrokenPipeError, ConnectionResetError, ProtocolError):
                break
        _flush(sock)


@settings(SAFE, max_examples=100)
@given(sent=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5), greet=st.booleans())
def test_no_octets_disturb_the_irmd(fuzzed_irmd: Path, sent: list[bytes], greet: bool) -> None:
    if greet:
        sock = _greeted(fuzzed_irmd, Hello.APPLICATION)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(30)
        sock.connect(str(fuzzed_irmd))
    with sock:
        try:
            for octets in sent:
                sock.send(octets)
        except (BrokenPipeError, ConnectionResetError):
            return
        _flush(sock)


def test_an_oversized_message_ends_its_own_connection(fuzzed_irmd: Path) -> None:
    with _greeted(fuzzed_irmd, Hello.TOOL) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_MESSAGE)
        sock.send(b"\n" * (2 * MAX_MESSAGE))
        assert receive(sock) is None
