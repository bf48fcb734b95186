"""Paths: all that there are, by name."""

from __future__ import annotations

import re

from tests.bench.networks import Chain, Ethernet, Udp
from tests.bench.path import Direct, Local, Path
from tests.bench.reliable import Data, Stream

ONE_SYSTEM = {
    "sizes": (64, 1500, 65000),
    "rivals": ("seqpacket", "udp", "pipe", "zmq", "floor"),
    "ratios": ("seqpacket", "floor"),
    "paced": False,
}
_CHAIN = re.compile(r"chain-([1-9][0-9]?)")

PATHS: dict[str, Path] = {
    p.name: p
    for p in (
        Direct("direct", **ONE_SYSTEM),  # type: ignore[arg-type]
        Local("local", **ONE_SYSTEM),  # type: ignore[arg-type]
        Chain("unicast/local", 0),
        Ethernet("unicast/eth-dix", unicast=True),
        Ethernet("eth-dix", unicast=False),
        Udp("unicast/udp4", port=13435, unicast=True),
        Udp("udp4", port=13436, unicast=False),
        Chain("chain-3", 3),
    )
}
PATHS |= {p.name: p for p in (Data(PATHS[over]) for over in ("direct", "local", "unicast/udp4"))}
PATHS |= {p.name: p for p in (Stream(PATHS["unicast/udp4"]),)}
"""Those that are measured when none is asked for."""


def find(name: str) -> Path | None:
    """A path by its name; there is a chain of any length up to 99 forwarders."""
    if found := PATHS.get(name):
        return found
    if name.startswith("data/") and (over := find(name.removeprefix("data/"))):
        return Data(over)
    if name.startswith("stream/") and (over := find(name.removeprefix("stream/"))):
        return Stream(over)
    if match := _CHAIN.fullmatch(name):
        return Chain(name, int(match[1]))
    return None
