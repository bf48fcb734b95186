"""Routes of every policy against distances computed the slow way, on small random graphs with cycles and islands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.unicast.routing import ecmp, lfa, link_state
from ipcpd.unicast.routing.graph import Graph
from ipcpd.unicast.routing.policy import load
from ipcpd.unicast.routing.shortest_path import UNREACHABLE, Routes, distances, paths
from ipcpd.unicast.routing.weight import (
    UNIT,
    best_of,
    weights_of,
    worst_of,
)
from ipcpd.wire.lsm import Weights
from ouroboros.cubes import BEST_EFFORT, VIDEO, VOICE
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import QOS_BEST_EFFORT, QOS_DATA, QOS_RAW, QOS_VIDEO, QOS_VOICE, QoSSpec

INFINITE = 10**9

weights = st.tuples(*[st.integers(1, 9)] * 3)
links = st.dictionaries(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).filter(lambda pair: pair[0] < pair[1]),
    weights,
    max_size=25,
)


def graph_of(links: dict[tuple[int, int], Weights | None]) -> Graph:
    graph = Graph()
    for (one, other), cost in links.items():
        graph.announce(one, other, cost)
        graph.announce(other, one, cost)
    return graph


def slow(links: dict[tuple[int, int], Weights], cube: int) -> dict[tuple[int, int], int]:
    """All distances by Floyd and Warshall."""
    vertices = sorted({end for pair in links for end in pair})
    far = {(a, b): 0 if a == b else INFINITE for a in vertices for b in vertices}
    for (a, b), cost in links.items():
        far[a, b] = far[b, a] = cost[cube]
    for via in vertices:
        for a in vertices:
            for b in vertices:
                far[a, b] = min(far[a, b], far[a, via] + far[via, b])
    return far


def cost(links: dict[tuple[int, int], Weights], a: int, b: int, cube: int) -> int:
    return links[min(a, b), max(a, b)][cube]


# ---------------------------------------------------------------- the graph


def test_an_edge_needs_both_of_its_ends() -> None:
    graph = Graph()
    assert not graph.announce(1, 2)
    assert list(graph.edges()) == []
    assert graph.announce(2, 1)
    assert (graph.neighbours(1), graph.neighbours(2), graph.vertices) == ([2], [1], {1, 2})
    assert graph.withdraw(1, 2)
    assert not graph.withdraw(1, 2)
    assert not graph.withdraw(2, 1)
    assert graph.vertices == set()


def test_announcing_the_same_again_changes_nothing() -> None:
    graph = graph_of({(1, 2): None})
    assert not graph.announce(1, 2)
    assert graph.announce(1, 2, UNIT)
    assert not graph.announce(1, 2, UNIT)


def test_weights_count_only_when_every_edge_has_them_from_both_ends() -> None:
    graph = graph_of({(1, 2): (5, 5, 5), (2, 3): (1, 2, 3)})
    assert [view.adjacency[1] for view in graph.views()] == [[(0, 5), (2, n)] for n in (1, 2, 3)]
    graph.announce(3, 4)
    graph.announce(4, 3, (9, 9, 9))
    assert all(view.unit for view in graph.views())
    graph.announce(3, 4, UNIT)
    assert [view.adjacency[3] for view in graph.views()] == [[(2, 9)]] * 3


def test_cubes_that_see_the_same_share_the_view_and_equal_weights_are_hop_counts() -> None:
    best_effort, video, voice = graph_of({(1, 2): (1, 4, 1), (2, 3): (1, 4, 2)}).views()
    assert best_effort is video
    assert best_effort.unit
    assert not voice.unit


def test_the_larger_weight_counts_both_ways() -> None:
    graph = graph_of({(2, 3): (1, 1, 1)})
    graph.announce(1, 2, (3, 1, 1))
    graph.announce(2, 1, (2, 7, 1))
    assert dict(((low, high), w) for low, high, w in graph.edges())[1, 2] == (3, 7, 1)


def test_weights_follow_the_cube_of_the_link() -> None:
    assert [qos.cube for qos in (QOS_RAW, QOS_BEST_EFFORT, QOS_DATA)] == [BEST_EFFORT] * 3
    assert (QOS_VIDEO.cube, QOS_VOICE.cube) == (VIDEO, VOICE)
    assert QoSSpec(delay=50, availability=5, bandwidth=100_001, max_gap=50).cube == VIDEO
    for traffic in (BEST_EFFORT, VIDEO, VOICE):
        fitting = {BEST_EFFORT: QOS_RAW, VIDEO: QOS_VIDEO, VOICE: QOS_VOICE}[traffic]
        assert weights_of(fitting)[traffic] == 1
    assert best_of([(1, 4, 4), (4, 16, 1)]) == (1, 4, 1)
    assert worst_of((1, 4, 4), (4, 16, 1)) == (4, 16, 4)


# ---------------------------------------------------------------- distances and routes


@given(links)
def test_distances_are_those_of_floyd_and_warshall(links: dict[tuple[int, int], Weights]) -> None:
    for cube, view in enumerate(graph_of(links).views()):
        far = slow({pair: UNIT for pair in links} if view.unit else links, cube)
        for source in view.addresses:
            found = distances(view, view.index[source])
            for number, address in enumerate(view.addresses):
                assert min(found[number], INFINITE) == far[source, address]


@given(links)
def test_ecmp_knows_every_next_hop_on_a_shortest_path_and_link_state_one_of_them(
    links: dict[tuple[int, int], Weights],
) -> None:
    graph = graph_of(links)
    for cube, view in enumerate(graph.views()):
        used = {pair: UNIT for pair in links} if view.unit else links
        far = slow(used, cube)
        for source in view.addresses:
            several, one = ecmp.routes(view, source), link_state.routes(view, source)
            expected: Routes = {}
            for target in view.addresses:
                hops = tuple(
                    hop
                    for hop in graph.neighbours(source)
                    if target != source
                    and far[source, target] < INFINITE
                    and cost(used, source, hop, cube) + far[hop, target] == far[source, target]
                )
                if hops:
                    expected[target] = hops
            assert several == expected
            assert one == {target: hops[:1] for target, hops in expected.items()}


@given(links)
def test_an_alternate_does_not_lead_back(links: dict[tuple[int, int], Weights]) -> None:
    graph = graph_of(links)
    for cube, view in enumerate(graph.views()):
        used = {pair: UNIT for pair in links} if view.unit else links
        far = slow(used, cube)
        for source in view.addresses:
            routes = lfa.routes(view, source)
            assert {t: hops[:1] for t, hops in routes.items()} == link_state.routes(view, source)
            for target, hops in routes.items():
                possible = {
                    hop
                    for hop in graph.neighbours(source)
                    if far[hop, target] < far[hop, source] + far[source, target]
                }
                assert len(set(hops)) == len(hops) == min(len(possible | {hops[0]}), lfa.MAX_HOPS)
                assert set(hops) <= possible | {hops[0]}


@given(links, st.sampled_from(LinkStatePolicy))
def test_packets_never_run_in_circles(links: dict[tuple[int, int], Weights], policy: LinkStatePolicy) -> None:
    for view in graph_of(links).views():
        routes = {source: load(policy).routes(view, source) for source in view.addresses}
        for source in view.addresses:
            for target in routes[source]:
                at, steps = {source}, 0
                while at != {target}:
                    steps += 1
                    assert steps <= len(view.addresses)
                    hops = {1: lambda hops: hops[:1]}.get(policy.value, lambda hops: hops)
                    at = {hop for v in at - {target} for hop in hops(routes[v][target])} | (at & {target})


@pytest.mark.parametrize("policy", [link_state, lfa, ecmp])
def test_an_address_without_an_edge_has_no_routes(policy: object) -> None:
    views = graph_of({(1, 2): None}).views()
    assert policy.routes(views[0], 3) == {}  # type: ignore[attr-defined]
    assert policy.routes(Graph().views()[0], 3) == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize("policy", [link_state, lfa, ecmp])
def test_what_cannot_be_reached_has_no_route(policy: object) -> None:
    view = graph_of({(1, 2): None, (3, 4): None}).views()[0]
    assert policy.routes(view, 1) == {2: (2,)}  # type: ignore[attr-defined]
    distance, masks = paths(view, view.index[1])
    assert distance == [0, 1, UNREACHABLE, UNREACHABLE]
    assert masks == [0, 1, 0, 0]


def test_a_ring_has_two_equal_ways_across_and_an_alternate_for_the_far_side() -> None:
    view = graph_of({(1, 2): None, (2, 3): None, (3, 4): None, (1, 4): None}).views()[0]
    assert ecmp.routes(view, 1) == {2: (2,), 3: (2, 4), 4: (4,)}
    assert lfa.routes(view, 1) == {2: (2,), 3: (2, 4), 4: (4,)}


def test_a_triangle_has_an_alternate_for_everything() -> None:
    view = graph_of({(1, 2): None, (2, 3): None, (1, 3): None}).views()[0]
    assert lfa.routes(view, 1) == {2: (2, 3), 3: (3, 2)}


def test_alternates_are_in_the_order_of_their_whole_length() -> None:
    """Member 1 reaches 9 by 2 (40), and without a loop by 4 (45) and by 3 (58), although the link to 3 is the cheaper one."""
    costs = {(1, 2): 10, (2, 9): 30, (1, 3): 10, (3, 9): 48, (1, 4): 20, (4, 9): 25}
    view = graph_of({pair: (cost, 1, 1) for pair, cost in costs.items()}).views()[0]
    assert lfa.routes(view, 1)[9] == (2, 4, 3)


def test_a_member_without_links_takes_no_memory() -> None:
    graph = graph_of({(1, 2): None})
    graph.withdraw(1, 2)
    graph.withdraw(2, 1)
    assert graph._announced == {}
