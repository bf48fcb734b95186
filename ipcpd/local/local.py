"""The local IPCP: a loopback layer between processes of one system (paper 5.6.2).

Its directory is the set of hashes that are registered with it. Both ends of a flow are ends of this IPCP:
the relay forwards packets from one to the other, in C. Runs in the process of the IPCP, on its loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from functools import partial
from typing import ClassVar

from ipcpd.common.ipcp import Ipcp, Refusal, Result
from ipcpd.dataplane import Relay
from ouroboros.errors import ENAME, ENOTALLOC
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowEndpoint,
    HashAlgo,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
)

log = logging.getLogger("ipcpd/local")

MPL_MS = 100
"""Maximum packet lifetime of the layer, ms."""


class LocalIpcp(Ipcp):
    """A layer of one member. `fd` is a descriptor of this IPCP throughout."""

    kind: ClassVar[str] = "local"

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._directory: set[bytes] = set()
        self._announcing: set[int] = set()
        """Requesting ends whose request has been announced to the IRMd."""
        self._responding: dict[int, int] = {}
        """Requesting end by accepting end, until the acceptor's response."""
        self._peers: dict[int, int] = {}
        """The other end of a flow, both ways."""

    # ------------------------------------------------------------ life

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.gone(envelope.segment_gone)

    def bootstrap(self, config: IpcpConfig, values: dict[str, str]) -> Result:
        self.hash = HashAlgo.Value(values["hash"])
        return None

    def close(self) -> None:
        self._relay.close()

    # ------------------------------------------------------------ directory

    def reg(self, digest: bytes) -> Result:
        self._directory.add(digest)
        return None

    def unreg(self, digest: bytes) -> Result:
        if digest not in self._directory:
            raise Refusal(errno.ENOENT, f'that name is not registered with IPCP "{self.name}"')
        self._directory.remove(digest)
        return None

    def query(self, digest: bytes) -> Result:
        if digest not in self._directory:
            raise Refusal(errno.ENOENT, f"{digest.hex()[:8]} is not registered")
        return None

    # ------------------------------------------------------------ flows

    def flow_alloc(self, request: IpcpFlowAlloc, fds: list[int]) -> Result:
        fd = request.endpoint.fd
        self._relay.add(request.endpoint, fds)  # first: the memory that came along comes only once
        if request.dst not in self._directory:
            self._relay.remove(fd)
            raise Refusal(ENAME, f'the name is not registered in layer "{self.layer}"')
        self._announcing.add(fd)
        self.announce(
            request.dst,
            request.qos,
            mpl_ms=MPL_MS,
            max_packet=request.endpoint.max_packet,
            data=request.data,
            done=partial(self._announced, fd, request.endpoint.max_packet),
        )
        return None

    def _announced(
        self, fd: int, max_packet: int, endpoint: FlowEndpoint | None, fds: list[int], error: int, text: str
    ) -> None:
        """The IRMd found a process that accepts, or nobody."""
        given_up = fd not in self._announcing
        self._announcing.discard(fd)
        if endpoint is None:
            if not given_up:
                self._relay.remove(fd)
                self.allocated(fd, error, text)
            return
        try:
            self._relay.add(endpoint, fds)
            if not given_up:
                self._relay.pair(fd, endpoint.fd)
        except OSError as failure:
            log.error("cannot relay a flow: %s", failure)
            self.deallocated(endpoint.fd)
            if not given_up:
                self._relay.remove(fd)
                self.allocated(fd, failure.errno or errno.EIO, str(failure))
            return
        if given_up:
            self._relay.remove(endpoint.fd)
            self.deallocated(endpoint.fd)
            return
        self._peers[fd] = endpoint.fd
        self._peers[endpoint.fd] = fd
        self._responding[endpoint.fd] = fd

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        fd = self._responding.pop(response.fd, None)
        if fd is None:
            raise Refusal(ENOTALLOC, f"no flow waits for a response on descriptor {response.fd}")
        if response.response:
            self._forget(fd, response.fd)
            self.allocated(fd, response.response, "the flow was refused by the process it was for")
            return None
        self.allocated(fd, 0, mpl_ms=MPL_MS, data=response.data)
        return None

    def flow_dealloc(self, fd: int, quiet_s: int = 0) -> Result:
        if fd in self._announcing:
            self._announcing.remove(fd)
            self._relay.remove(fd)
            return None
        peer = self._peers.get(fd)
        if peer is None:
            return None  # gone already: the two ends may be deallocated at the same moment
        waited_for = self._responding.pop(fd, None)
        self._responding.pop(peer, None)
        self._forget(fd, peer)
        if waited_for is not None:  # the acceptor went before it responded
            self.allocated(peer, errno.ECONNREFUSED, "the process that was to accept has ended")
        else:
            self.deallocated(peer)
        return None

    def _forget(self, one: int, other: int) -> None:
        for fd in (one, other):
            self._peers.pop(fd, None)
            self._relay.remove(fd)
