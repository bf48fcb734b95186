"""Questions to other nodes, and their answers (spec/dht 1; spec/lessons 50, 51).

Runs in the unicast IPCP, inside the directory's machine. A question has a cookie of its own. It is sent a second time; a
node that leaves both unanswered is lost. An answer counts once, with the cookie and the key of a question that is
outstanding, from the address that was asked: all else is dropped. Every question ends, also without an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from ipcpd.wire.dht import Contact, FindNode, FindNodeReply, FindValue, FindValueReply, Message

from ..timers import Timer, Timers

SECOND_TRY = 0.4
"""Seconds after which a question is sent again, and no longer delays questions to other nodes."""

SILENT = 1.0
"""Seconds after which the look-up continues without the answer."""

LOST = 2.5
"""Seconds after which the node counts as lost; an answer that arrives later is dropped."""

MAX_QUESTIONS = 1024
"""Questions that are outstanding, beyond which a value's owner is asked later, and a node that is in doubt not yet."""

Reply = FindNodeReply | FindValueReply


class Outcome(Enum):
    """Outcomes of a question: perhaps SLOW, then perhaps SILENT, then ANSWERED or LOST."""

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
    """own  the contact that asks; timers  of the machine; random  makes cookies; send  takes messages to send"""

    __slots__ = ("_by_address", "_own", "_questions", "_random", "_send", "_timers")

    def __init__(
        self, own: Contact, *, timers: Timers, random: Random, send: Callable[[int, Message], None]
    ) -> None:
        self._own = own
        self._timers = timers
        self._random = random
        self._send = send
        self._questions: dict[int, Question] = {}
        self._by_address: dict[int, dict[int, None]] = {}  # cookies

    def __len__(self) -> int:
        return len(self._questions)

    def asking(self, address: int) -> bool:
        """Whether an answer from there is awaited."""
        return address in self._by_address

    @property
    def is_overloaded(self) -> bool:
        """Whether MAX_QUESTIONS are outstanding: then only questions of look-ups are asked."""
        return len(self._questions) >= MAX_QUESTIONS

    def ask(self, address: int, key: bytes, *, values: bool, report: Report, now: float) -> None:
        """Ask which nodes are near `key`, and with `values` also for the values under it."""
        cookie = self._random.getrandbits(64)
        while not cookie or cookie in self._questions:
            cookie = self._random.getrandbits(64)
        message = (FindValue if values else FindNode)(self._own, cookie, key)
        timer = self._timers.at(now + SECOND_TRY, lambda now: self._again(cookie, now))
        self._questions[cookie] = Question(address, message, report, timer)
        self._by_address.setdefault(address, {})[cookie] = None
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
        self._pop(cookie).report(Outcome.LOST, None, now)

    def _pop(self, cookie: int) -> Question:
        question = self._questions.pop(cookie)
        cookies = self._by_address[question.address]
        del cookies[cookie]
        if not cookies:
            del self._by_address[question.address]
        return question

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
        question = self._pop(reply.cookie)
        question.timer.cancel()
        question.report(Outcome.ANSWERED, reply, now)

    def unroutable(self, address: int, now: float) -> None:
        """Nothing can be sent to this address: its questions end without an answer."""
        for cookie in list(self._by_address.get(address, ())):
            question = self._questions.get(cookie)
            if question is not None:
                question.timer.cancel()
                question.report(Outcome.SILENT, None, now)
                self._end(cookie, now)
