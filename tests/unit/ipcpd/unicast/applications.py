"""Applications in a network of Python (`network.py`): they serve a name, get an answer, and talk."""

from __future__ import annotations

from tests.unit.ipcpd.unicast.network import App, Network, Node

NAME, OTHER = bytes(range(32)), bytes(32)


def outcome(app: App) -> tuple[int, str]:
    assert app.outcome is not None
    body = app.outcome.ipcp_flow_alloc_reply
    return body.response, body.text


def talk(network: Network, client: App, server: App) -> None:
    """Packets pass in both directions."""
    before = len(client.heard), len(server.heard)
    client.write(b"ping")
    network.settle()
    server.write(b"pong")
    network.settle()
    assert (client.heard[before[0] :], server.heard[before[1] :]) == ([b"pong"], [b"ping"])


def serving(node: Node, key: bytes = NAME) -> list[App]:
    """Register a name that accepts everybody; the flows that came."""
    flows: list[App] = []

    def serve(app: App) -> int:
        flows.append(app)
        return 0

    node.register(key, serve)
    return flows
