"""Names and bindings: load balancing, order of operations, and a state machine over everything."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from irmd.oap.credentials import Policy, SecurityPaths
from irmd.records import PendingAccept, Process, ProgramBinding
from irmd.registry import Registry, name_hash
from ouroboros.errors import ENAME
from ouroboros.rpc.messages_pb2 import MD5, ROUND_ROBIN, SHA3_224, SHA3_256, SPILLOVER
from ouroboros.rpc.service import Refusal

from .fakes import accept, process


def binding(path: str = "/bin/server", *, auto: bool = False) -> ProgramBinding:
    return ProgramBinding(path, auto, (), 0, 0)


def test_binding_to_an_unknown_name_makes_it_with_spillover() -> None:
    registry = Registry()
    registry.bind_program("n", binding())
    assert registry.name("n").lb == SPILLOVER


def test_a_name_that_exists_is_not_changed() -> None:
    registry = Registry()
    registry.create_name("n", lb=ROUND_ROBIN)
    entry, made = registry.create_name("n", lb=SPILLOVER)
    assert not made and entry.lb == ROUND_ROBIN
    with pytest.raises(Refusal, match="`irm name set n lb spillover` changes it"):
        registry.create_name("n", lb=SPILLOVER, given=["lb"])
    assert not registry.create_name("n", lb=ROUND_ROBIN, given=["lb", "server", "require"])[1]
    with pytest.raises(Refusal, match="has other security files"):
        registry.create_name("n", policy=Policy(SecurityPaths(crt="/c")), given=["server"])


@pytest.mark.parametrize("name", ["", "x" * 256, "ä" * 128, "a\nb", "a\0b", "a*b", "a?", "[a]"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(Refusal):
        Registry().create_name(name)


def test_later_processes_of_a_bound_program_are_bound_and_earlier_ones_not() -> None:
    registry = Registry()
    early, late = process(1), process(2)
    registry.announce(early, manages=True)
    registry.bind_program("n", binding())
    registry.announce(late, manages=True)
    assert list(registry.name("n").processes) == [late]


@pytest.mark.parametrize(
    ("owner", "uid", "manages", "bound"),
    [(0, 7, False, False), (7, 7, False, True), (0, 7, True, True), (8, 7, False, False)],
)
def test_a_program_that_was_bound_for_another_user(owner: int, uid: int, manages: bool, bound: bool) -> None:
    """What program it is a process says itself: a stranger must not serve in the name of others by saying so."""
    registry = Registry()
    registry.bind_program("n", replace(binding(), uid=owner))
    one = process(1, uid=uid)
    withheld = registry.announce(one, manages=manages)
    assert (one in registry.name("n").processes) == bound
    assert withheld == ([] if bound else [registry.name("n")])
    other = process(2, uid=uid)
    registry.bind_process(2, "n", started=2)
    assert registry.announce(other, manages=manages) == [] and other in registry.name("n").processes


def test_a_process_may_be_bound_before_it_uses_ouroboros() -> None:
    registry = Registry()
    registry.bind_process(7, "n", started=7)
    one = process(7)
    assert registry.expects(registry.name("n"))
    registry.announce(one, manages=True)
    assert not registry.expects(registry.name("n"))
    assert list(registry.name("n").processes) == [one]


def test_the_number_of_a_dead_process_binds_nobody() -> None:
    registry = Registry()
    registry.bind_process(7, "n", started=6)  # another process had the number then
    registry.announce(process(7), manages=True)
    assert not registry.name("n").processes


def test_round_robin_serves_in_the_order_of_the_accepts() -> None:
    registry = Registry()
    registry.create_name("n", lb=ROUND_ROBIN)
    accepts = _accept(registry, 3)
    assert _serve(registry, 3) == accepts


def test_spillover_feeds_the_most_recent_accept() -> None:
    registry = Registry()
    registry.create_name("n", lb=SPILLOVER)
    accepts = _accept(registry, 3)
    assert _serve(registry, 3) == accepts[::-1]


def test_a_process_that_waits_is_selectable_as_soon_as_it_is_bound() -> None:
    registry = Registry()
    one = process(1)
    registry.announce(one, manages=True)
    waiting = accept(one)
    registry.begin_accept(waiting)
    registry.bind_process(1, "n", started=1)
    assert registry.name("n").pick(lambda _: True) is waiting


def test_the_last_program_bound_is_started_first() -> None:
    registry = Registry()
    for path, auto in (("/a", True), ("/b", True), ("/c", False)):
        registry.bind_program("n", binding(path, auto=auto))
    start = registry.name("n").startable()
    assert start is not None and start.path == "/b"


def test_what_is_not_there_is_an_error() -> None:
    registry = Registry()
    registry.create_name("n")
    for call in (
        lambda: registry.destroy_name("x"),
        lambda: registry.unbind_program("/bin/x", "n"),
        lambda: registry.unbind_program("/bin/x"),
        lambda: registry.unbind_process(1, "n"),
        lambda: registry.unbind_process(1),
    ):
        with pytest.raises(Refusal):
            call()
    with pytest.raises(Refusal) as refused:
        registry.unbind_process(1, "x")
    assert refused.value.errno == ENAME


def test_binding_twice_is_an_error() -> None:
    registry = Registry()
    registry.bind_program("n", binding())
    registry.bind_process(1, "n", started=1)
    for call in (
        lambda: registry.bind_program("n", binding()),
        lambda: registry.bind_process(1, "n", started=1),
    ):
        with pytest.raises(Refusal) as refused:
            call()
        assert refused.value.errno == errno.EEXIST


def test_unbinding_without_a_name_undoes_all() -> None:
    registry = Registry()
    one = process(1)
    registry.announce(one, manages=True)
    for name in ("a", "b"):
        registry.bind_program(name, binding())
        registry.bind_process(1, name, started=1)
    registry.unbind_program("/bin/server")
    registry.unbind_process(1)
    assert not one.names and not any(entry.programs or entry.processes for entry in registry)


def test_hashes_have_the_length_of_the_algorithm() -> None:
    assert name_hash(SHA3_256, "server").hex().startswith("d19778d2e34a1e3d")  # paper 2.12.1, note 24
    assert name_hash(SHA3_224, "server") == hashlib.sha3_224(b"server").digest()
    assert len(name_hash(MD5, "server")) == 16


def test_names_are_found_by_hash_as_they_come_and_go() -> None:
    registry = Registry()
    registry.create_name("old")
    assert registry.by_hash(SHA3_256, name_hash(SHA3_256, "new")) is None
    new, _ = registry.create_name("new")
    assert registry.by_hash(SHA3_256, name_hash(SHA3_256, "new")) is new
    registry.destroy_name("new")
    assert registry.by_hash(SHA3_256, name_hash(SHA3_256, "new")) is None


def _accept(registry: Registry, number: int) -> list[PendingAccept]:
    registry.bind_program("n", binding())
    accepts = []
    for pid in range(1, number + 1):
        one = process(pid)
        registry.announce(one, manages=True)
        accepts.append(accept(one))
        registry.begin_accept(accepts[-1])
    return accepts


def _serve(registry: Registry, number: int) -> list[PendingAccept]:
    served = []
    for _ in range(number):
        chosen = registry.name("n").pick(lambda _: True)
        assert chosen is not None
        registry.end_accept(chosen)
        served.append(chosen)
    return served


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.sampled_from(["/bin/x", "/bin/y"])


class RegistryMachine(RuleBasedStateMachine):
    """Bind, unbind, create, destroy, start, die, accept, serve: in any order."""

    processes = Bundle("processes")
    accepts = Bundle("accepts")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.alive: set[Process] = set()
        self.waiting: set[PendingAccept] = set()
        self.pids = 0

    @rule(name=NAMES, lb=st.sampled_from([ROUND_ROBIN, SPILLOVER]))
    def create(self, name: str, lb: int) -> None:
        self.registry.create_name(name, lb=lb)

    @rule(name=NAMES)
    def destroy(self, name: str) -> None:
        known = name in self.registry.names
        try:
            entry = self.registry.destroy_name(name)
        except Refusal:
            assert not known
            return
        assert known and not entry.alive and not entry.processes and not entry.accepting

    @rule(name=NAMES, path=PATHS, auto=st.booleans())
    def bind_program(self, name: str, path: str, auto: bool) -> None:
        try:
            self.registry.bind_program(name, binding(path, auto=auto))
        except Refusal as refused:
            assert refused.errno == errno.EEXIST

    @rule(name=st.one_of(st.just(""), NAMES), path=PATHS)
    def unbind_program(self, name: str, path: str) -> None:
        try:
            self.registry.unbind_program(path, name)
        except Refusal:
            entry = self.registry.names.get(name)
            assert entry is None or path not in entry.programs
        if not name:
            assert not any(path in entry.programs for entry in self.registry)

    @rule(target=processes, path=PATHS, again=st.booleans())
    def start(self, path: str, again: bool) -> Process:
        """A process says Hello; `again`: over a second connection of its own."""
        self.pids += not again or not self.pids
        one = process(self.pids, path)
        self.registry.announce(one, manages=True)
        self.alive.add(one)
        assert all(one in entry.processes for entry in self.registry if path in entry.programs)
        return one

    @rule(one=consumes(processes))
    def die(self, one: Process) -> None:
        for waiting in list(one.accepts):
            self.registry.end_accept(waiting)
            self.waiting.discard(waiting)
        self.registry.remove_process(one)
        self.alive.discard(one)
        if not self.registry.of_pid(one.peer.pid):
            self.registry.pid_exited(one.peer.pid)

    @rule(one=processes, name=NAMES)
    def bind_process(self, one: Process, name: str) -> None:
        try:
            self.registry.bind_process(one.peer.pid, name, started=one.peer.started)
        except Refusal as refused:
            assert refused.errno == errno.EEXIST
            return
        assert self.registry.name(name) in one.names

    @rule(one=processes, name=st.one_of(st.just(""), NAMES))
    def unbind_process(self, one: Process, name: str) -> None:
        try:
            self.registry.unbind_process(one.peer.pid, name)
        except Refusal:
            pass
        assert not [entry for entry in one.names if not name or entry.name == name]

    @rule(one=processes)
    def accept(self, one: Process) -> None:
        waiting = accept(one)
        self.registry.begin_accept(waiting)
        self.waiting.add(waiting)

    @rule(name=NAMES)
    def serve(self, name: str) -> None:
        entry = self.registry.names.get(name)
        chosen = entry.pick(lambda _: True) if entry is not None else None
        if chosen is None:
            assert not [one for one in self.waiting if entry in one.process.names]
            return
        self.registry.end_accept(chosen)
        self.waiting.discard(chosen)

    @invariant()
    def bindings_are_symmetric(self) -> None:
        for entry in self.registry:
            assert all(entry in one.names for one in entry.processes)
        for one in self.alive:
            assert all(entry.alive and one in entry.processes for entry in one.names)

    @invariant()
    def the_dead_are_nowhere(self) -> None:
        assert set(self.registry.processes.values()) == self.alive
        for entry in self.registry:
            assert set(entry.processes) <= self.alive

    @invariant()
    def a_name_offers_exactly_the_accepts_of_its_processes(self) -> None:
        for entry in self.registry:
            assert set(entry.accepting) == {one for one in self.waiting if one.process in entry.processes}


RegistryMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRegistryMachine = RegistryMachine.TestCase
