"""Goals: limits for ratios between rows of one run, or for figures of the system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from tests.bench.row import Key, Mode, Row, What

OURS = "ouroboros"
PEER = "seqpacket"


class Sense(Enum):
    """On which side of its limit a figure should be."""

    AT_MOST = "<="
    BELOW = "<"
    AT_LEAST = ">="

    def holds(self, figure: float, limit: float) -> bool:
        """Whether `figure` is on the right side of `limit`."""
        match self:
            case Sense.AT_MOST:
                return figure <= limit
            case Sense.BELOW:
                return figure < limit
            case Sense.AT_LEAST:
                return figure >= limit


@dataclass(slots=True, frozen=True)
class Goal:
    """A row of this library, and the limit for its value or, if there is another subject, for its quotient by that one's row.

    A burst is compared with single calls where the other has no call that moves several packets, as SOCK_SEQPACKET.
    """

    path: str
    what: What
    size: int
    mode: Mode
    sense: Sense
    limit: float
    against: str | None = None
    enough: float | None = None  # a value that is enough, whatever the other one does

    @property
    def key(self) -> Key:
        """The row that the goal is about."""
        return (self.path, self.what, self.size, self.mode, OURS)

    @property
    def _unit(self) -> str:
        return "" if not self.against else "x" if self.against == PEER else f"x {self.against}"

    @property
    def text(self) -> str:
        """The condition, as the table shows it."""
        either = "" if self.enough is None else f" or {self.enough:g}"
        return f"{self.sense.value} {round(self.limit, 3):g}{self._unit}{either}"

    def reached(self, figure: float, value: float) -> bool:
        """Whether a row of that value, and that figure to be held against the limit, is what is wanted."""
        return self.sense.holds(figure, self.limit) or (
            self.enough is not None and self.sense.holds(value, self.enough)
        )


GOALS: tuple[Goal, ...] = (
    Goal("direct", What.RTT_P50, 64, Mode.SINGLE, Sense.AT_MOST, 1 / 6, PEER),
    Goal("direct", What.PPS, 64, Mode.SINGLE, Sense.AT_LEAST, 4, PEER),
    Goal("direct", What.PPS, 64, Mode.BURST, Sense.AT_LEAST, 10, PEER),
    Goal("local", What.RTT_P50, 64, Mode.SINGLE, Sense.AT_MOST, 1, PEER),
    Goal("local", What.PPS, 64, Mode.SINGLE, Sense.AT_LEAST, 3, PEER),
    *(
        Goal(path, What.PPS, size, Mode.BURST, Sense.AT_LEAST, 0.6, floor)
        for path, floors in (("eth-dix", ("veth",)), ("udp4", ("udp_floor", "udp_gso")))
        for floor in floors
        for size in (64, 1400)
    ),
    *(
        goal
        for path in ("data/direct", "data/local", "data/unicast/udp4")
        for size in (64, 1400, 65000)
        for goal in (
            Goal(path, What.PPS, size, Mode.BURST, Sense.AT_LEAST, 0.6, "raw"),
            Goal(path, What.GBPS, size, Mode.BURST, Sense.AT_LEAST, 10, "quic"),
        )
    ),
    *(
        Goal("stream/unicast/udp4", What.GBPS, size, Mode.BURST, Sense.AT_LEAST, 10, "quic")
        for size in (64, 1400, 65000)
    ),
    *(
        Goal(f"sealed/{cipher}", What.CORE_GBPS, size, Mode.BURST, Sense.AT_LEAST, 0.5, "openssl", enough=2)
        for cipher in ("aes-256-gcm", "chacha20-poly1305")
        for size in (1400, 65000)
    ),
    Goal("unicast/local", What.RTT_P50, 64, Mode.SINGLE, Sense.AT_MOST, 1.5, "udp"),
    Goal("unicast/eth-dix", What.PACED_P50, 64, Mode.SINGLE, Sense.AT_MOST, 1.8, "ping"),
    *(
        Goal(path, What.GOODPUT, 1400, Mode.BURST, Sense.AT_LEAST, 1, "tcp")
        for path in ("loss-1", "loss-5", "loss-10")
    ),
    Goal("flows-10000", What.FLOW_KIB, 0, Mode.SINGLE, Sense.AT_MOST, 4),
    Goal("flows-10000", What.UNREAD_US, 0, Mode.SINGLE, Sense.AT_MOST, 2, "few"),
    Goal("flows-10000", What.ACTIVE_US, 0, Mode.SINGLE, Sense.AT_MOST, 2, "few"),
    Goal("flows-10000", What.IDLE_CPU, 0, Mode.SINGLE, Sense.BELOW, 1),
    Goal("enrol-50", What.ENROL_MS, 0, Mode.SINGLE, Sense.BELOW, 1000),
    Goal("voice", What.VOICE_P99, 64, Mode.SINGLE, Sense.AT_MOST, 0.2, "raw"),
    Goal("forward", What.PPS, 64, Mode.BURST, Sense.AT_LEAST, 5e6),
    Goal("routes", What.ROUTES_MS, 0, Mode.SINGLE, Sense.BELOW, 100),
    Goal("routes", What.ROUTES_LFA_MS, 0, Mode.SINGLE, Sense.BELOW, 100),
    Goal("routes", What.ROUTES_ECMP_MS, 0, Mode.SINGLE, Sense.BELOW, 100),
    Goal("routes", What.STALL_MS, 0, Mode.SINGLE, Sense.AT_MOST, 3, "beside"),
    Goal("system", What.ALLOC_RATE, 0, Mode.SINGLE, Sense.AT_LEAST, 1000),
    Goal("system", What.ALLOC_RATE_LOCAL, 0, Mode.SINGLE, Sense.AT_LEAST, 1000),
    Goal("system", What.LIST_MS, 0, Mode.SINGLE, Sense.AT_MOST, 120),
    Goal("system", What.CREATE_MS, 0, Mode.SINGLE, Sense.AT_MOST, 150),
    Goal("system", What.CREATE_TOOL_MS, 0, Mode.SINGLE, Sense.AT_MOST, 150),
    Goal("system", What.IDLE_CPU, 0, Mode.SINGLE, Sense.BELOW, 1),
    Goal("system", What.PRIVATE_MIB, 0, Mode.SINGLE, Sense.AT_MOST, 12),
    Goal("system", What.PRIVATE_MIB_MAX, 0, Mode.SINGLE, Sense.AT_MOST, 12),
)


@dataclass(slots=True, frozen=True)
class Verdict:
    """A goal, the figure it was held against, and whether it is reached."""

    goal: Goal
    figure: float
    reached: bool


def table_of(rows: Iterable[Row]) -> dict[Key, Row]:
    """Rows by their keys."""
    return {r.key: r for r in rows}


def ratio(rows: Mapping[Key, Row], key: Key, against: str) -> float | None:
    """Value of the row `key` divided by the same of subject `against`; None where one of the two was not measured.

    A subject without burst calls is compared with its single calls.
    """
    path, what, size, mode, _ = key
    ours = rows.get(key)
    theirs = rows.get((path, what, size, mode, against)) or rows.get((path, what, size, Mode.SINGLE, against))
    if ours is None or theirs is None or theirs.value == 0:
        return None
    return ours.value / theirs.value


def judge(rows: Mapping[Key, Row], goals: Iterable[Goal] = GOALS) -> dict[Key, list[Verdict]]:
    """The verdicts on the goals that the rows can answer, by the key of the row that they are about."""
    verdicts: dict[Key, list[Verdict]] = {}
    for goal in goals:
        if goal.against:
            figure = ratio(rows, goal.key, goal.against)
        else:
            found = rows.get(goal.key)
            figure = found.value if found else None
        if figure is not None:
            verdicts.setdefault(goal.key, []).append(
                Verdict(goal, figure, goal.reached(figure, rows[goal.key].value))
            )
    return verdicts
