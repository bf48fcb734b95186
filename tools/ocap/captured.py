"""A captured packet, whatever format of file it was in. Runs in the tool."""

from __future__ import annotations

from typing import NamedTuple

from ..program import ToolError

ETHERNET = 1
"""The link type of captures that are read."""
MAX_PACKET = 1 << 18  # octets: the longest captured packet that the formats allow


class Captured(NamedTuple):
    """A packet of a capture: `number` from 1, `time` in ns since 1970, `length` as it was on the wire (octets).

    segment  from 1: which of the datagrams that are joined in the packet; 0: the packet is not split
    """

    number: int
    time: int
    length: int
    octets: bytes
    segment: int = 0


def cut(name: str, where: str) -> ToolError:
    """The error for a file that ends, or makes no sense, somewhere."""
    return ToolError(f'"{name}" ends {where}')


def wrong_link_type(name: str, link_type: int) -> ToolError:
    """The error for a capture of another kind of network."""
    return ToolError(f'"{name}" was captured on link type {link_type}; only Ethernet (1) can be read')
