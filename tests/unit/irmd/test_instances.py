"""IRMd and IPCPs together as a state machine: messages are delayed and reordered as the sockets allow, ends close together, processes
are killed.

In any order, a flow ends only by an action of one of its own two processes, no descriptor has two flows, every request
is answered, and nothing is left when all processes have ended.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from irmd.descriptors import Descriptor
from irmd.flow import State
from tests.unit.irmd.sockets import NAME, App, System

PICK = st.integers(0, 1 << 16)
MOST_APPS = 3
LAYERS = ("local", "here", "udp")
ALL_OVER, STEPS = 61.0, 30
"""Seconds after which nothing may wait any more: of the caller, of the layer, of the IRMd."""


class Instances(RuleBasedStateMachine):
    """The rules. `closed` are the ends, by instance, that their process has given back, or died with."""

    @initialize()
    def begin(self) -> None:
        self.system = System()
        self.closed = self.system.closed
        self.provider: dict[int, int] = {}
        """Instance of the IPCP's end by that of the process's end of a flow, and the other way."""
        for _ in range(2):
            self.system.app()

    def teardown(self) -> None:
        if hasattr(self, "system"):
            try:
                self._end()
            finally:
                self.system.close()

    def _end(self) -> None:
        """Everything arrives, and everybody goes: nothing is left."""
        system = self.system
        system.settle()
        self.no_flow_ends_by_anything_else()
        self._wait()
        for app in system.apps:
            waiting = {what for what in app.asked.values() if what != "flow_accept"}
            assert not waiting, "an allocation was never answered"
            for descriptor in sorted(app.held | app.pending):
                app.dealloc(descriptor)
        system.settle()
        for app in system.apps:
            assert not app.process.flows and not app.process.pending
            assert app.process.fds.used == sum(what == "flow_accept" for what in app.asked.values())
        for app in list(system.apps):
            system.kill(app)
        system.settle()
        self._wait()
        # The unicast IPCP accepts flows for itself, of neighbours that could come.
        left = [
            flow
            for flow in system.irmd.facilities.flows.flows.values()
            if flow.requester is None or flow.requester[0].ipcp is None
        ]
        assert not left, left
        assert not system.broker.outgoing.requested and not system.irmd.facilities.waiting
        for layer, ports in system.ports.items():
            assert not ports.ends, f"ends are left in {layer}"
            process = next(r for r in system.irmd.ipcps.table if r.name == layer).process
            assert process is not None and process.fds.used == len(process.accepts) and not process.flows
        assert not len(system.ipcps["here"].member.fa)  # type: ignore[attr-defined]
        assert not system.troubles and not system.errors.lines, (system.troubles, system.errors.lines)

    def _wait(self) -> None:
        """As long as anything may wait, with an eye for what follows from each deadline."""
        for _ in range(STEPS):
            self.system.pass_time(ALL_OVER / STEPS)
            self.system.settle()

    # ------------------------------------------------------------ processes

    def _app(self, pick: int) -> App:
        return self.system.apps[pick % len(self.system.apps)]

    @rule(pick=PICK, layer=st.sampled_from(LAYERS), how=st.sampled_from(("wait", "asynchronous", "short")))
    def allocate(self, pick: int, layer: str, how: str) -> None:
        body: dict[str, object] = {"dst": NAME, "layer": layer}
        if how == "asynchronous":
            body["asynchronous"] = True
        elif how == "short":
            body["timeout_ns"] = 10**8
        self._app(pick).ask(flow_alloc=body)

    @rule(pick=PICK, asynchronous=st.booleans())
    def join(self, pick: int, asynchronous: bool) -> None:
        self._app(pick).ask(flow_join={"layer": "all", "asynchronous": asynchronous})

    @precondition(lambda self: self.system.socket.datagrams)
    @rule(pick=PICK, again=st.booleans())
    def datagram(self, pick: int, again: bool) -> None:
        self.system.datagram(pick, again=again)
        self._learn()

    @precondition(lambda self: self.system.socket.datagrams)
    @rule(pick=PICK)
    def datagram_is_lost(self, pick: int) -> None:
        self.system.socket.datagrams.pop(pick % len(self.system.socket.datagrams))

    @rule(pick=PICK)
    def allocate_directly(self, pick: int) -> None:
        self._app(pick).ask(flow_alloc={"dst": NAME})

    @rule(pick=PICK, asynchronous=st.booleans())
    def accept(self, pick: int, asynchronous: bool) -> None:
        self._app(pick).ask(flow_accept={"asynchronous": asynchronous})

    @precondition(lambda self: any(app.held for app in self.system.apps))
    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        app, descriptor = self._held()[pick % len(self._held())]
        app.dealloc(descriptor)

    @precondition(lambda self: any(app.held for app in self.system.apps))
    @rule(pick=PICK)
    def close_both_sides(self, pick: int) -> None:
        """At the same moment, or nearly."""
        app, descriptor = self._held()[pick % len(self._held())]
        partner = self._partner(descriptor.instance)
        app.dealloc(descriptor)
        for other, end in self._held():
            if end.instance == partner:
                other.dealloc(end)

    def _held(self) -> list[tuple[App, Descriptor]]:
        return [(app, descriptor) for app in self.system.apps for descriptor in sorted(app.held)]

    @precondition(lambda self: any(app.pending for app in self.system.apps))
    @rule(pick=PICK)
    def give_up(self, pick: int) -> None:
        pending = [(app, one) for app in self.system.apps for one in sorted(app.pending)]
        app, descriptor = pending[pick % len(pending)]
        app.dealloc(descriptor)

    @precondition(lambda self: any(app.asked for app in self.system.apps))
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        asked = [(app, number) for app in self.system.apps for number in app.asked]
        app, number = asked[pick % len(asked)]
        app.cancel(number)

    @precondition(lambda self: len(self.system.apps) < MOST_APPS)
    @rule()
    def another_process(self) -> None:
        self.system.app()

    @precondition(lambda self: len(self.system.apps) > 1)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        app = self._app(pick)
        app.half.peer.drain()  # what it had sent counts, and may bring it one more flow
        self._learn()
        self.closed |= {descriptor.instance for descriptor in (*app.process.flows, *app.process.pending)}
        self.closed |= {descriptor.instance for descriptor in app.held | app.pending}
        self.system.kill(app)

    # ------------------------------------------------------------ what arrives, and when it is carried out

    @precondition(lambda self: self.system.waiting())
    @rule(picks=st.lists(PICK, min_size=1, max_size=12))
    def deliver(self, picks: list[int]) -> None:
        for pick in picks:
            waiting = self.system.waiting()
            if waiting:
                self.system.deliver(waiting[pick % len(waiting)])
                self._learn()

    @rule(ipcps=st.booleans())
    def turn(self, ipcps: bool) -> None:
        self.system.turn(self.system.ipcp_loop if ipcps else self.system.loop)

    @rule()
    def everything_arrives(self) -> None:
        self.system.settle()

    @rule(seconds=st.sampled_from((0.05, 0.3, 1.1, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.system.pass_time(seconds)

    # ------------------------------------------------------------ what must hold

    def _learn(self) -> None:
        """Which ends belong together."""
        self.system.pair_datagram_flows()
        for mine, theirs in self.system.partners():
            self.provider[mine], self.provider[theirs] = theirs, mine

    def _partner(self, instance: int) -> int | None:
        """The instance of the process's end at the other side of a flow over a layer."""
        provider = self.provider.get(instance)
        for ports in self.system.ports.values():
            if provider in ports.pairs:
                theirs = ports.pairs[provider]
                mine = self.provider.get(theirs)
                # An accept that the IRMd took back from one flow, after its deadline, has the next one at the same end: a flow
                # over a layer, or a direct one.
                return mine if mine is not None and self._meets(mine, theirs) else None
        return None

    def _meets(self, mine: int, theirs: int) -> bool:
        """Whether the process's end is that of the flow of this IPCP's end; an end that the process has given back was."""
        for app in self.system.apps:
            for descriptor, flow in app.process.flows.items():
                if descriptor.instance == mine:
                    return theirs in (end.descriptor.instance for end in flow.ends)
        return self.provider.get(mine) == theirs

    @invariant()
    def no_flow_ends_by_anything_else(self) -> None:
        if not hasattr(self, "system"):
            return
        self._learn()
        for app, descriptor in self._held():
            flow = app.process.flows.get(descriptor)
            assert flow is not None, "a flow is gone that its process has"
            mine = [end for end in flow.ends if end.descriptor == descriptor and end.process is app.process]
            assert mine and mine[0].open
            if not flow.down:
                assert flow.state is State.ALLOCATED
                continue
            if flow.ipcp is None:
                others = {end.descriptor.instance for end in flow.ends} - {descriptor.instance}
                assert others <= self.closed, "a direct flow ended, and neither process closed it"
            else:
                partner = self._partner(descriptor.instance)
                assert partner is None or partner in self.closed or not self._has(partner), (
                    f"the flow of {descriptor} ended, and its partner {partner} has not closed it"
                )

    def _has(self, instance: int) -> bool:
        """Whether a process has been told of the flow of this end."""
        return any(descriptor.instance == instance for _, descriptor in self._held())

    @invariant()
    def nothing_fails(self) -> None:
        if hasattr(self, "system"):
            assert not self.system.troubles, self.system.troubles
            assert not self.system.errors.lines, self.system.errors.lines[0]


Instances.TestCase.settings = settings(
    max_examples=max(30, settings().max_examples // 4),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestInstances = Instances.TestCase
