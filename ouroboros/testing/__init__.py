"""A clock that stands still and a network that misbehaves on purpose, for tests of code that runs on flows.

    from ouroboros.testing import FakeClock, FakeNetwork, Impairment, flow_pair

Nothing here needs an IRMd, starts a thread or looks at the time of day: the same seed gives the same run, packet by
packet. The simulator of this project (`tests/sim`) is built on it; applications may use it as well.
"""

from .clock import FakeClock, Timer
from .flow import FakeFlow, flow_pair
from .network import Counters, FakeEnd, FakeLink, FakeNetwork, Impairment

__all__ = [
    "Counters",
    "FakeClock",
    "FakeEnd",
    "FakeFlow",
    "FakeLink",
    "FakeNetwork",
    "Impairment",
    "Timer",
    "flow_pair",
]
