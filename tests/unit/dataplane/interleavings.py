"""A small model checker: threads of a few atomic steps, and every order in which they can take them.

A step is one access to shared memory, or one system call; it is a function of the shared variables and of
the thread's own, changes either, and returns the label of the next step, or WAIT when it cannot be taken now. The
checker walks all states that can be reached, once each. A state in which no thread can continue and one has not ended
is a deadlock: in these protocols, a lost wake-up.

Memory is sequentially consistent here. `ring.h` requires that where two sides read each other's words
(both seq_cst); what is relaxed there is published by a later store, and no step here relies on more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WAIT = "wait"
END = "end"

Vars = dict[str, Any]
Step = Callable[[Vars, Vars], str]
Program = dict[str, Step]
State = tuple[tuple[Any, ...], ...]


class Thread:
    """A program, the label it begins with, and the thread's own variables. `mortal`: it may be killed anywhere."""

    def __init__(self, program: Program, start: str, own: Vars, *, mortal: bool = False) -> None:
        self.program = program
        self.start = start
        self.own = own
        self.mortal = mortal


def sleep(s: Vars, own: Vars, word: str, then: str) -> str:
    """futex wait: go on at once when the word is not what it was, else sleep. To be used by two steps in a row."""
    if s[word] != own["value"]:
        return then
    s["asleep"] = s["asleep"] | {(own["id"], word)}
    return "asleep"


def asleep(own: Vars, word: str, then: str) -> Step:
    """The step of one that sleeps."""

    def step(s: Vars, mine: Vars) -> str:
        return WAIT if (mine["id"], word) in s["asleep"] else then

    return step


def wake(s: Vars, word: str) -> None:
    """futex wake, of all."""
    s["asleep"] = frozenset(one for one in s["asleep"] if one[1] != word)


class Deadlock(AssertionError):
    """Somebody waits for ever."""


def explore(
    shared: Vars,
    threads: list[Thread],
    final: Callable[[Vars], None],
    always: Callable[[Vars], None] = lambda s: None,
) -> int:
    """Visit every reachable state; `final` checks those in which all have ended. Returns how many there are.

    A killed thread ends at once; the shared variable `dead` then has its index.
    """
    names = sorted(shared)
    owns = [sorted(thread.own) for thread in threads]

    def freeze(s: Vars, locals_: list[Vars], labels: list[str]) -> State:
        return (
            tuple(s[name] for name in names),
            *(tuple(mine[name] for name in own) for mine, own in zip(locals_, owns, strict=True)),
            tuple(labels),
        )

    def thaw(state: State) -> tuple[Vars, list[Vars], list[str]]:
        s = dict(zip(names, state[0], strict=True))
        locals_ = [dict(zip(own, mine, strict=True)) for own, mine in zip(owns, state[1:-1], strict=True)]
        return s, locals_, list(state[-1])

    first = freeze(shared, [dict(thread.own) for thread in threads], [thread.start for thread in threads])
    seen = {first}
    stack = [first]
    while stack:
        state = stack.pop()
        moved = False
        labels = state[-1]
        for at, thread in enumerate(threads):
            if labels[at] == END:
                continue
            s, locals_, now = thaw(state)
            label = thread.program[now[at]](s, locals_[at])
            outcomes = []
            if label != WAIT:
                moved = True
                now[at] = label
                outcomes.append(freeze(s, locals_, now))
            if thread.mortal:
                s, locals_, now = thaw(state)
                now[at] = END
                s["dead"] = s["dead"] | {at}
                s["asleep"] = frozenset(one for one in s["asleep"] if one[0] != at)
                outcomes.append(freeze(s, locals_, now))
            for outcome in outcomes:
                if outcome not in seen:
                    always(dict(zip(names, outcome[0], strict=True)))
                    seen.add(outcome)
                    stack.append(outcome)
        if not moved:
            s = dict(zip(names, state[0], strict=True))
            if any(label != END for label in labels):
                raise Deadlock(f"{labels} with {s}")
            final(s)
    return len(seen)
