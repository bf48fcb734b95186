"""Reliable: flows of data (QOS_DATA: order, retransmission, flow control) over a path, beside raw ones over the same path."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.path import Path, World, with_qos
from tests.bench.row import Mode
from tests.bench.subjects.subject import Wiring

# QOS_DATA, whose module a benchmark of others' subjects need not import.
DATA = {"delay": 1000, "loss": 0, "ber": 0, "in_order": 1, "max_gap": 2000}
SIZES = (64, 1400, 65000)


class Data(Path):
    """A flow of data over another path. FRCP has a window of its own, and needs none of the benchmark's."""

    def __init__(self, over: Path) -> None:
        super().__init__(
            f"data/{over.name}",
            sizes=SIZES,
            rivals=("raw", "tcp", "quic"),
            ratios=("raw", "tcp", "quic"),
            paced=False,
            modes=(Mode.BURST,),
        )
        self.over = over

    def missing(self) -> str | None:
        """As the path below."""
        return self.over.missing()

    def wire(self, world: World, word: str = "data") -> Wiring:
        """The path's, with this quality of service."""
        wiring = with_qos(self.over.wire(world, word), DATA)
        return replace(wiring, client={**wiring.client, "window": 0}, server={**wiring.server, "window": 0})

    def beside(self, subject: str, world: World) -> Wiring:
        """A raw flow over the path, as it is measured there."""
        return self.over.wire(world, "raw") if subject == "raw" else self.wire(world)


class Stream(Path):
    """The same flow, read and written as a stream of octets: as TCP and QUIC are."""

    def __init__(self, over: Path) -> None:
        rivals = ("tcp", "quic")
        super().__init__(
            f"stream/{over.name}", sizes=SIZES, rivals=rivals, ratios=rivals, paced=False, modes=(Mode.BURST,)
        )
        self.data = Data(over)

    def missing(self) -> str | None:
        """As the path below."""
        return self.data.missing()

    def wire(self, world: World, word: str = "stream") -> Wiring:
        """The flow's, and how it is used."""
        wiring = self.data.wire(world, word)
        return replace(
            wiring, client={**wiring.client, "stream": True}, server={**wiring.server, "stream": True}
        )
