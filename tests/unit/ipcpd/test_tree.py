"""The knowledge of a broadcast layer's member about the shape of the layer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.broadcast.tree import Tree, Verdict
from ipcpd.wire.connmgr import BROADCAST, Record, decode, encode


def record(tree: Tree) -> Record:
    said = Record(BROADCAST.component, member=tree.member, tree=tree.id)
    assert decode(encode(said)) == said
    return said


class Layer:
    """Members of ours, and who is connected to whom."""

    def __init__(self, count: int) -> None:
        self.trees = [Tree() for _ in range(count)]
        self.links: dict[int, tuple[int, int]] = {}
        self._fd = 64

    def connect(self, a: int, b: int) -> str:
        one, other = self.trees[a], self.trees[b]
        mine, theirs = record(one), record(other)
        reason = other.objection(mine)
        if reason:
            return reason
        verdict, old = other.verdict(mine, initiator=False)
        assert (verdict, old) == one.verdict(theirs, initiator=True)
        if verdict is Verdict.REPLACE:
            self.cut(old)
        fd, self._fd = self._fd, self._fd + 1
        other.add(fd, mine, initiator=False)
        one.add(fd, theirs, initiator=True)
        self.links[fd] = (a, b)
        return ""

    def cut(self, fd: int) -> None:
        for end in self.links.pop(fd):
            self.trees[end].remove(fd)

    def joined(self, a: int, b: int) -> bool:
        seen, todo = {a}, [a]
        while todo:
            at = todo.pop()
            for link in self.links.values():
                if at in link:
                    other = link[0] + link[1] - at
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        return b in seen


def test_members_that_come_one_by_one() -> None:
    """However they attach: nothing that closes a loop, and everything else."""
    layer = Layer(6)
    assert [
        layer.connect(1, 0),
        layer.connect(2, 1),
        layer.connect(0, 3),
        layer.connect(4, 2),
        layer.connect(5, 0),
    ] == [""] * 5
    assert len({tree.id for tree in layer.trees}) == 1
    for a in range(6):
        for b in range(6):
            again = (a, b) in layer.links.values()
            reason = layer.connect(a, b)
            assert reason == "" if again else "itself" in reason if a == b else "loop" in reason
            assert len(layer.links) == 5, "the new one takes the place of the old"


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=40))
def test_growing_one_tree_no_loop_and_no_false_refusal(pairs: list[tuple[int, int]]) -> None:
    """As long as one of the two was alone, what is known is the truth."""
    layer = Layer(8)
    grown: set[int] = set()
    for a, b in pairs:
        if grown and a not in grown and b not in grown:
            continue
        if (a, b) in layer.links.values():
            continue
        joined = layer.joined(a, b)
        assert bool(layer.connect(a, b)) == joined
        grown |= {a, b}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12), st.integers(0, 20))
def test_whoever_loses_a_neighbour_can_connect_anew(pairs: list[tuple[int, int]], which: int) -> None:
    layer = Layer(6)
    for a, b in pairs:
        layer.connect(a, b)
    if not layer.links:
        return
    fd = sorted(layer.links)[which % len(layer.links)]
    a, b = layer.links[fd]
    layer.cut(fd)
    if not layer.joined(a, b):
        assert layer.connect(a, b) == "", "the two that lost each other"


def test_prototypes_say_nothing_and_are_never_refused() -> None:
    tree, prototype = Tree(), BROADCAST
    for fd in range(64, 70):
        assert tree.objection(prototype) == ""
        assert tree.verdict(prototype, initiator=bool(fd % 2)) == (Verdict.FIRST, -1)
        tree.add(fd, prototype, initiator=bool(fd % 2))
    assert tree.id == tree.member
    for fd in range(64, 70):
        tree.remove(fd)
    assert tree.id == 0


@pytest.mark.parametrize("order", range(4))
def test_two_that_connect_to_each_other_at_the_same_time_keep_one(order: int) -> None:
    small, large = sorted((Tree(), Tree()), key=lambda tree: tree.member)
    by_small, by_large = (record(small), record(large)), (record(large), record(small))
    kept: dict[str, set[str]] = {"small": {"s", "l"}, "large": {"s", "l"}}

    def take(name: str, tree: Tree, which: str, theirs: Record, initiator: bool) -> None:
        verdict, old = tree.verdict(theirs, initiator=initiator)
        if verdict is Verdict.REFUSE:
            kept[name].discard(which)
            return
        if verdict is Verdict.REPLACE:
            kept[name].discard("s" if which == "l" else "l")
            tree.remove(old)
        tree.add(64 + (which == "l"), theirs, initiator=initiator)

    at_small = [("s", by_small[1], True), ("l", by_large[0], False)]
    at_large = [("s", by_small[0], False), ("l", by_large[1], True)]
    for which, theirs, initiator in reversed(at_small) if order & 1 else at_small:
        take("small", small, which, theirs, initiator)
    for which, theirs, initiator in reversed(at_large) if order & 2 else at_large:
        take("large", large, which, theirs, initiator)
    assert kept == {"small": {"s"}, "large": {"s"}}


def test_a_neighbour_that_connects_anew_has_lost_the_old_one() -> None:
    here, there = Tree(), Tree()
    here.add(64, record(there), initiator=False)
    assert here.objection(record(there)) == "", "it is alone again"
    assert here.verdict(record(there), initiator=False) == (Verdict.REPLACE, 64)
    twice = Tree()
    twice.add(64, record(there), initiator=True)
    assert twice.verdict(record(there), initiator=True) == (Verdict.REPLACE, 64), "by another of its names"
    assert "loop" in here.objection(Record(BROADCAST.component, member=5, tree=here.id))
    assert here.objection(Record(BROADCAST.component, member=there.member, tree=here.id)) == ""


def test_no_stranger_displaces_a_neighbour_by_its_member_id() -> None:
    """A member id is replaced over the same path, or when the neighbour that has it is silent."""
    silent: set[int] = set()
    here = Tree(usable=lambda fd: fd not in silent)
    theirs = Record(BROADCAST.component, member=5)
    here.add(64, theirs, initiator=False, path=b"eth a")
    assert here.objection(theirs, b"eth a") == ""
    assert "over another path" in here.objection(theirs, b"eth m")
    silent.add(64)
    assert here.objection(theirs, b"udp a") == ""
