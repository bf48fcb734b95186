"""Device: a network device, the packet sockets on it, and its changes of state (paper 5.4; spec/ethernet 1).

Runs in the ethernet IPCPs, on their loop. One socket receives, filtered in the kernel so that frames of other IPCPs cost
nothing; one for each QoS cube sends, with a priority of the kernel's queues, so that voice waits behind
nothing but voice. Management frames are sent by the receiving socket.

The kernel sends a netlink message whenever a device changes. Its content is not parsed: the IPCP then reads the state of its
device anew. It may go down, lose its carrier, get another MTU, MAC address or name, vanish, and come back: the IPCP follows
a device by its index, and finds it by its name when no device has that index any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from ipcpd.dataplane.eth import Framing, PacketNic, set_filter
from ouroboros.cubes import CUBES

LOOPBACK_MTU = 9000
"""MTU used on a loopback device: its own is larger than a frame can be."""

RECEIVE_ROOM = 8 << 20
SEND_ROOM = 128 << 10
"""Octets that may wait in a socket, as far as the kernel allows. A frame in the send buffer can no longer be overtaken: a MiB is
100 ms of a link of 100 Mbit/s."""

MAX_UNSENT = 4096
"""Management frames that wait for space in the socket."""

_GET_FLAGS, _GET_MTU, _GET_HWADDR, _GET_INDEX = 0x8913, 0x8921, 0x8927, 0x8933
_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40
_ETHERNET, _LOOPBACK_KIND = 1, 772
_NAME = 16
_FLAGS = Struct("=16sH")
_NUMBER = Struct("=16si")
_ADDRESS = Struct("=16sH6s")
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_RTMGRP_LINK = 1


class DeviceError(OSError):
    """The device cannot be used; the text names the reason and a remedy."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """State of a device."""

    index: int
    mac: bytes
    mtu: int
    ethernet: bool
    up: bool
    running: bool
    """Up, and with a carrier."""


def state_of(name: str) -> DeviceState | None:
    """The current state of the device; None when no device has that name."""
    field = name.encode()
    if len(field) >= _NAME:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:

        def ask(request: int) -> bytes:
            return fcntl.ioctl(any_socket, request, field.ljust(40, b"\0"))

        try:
            _, flags = _FLAGS.unpack_from(ask(_GET_FLAGS))
            _, kind, mac = _ADDRESS.unpack_from(ask(_GET_HWADDR))
            _, mtu = _NUMBER.unpack_from(ask(_GET_MTU))
            _, index = _NUMBER.unpack_from(ask(_GET_INDEX))
        except OSError:
            return None
    if flags & _LOOPBACK:
        mtu = min(mtu, LOOPBACK_MTU)
    return DeviceState(
        index=index,
        mac=mac,
        mtu=mtu,
        ethernet=kind in (_ETHERNET, _LOOPBACK_KIND),
        up=bool(flags & _UP),
        running=flags & (_UP | _RUNNING) == _UP | _RUNNING,
    )


def usable(name: str, kind: str) -> DeviceState:
    """The state of a device that an IPCP of this type can start on. Raises DeviceError."""
    state = state_of(name)
    if state is None:
        raise DeviceError(errno.ENODEV, f'there is no device "{name}"; `ip link` lists those there are')
    if not state.ethernet:
        raise DeviceError(
            errno.EINVAL, f'device "{name}" is not an Ethernet device, which an IPCP of type {kind} needs'
        )
    if not state.up:
        raise DeviceError(
            errno.ENETDOWN, f'device "{name}" is down; `ip link set {name} up` brings it up (as root)'
        )
    return state


def _packet_socket(name: str, kind: str) -> socket.socket:
    try:
        # Protocol 0: the socket receives nothing before its filter is set.
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    except PermissionError:
        raise DeviceError(
            errno.EPERM,
            f'an IPCP of type {kind} needs the capability CAP_NET_RAW for device "{name}", and irmd has not got it: '
            f"start irmd as root, or with `setpriv --ambient-caps +net_raw` as docs/howto/ethernet.md says",
        ) from None
    except OSError as failure:
        raise DeviceError(
            failure.errno, f"this kernel has no packet sockets (CONFIG_PACKET): {failure.strerror}"
        ) from None
    return made


def _room(of: socket.socket, force: int, ask: int, octets: int) -> None:
    try:
        of.setsockopt(socket.SOL_SOCKET, force, octets)  # needs CAP_NET_ADMIN
    except OSError:
        of.setsockopt(socket.SOL_SOCKET, ask, octets)


class Device:
    """The sockets of one IPCP on a device that is `usable`. Raises DeviceError."""

    def __init__(self, name: str, state: DeviceState, *, kind: str, framing: Framing, protocol: int) -> None:
        self.name = name
        """The current name of the device."""
        self._configured = name
        self._index = state.index
        self.state = state
        self.unsent = 0
        """Management frames that could not be sent."""
        self._framing = framing
        self._protocol = protocol
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[bytes] = deque()
        self._doorbell: socket.socket | None = None
        self._cut = 0
        self._stack = contextlib.ExitStack()
        with self._stack:
            self.receiver = self._stack.enter_context(_packet_socket(name, kind))
            self.senders = tuple(self._stack.enter_context(_packet_socket(name, kind)) for _ in CUBES)
            _room(self.receiver, _SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_ROOM)
            for sender, cube in zip(self.senders, CUBES, strict=True):
                _room(sender, _SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_ROOM)
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, cube.priority)
            self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, CUBES[-1].priority)
            self._bind()
            self._stack = self._stack.pop_all()

    def _bind(self) -> None:
        try:
            set_filter(self.receiver.fileno(), self._framing, self.state.index, self.state.mac)
            self.receiver.bind((self.name, self._protocol))
            for sender in self.senders:
                sender.bind((self.name, 0))
        except OSError as failure:
            raise DeviceError(
                failure.errno, f'cannot use device "{self.name}": {os.strerror(failure.errno or 0)}'
            ) from None

    @property
    def nic(self) -> PacketNic:
        """The device, for the data plane."""
        return PacketNic(self.receiver.fileno(), tuple(one.fileno() for one in self.senders))

    # ------------------------------------------------------------ what becomes of it

    def watch(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `state` may be another; it then calls `look`."""
        self._loop = loop
        doorbell = self._stack.enter_context(
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        )
        doorbell.bind((0, _RTMGRP_LINK))
        self._doorbell = doorbell

        def on_notification() -> None:
            try:
                while doorbell.recv(65536):
                    pass
            except BlockingIOError:
                pass
            except OSError:
                pass  # more messages than the socket could hold: a change as well
            changed()

        loop.add_reader(doorbell, on_notification)

    def look(self) -> DeviceState:
        """Read the state anew. A device that was removed is neither up nor running."""
        before = self.state
        self.name = self._name()
        now = state_of(self.name)
        if now is None or not now.ethernet:
            now = DeviceState(0, before.mac, before.mtu, ethernet=True, up=False, running=False)
        self.state = now
        self._index = now.index or self._index
        if now.index and (now.index != before.index or now.mac != before.mac):
            try:
                self._bind()
            except DeviceError:
                self.state = DeviceState(0, now.mac, now.mtu, ethernet=True, up=False, running=False)
        return self.state

    def _name(self) -> str:
        """The name of the device with our index; if there is none, the last name of the device, or that of the configuration."""
        try:
            return socket.if_indextoname(self._index)
        except OSError:
            return self.name if state_of(self.name) is not None else self._configured

    # ------------------------------------------------------------ management frames

    def send(self, frame: bytes) -> None:
        """Send a frame, as soon as the socket has space for it."""
        if self._waiting or not self._try(frame):
            if len(self._waiting) >= MAX_UNSENT:
                self.unsent += 1
                return
            if not self._waiting and self._loop is not None:
                self._loop.call_later(0.001, self._send_waiting)
            self._waiting.append(frame)

    def _try(self, frame: bytes) -> bool:
        """Send a frame now. False: it has to wait."""
        try:
            self.receiver.send(frame)
        except OSError as failure:
            if failure.errno in (errno.EAGAIN, errno.ENOBUFS):
                return False
            self.unsent += 1  # down or removed
        return True

    def _send_waiting(self) -> None:
        while self._waiting and not self._stack_closed:
            if not self._try(self._waiting[0]):
                assert self._loop is not None
                self._loop.call_later(0.001, self._send_waiting)
                return
            self._waiting.popleft()

    # ------------------------------------------------------------ read-out, end

    def cut(self) -> int:
        """Frames that the kernel dropped because the packet thread was behind."""
        sol_packet, packet_statistics = 263, 6
        statistics = self.receiver.getsockopt(sol_packet, packet_statistics, 8)
        self._cut += int.from_bytes(statistics[4:8], "little")  # reading clears it
        return self._cut

    @property
    def _stack_closed(self) -> bool:
        return self.receiver.fileno() < 0

    def close(self) -> None:
        """Close the sockets."""
        if self._loop is not None and self._doorbell is not None and self._doorbell.fileno() >= 0:
            self._loop.remove_reader(self._doorbell)
        self._stack.close()
