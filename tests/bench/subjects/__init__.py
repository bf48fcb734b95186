"""Subjects: transports that carry packets between two Python processes, one file each. `SUBJECTS` is the registry."""

from __future__ import annotations

from tests.bench.subjects.datagram import UdpFloor, UdpGso, Veth
from tests.bench.subjects.floor import Floor
from tests.bench.subjects.ouroboros import Ouroboros
from tests.bench.subjects.ping import Ping
from tests.bench.subjects.pipe import Pipe
from tests.bench.subjects.quic import Quic
from tests.bench.subjects.raw import Raw
from tests.bench.subjects.seqpacket import Seqpacket
from tests.bench.subjects.subject import Subject
from tests.bench.subjects.tcp import Tcp
from tests.bench.subjects.udp import Udp
from tests.bench.subjects.zeromq import ZeroMq

SUBJECTS: dict[str, type[Subject]] = {
    s.name: s
    for s in (Ouroboros, Seqpacket, Udp, Pipe, ZeroMq, Floor, Veth, Ping, UdpFloor, UdpGso, Raw, Tcp, Quic)
}
