"""Weights of links: the cost of a link for the traffic of each QoS cube (paper 5.3).

Runs in the unicast IPCP. The two ends of a link know the QoS of the flow it runs over, hence its cube; each
announces the cost of the link for each cube, and the larger of the two counts, so that a link costs the same both ways. Weights
are small whole numbers. Prototypes announce none: see `graph` for the effect on a layer that has some.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipcpd.wire.lsm import Weights
from ouroboros.cubes import CUBES
from ouroboros.qos import QoSSpec

UNIT: Weights = (1, 1, 1)
"""Every link costs one: hop count, as prototypes compute."""


def weights_of(link: QoSSpec) -> Weights:
    """The cost of a link over a flow with this specification, for each cube."""
    return CUBES[link.cube].costs


def best_of(links: Iterable[Weights]) -> Weights:
    """The cost of several links in parallel: for each cube the least of them. Raises ValueError for none."""
    best_effort, video, voice = zip(*links, strict=True)
    return min(best_effort), min(video), min(voice)


def worst_of(one: Weights, other: Weights) -> Weights:
    """The cost of a link when its ends announce different costs."""
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
