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

from ipcpd.common.end import End
from ipcpd.common.ends import Ends
from ipcpd.common.ipcp import Ipcp, Result
from ipcpd.dataplane import Relay
from ouroboros.errors import ENAME, ENOTALLOC
from ouroboros.facts import Row
from ouroboros.rpc.messages_pb2 import (
    Envelope,
    FlowEndpoint,
    HashAlgo,
    IpcpConfig,
    IpcpFlowAlloc,
    IpcpFlowAllocResp,
)
from ouroboros.rpc.service import Refusal

log = logging.getLogger("ipcpd/local")

MPL_MS = 100
"""Maximum packet lifetime of the layer, ms."""


class LocalIpcp(Ipcp):
    """A layer of one member."""

    kind: ClassVar[str] = "local"

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name, loop)
        self._relay = Relay()
        self._directory: set[bytes] = set()
        self._ends = Ends(self._relay, self.late)
        self._announcing: set[End] = set()
        """Requesting ends whose request has been announced to the IRMd."""
        self._responding: dict[End, End] = {}
        """Requesting end by accepting end, until the acceptor's response."""
        self._peers: dict[End, End] = {}
        """The other end of a flow, both ways."""

    # ------------------------------------------------------------ life

    def attach(self, welcome: Envelope, fds: list[int]) -> None:
        self._relay.attach(welcome.welcome, fds)
        self._relay.start()

    def segments_gone(self, envelope: Envelope) -> None:
        self._relay.release(envelope.segment_gone)

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
        end = self._ends.add(request.endpoint, fds)  # first: the IRMd passes the memory only once
        if request.dst not in self._directory:
            self._ends.remove(end)
            raise Refusal(ENAME, f'the name is not registered in layer "{self.layer}"')
        self._announcing.add(end)
        self.announce(
            request.dst,
            request.qos,
            mpl_ms=MPL_MS,
            max_packet=request.endpoint.max_packet,
            data=request.data,
            source=request.endpoint.peer_events.to_bytes(8, "big"),  # one event region has one process
            done=partial(self._announced, end),
        )
        return None

    def _announced(
        self, requester: End, endpoint: FlowEndpoint | None, fds: list[int], error: int, text: str
    ) -> None:
        """The IRMd found a process that accepts, or there is none."""
        given_up = requester not in self._announcing
        self._announcing.discard(requester)
        if endpoint is None:
            if not given_up:
                self._ends.remove(requester)
                self.allocated(requester, error, text)
            return
        acceptor = End.of(endpoint)
        try:
            self._ends.add(endpoint, fds)
            if not given_up:
                self._relay.pair(requester.fd, acceptor.fd)
        except OSError as failure:
            log.error("cannot relay a flow: %s", failure)
            self._ends.remove(acceptor)
            self.deallocated(acceptor)
            if not given_up:
                self._ends.remove(requester)
                self.allocated(requester, failure.errno or errno.EIO, str(failure))
            return
        if given_up:
            self._ends.remove(acceptor)
            self.deallocated(acceptor)
            return
        self._peers[requester] = acceptor
        self._peers[acceptor] = requester
        self._responding[acceptor] = requester

    def flow_alloc_resp(self, response: IpcpFlowAllocResp) -> Result:
        acceptor = End.of(response)
        requester = self._responding.pop(acceptor, None)
        if requester is None:
            self.late["ipcp_flow_alloc_resp"] += 1
            raise Refusal(ENOTALLOC, f"no flow waits for a response on descriptor {response.fd}")
        if response.response:
            self._forget(requester, acceptor)
            self.allocated(requester, response.response, "the flow was refused by the process it was for")
            return None
        self.allocated(requester, 0, mpl_ms=MPL_MS, data=response.data)
        return None

    def flow_dealloc(self, end: End, quiet_s: int = 0) -> Result:
        if not self._ends.expect(end, "ipcp_flow_dealloc"):
            return None  # removed already: the two ends may be deallocated at the same moment
        if end in self._announcing:
            self._announcing.remove(end)
            self._ends.remove(end)
            return None
        peer = self._peers[end]
        waited_for = self._responding.pop(end, None)
        self._responding.pop(peer, None)
        self._forget(end, peer)
        if waited_for is not None:  # the acceptor ended before it responded
            self.allocated(peer, errno.ECONNREFUSED, "the process that was to accept has ended")
        else:
            self.deallocated(peer)
        return None

    def _forget(self, one: End, other: End) -> None:
        for end in (one, other):
            self._peers.pop(end, None)
            self._ends.remove(end)

    # ------------------------------------------------------------ read-outs

    def readout(self, what: str) -> list[Row]:
        if what == "counters":
            return self.message_counters()
        raise Refusal(errno.EINVAL, f'an IPCP of type local has no read-out "{what}"; it has counters')
