"""A program of one user that tries to get at the packets of another: run by `test_users`, which lists the attempts that must fail.

    intruder.py UID PROGRAM PIDS...     PROGRAM: path of another user's server; PIDS: processes to attack

Root becomes user UID first. Every attempt prints `tried WHAT`; an attempt that succeeds and must not prints `BROKE WHAT`. At the end it
writes random octets into all memory that it was given, for as long as it lives.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product

from ouroboros.dataplane._dataplane import lib
from ouroboros.rpc import codec
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowAccept,
    FlowAlloc,
    FlowDealloc,
    Hello,
    IpcpFlowAllocReply,
    IpcpFlowEvent,
    IpcpFlowReq,
    QosSpec,
)

SECRET = b"what user A keeps to himself"
OURS = b"what the intruder knows of"
F_ADD_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_WRITE = 1033, 16, 8
PIDFD_GETFD, PROCESS_VM_READV, PTRACE_ATTACH = 438, 310, 16

libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int) -> None:
    """As if this program had been started by that user."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: a change of user takes it away


def tried(what: str, works: object = False) -> None:
    print(f"{'BROKE' if works else 'tried'} {what}", flush=True)


def denied(what: str, attempt: Callable[..., object], *arguments: object) -> None:
    """It must not be permitted; another error would mean that it was, and did not work for us."""
    try:
        worked = attempt(*arguments)
    except PermissionError:
        tried(what)
    except OSError as error:
        tried(f"{what}: {error}", True)
    else:
        tried(f"{what}: {worked!r}", True)


class Peer:
    """A connection to the IRMd without the library: it sends any octets."""

    def __init__(
        self, kind: Hello.Kind.ValueType | None = Hello.Kind.APPLICATION, program: str = "/bin/intruder"
    ) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(60)
        self.sock.connect(f"{os.environ['OUROBOROS_RUNDIR']}/{codec.SOCKET_NAME}")
        self.number = 0
        self.fds: list[tuple[int, int, list[int]]] = []
        """Kind and id of every resource, and its descriptors."""
        if kind is not None:
            hello = Hello(
                kind=kind, rpc_version=codec.RPC_VERSION, layout_version=lib.LAYOUT_VERSION, program=program
            )
            self.welcome = self.ask(Envelope(hello=hello))
            assert self.welcome is not None

    def post(self, envelope: Envelope) -> None:
        self.number += 1
        envelope.id = self.number
        codec.send(self.sock, envelope)

    def reply(self) -> Envelope | None:
        """The next reply; None: the connection was closed."""
        while True:
            try:
                got = codec.receive(self.sock)
            except ConnectionError:
                return None
            if got is None:
                return None
            envelope, fds = got
            body = envelope.welcome if envelope.HasField("welcome") else envelope.flow_endpoint
            for resource in body.resources:
                count = 2 if resource.kind == resource.EVENTS else 1
                self.fds.append((resource.kind, resource.id, fds[:count]))
                del fds[:count]
            if envelope.reply:
                return envelope

    def ask(self, envelope: Envelope) -> Envelope | None:
        self.post(envelope)
        return self.reply()


# ---------------------------------------------------------------- the kernel


def look_into(pid: int) -> None:
    """The memory and the tables of descriptors of another user's process, an IPCP and the IRMd."""
    denied(f"descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    for fd in range(3, 20):
        denied(f"descriptor {fd} of {pid}", os.open, f"/proc/{pid}/fd/{fd}", os.O_RDWR)
    denied(f"memory of {pid}", lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    denied(f"mapped files of {pid}", lambda: os.listdir(f"/proc/{pid}/map_files"))
    denied(f"mappings of {pid}", lambda: open(f"/proc/{pid}/maps").read())
    denied(f"environment of {pid}", lambda: open(f"/proc/{pid}/environ").read())
    pidfd = os.pidfd_open(pid)
    for fd in range(3, 20):
        denied(f"pidfd_getfd {fd} of {pid}", call, PIDFD_GETFD, pidfd, fd, 0)
    room = ctypes.create_string_buffer(64)
    here, there = (ctypes.c_size_t * 2)(ctypes.addressof(room), 64), (ctypes.c_size_t * 2)(0x400000, 64)
    where = ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0
    denied(f"process_vm_readv of {pid}", lambda: call(PROCESS_VM_READV, pid, *where))
    denied(f"ptrace of {pid}", lambda: traced(pid))
    denied(f"signals to {pid}", lambda: os.kill(pid, 0))


def call(number: int, *arguments: int) -> int:
    result = int(libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def traced(pid: int) -> bool:
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        raise (
            PermissionError(ctypes.get_errno(), "ptrace")
            if ctypes.get_errno() == errno.EPERM
            else OSError("ptrace")
        )
    return True


def look_around() -> None:
    """Names under which something could be had."""
    rundir = os.environ["OUROBOROS_RUNDIR"]
    tried("shared memory with a name", [name for name in os.listdir("/dev/shm") if "ouroboros" in name])
    for name in os.listdir(rundir):
        if name != codec.SOCKET_NAME:
            denied(f"write to {name}", os.open, f"{rundir}/{name}", os.O_WRONLY)
    denied("a file in the run directory", lambda: os.open(f"{rundir}/x", os.O_CREAT | os.O_WRONLY))
    denied(
        "the socket moved away", lambda: os.rename(f"{rundir}/{codec.SOCKET_NAME}", f"{rundir}/away") or True
    )
    denied("the socket removed", lambda: os.unlink(f"{rundir}/{codec.SOCKET_NAME}") or True)


# ---------------------------------------------------------------- the IRMd


FREE = {"hello", "bye", "cancel", "flow_alloc", "flow_accept", "flow_join", "flow_dealloc"}
"""Messages that every user may send, about the user's own flows."""


def say_everything(kind: Hello.Kind.ValueType) -> None:
    """Every message there is, as an application or as a tool: managers' and IPCPs' are refused, or end the connection."""
    for field in Envelope.DESCRIPTOR.oneofs_by_name["body"].fields:
        if field.name in FREE:
            continue
        peer = Peer(kind)
        envelope = Envelope()
        getattr(envelope, field.name).SetInParent()
        answer = peer.ask(envelope)
        tried(f"{Hello.Kind.Name(kind)} says {field.name}", answer is not None and not answer.error)
        peer.sock.close()


def become_an_ipcp() -> None:
    peer = Peer(None)
    hello = Hello(kind=Hello.Kind.IPCP, rpc_version=codec.RPC_VERSION, layout_version=lib.LAYOUT_VERSION)
    answer = peer.ask(Envelope(hello=hello))
    tried("to be an IPCP", answer is not None and not answer.error)


def end_what_is_of_others(peer: Peer) -> None:
    """Numbers that others have: descriptors, requests. They must mean nothing here."""
    for fd, instance in product(range(64, 72), range(0, 40)):
        for envelope in (
            Envelope(flow_dealloc=FlowDealloc(fd=fd, instance=instance)),
            Envelope(
                ipcp_flow_alloc_reply=IpcpFlowAllocReply(
                    fd=fd, instance=instance, response=errno.ECONNREFUSED
                )
            ),
            Envelope(ipcp_flow_event=IpcpFlowEvent(fd=fd, instance=instance, events=2)),
        ):
            answer = peer.ask(envelope)
            assert answer is not None
            if envelope.HasField("flow_dealloc"):
                continue  # answered, and without effect: the other user's test is that his flow is there
            if not answer.error:
                tried(f"{envelope.WhichOneof('body')} about descriptor {fd}", True)
    for number in range(1, 200):
        envelope = Envelope()
        envelope.cancel.id = number
        codec.send(peer.sock, envelope)
    tried("to end what is of others")
    answer = peer.ask(Envelope(ipcp_flow_req=IpcpFlowReq(hash=bytes(32))))
    tried("to announce a flow", answer is not None and not answer.error)


def serve_for_others(program: str) -> None:
    """Say that we are the program that a name is bound to."""
    peer = Peer(program=program)
    peer.post(Envelope(flow_accept=FlowAccept(timeout_ns=3_000_000_000)))
    print("serving", flush=True)
    answer = peer.reply()
    tried("to serve in the name of others", answer is not None and not answer.error)


def take_all() -> list[Peer]:
    """Every flow that the system can have; they are kept as long as the result is."""
    peers = []
    for _ in range(11):
        peer = Peer()
        peers.append(peer)
        for _ in range(1000):
            peer.post(Envelope(flow_accept=FlowAccept()))
    answer = peers[-1].reply()
    tried("to have all flows", answer is None or answer.error != errno.ENOSPC)
    return peers


# ---------------------------------------------------------------- memory


def memory(peer: Peer) -> Iterator[tuple[int, mmap.mmap]]:
    """All that we were given."""
    for kind, _number, fds in peer.fds:
        yield kind, mmap.mmap(fds[0], os.fstat(fds[0]).st_size)


def read_all(peer: Peer, wanted: bytes) -> bool:
    return any(mapped.find(wanted) >= 0 for _, mapped in memory(peer))


def unseal(peer: Peer) -> None:
    """Memory that shrinks kills the processes that have mapped it; memory that no process may map is useless."""
    for kind, _number, fds in peer.fds:
        fd = fds[0]
        size = os.fstat(fd).st_size
        denied(f"memory of kind {kind} that shrinks", os.ftruncate, fd, 0)
        denied(f"memory of kind {kind} that grows", os.ftruncate, fd, size + 4096)
        for seal in (F_SEAL_FUTURE_WRITE, F_SEAL_WRITE):
            denied(f"memory of kind {kind} that is sealed", fcntl.fcntl, fd, F_ADD_SEALS, seal)


def talk(peer: Peer) -> None:
    """A flow of our own, over the same layer and to the same server as that of the other user."""
    qos = QosSpec(ber=1, loss=1)
    answer = peer.ask(Envelope(flow_alloc=FlowAlloc(dst="server-of-a", qos=qos, layer="local")))
    assert answer is not None and not answer.error, answer


def scribble(peer: Peer) -> None:
    """Nonsense everywhere: indices, lengths, owner words, slots that point elsewhere."""
    mapped = [one for _, one in memory(peer)]
    source = random.Random(1)
    values = [bytes(8), b"\xff" * 8, *(source.randbytes(8) for _ in range(30))]
    values += [number.to_bytes(8, "little") for number in (1, 2, 3, 1 << 20, 1 << 32, 1 << 62, 1 << 63)]
    print("scribbling", flush=True)
    bells = [socket.socket(fileno=os.dup(fds[1])) for _, _, fds in peer.fds if len(fds) > 1]
    for bell in bells:  # who rings it would wait now, if that were in our hands
        bell.setblocking(True)
    passes = 0
    while True:
        for one in mapped:
            for _ in range(400):
                at = source.randrange(0, min(len(one), 1 << 16), 8)
                one[at : at + 8] = source.choice(values)
            for _ in range(100):
                at = source.randrange(0, len(one) - 8)
                one[at : at + 8] = source.choice(values)
        for bell in bells:
            try:
                for _ in range(20):
                    bell.send(b"\0", socket.MSG_DONTWAIT)
            except OSError:
                pass
            if passes % 100 == 99:
                with suppress(OSError):
                    bell.shutdown(socket.SHUT_RDWR)
        passes += 1
        if passes % 200 == 0:
            print(f"scribbled {passes}", flush=True)


def main() -> None:
    uid, program, *pids = sys.argv[1:]
    become(int(uid))
    for pid in pids:
        look_into(int(pid))
    look_around()
    become_an_ipcp()
    for kind in (Hello.Kind.APPLICATION, Hello.Kind.TOOL):
        say_everything(kind)
    serve_for_others(program)
    peer = Peer()
    end_what_is_of_others(peer)
    talk(peer)
    pools = [number for kind, number, _ in peer.fds if kind == 0]
    tried("a second pool", len(pools) != 1)
    unseal(peer)
    mine = next(mapped for kind, mapped in memory(peer) if kind == 0)
    mine[-len(OURS) :] = OURS
    tried("to look for a secret that is there", not read_all(peer, OURS))
    for _ in range(50):
        if read_all(peer, SECRET):
            tried("to read the packets of others", True)
    tried("to read the packets of others")
    kept = take_all()
    print("the looking is over", flush=True)
    scribble(peer)
    del kept


if __name__ == "__main__":
    main()
