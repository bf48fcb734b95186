"""Directory: which machines on the link have registered a name (paper 5.4; spec/ethernet 3).

Runs in the ethernet IPCPs as a machine without I/O: calls, messages and timer expiries go in together with `now`
(seconds); messages to send, answers and the next deadline come out. A machine is a MAC address.

A question is broadcast, and again after 30, 100 and 250 ms, because frames get lost. The first machine to
answer is chosen (anycast); machines that answer later come after it. An answer is used for a second without a new
question, and is kept for half a minute for a machine that holds the name and does not answer in time: a prototype answers
nothing while it waits for a process. So the IPCP finds a name that has moved at its new machine; a prototype does not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from ipcpd.wire import mac
from ipcpd.wire.eth import NameQuery, NameReply

AGAIN = (0.03, 0.1, 0.25)
"""Seconds after a question at which it is repeated."""

QUERY_TIMEOUT = 0.5
"""Seconds until a question is given up: the refusal of a name that no machine has takes as long."""

FRESH = 1.0
"""Seconds for which an answer is used without a new question."""

STALE = 30.0
"""Seconds after which an answer is deleted."""

MAX_HOLDERS = 16
"""Machines in the cache for a name."""

MAX_NAMES = 4096
"""Names of other machines in the cache, and names of past questions; the oldest answer or question is evicted first."""

MAX_WAITING = 1024
"""Questions that are outstanding at the same time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Event: the question `ticket` has an answer."""

    ticket: int
    known: bool


@dataclass(slots=True)
class _Question:
    """Queries that wait for the answer, and the times at which the question is repeated."""

    until: float
    again: deque[float]
    tickets: list[int] = field(default_factory=list)


class TooManyQuestions(Exception):
    """MAX_WAITING questions are outstanding."""


class Directory:
    """The directory of one IPCP."""

    def __init__(self) -> None:
        self.registered: set[bytes] = set()
        self._holders: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()
        """Time of each machine's last answer, the machine to use first at the front."""
        self._asked: OrderedDict[bytes, float] = OrderedDict()  # time of the last question
        self._questions: dict[bytes, _Question] = {}
        self._messages: list[tuple[bytes, NameQuery | NameReply]] = []
        self._answers: list[Answer] = []
        self._ticket = 0
        self.unasked = 0
        """Answers to no question of this IPCP."""

    # ------------------------------------------------------------ outputs

    def take_messages(self) -> list[tuple[bytes, NameQuery | NameReply]]:
        """Messages to send, with their destinations."""
        messages, self._messages = self._messages, []
        return messages

    def take_answers(self) -> list[Answer]:
        """Questions that have been answered, or given up."""
        answers, self._answers = self._answers, []
        return answers

    @property
    def deadline(self) -> float | None:
        """When to call `expired`."""
        return min(
            (min((question.until, *question.again)) for question in self._questions.values()), default=None
        )

    def holders(self, name: bytes, now: float) -> tuple[bytes, ...]:
        """Machines that have the name, the one to use first first."""
        return tuple(
            holder for holder, answered_at in self._holders.get(name, {}).items() if now - answered_at < STALE
        )

    def entries(self, now: float) -> list[tuple[bytes, bytes, float]]:
        """Name, machine, and seconds since its last answer, for every entry of the cache."""
        return [
            (name, holder, now - answered_at)
            for name, holders in self._holders.items()
            for holder, answered_at in holders.items()
            if now - answered_at < STALE
        ]

    # ------------------------------------------------------------ inputs

    def query(self, name: bytes, now: float) -> int | bool:
        """Whether the name is reachable; or the ticket of an Answer to come. Raises TooManyQuestions."""
        self._forget_stale(now)
        if any(now - answered_at < FRESH for answered_at in self._holders.get(name, {}).values()):
            return True
        question = self._questions.get(name)
        if question is None:
            if len(self._questions) >= MAX_WAITING:
                raise TooManyQuestions
            question = _Question(now + QUERY_TIMEOUT, deque(now + wait for wait in AGAIN))
            self._questions[name] = question
            self.ask(name, now)
        self._ticket += 1
        question.tickets.append(self._ticket)
        return self._ticket

    def ask(self, name: bytes, now: float) -> None:
        """Send the question (again), though no query waits for the answer: the holder of the name is in doubt."""
        self._asked[name] = now
        self._asked.move_to_end(name)  # the first has the oldest question
        if len(self._asked) > MAX_NAMES:
            self._asked.popitem(last=False)
        self._messages.append((mac.BROADCAST, NameQuery(name)))

    def answered_at(self, name: bytes, holder: bytes) -> float:
        """Time of that machine's last reply that it has the name."""
        return self._holders.get(name, {}).get(holder, float("-inf"))

    def forget(self, name: bytes, holder: bytes) -> None:
        """That machine did not act as a holder of the name: other machines are used first, if there are any."""
        holders = self._holders.get(name, {})
        answered_at = holders.pop(holder, None)
        if answered_at is not None and holders:
            holders[holder] = answered_at
        elif not holders:
            self._holders.pop(name, None)

    def forget_all(self) -> None:
        """The link was cut: its other end may be in another network by now."""
        self._holders.clear()

    def received(self, message: NameQuery | NameReply, source: bytes, now: float) -> None:
        """A message has arrived."""
        name = message.name_hash
        if isinstance(message, NameQuery):
            if name in self.registered:
                self._messages.append((source, NameReply(name)))
            return
        asked = self._asked.get(name)
        if asked is None or mac.is_group(source):
            self.unasked += 1
            return
        self._learn(name, source, asked, now)
        question = self._questions.pop(name, None)
        if question is not None:
            self._answers += [Answer(ticket, known=True) for ticket in question.tickets]

    def expired(self, now: float) -> None:
        """`deadline` has passed."""
        for name, question in list(self._questions.items()):
            if question.until <= now:
                del self._questions[name]
                known = bool(self.holders(name, now))
                if not known:
                    self._holders.pop(name, None)
                self._answers += [Answer(ticket, known) for ticket in question.tickets]
            elif question.again and question.again[0] <= now:
                while question.again and question.again[0] <= now:
                    question.again.popleft()
                self._messages.append((mac.BROADCAST, NameQuery(name)))

    # ------------------------------------------------------------ steps

    def _learn(self, name: bytes, source: bytes, asked: float, now: float) -> None:
        """Machines that answered the last question come in the order of their answers, the other machines after them."""
        before = self._holders.pop(name, {})
        before.pop(source, None)
        current = {holder: answered_at for holder, answered_at in before.items() if answered_at >= asked}
        current[source] = now
        for holder, answered_at in before.items():
            if answered_at < asked and now - answered_at < STALE:
                current[holder] = answered_at
        self._holders[name] = dict(list(current.items())[:MAX_HOLDERS])
        while len(self._holders) > MAX_NAMES:
            self._holders.popitem(last=False)  # the name with the oldest answer

    def _forget_stale(self, now: float) -> None:
        """Delete questions and answers that are too old: both tables are sorted by age."""
        while self._asked:
            name, asked = next(iter(self._asked.items()))
            if now - asked < STALE:
                break
            del self._asked[name]
        while self._holders:
            name, holders = next(iter(self._holders.items()))
            if any(now - answered_at < STALE for answered_at in holders.values()):
                break
            del self._holders[name]
