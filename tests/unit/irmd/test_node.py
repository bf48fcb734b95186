"""From any node to any other, also when the way is left half way: the plan is pure, and its steps are applied to a model here."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from irmd.node import (
    Adjacency,
    BindIpcp,
    BindProgram,
    Connect,
    CreateIpcp,
    DestroyIpcp,
    DestroyName,
    IpcpEntry,
    Join,
    NameEntry,
    Node,
    Program,
    Register,
    SetName,
    Step,
    plan,
)
from irmd.oap.credentials import Policy
from ouroboros.ipcp_types import DT_COMP, MGMT_COMP, IpcpType
from ouroboros.name_info import Requirement
from ouroboros.rpc.messages_pb2 import ROUND_ROBIN, SPILLOVER

NAMES = ("a", "b", "c", "u0", "L")

programs = st.builds(
    Program,
    st.sampled_from(["/bin/p", "/bin/q"]),
    st.sampled_from([None, (), ("--listen",)]),
    st.sampled_from(["", "joe"]),
)
name_entries = st.builds(
    NameEntry,
    st.sampled_from(NAMES),
    st.sampled_from([SPILLOVER, ROUND_ROBIN]),
    st.sampled_from([Policy(), Policy(require=Requirement.ENCRYPTION)]),
    st.lists(programs, max_size=2, unique_by=lambda program: program.path).map(tuple),
)
adjacencies = st.builds(
    Adjacency,
    st.sampled_from(["x", "y"]),
    st.sampled_from([DT_COMP, MGMT_COMP]),
    st.just("raw"),
    st.sampled_from([None, 500]),
)
some_names = st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple)


@st.composite
def ipcp_entries(draw: st.DrawFn, name: str) -> IpcpEntry:
    kind = draw(st.sampled_from([IpcpType.LOCAL, IpcpType.UNICAST]))
    how = draw(st.sampled_from(["", "bootstrap", "enrol"] if kind == IpcpType.UNICAST else ["", "bootstrap"]))
    entry = IpcpEntry(name, kind)
    if how == "bootstrap":
        hashes = st.sampled_from([{}, {"hash": "SHA3_256"}, {"hash": "SHA3_512"}])
        entry = replace(entry, bootstrap=draw(st.sampled_from(["L", "M"])), options=draw(hashes))
    elif how:
        entry = replace(
            entry, enroll=draw(st.sampled_from(["x", "y"])), layer=draw(st.sampled_from(["", "L"]))
        )
    if not how:
        return entry
    entry = replace(entry, register=draw(some_names))
    if kind == IpcpType.UNICAST:
        autobind = draw(st.booleans())
        own = (name, entry.bootstrap or "L") if autobind else ()
        bind = tuple(one for one in draw(some_names) if one not in own)
        connect = draw(st.lists(adjacencies, max_size=2, unique_by=lambda one: (one.dst, one.component)))
        entry = replace(entry, autobind=autobind, bind=bind, connect=tuple(connect))
    return entry


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    names = draw(st.lists(name_entries, max_size=3, unique_by=lambda entry: entry.name))
    ipcps = [draw(ipcp_entries(f"u{number}")) for number in range(draw(st.integers(0, 3)))]
    order = draw(st.permutations(ipcps))
    return Node({one.name: one for one in names}, {one.name: one for one in order})


def carry_out(node: Node, step: Step) -> None:
    """What the IRMd does, and what it refuses."""
    ipcps, names = node.ipcps, node.names

    def exist(name: str) -> None:
        names.setdefault(name, NameEntry(name))

    match step:
        case DestroyIpcp(ipcp):
            del ipcps[ipcp]
            for bound in node.bound.values():
                bound.discard(ipcp)
        case CreateIpcp(ipcp, kind):
            assert ipcp not in ipcps
            ipcps[ipcp] = IpcpEntry(ipcp, kind)
        case Join(entry):
            assert not ipcps[entry.name].joins
            layer = entry.layer or "L" if entry.enroll else ""
            ipcps[entry.name] = IpcpEntry(
                entry.name, entry.type, entry.bootstrap, entry.enroll, layer, entry.options
            )
        case BindIpcp(ipcp, name, bound):
            entry = ipcps[ipcp]
            assert entry.joins
            if name is None:
                assert entry.autobind != bound
                ipcps[ipcp] = replace(entry, autobind=bound)
            else:
                assert (name in entry.bind) != bound
                rest = tuple(one for one in entry.bind if one != name)
                ipcps[ipcp] = replace(entry, bind=(*rest, name) if bound else rest)
            for one in (ipcp, entry.bootstrap or entry.layer) if name is None else (name,):
                exist(one)
                (node.bound.setdefault(one, set()).add if bound else node.bound[one].discard)(ipcp)
        case Register(ipcp, name, registered):
            entry = ipcps[ipcp]
            assert entry.joins and (name in entry.register) != registered
            exist(name)
            rest = tuple(one for one in entry.register if one != name)
            ipcps[ipcp] = replace(entry, register=(*rest, name) if registered else rest)
        case Connect(ipcp, to, _, connected):
            entry = ipcps[ipcp]
            assert entry.joins and (to in entry.connect) != connected
            assert not connected or (to.dst, to.component) not in {
                (one.dst, one.component) for one in entry.connect
            }
            rest = tuple(one for one in entry.connect if one != to)
            ipcps[ipcp] = replace(entry, connect=(*rest, to) if connected else rest)
        case DestroyName(name):
            del names[name]
            node.bound.pop(name, None)
            for ipcp, entry in ipcps.items():
                ipcps[ipcp] = replace(entry, register=tuple(one for one in entry.register if one != name))
        case SetName(entry, new):
            assert (entry.name not in names) == new
            programs = () if new else names[entry.name].programs
            names[entry.name] = replace(entry, programs=programs)
        case BindProgram(name, program, bound):
            exist(name)
            entry = names[name]
            paths = {one.path for one in entry.programs}
            assert (program.path in paths) != bound
            rest = tuple(one for one in entry.programs if one.path != program.path)
            names[name] = replace(entry, programs=(*rest, program) if bound else rest)
        case _:
            raise AssertionError(step)


def shape(node: Node) -> tuple[object, ...]:
    """What can be told of it: without order, with the names that IPCPs imply, without those of the layer's own name."""
    names = dict(node.names)
    ipcps = {}
    for name, entry in node.ipcps.items():
        for one in (
            *entry.register,
            *entry.bind,
            *((name, entry.bootstrap or entry.layer) if entry.autobind else ()),
        ):
            if one:
                names.setdefault(one, NameEntry(one))
        layer = (entry.layer or "L") if entry.enroll else ""
        ipcps[name] = (
            *(entry.type, entry.bootstrap, entry.enroll, layer, entry.autobind),
            *(
                frozenset(one)
                for one in (entry.significant_options.items(), entry.bind, entry.register, entry.connect)
            ),
        )
        if entry.autobind and entry.enroll:
            names.setdefault("L", NameEntry("L"))
    return {name: (one.lb, one.policy, frozenset(one.programs)) for name, one in names.items()}, ipcps


def realised(want: Node) -> Node:
    """A node that was brought up from nothing."""
    node = Node()
    for step in plan(node, want):
        carry_out(node, step)
    return node


@given(nodes(), nodes())
def test_the_plan_arrives_and_then_nothing_is_left(have: Node, want: Node) -> None:
    node = realised(have)
    assert shape(node) == shape(have)
    for step in plan(node, want):
        assert step.text.isprintable()
        carry_out(node, step)
    assert shape(node) == shape(want)
    assert plan(node, want) == []


@given(nodes(), nodes(), st.integers(0, 30))
def test_a_plan_that_was_interrupted_is_taken_up(have: Node, want: Node, after: int) -> None:
    node = realised(have)
    for step in plan(node, want)[:after]:
        carry_out(node, step)
    for step in plan(node, want):
        carry_out(node, step)
    assert shape(node) == shape(want)
    assert plan(node, want) == []


def test_a_name_that_only_a_running_process_is_bound_to_stays() -> None:
    node = Node({"n": NameEntry("n")}, bound={"n": {""}})
    assert plan(node, Node()) == []
    node.names["n"] = NameEntry("n", programs=(Program("/bin/p"),))
    assert [step.text for step in plan(node, Node())] == ["destroy name n"]


def test_what_an_ipcp_cannot_change_makes_it_anew() -> None:
    have = realised(Node(ipcps={"u": IpcpEntry("u", IpcpType.UNICAST, bootstrap="L", register=("a",))}))
    want = Node(
        ipcps={"u": IpcpEntry("u", IpcpType.UNICAST, bootstrap="L", options={"ttl": "9"}, register=("a",))}
    )
    assert [step.text for step in plan(have, want)] == [
        "destroy IPCP u",
        "create IPCP u (unicast)",
        "bootstrap IPCP u in layer L",
        "register a with IPCP u",
    ]


class Counted(str):
    """A name that counts the comparisons with others."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_the_plan_of_many_names_compares_each_with_few() -> None:
    """The IRMd serves nobody meanwhile."""
    count = 1000

    def node() -> Node:
        names = tuple(Counted(f"n{number}") for number in range(count))
        entry = IpcpEntry("l", IpcpType.LOCAL, bootstrap="L", register=names, bind=names)
        return Node({name: NameEntry(name) for name in names}, {"l": entry})

    Counted.comparisons = 0
    assert plan(node(), node()) == []
    assert Counted.comparisons < 20 * count
