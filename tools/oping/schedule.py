"""When oping's client sends, and when it stops waiting.

Paced: packet n leaves n + 1 intervals after the start, so `-c 4` takes four seconds (paper Listing 14).
Eager (flood, or interval 0): the next packet leaves as soon as the reply to the last one is there, and one
interval after the last one at the latest, or 10 ms after it while MOST_AHEAD packets are unanswered: the server drops replies
that the client's queue has no room for. The client gives up when no reply has arrived for one interval and
two seconds (paper Listing 5). Pure: times are ns of the monotonic clock, given as arguments.
"""

REPLY_TIMEOUT_NS = 2_000_000_000
# Interval 0 sends without waiting for replies; this pause keeps it from filling every queue on the way.
ZERO_INTERVAL_NS = 100_000
MOST_AHEAD = 256
AHEAD_PAUSE_NS = 10_000_000


class Schedule:
    """Send and give-up times of one run; `count` None means no end."""

    __slots__ = ("_answered", "_eager", "_interval", "_last_reply", "_next_at", "_sent", "_start", "count")

    def __init__(self, *, interval: int, count: int | None, flood: bool, start: int) -> None:
        self._eager = flood or interval == 0
        self._interval = interval or ZERO_INTERVAL_NS
        self._start = start
        self._sent = 0
        self._answered = 0
        self._last_reply = start
        self._next_at = start if self._eager else start + interval
        self.count = count

    @property
    def all_sent(self) -> bool:
        """Whether no further packet is to be sent."""
        return self.count is not None and self._sent >= self.count

    @property
    def number(self) -> int:
        """The number of the next packet."""
        return self._sent

    @property
    def send_at(self) -> int:
        """When the next packet is to leave."""
        return self._next_at

    @property
    def give_up_at(self) -> int:
        """When the client gives up if no reply arrives before."""
        return self._last_reply + self._interval + REPLY_TIMEOUT_NS

    @property
    def wake_at(self) -> int:
        """Until when to wait for a reply."""
        return self.give_up_at if self.all_sent else min(self._next_at, self.give_up_at)

    def finish(self) -> None:
        """Send no more."""
        self.count = self._sent

    def sent(self, now: int) -> None:
        """A packet left."""
        self._sent += 1
        if self._eager:
            is_far_ahead = self._sent - self._answered >= MOST_AHEAD
            self._next_at = now + (max(self._interval, AHEAD_PAUSE_NS) if is_far_ahead else self._interval)
        else:
            self._next_at = self._start + (self._sent + 1) * self._interval

    def blocked(self, now: int) -> None:
        """A packet could not leave because a queue is full; try again later."""
        self._next_at = now + (ZERO_INTERVAL_NS if self._eager else self._interval)

    def held(self, now: int) -> None:
        """The link is down: postpone giving up, and slow a flood down."""
        self._last_reply = now

    def replied(self, number: int, now: int) -> None:
        """The reply to the packet `number` arrived."""
        self._last_reply = now
        self._answered = max(self._answered, number + 1)
        if self._eager:
            self._next_at = now
