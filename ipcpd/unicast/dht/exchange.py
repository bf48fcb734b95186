"""Questions to other nodes, and their answers (spec/dht 1; spec/lessons 50, 51).

Runs in the unicast IPCP, inside the directory's machine. A question has a cookie of its own. It is asked a second time; a
node that leaves both unanswered is lost. An answer counts once, with the cookie and the key of a question that is
outstanding, from the address that was asked: all else is dropped. Every question ends, also when nobody answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from ..timers import Timer, Timers
from ..wire.dht import Contact, FindNode, FindNodeReply, FindValue, FindValueReply, Message

SECOND_TRY = 0.4
"""Seconds after which a question is asked again, and does not keep others waiting any more."""

SILENT = 1.0
"""Seconds after which one goes on without the answer."""

LOST = 2.5
"""Seconds after which the node counts as gone; an answer that comes later is dropped."""

Reply = FindNodeReply | FindValueReply


class Outcome(Enum):
    """What becomes of a question: perhaps SLOW, then perhaps SILENT, then ANSWERED or LOST."""

    SLOW = "slow"
    SILENT = "silent"
    ANSWERED = "answered"
    LOST = "lost"


Report = Callable[[Outcome, Reply | None, float], None]
"""Gets each outcome, the answer if there is one, and the time."""


@dataclass(slots=True)
class Question:
    """A question that is outstanding."""

    address: int
    message: FindNode | FindValue
    report: Report
    timer: Timer


class Exchange:
    """own  who asks; timers  of the machine; random  makes cookies; send  takes what has to be sent"""

    __slots__ = ("_own", "_questions", "_random", "_send", "_timers")

    def __init__(
        self, own: Contact, *, timers: Timers, random: Random, send: Callable[[int, Message], None]
    ) -> None:
        self._own = own
        self._timers = timers
        self._random = random
        self._send = send
        self._questions: dict[int, Question] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def asking(self, address: int) -> bool:
        """Whether an answer from there is awaited."""
        return any(question.address == address for question in self._questions.values())

    def ask(self, address: int, key: bytes, *, values: bool, report: Report, now: float) -> None:
        """Ask which nodes are near `key`, and with `values` also what is kept under it."""
        cookie = self._random.getrandbits(64)
        while not cookie or cookie in self._questions:
            cookie = self._random.getrandbits(64)
        message = (FindValue if values else FindNode)(self._own, cookie, key)
        timer = self._timers.at(now + SECOND_TRY, lambda now: self._again(cookie, now))
        self._questions[cookie] = Question(address, message, report, timer)
        self._send(address, message)

    def _again(self, cookie: int, now: float) -> None:
        question = self._questions[cookie]
        question.timer = self._timers.at(now + SILENT - SECOND_TRY, lambda now: self._silent(cookie, now))
        self._send(question.address, question.message)
        question.report(Outcome.SLOW, None, now)

    def _silent(self, cookie: int, now: float) -> None:
        question = self._questions[cookie]
        question.timer = self._timers.at(now + LOST - SILENT, lambda now: self._end(cookie, now))
        question.report(Outcome.SILENT, None, now)

    def _end(self, cookie: int, now: float) -> None:
        self._questions.pop(cookie).report(Outcome.LOST, None, now)

    def awaits(self, reply: Reply) -> bool:
        """Whether this is the answer to a question that is outstanding."""
        question = self._questions.get(reply.cookie)
        return (
            question is not None
            and question.address == reply.source.address
            and question.message.key == reply.key
        )

    def answer(self, reply: Reply, now: float) -> None:
        """The answer to a question that is outstanding has come."""
        question = self._questions.pop(reply.cookie)
        question.timer.cancel()
        question.report(Outcome.ANSWERED, reply, now)

    def unroutable(self, address: int, now: float) -> None:
        """Nothing can be sent there: nobody needs to wait for an answer."""
        for cookie, question in list(self._questions.items()):
            if question.address == address and cookie in self._questions:
                question.timer.cancel()
                question.report(Outcome.SILENT, None, now)
                self._end(cookie, now)
