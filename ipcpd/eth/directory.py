"""Directory: which machines on the link have registered a name (paper 5.4; spec/ethernet 3).

Runs in the ethernet IPCPs as a machine without I/O: calls, messages and timer expiries go in together with `now`
(seconds); messages to send, answers and the next deadline come out. A machine is a MAC address.

A question is broadcast, and again after 30, 100 and 250 ms, for frames get lost. The first machine to
answer is chosen (anycast); those that answer later come after it. What was heard is good for a second without asking
again, and is kept for half a minute for a machine that holds the name and does not answer in time: a prototype answers
nothing while it waits for a process. So a name that has moved is found where it is now; a prototype never learns that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from .wire import mac
from .wire.messages import NameQuery, NameReply

AGAIN = (0.03, 0.1, 0.25)
"""Seconds after a question at which it is repeated."""

PATIENCE = 0.5
"""Seconds until a question is given up: names that nobody has are refused so late."""

FRESH = 1.0
"""Seconds for which what was heard is used without asking."""

STALE = 30.0
"""Seconds after which what was heard is forgotten."""

MAX_HOLDERS = 16
"""Machines remembered for a name."""

MAX_NAMES = 4096
"""Names of others that are remembered, and names that were asked for; those heard of, or asked for, longest ago go first."""

MAX_WAITING = 1024
"""Names that are asked for at the same time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Event: the question `ticket` has an answer."""

    ticket: int
    known: bool


@dataclass(slots=True)
class _Question:
    """Who waits for the answer, and when to ask again."""

    until: float
    again: deque[float]
    tickets: list[int] = field(default_factory=list)


class TooManyQuestions(Exception):
    """Nothing more can be asked for the moment."""


class Directory:
    """The directory of one IPCP."""

    def __init__(self) -> None:
        self.registered: set[bytes] = set()
        self._holders: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()
        """When each was heard, the one to use first first."""
        self._asked: OrderedDict[bytes, float] = OrderedDict()  # when the last question was put
        self._questions: dict[bytes, _Question] = {}
        self._messages: list[tuple[bytes, NameQuery | NameReply]] = []
        self._answers: list[Answer] = []
        self._ticket = 0
        self.unasked = 0
        """Answers to what was not asked."""

    # ------------------------------------------------------------ what comes out

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
        return tuple(holder for holder, heard in self._holders.get(name, {}).items() if now - heard < STALE)

    def entries(self, now: float) -> list[tuple[bytes, bytes, float]]:
        """Name, machine, and for how many seconds nothing was heard: everything that is remembered."""
        return [
            (name, holder, now - heard)
            for name, holders in self._holders.items()
            for holder, heard in holders.items()
            if now - heard < STALE
        ]

    # ------------------------------------------------------------ what goes in

    def query(self, name: bytes, now: float) -> int | bool:
        """Whether the name is reachable; or the ticket of an Answer to come. Raises TooManyQuestions."""
        self._forget_stale(now)
        if any(now - heard < FRESH for heard in self._holders.get(name, {}).values()):
            return True
        question = self._questions.get(name)
        if question is None:
            if len(self._questions) >= MAX_WAITING:
                raise TooManyQuestions
            question = _Question(now + PATIENCE, deque(now + wait for wait in AGAIN))
            self._questions[name] = question
            self.ask(name, now)
        self._ticket += 1
        question.tickets.append(self._ticket)
        return self._ticket

    def ask(self, name: bytes, now: float) -> None:
        """Put the question (again), though nobody waits for the answer: who holds the name is in doubt."""
        self._asked[name] = now
        self._asked.move_to_end(name)  # the first is the one asked for longest ago
        if len(self._asked) > MAX_NAMES:
            self._asked.popitem(last=False)
        self._messages.append((mac.BROADCAST, NameQuery(name)))

    def heard(self, name: bytes, holder: bytes) -> float:
        """When that machine last said that it has the name."""
        return self._holders.get(name, {}).get(holder, float("-inf"))

    def forget(self, name: bytes, holder: bytes) -> None:
        """That machine did not do what it should have: others are used first, if there are others."""
        holders = self._holders.get(name, {})
        heard = holders.pop(holder, None)
        if heard is not None and holders:
            holders[holder] = heard
        elif not holders:
            self._holders.pop(name, None)

    def forget_all(self) -> None:
        """The link was cut: what is at its other end may be another network by now."""
        self._holders.clear()

    def received(self, message: NameQuery | NameReply, source: bytes, now: float) -> None:
        """A message came in."""
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
        """Those that answered the last question come in the order of their answers, the others after them."""
        before = self._holders.pop(name, {})
        before.pop(source, None)
        current = {holder: heard for holder, heard in before.items() if heard >= asked}
        current[source] = now
        for holder, heard in before.items():
            if heard < asked and now - heard < STALE:
                current[holder] = heard
        self._holders[name] = dict(list(current.items())[:MAX_HOLDERS])
        while len(self._holders) > MAX_NAMES:
            self._holders.popitem(last=False)  # the one that was heard of longest ago

    def _forget_stale(self, now: float) -> None:
        """What was asked for, or heard of, too long ago: both stand in that order."""
        while self._asked:
            name, asked = next(iter(self._asked.items()))
            if now - asked < STALE:
                break
            del self._asked[name]
        while self._holders:
            name, holders = next(iter(self._holders.items()))
            if any(now - heard < STALE for heard in holders.values()):
                break
            del self._holders[name]
