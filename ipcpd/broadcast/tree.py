"""Tree: the knowledge that a member of a broadcast layer has of the layer's shape (paper 2.13).

Runs in the broadcast IPCP, on its loop; no I/O. The layer adds no header to packets, so its adjacencies must not close a loop.
Every Python member has a random id, and a tree has the id of one of its members. The connection record carries both, in fields
that a prototype ignores. Two members with the same tree are joined already, and another adjacency is refused. A member without
neighbours has no tree, and gets that of its first neighbour; a member that loses the neighbour from which it got the tree's id
takes its own id.

A member cannot know more without queries to other members: when two trees are joined, or a tree loses the member whose id it
has, members further away keep the old id until they connect anew; and prototypes carry no ids.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from ipcpd.wire.connmgr import Record


def _always(_fd: int) -> bool:
    return True


class Verdict(Enum):
    """The decision about a new adjacency to a neighbour that has one already."""

    FIRST = "there is none yet"
    REPLACE = "it takes the place of the one that there is"
    REFUSE = "the one that there is stays"


@dataclass(slots=True)
class Neighbour:
    """An adjacency. `member` is the id of the neighbour, 0 for a prototype."""

    member: int
    initiator: bool
    """Whether this member initiated the adjacency."""
    path: bytes = b""
    """The layer and the address in it that an accepted adjacency comes from."""


@dataclass(slots=True)
class Tree:
    """The adjacencies of one member, by descriptor."""

    member: int = field(default_factory=lambda: secrets.randbits(64) | 1)
    id: int = 0
    """0: no neighbours."""
    neighbours: dict[int, Neighbour] = field(default_factory=dict)
    usable: Callable[[int], bool] = _always
    """Whether packets may get through on an adjacency, by descriptor."""
    _uplink: int | None = None
    """The adjacency from which the tree's id came, if it is not this member's own."""
    _lost: set[int] = field(default_factory=set)
    """Neighbours lost since the last new adjacency: in a tree no other path joins such a neighbour to this member."""

    def objection(self, theirs: Record, path: bytes = b"") -> str:
        """Why a neighbour that sends this record on a flow with this path must not be connected; "" when it may."""
        if not theirs.member:
            return ""
        if theirs.member == self.member:
            return "that is this IPCP itself"
        for fd, one in self.neighbours.items():
            if one.member != theirs.member or one.initiator:
                continue
            if one.path == path or not self.usable(fd):  # the neighbour has lost it, or replaces it
                return ""
            return "a neighbour with that member id is connected over another path; disconnect that one first"
        if theirs.member in self._lost:
            return ""
        if self.id and theirs.tree == self.id:
            return "it would close a loop: the layer joins the two already"
        return ""

    def verdict(self, theirs: Record, *, initiator: bool) -> tuple[Verdict, int]:
        """The verdict on a new adjacency that this member (`initiator`) or the peer initiated, and the descriptor of the old one.

        Of two adjacencies that crossed both sides keep the one initiated by the smaller id; of two by the same side, the new one.
        """
        for fd, neighbour in self.neighbours.items():
            if not theirs.member or neighbour.member != theirs.member:
                continue
            if neighbour.initiator == initiator:
                return Verdict.REPLACE, fd
            ours_stays = self.member < theirs.member
            return (Verdict.REPLACE if initiator == ours_stays else Verdict.REFUSE), fd
        return Verdict.FIRST, -1

    def add(self, fd: int, theirs: Record, *, initiator: bool, path: bytes = b"") -> None:
        """Add a new adjacency."""
        first, second = (self.id, theirs.tree) if initiator else (theirs.tree, self.id)
        responder = theirs.member if initiator else self.member
        self.neighbours[fd] = Neighbour(theirs.member, initiator, path)
        self._lost.clear()
        if not theirs.member:
            self.id = self.id or self.member
            return
        joined = second or first or responder
        if joined != self.id:
            self.id = joined
            self._uplink = None if joined == self.member else fd

    def remove(self, fd: int) -> None:
        """Remove an adjacency that has ended."""
        gone = self.neighbours.pop(fd, None)
        if gone is None:
            return
        if gone.member:
            self._lost.add(gone.member)
        if not self.neighbours:
            self.id, self._uplink = 0, None
        elif self._uplink == fd:
            self.id, self._uplink = self.member, None
