"""The blocks of a ring whose reader or writer is killed, in every interleaving (spec/lessons 2): none is leaked or freed twice, wherever a process is killed.

Each step names the code that it stands for. A step omits accesses that are private to its thread.
"""

from __future__ import annotations

import pytest

from tests.unit.dataplane.interleavings import (
    END,
    WAIT,
    Program,
    Step,
    Thread,
    Vars,
    explore,
)

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
