"""The invariants of a layer that has been undisturbed for a while."""

from __future__ import annotations

from ipcpd.unicast.dht.dht import QUERY_LIMIT
from ipcpd.unicast.pff.table import Function
from ouroboros.cubes import CUBES

from .layer import Layer, key_of
from .member import Member


class Violated(AssertionError):
    """An invariant does not hold."""


def check(layer: Layer) -> None:
    """Raise Violated with the first invariant that does not hold."""
    databases_are_equal_and_true(layer)
    packets_arrive_without_loops(layer)
    names_are_found(layer)
    no_block_is_lost(layer)


def databases_are_equal_and_true(layer: Layer) -> None:
    """Every member knows the links that there are, no others, and the same of each."""
    truth = {(one.address, other.address) for x in layer.links for one, other in ((x.a, x.b), (x.b, x.a))}
    first: dict[tuple[int, int], object] | None = None
    mixed = any(member.prototype for member in layer.living)
    for member in layer.living:
        live = member.link_state.lsdb.live()
        if set(live) != truth:
            raise Violated(
                f"member {member.address:#x} knows links that are not there: {_text(set(live) - truth)}, "
                f"and misses {_text(truth - set(live))}"
            )
        if mixed:  # a prototype does not forward weights, so no member may use them
            if not all(view.unit for view in member.link_state.lsdb.graph.views()):
                raise Violated(f"member {member.address:#x} uses weights in spite of prototypes")
            continue
        weights = {
            (e.target, e.source): e.weights for e in member.link_state.lsdb if (e.target, e.source) in live
        }
        if first is None:
            first = dict(weights)
        if weights != first:
            raise Violated(f"member {member.address:#x} has other weights than the first")


def _text(links: set[tuple[int, int]]) -> str:
    return ", ".join(f"{source:#x}->{target:#x}" for target, source in sorted(links)) or "none"


def packets_arrive_without_loops(layer: Layer) -> None:
    """From everywhere to everywhere, in every cube, whichever of several descriptors is taken."""
    for cube in range(len(CUBES)):
        for target in layer.living:
            arriving: dict[int, bool] = {target.address: True}
            for source in layer.living:
                _walk(layer, source, target, cube, arriving, [])


def _walk(
    layer: Layer, at: Member, target: Member, cube: int, arriving: dict[int, bool], path: list[int]
) -> None:
    if arriving.get(at.address):
        return
    path = [*path, at.address]
    if at.address in path[:-1]:
        raise Violated(f"packets to {target.address:#x} run in circles: {[hex(hop) for hop in path]}")
    table = at.tables[cube]
    fds = table.entries.get(target.address, ())
    if not fds:
        raise Violated(f"member {at.address:#x} has no route to {target.address:#x} in cube {cube}")
    for fd in fds if table.function is Function.MULTIPATH else fds[:1]:
        _walk(layer, layer.members[at.ports[fd].neighbour], target, cube, arriving, path)
    arriving[at.address] = True


def names_are_found(layer: Layer, *, most: int = 30) -> None:
    """By every member; no member finds an unregistered name. Of many names the first `most` are tried."""
    for name, owners in list(layer.names.items())[:most]:
        key = key_of(name)
        for member in layer.living:
            member.query(key)
        layer.clock.advance(QUERY_LIMIT)
        if not all(key in member.answers for member in layer.living):
            raise Violated(f"a query for {name!r} was not answered")
        for member in layer.living:
            found = set(member.answers[key])
            others = owners - {member.address}
            if not found <= others:
                raise Violated(f"member {member.address:#x} finds {name!r} where it is not: {found - others}")
            if others and not found:
                raise Violated(f"member {member.address:#x} does not find {name!r}")


def no_block_is_lost(layer: Layer) -> None:
    """Every block of the packet pool is free once every member has ended."""
    lost = layer.pool.lost()
    if lost:
        raise Violated(f"{lost} blocks of the packet pool are lost")
