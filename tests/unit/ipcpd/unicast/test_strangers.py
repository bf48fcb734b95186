"""Octets of strangers, on every component of a unicast IPCP in a network of Python."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipcpd.wire import dht as dht_wire
from ipcpd.wire import fa as fa_wire
from ipcpd.wire import link_state as ls_wire
from ipcpd.wire.dht import Contact, FindValue, Store
from ipcpd.wire.fa import FlowReply, FlowRequest, FlowUpdate
from tests.unit.ipcpd.unicast.applications import NAME, OTHER, outcome, serving, talk
from tests.unit.ipcpd.unicast.network import DT, MGMT, Network, make_network


class Besieged:
    """Two members with a flow between them, and what a stranger can reach: every component of the first."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.a, self.b = network.line(2)
        self.server = serving(self.b)
        self.other = serving(self.a, OTHER)
        self.client = network.allocate(self.a, NAME)
        network.settle()
        (self.mgmt,) = [fd for fd, c in self.a.member.adjacencies.connections.items() if c.component == MGMT]
        (self.dt,) = [fd for fd, c in self.a.member.adjacencies.connections.items() if c.component == DT]

    def valid(self) -> list[bytes]:
        """What a stranger could have heard, to be bent."""
        a, b = self.a.member, self.b.member
        (flow,) = [flow for flow in a.fa if flow.end.fd == self.client.fd]
        contact = Contact(bytes(31) + b"\1", b.address)
        packets = [
            fa_wire.encode(FlowRequest(b.address, 1 << 40 | 64, OTHER, data=b"oap")),
            fa_wire.encode(FlowReply(flow.eid, 1 << 40 | 64, 0, b"oap")),
            fa_wire.encode(FlowUpdate(flow.eid, 7)),
            dht_wire.encode(Store(contact, NAME, dht_wire.value_of(b.address), 1 << 31)),
            dht_wire.encode(FindValue(contact, 77, NAME)),
        ]
        return packets + [ls_wire.encode(entry.message()) for entry in a.link_state.lsdb]

    def attack(self, port: str, octets: bytes) -> None:
        if port in ("fa", "dht"):
            self.a.punt.push({"fa": 0, "dht": 1}[port], self.dt, octets)
        else:
            fd = self.mgmt if port == "mgmt" else self.dt
            end = self.network.end(self.a, fd)  # type: ignore[arg-type]
            end.waiting.append(octets)
            self.a.relay.pump(end)
        self.network.pass_time(0.02)

    def handled(self) -> int:
        member = self.a.member
        fa, ls, dht = member.fa.counters, member.link_state.counters, member.directory.dht.counters
        lowers = self.a.lowers.counters
        assert not lowers.failures, "a handler raised"
        counts = sum(self.a.dt.counts.values()) + self.a.dt.keepalives
        return fa.malformed + fa.requests + fa.replies + fa.updates + ls.received + dht.received + counts

    def check(self) -> None:
        """The flow that was there is there, and another can be had."""
        talk(self.network, self.client, self.server[0])
        another = self.network.allocate(self.a, NAME)
        assert outcome(another)[0] == 0
        talk(self.network, another, self.server[-1])


def bend(octets: bytes, seed: int) -> bytes:
    """Cut, lengthened, or with bits flipped."""
    random = Random(seed)
    bent = bytearray(octets)
    for _ in range(random.randint(0, 3)):
        if bent:
            bent[random.randrange(len(bent))] ^= 1 << random.randrange(8)
    if random.random() < 0.3:
        del bent[random.randrange(len(bent) + 1) :]
    if random.random() < 0.2:
        bent += random.randbytes(random.randint(1, 40))
    return bytes(bent)


PORTS = st.sampled_from(["fa", "dht", "mgmt", "dt"])
ATTACKS = st.lists(
    st.tuples(
        PORTS, st.one_of(st.binary(max_size=150), st.tuples(st.integers(0, 9), st.integers(0, 1 << 32)))
    ),
    min_size=1,
    max_size=25,
)


@given(ATTACKS)
@example([("mgmt", bytes(24)), ("fa", bytes(61)), ("dht", b"\x08\x05"), ("dt", bytes(15))])
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_octets_disturb_anything(attacks: list[tuple[str, Any]]) -> None:
    with make_network() as network:
        besieged = Besieged(network)
        for port, what in attacks:
            before = besieged.handled()
            if isinstance(what, tuple):
                valid = besieged.valid()
                what = bend(valid[what[0] % len(valid)], what[1])
            besieged.attack(port, what)
            assert besieged.handled() > before or not what, "nothing vanishes uncounted"
        besieged.check()
