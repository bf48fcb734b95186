"""Flows as an onlooker knows them: from the requests and replies that it has seen. Runs in the tool.

A packet of a flow carries the endpoint id of its receiver, and no type. Its format (FRCP, encryption, which component's
messages) follows from the allocation and from the first packet in each direction. Where a capture begins later than a
flow, ocap guesses the format from the first one that decodes; `guessed` marks such a flow.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum

from ipcpd.wire.connmgr import Record
from irmd.oap.algorithms import Cipher, Hash
from irmd.oap.header import Header
from ouroboros.qos import QoSSpec


class Content(Enum):
    """Kinds of payload of a flow."""

    UNKNOWN = "unknown"
    APPLICATION = "application"
    ENROLMENT = "enrolment"
    MANAGEMENT = "management"
    DATA_TRANSFER = "data transfer"


# By name and protocol of the component (spec/connections 1). On a broadcast layer data follows the record directly.
_CONTENT = {
    ("Enrollment", "OEP"): Content.ENROLMENT,
    ("Management", "LSP"): Content.MANAGEMENT,
    ("Data Transfer", "dtp"): Content.DATA_TRANSFER,
    ("Data Transfer", ""): Content.APPLICATION,
}


@dataclass(slots=True)
class Flow:
    """One flow. `qos` is None when its request was not seen."""

    qos: QoSSpec | None = None
    digest: Hash = Hash.NONE
    wants_cipher: bool = False
    cipher: Cipher = Cipher.NONE
    content: Content = Content.UNKNOWN
    guessed: bool = False
    acceptor: Hashable = None  # where the request went
    senders: set[bool] = field(default_factory=set)  # True: the requester has sent, False: the acceptor
    introduced: bool = False  # a connection record was seen
    requested: bool = False  # enrolment: the request was seen

    def introduce(self, record: Record) -> None:
        """A connection record names the component that uses the flow."""
        self.introduced = True
        known = _CONTENT.get((record.component, record.protocol))
        if known is Content.ENROLMENT and self.qos is None:
            return  # the format of enrolment messages depends on the side, which only the allocation shows
        if known is not None:
            self.content = known


@dataclass(slots=True)
class Flows:
    """All flows, by the place (layer, address, endpoint) at which one of their ends receives."""

    _at: dict[Hashable, tuple[Flow, bool]] = field(default_factory=dict)

    def request(
        self, requester: Hashable, qos: QoSSpec, header: Header | None, acceptor: Hashable = None
    ) -> None:
        """A flow was requested; its requester will receive at `requester`."""
        flow = Flow(qos, acceptor=acceptor)
        if header is not None:
            flow.digest, flow.wants_cipher = header.digest, bool(header.kex)
        self._at[requester] = (flow, False)

    def requested(self, requester: Hashable) -> Flow:
        """The flow whose reply goes to `requester`; a new one when its request was not seen."""
        flow, from_requester = self._at.get(requester, (Flow(), False))
        return Flow() if from_requester else flow

    def reply(self, requester: Hashable, acceptor: Hashable, flow: Flow, header: Header | None) -> None:
        """The flow was accepted; its acceptor receives at `acceptor`."""
        if header is not None and flow.wants_cipher:
            flow.cipher = header.cipher
        self._at[requester] = (flow, False)
        self._at[acceptor] = (flow, True)

    def has(self, place: Hashable) -> bool:
        """Whether a flow ends at `place`."""
        return place in self._at

    def receiver(self, place: Hashable) -> tuple[Flow, bool]:
        """The flow that ends at `place`, and whether the sender of packets to that place is its requester."""
        return self._at.setdefault(place, (Flow(), True))
