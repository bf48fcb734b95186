"""A ring's producer and consumers in every interleaving (spec/lessons 2): no packet and no wake-up is lost.

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


def producer(packets: int, slots: int, *, forget: str = "") -> Program:
    """flow_writev, without its polling, of single packets, with a ring of few slots."""

    def room(s: Vars, own: Vars) -> str:  # ring_space_now: tail is loaded
        if own["at"] == packets:
            return "left"
        return "put" if own["at"] - s["tail"] < slots else "ask"

    def put(s: Vars, own: Vars) -> str:  # ring_put: the slot is written, relaxed
        ring = list(s["slots"])
        ring[own["at"] % slots] = own["at"]
        s["slots"] = tuple(ring)
        return "head"

    def head(s: Vars, own: Vars) -> str:  # ring_publish: head is stored
        own["at"] += 1
        s["head"] = own["at"]
        return "look"

    def look(s: Vars, own: Vars) -> str:  # ring_publish: cons_wait is loaded
        return "clear" if s["cons_wait"] else "room"

    def clear(s: Vars, own: Vars) -> str:  # ring_publish: cons_wait is exchanged for 0
        own["value"], s["cons_wait"] = s["cons_wait"], 0
        return "wake" if own["value"] & FUTEX else "room"

    def rouse(s: Vars, own: Vars) -> str:  # tell: futex wake
        wake(s, "cons_wait")
        return "room"

    def ask(s: Vars, own: Vars) -> str:  # flow_sleep: ring_ask
        s["prod_wait"] |= FUTEX
        own["value"] = s["prod_wait"]
        return "sleep" if forget == "recheck" else "again"

    def again(s: Vars, own: Vars) -> str:  # flow_sleep: tx_has_space
        return "room" if own["at"] - s["tail"] < slots else "sleep"

    def left(s: Vars, own: Vars) -> str:  # the IRMd: irm_end_signal: state is set
        s["down"] = True
        return "zero"

    def zero(s: Vars, own: Vars) -> str:  # irm_end_signal: wait words are cleared
        s["cons_wait"] = 0
        return "rouse all"

    def rouse_all(s: Vars, own: Vars) -> str:  # irm_end_signal: futex wake
        wake(s, "cons_wait")
        return END

    return {
        "room": room,
        "put": put,
        "head": head,
        "look": look,
        "clear": clear,
        "wake": rouse,
        "ask": ask,
        "again": again,
        "sleep": lambda s, own: sleep(s, own, "prod_wait", "room"),
        "asleep": asleep({}, "prod_wait", "room"),
        "left": left,
        "zero": zero,
        "rouse all": rouse_all,
    }


def consumer(slots: int, *, forget: str = "") -> Program:
    """flow_read_into of one of several threads that share the end, without its polling."""

    def lock(then: str) -> Step:
        def step(s: Vars, own: Vars) -> str:  # spinlock_acquire
            if s["lock"]:
                return WAIT
            s["lock"] = True
            return then

        return step

    def gone(s: Vars, own: Vars) -> str:  # rx_front: the state is read before the ring
        own["gone"] = s["down"]
        return "ready"

    def ready(s: Vars, own: Vars) -> str:  # rx_front: ring_ready: head is loaded
        if s["head"] != s["at"]:
            return "take"
        s["lock"] = False
        return END if own["gone"] else "enter"

    def take(s: Vars, own: Vars) -> str:  # gather: ring_peek, and the owner word moves on
        s["got"] += (s["slots"][s["at"] % slots],)
        return "tail"

    def tail(s: Vars, own: Vars) -> str:  # ring_consume: tail is stored
        s["at"] += 1
        s["tail"] = s["at"]
        return "look"

    def look(s: Vars, own: Vars) -> str:  # ring_consume: prod_wait is loaded
        return "clear" if s["prod_wait"] else "unlock"

    def clear(s: Vars, own: Vars) -> str:  # ring_consume: prod_wait is exchanged for 0
        own["value"], s["prod_wait"] = s["prod_wait"], 0
        return "wake" if own["value"] & FUTEX else "unlock"

    def rouse(s: Vars, own: Vars) -> str:  # tell: futex wake
        wake(s, "prod_wait")
        return "unlock"

    def unlock(s: Vars, own: Vars) -> str:
        s["lock"] = False
        return "begin"

    def enter(s: Vars, own: Vars) -> str:  # flow_sleep: sleepers
        s["sleepers"] += 1
        return "lock to sleep"

    def ask(s: Vars, own: Vars) -> str:  # flow_sleep: ring_ask
        s["cons_wait"] |= FUTEX
        own["value"] = s["cons_wait"]
        return "unlock to sleep" if forget == "recheck" else "again"

    def again(s: Vars, own: Vars) -> str:  # flow_sleep: rx_has_packet
        if s["head"] != s["at"]:
            return "unlock and leave" if forget == "withdraw" else "others"
        return "down"

    def down(s: Vars, own: Vars) -> str:  # flow_sleep: flow_state
        if not s["down"]:
            return "unlock to sleep"
        return "unlock and leave" if forget == "withdraw" else "others"

    def others(s: Vars, own: Vars) -> str:  # withdraw: sleepers
        return "withdraw" if s["sleepers"] > 1 else "unlock and leave"

    def withdraw(s: Vars, own: Vars) -> str:  # withdraw: the bit is taken back
        before, s["cons_wait"] = s["cons_wait"], s["cons_wait"] & ~FUTEX
        return "rouse others" if before & FUTEX else "unlock and leave"

    def rouse_others(s: Vars, own: Vars) -> str:  # withdraw: futex wake
        wake(s, "cons_wait")
        return "unlock and leave"

    def unlock_to_sleep(s: Vars, own: Vars) -> str:
        s["lock"] = False
        return "sleep"

    def unlock_and_leave(s: Vars, own: Vars) -> str:
        s["lock"] = False
        return "leave"

    def leave(s: Vars, own: Vars) -> str:
        s["sleepers"] -= 1
        return "begin"

    return {
        "begin": lock("gone"),
        "gone": gone,
        "ready": ready,
        "take": take,
        "tail": tail,
        "look": look,
        "clear": clear,
        "wake": rouse,
        "unlock": unlock,
        "enter": enter,
        "lock to sleep": lock("ask"),
        "ask": ask,
        "again": again,
        "down": down,
        "others": others,
        "withdraw": withdraw,
        "rouse others": rouse_others,
        "unlock to sleep": unlock_to_sleep,
        "unlock and leave": unlock_and_leave,
        "sleep": lambda s, own: sleep(s, own, "cons_wait", "leave"),
        "asleep": asleep({}, "cons_wait", "leave"),
        "leave": leave,
    }


def ring(packets: int, slots: int, consumers: int, *, forget: str = "", who: str = "") -> int:
    shared: Vars = {
        "head": 0,
        "tail": 0,
        "at": 0,
        "slots": (None,) * slots,
        "cons_wait": 0,
        "prod_wait": 0,
        "asleep": frozenset(),
        "lock": False,
        "sleepers": 0,
        "down": False,
        "got": (),
        "dead": frozenset(),
    }
    writes = producer(packets, slots, forget=forget if who == "producer" else "")
    reads = consumer(slots, forget=forget if who == "consumer" else "")
    threads = [Thread(writes, "room", {"id": 0, "at": 0, "value": 0})] + [
        Thread(reads, "begin", {"id": i, "value": 0, "gone": False}) for i in range(1, consumers + 1)
    ]

    def final(s: Vars) -> None:
        assert s["got"] == tuple(range(packets)), s["got"]

    def always(s: Vars) -> None:
        assert 0 <= s["head"] - s["tail"] <= slots
        assert s["got"] == tuple(range(len(s["got"])))

    return explore(shared, threads, final, always)


@pytest.mark.parametrize(
    "packets,slots,consumers", [(1, 1, 1), (3, 1, 1), (4, 2, 1), (5, 3, 1), (1, 1, 2), (3, 2, 2), (1, 1, 3)]
)
def test_no_packet_and_no_wake_up_is_lost(packets: int, slots: int, consumers: int) -> None:
    assert ring(packets, slots, consumers) > 50


@pytest.mark.parametrize(
    "who,forget,consumers",
    [("consumer", "recheck", 1), ("producer", "recheck", 1), ("consumer", "withdraw", 2)],
)
def test_the_model_sees_what_would_be_wrong(who: str, forget: str, consumers: int) -> None:
    """Without the second look, or without taking the question back, somebody would sleep for ever."""
    with pytest.raises(Deadlock):
        ring(3, 1 if who == "producer" else 2, consumers, forget=forget, who=who)
