"""The ring's protocols in every interleaving (traps 1.1.2): no lost wake-up, no packet lost or read twice, no block
leaked or freed twice, whoever is killed where.

Each step names the code that it stands for. What a step leaves out is private to its thread.
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

# ---------------------------------------------------------------- producer, consumers, sleeping


def producer(packets: int, slots: int, *, forget: str = "") -> Program:
    """flow_writev, without its polling, of single packets, with a ring of few slots."""

    def room(s: Vars, own: Vars) -> str:  # ring_room_now: tail is loaded
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

    def again(s: Vars, own: Vars) -> str:  # flow_sleep: tx_has_room
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


# ---------------------------------------------------------------- blocks: writing while the reader is buried

FREE, WRITER, RING = "free", "writer", "ring"


def writing(s: Vars) -> Program:
    """flow_writev of one packet into a ring whose reader is dead, at the very time the IRMd finds out."""

    def alloc(s: Vars, own: Vars) -> str:  # claim: compare-and-swap
        assert s["owner"] == FREE
        s["owner"] = WRITER
        return "give"

    def give(s: Vars, own: Vars) -> str:  # pool_give
        s["owner"] = RING
        return "put"

    def put(s: Vars, own: Vars) -> str:  # ring_put
        s["slot"] = True
        return "publish"

    def publish(s: Vars, own: Vars) -> str:  # ring_publish: head is stored
        s["head"] = 1
        return "state"

    def state(s: Vars, own: Vars) -> str:  # flow_error, after publishing
        return "take back" if s["down"] else END

    def take_back(s: Vars, own: Vars) -> str:  # take_back: compare-and-swap
        if s["owner"] == RING:
            s["owner"] = FREE
            s["freed"] += 1
        return END

    return {
        "alloc": alloc,
        "give": give,
        "put": put,
        "publish": publish,
        "state": state,
        "take back": take_back,
    }


def burying_the_reader(released_first: bool) -> Program:
    """The IRMd: down, sweep for the reader; when the writer has gone as well, release, and sweep for it."""

    def down(s: Vars, own: Vars) -> str:  # close_side
        s["down"] = True
        return "sweep"

    def sweep(s: Vars, own: Vars) -> str:  # irm_sweep_run: compare-and-swap of what the reader's rings hold
        if s["owner"] == RING:
            s["owner"] = FREE
            s["freed"] += 1
        return "await"

    def await_writer(
        s: Vars, own: Vars
    ) -> str:  # it has detached (there is nothing to drain), or its pidfd fired
        if not s["dead"] and not s["left"]:
            return WAIT
        if not s["dead"]:
            return "release"
        return "release" if released_first else "reclaim"

    def reclaim(
        s: Vars, own: Vars
    ) -> str:  # Memory.reclaim: what it owned, what it did not publish, dead serials
        hidden = s["owner"] == RING and (s["head"] == 0 or s["released"])
        if s["dead"] and (s["owner"] == WRITER or hidden):
            s["owner"] = FREE
            s["freed"] += 1
        return END if s["released"] else "release"

    def release(s: Vars, own: Vars) -> str:  # irm_flow_drain: what lies in the ring
        if s["head"] == 1 and s["owner"] == RING:
            s["owner"] = FREE
            s["freed"] += 1
        s["released"] = True
        return "reclaim" if s["dead"] and released_first else END

    return {"down": down, "sweep": sweep, "await": await_writer, "reclaim": reclaim, "release": release}


@pytest.mark.parametrize("released_first", [False, True])
@pytest.mark.parametrize("mortal", [False, True])
def test_writing_while_the_reader_is_buried(released_first: bool, mortal: bool) -> None:
    """One owner at any time, and one release of the block in the end, wherever the writer is, or dies."""
    shared: Vars = {
        "owner": FREE,
        "slot": False,
        "head": 0,
        "down": False,
        "freed": 0,
        "left": False,
        "released": False,
        "dead": frozenset(),
        "asleep": frozenset(),
    }
    program = writing(shared)
    last = program["state"], program["take back"]

    def leaving(step: Step) -> Step:
        def wrapped(s: Vars, own: Vars) -> str:
            label = step(s, own)
            return "leave" if label == END else label

        return wrapped

    def leave(s: Vars, own: Vars) -> str:  # flow_detach, and the IRMd is told
        s["left"] = True
        return END

    program["state"], program["take back"] = map(leaving, last)
    program["leave"] = leave

    def final(s: Vars) -> None:
        assert s["owner"] == FREE, "leaked"
        assert s["freed"] <= 1, "freed twice"

    states = explore(
        shared,
        [
            Thread(program, "alloc", {"id": 0}, mortal=mortal),
            Thread(burying_the_reader(released_first), "down", {"id": 1}),
        ],
        final,
    )
    assert states > 20


# ---------------------------------------------------------------- blocks: reading while the writer is buried

READER, OTHER = "reader", "other"


def reading(published: int) -> Program:
    """The living reader: takes each packet by compare-and-swap, then moves tail; a third process reuses the block."""

    def slot(s: Vars, own: Vars) -> str:  # ring_ready, ring_peek
        return "copy" if own["at"] < s["head"] else END

    def copy(s: Vars, own: Vars) -> str:  # memcpy: before the block is given back
        assert s["owners"][own["at"]] == RING, (
            "a packet that was published has been taken from under its reader"
        )
        return "free"

    def free(s: Vars, own: Vars) -> str:  # pool_free: compare-and-swap
        owners = list(s["owners"])
        assert owners[own["at"]] == RING
        owners[own["at"]] = FREE
        s["owners"] = tuple(owners)
        s["read"] += (own["at"],)
        return "tail"

    def tail(s: Vars, own: Vars) -> str:  # ring_consume
        own["at"] += 1
        s["tail"] = own["at"]
        return "slot"

    return {"slot": slot, "copy": copy, "free": free, "tail": tail}


def reusing(blocks: int) -> Program:
    """Somebody else allocates whatever is free, for good."""

    def claim(s: Vars, own: Vars) -> str:
        if s["swept"] and all(owner != FREE for owner in s["owners"]):
            return END
        for at, owner in enumerate(s["owners"]):
            if owner == FREE:
                s["owners"] = (*s["owners"][:at], OTHER, *s["owners"][at + 1 :])
                return "claim"
        return END if s["swept"] and len(s["read"]) == s["head"] else WAIT

    return {"claim": claim}


def sweeping(blocks: int) -> Program:
    """The IRMd: irm_sweep_ring looks at the window, irm_sweep_run at one owner word after another."""

    def tail(s: Vars, own: Vars) -> str:  # window: tail
        own["tail"] = s["tail"]
        return "head"

    def head(s: Vars, own: Vars) -> str:  # window: head; what lies in between is visible
        own["visible"] = frozenset(range(own["tail"], s["head"]))
        return "load"

    def load(s: Vars, own: Vars) -> str:  # irm_sweep_run: an owner word
        if own["block"] == blocks:
            s["swept"] = True
            return END
        own["owner"] = s["owners"][own["block"]]
        if own["owner"] == RING and own["block"] not in own["visible"]:
            return "swap"
        own["block"] += 1
        return "load"

    def swap(s: Vars, own: Vars) -> str:  # give_back: compare-and-swap
        at = own["block"]
        if s["owners"][at] == RING:
            assert at >= s["head"], "it was published"
            s["owners"] = (*s["owners"][:at], FREE, *s["owners"][at + 1 :])
        own["block"] += 1
        return "load"

    return {"tail": tail, "head": head, "load": load, "swap": swap}


@pytest.mark.parametrize("published,hidden", [(0, 2), (2, 1), (3, 0), (3, 2)])
def test_reading_while_the_writer_is_buried(published: int, hidden: int) -> None:
    blocks = published + hidden
    shared: Vars = {
        "owners": (RING,) * blocks,
        "head": published,
        "tail": 0,
        "read": (),
        "swept": False,
        "dead": frozenset(),
        "asleep": frozenset(),
    }

    def final(s: Vars) -> None:
        assert s["read"] == tuple(range(published)), "what was published is read"
        assert all(owner in (OTHER, FREE) for owner in s["owners"]), "leaked"

    sweep = Thread(
        sweeping(blocks), "tail", {"id": 1, "tail": 0, "visible": frozenset(), "block": 0, "owner": ""}
    )
    threads = [
        Thread(reading(published), "slot", {"id": 0, "at": 0}),
        sweep,
        Thread(reusing(blocks), "claim", {"id": 2}),
    ]
    assert explore(shared, threads, final) > 10


# ---------------------------------------------------------------- event regions


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
    """The IRMd: irm_end_signal for each who was killed: events_raise, then events_force."""
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
