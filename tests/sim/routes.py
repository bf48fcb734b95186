"""How long routes take: `python -m tests.sim.routes [vertices links]`, by default 1000 and 4000.

For each policy, with and without weights: the graph as each of the three cubes sees it, the routes, and the tables.
"""

from __future__ import annotations

import sys
from random import Random
from time import perf_counter

from ipcpd.unicast.routing.graph import Graph
from ipcpd.unicast.routing.policy import load
from ipcpd.unicast.routing.weight import weights_of
from ouroboros.policies import LinkStatePolicy
from ouroboros.qos import QOS_RAW, QOS_VIDEO, QOS_VOICE


def random_graph(vertices: int, links: int, *, weighted: bool) -> tuple[Graph, int]:
    """A connected graph, and the address of one vertex."""
    random = Random(1)
    addresses = random.sample(range(1, 1 << 32), vertices)
    pairs = {(number, random.randrange(number)) for number in range(1, vertices)}
    while len(pairs) < links:
        one, other = random.sample(range(vertices), 2)
        if (other, one) not in pairs:
            pairs.add((one, other))
    graph = Graph()
    for one, other in pairs:
        weights = weights_of(random.choice([QOS_RAW, QOS_VIDEO, QOS_VOICE])) if weighted else None
        graph.announce(addresses[one], addresses[other], weights)
        graph.announce(addresses[other], addresses[one], weights)
    return graph, addresses[0]


def measure(graph: Graph, source: int, policy: LinkStatePolicy, *, rounds: int = 5) -> float:
    """Milliseconds for all cubes, the best of some rounds."""
    how, best = load(policy), float("inf")
    neighbours = {address: (64 + number,) for number, address in enumerate(graph.neighbours(source))}
    for _ in range(rounds):
        begin = perf_counter()
        views = graph.views()
        routes = {id(view): how.routes(view, source) for view in {id(view): view for view in views}.values()}
        for view in views:
            how.table(routes[id(view)], neighbours)
        best = min(best, perf_counter() - begin)
    return best * 1000


def main(argv: list[str]) -> int:
    """Print a table."""
    vertices, links = (int(argv[0]), int(argv[1])) if argv else (1000, 4000)
    print(f"{vertices} vertices, {links} links, three cubes      ms")
    for weighted in (False, True):
        graph, source = random_graph(vertices, links, weighted=weighted)
        for policy in LinkStatePolicy:
            what = "weights" if weighted else "hop count"
            print(f"{policy.name.lower():8} {what:12} {measure(graph, source, policy):8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
