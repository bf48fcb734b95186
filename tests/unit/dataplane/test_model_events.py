"""Event regions in every interleaving (spec/lessons 2): no thread sleeps over an event, wherever a process is killed.

Each step names the code that it stands for. A step omits accesses that are private to its thread.
"""

from __future__ import annotations

import pytest

from tests.unit.dataplane.interleavings import (
    END,
    WAIT,
    Deadlock,
    Program,
    Step,
    Thread,
    Vars,
    asleep,
    explore,
    sleep,
    wake,
)

FUTEX = 1


def raising(*, early: bool = False) -> Program:
    """events_raise. `early`: seq grows before the sleepers are looked at, as it once did."""

    def bit(s: Vars, own: Vars) -> str:  # events_raise: the bit
        s["pending"] = s["pending"] | {own["id"]}
        if early:
            return "seq first"
        return "look"

    def seq_first(s: Vars, own: Vars) -> str:
        s["seq"] += 1
        return "look"

    def look(s: Vars, own: Vars) -> str:  # wake: sleepers is loaded
        return "clear" if s["sleepers"] else END

    def clear(s: Vars, own: Vars) -> str:  # wake: sleepers is exchanged for 0
        own["value"], s["sleepers"] = s["sleepers"], 0
        if not own["value"]:
            return END
        return "wake" if early else "seq"

    def seq(s: Vars, own: Vars) -> str:  # wake: seq grows
        s["seq"] += 1
        return "wake"

    def rouse(s: Vars, own: Vars) -> str:  # wake: futex wake
        wake(s, "seq")
        return END

    return {"bit": bit, "seq first": seq_first, "look": look, "clear": clear, "seq": seq, "wake": rouse}


def waiting(enough: int) -> Program:
    """fset_take and fset_sleep, until events of `enough` have been seen."""

    def take(s: Vars, own: Vars) -> str:  # fset_take
        s["taken"], s["pending"] = s["taken"] | s["pending"], frozenset()
        return END if len(s["taken"]) >= enough else "now"

    def now(s: Vars, own: Vars) -> str:  # fset_sleep: seq is loaded
        own["value"] = s["seq"]
        return "ask"

    def ask(s: Vars, own: Vars) -> str:  # fset_sleep: sleepers
        s["sleepers"] = 1
        return "again"

    def again(s: Vars, own: Vars) -> str:  # fset_sleep: anything
        return "take" if s["pending"] else "sleep"

    return {
        "take": take,
        "now": now,
        "ask": ask,
        "again": again,
        "sleep": lambda s, own: sleep(s, own, "seq", "take"),
        "asleep": asleep({}, "seq", "take"),
    }


def burying_a_raiser(force: bool) -> Program:
    """The IRMd: irm_end_signal for each who was killed: events_raise, then events_wake_always."""
    common = raising()

    def await_death(s: Vars, own: Vars) -> str:
        if s["dead"]:
            return "bit"
        return END if s["ended"] else WAIT

    def then(label: str) -> str:
        return "force" if label == END and force else label

    def force_seq(s: Vars, own: Vars) -> str:
        s["seq"] += 1
        return "force wake"

    def force_wake(s: Vars, own: Vars) -> str:
        wake(s, "seq")
        return END

    def forcing(step: Step) -> Step:
        return lambda s, own: then(step(s, own))

    wrapped = {label: forcing(step) for label, step in common.items()}
    return {**wrapped, "await": await_death, "force": force_seq, "force wake": force_wake}


def region(raisers: int, *, early: bool = False, mortal: bool = False, force: bool = True) -> int:
    shared: Vars = {
        "pending": frozenset(),
        "seq": 0,
        "sleepers": 0,
        "taken": frozenset(),
        "ended": False,
        "asleep": frozenset(),
        "dead": frozenset(),
    }
    raise_one = raising(early=early)
    if mortal:

        def ending(step: Step) -> Step:
            def wrapped(s: Vars, own: Vars) -> str:
                label = step(s, own)
                if label == END:
                    s["ended"] = True
                return label

            return wrapped

        raise_one = {label: ending(step) for label, step in raise_one.items()}
    threads = [Thread(raise_one, "bit", {"id": i, "value": 0}, mortal=mortal) for i in range(raisers)]
    threads.append(Thread(waiting(raisers), "take", {"id": raisers, "value": 0}))
    if mortal:
        threads[-1] = Thread(until_told(), "take", {"id": raisers, "value": 0})
        threads.append(Thread(burying_a_raiser(force), "await", {"id": raisers + 1, "value": 0}))
    return explore(shared, threads, lambda s: None)


def until_told() -> Program:
    """One who waits for what a raiser has to say, or for the IRMd's word that it is dead (bit 2)."""
    program = waiting(1)

    def take(s: Vars, own: Vars) -> str:
        s["taken"], s["pending"] = s["taken"] | s["pending"], frozenset()
        return END if 2 in s["taken"] or (0 in s["taken"] and s["ended"]) else "now"

    def patient(s: Vars, own: Vars) -> str:
        # Having seen the living's event it is content, whether or not that one has gone on to its end.
        if 0 in s["taken"] and not s["dead"]:
            return END
        return sleep(s, own, "seq", "take")

    return {**program, "take": take, "sleep": patient}


@pytest.mark.parametrize("raisers", [1, 2, 3])
def test_an_event_is_never_slept_over(raisers: int) -> None:
    """events_raise against fset_take and fset_sleep: an eventcount."""
    assert region(raisers) > 10


def test_the_order_of_waking_matters() -> None:
    """A raiser whose bit was taken before it woke anybody must not clear the flag for the next one's event."""
    with pytest.raises(Deadlock):
        region(2, early=True)


def test_a_raiser_that_is_killed() -> None:
    """Between clearing the flag and waking: the IRMd wakes without looking at the flag."""
    assert region(1, mortal=True) > 10
    with pytest.raises(Deadlock):
        region(1, mortal=True, force=False)
