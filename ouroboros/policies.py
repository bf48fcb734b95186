"""Policies of layers: their numbers in messages, and their words on the command line and in files (paper 2.4, 5.3; docs/reference/irm.md).

A library module of every process. A routing policy is a member of `LinkStatePolicy` and the file of its word in `ipcpd/unicast/routing/`,
which exports `routes` and `table`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Policy(IntEnum):
    """A set of policies: each has a number, and a word."""

    word: str

    def __new__(cls, number: int, word: str) -> Self:
        """The member with this number; its word is the one that options have for it."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.word = word
        return member

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """The words of the set, in the order of help texts."""
        return tuple(member.word for member in cls)

    @classmethod
    def of(cls, word: str) -> Self:
        """The policy with this word. Raises KeyError."""
        return {member.word: member for member in cls}[word]


class AddressAuthPolicy(Policy):
    """How a unicast layer gives out addresses."""

    FLAT = 0, "flat"
    FLAT_RANDOM = 0, "flat"


class LinkStatePolicy(Policy):
    """How routes are computed from the link-state database."""

    SIMPLE = 0, "link_state"
    LFA = 1, "lfa"
    ECMP = 2, "ecmp"


class CongestionAvoidPolicy(Policy):
    """Congestion avoidance of a unicast layer."""

    NONE = 0, "none"
    MB_ECN = 1, "mb-ecn"


class DirectoryPolicy(Policy):
    """Directory of a unicast layer."""

    DHT = 0, "DHT"


class RoutingPolicy(IntEnum):
    """How a unicast layer disseminates the input of routing."""

    LINK_STATE = 0
