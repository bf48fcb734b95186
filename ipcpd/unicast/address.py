"""Address authority, policy `flat random`: every member draws its own address (paper 5.3; spec/dt DT-3).

Runs in the unicast IPCP when it becomes a member; pure. 32 bits from the operating system, never 0. A prototype draws once and
does not check. A Python newcomer sends the address that it drew to the member that enrols it; a Python member refuses an address
that is in its link-state database; then the newcomer draws another. A neighbour that claims this member's own address is refused.
"""

from __future__ import annotations

from collections.abc import Container
from random import Random, SystemRandom

from ipcpd.wire.address import MAX_ADDRESS, legal_address, to_text

TRIES = 8
"""Addresses that a newcomer draws before it gives up; that even one is taken happens once in 65,536 members squared."""


def draw(*, taken: Container[int] = (), random: Random | None = None) -> int:
    """An address that is not known to be taken. Raises OverflowError when no free one can be found."""
    source = random or SystemRandom()
    for _ in range(64):
        address = source.getrandbits(MAX_ADDRESS.bit_length())
        if legal_address(address) and address not in taken:
            return address
    raise OverflowError("there is no address left in the layer, or the source of random numbers is broken")


def objection(address: int, own: int) -> str:
    """The reason why a neighbour cannot have this address; "" when it can."""
    if not legal_address(address):
        return f"{address:#x} is not the address of a member"
    if address == own:
        return f"address {to_text(address)} is ours"
    return ""
