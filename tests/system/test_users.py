"""Several users on one system: the attacks of one, and the flows of the other (docs/design/shared-memory.md: the trust domain is the user).

The IRMd is root's. User A has a server and a client, with a direct flow between them and one over a layer; user B has a program that
attacks them (`intruder`). A's packets must all arrive, unread.
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from .conftest import MakeSystem, Program, System

A, B = 61001, 61002
"""Users of this test: no process of the machine is of these."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: programs of several users")

BECOME = """
    import sys
    sys.path.insert(0, {checkout!r})
    import random, signal, threading
    from ouroboros import Flow, flow_accept, flow_alloc, irm
    import ouroboros.event, ouroboros.library, ouroboros.qos
    from tests.system.intruder import SECRET, become
    become(int(sys.argv[1]))
"""
SERVER = """
    def echo(flow):
        try:
            while True:
                flow.write(flow.read())
        except OSError:
            pass
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=(flow_accept(),), daemon=True).start()
"""
CLIENT = """
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    flows = [flow_alloc("server-of-a"), flow_alloc("server-of-a", layer="local")]
    for flow in flows:
        flow.rcv_timeout = 30
    source, rounds, last = random.Random(1), 0, 0
    print("flows", flush=True)
    while last < 200:
        packet = SECRET + rounds.to_bytes(8, "big") + source.randbytes(source.randrange(1300))
        for flow in flows:
            flow.write(packet)
            assert flow.read() == packet
        rounds += 1
        last += ending.is_set()
        if rounds % 200 == 0:
            print("rounds", rounds, flush=True)
    print("undisturbed", rounds, flush=True)
"""


SERVICE = """
    from ouroboros.event import FEventQueue, FlowSet
    flow = Flow()
    flow.accept(0)
    print("accepting", flush=True)
    with FlowSet([flow]) as flows:
        list(flows.wait(FEventQueue()))
    assert flow.allocated
    print("accepted", flush=True)
"""


HOSTILE = """
    from ouroboros.rpc.messages_pb2 import Envelope, FlowAlloc, FlowDealloc, QosSpec
    from tests.system.intruder import Peer
    edges = (0, 1, 254, 255, 256, 2**16, 2**31, 2**32 - 1)
    peer, answered, granted = Peer(), 0, 0
    for field in QosSpec.DESCRIPTOR.fields:
        for value in (*edges, 2**63, 2**64 - 1):
            if value < 2**32 or field.name == "bandwidth":
                for layer in ("local", ""):
                    qos = QosSpec(**{field.name: value})
                    answer = peer.ask(Envelope(flow_alloc=FlowAlloc(dst="server-of-a", layer=layer, qos=qos)))
                    answered += answer is not None
                    if not answer.error:
                        granted += 1
                        end = answer.flow_endpoint
                        peer.post(Envelope(flow_dealloc=FlowDealloc(fd=end.fd, instance=end.instance)))
    print("answered", answered, "granted", granted, flush=True)
"""


class Users:
    """A system of root with a local layer, and user A with flows on it."""

    def __init__(self, system: System, checkout: Path) -> None:
        self.system = system
        self.become = BECOME.format(checkout=str(checkout))
        for path in (system.base, system.rundir):  # below /tmp they are for their owner only
            path.chmod(0o755)
        system.local_layer()
        system.irm("name create server-of-a")
        self.server = self.run(SERVER)
        self.server.expect("ready")
        system.irm(f"bind process {self.server.pid} name server-of-a")
        system.irm("name register server-of-a layer local")
        self.client = self.run(CLIENT)
        self.client.expect("flows")

    def run(self, source: str, uid: int = A) -> Program:
        return self.system.python(textwrap.dedent(self.become) + textwrap.dedent(source), str(uid))

    def intrude(self, program: str) -> Program:
        (ipcp,) = self.system.json("ipcp list")["ipcps"]
        pids = (self.server.pid, self.client.pid, self.system.irmd.pid, ipcp["pid"])
        script = Path(__file__).with_name("intruder.py")
        argv = [sys.executable, str(script), str(B), program, *map(str, pids)]
        intruder = Program(argv, env=self.system.env)
        self.system.programs.append(intruder)
        return intruder


@pytest.fixture
def users(make_system: MakeSystem) -> Users:
    return Users(make_system(), Path(__file__).resolve().parents[2])


def test_an_intruder_reads_and_changes_nothing(users: Users) -> None:
    system = users.system
    system.irm("bind program /bin/true name service-of-a")
    system.irm("name register service-of-a layer local")
    intruder = users.intrude(os.path.realpath("/bin/true"))
    intruder.expect("serving")
    caller = users.run(
        """
        try:
            flow_alloc("service-of-a", None, 2)
            print("somebody else has served")
        except OSError as error:
            print("nobody", error)
        """
    )
    assert caller.wait() == 0 and caller.output.startswith("nobody"), caller.output
    intruder.expect("the looking is over")
    assert "BROKE" not in intruder.output, intruder.output
    assert "tried to read the packets of others" in intruder.output
    intruder.expect("scribbled 200")
    users.client.expect("rounds")
    intruder.expect("scribbled")
    users.client.expect("rounds")
    assert intruder.running
    late = users.run("print(flow_alloc('server-of-a', layer='local') is not None)")
    assert late.wait() == 0 and late.output == "True", late.output
    intruder.kill()
    users.client.signal(signal.SIGTERM)
    users.client.expect("undisturbed")
    assert users.client.wait() == 0, users.client.output
    assert users.server.running
    users.server.kill()
    assert system.json("flow list")["flows"] == []
    for pool in system.json("pool show")["pools"]:
        assert pool["uid"] == 0
        for one in pool["classes"]:
            assert one["free"] == one["total"], pool


def test_no_value_of_one_user_ends_the_layer_of_all(users: Users) -> None:
    """An ordinary user asks for flows with each field of a QoS at and beyond its limits: each request is answered, the flows of
    others go on, and new ones come."""
    hostile = users.system.python(textwrap.dedent(users.become) + textwrap.dedent(HOSTILE), str(B))
    numbers = hostile.expect(r"answered (\d+) granted (\d+)")
    assert int(numbers[1]) == 2 * (8 * 8 + 2) and 0 < int(numbers[2]) < int(numbers[1])
    assert hostile.wait() == 0, hostile.output
    for _ in range(3):
        late = users.run("print(flow_alloc('server-of-a', layer='local') is not None)")
        assert late.wait() == 0 and late.output == "True", late.output
    users.client.expect("rounds")
    users.client.signal(signal.SIGTERM)
    users.client.expect("undisturbed")
    assert users.client.wait() == 0, users.client.output
    assert "Traceback" not in users.system.irmd.output, users.system.irmd.output


def test_a_program_that_is_bound_for_a_user(users: Users) -> None:
    """Root selects the user whose processes serve: others are refused, and the log gives the reason."""
    system, nobody = users.system, pwd.getpwnam("nobody").pw_uid
    script = system.base / "service.py"
    script.write_text(textwrap.dedent(users.become) + textwrap.dedent(SERVICE))
    script.chmod(0o755)
    system.irm(f"bind program {script} name service user nobody")
    system.irm("name register service layer local")
    stranger = Program([sys.executable, str(script), str(B)], env=system.env)
    system.programs.append(stranger)
    system.irmd.expect(f"of uid {B} is not bound to service, which uid {nobody} has bound that program to")
    owner = Program([sys.executable, str(script), str(nobody)], env=system.env)
    system.programs.append(owner)
    owner.expect("accepting")
    client = users.run("flow_alloc('service', layer='local')")
    owner.expect("accepted")
    assert client.wait() == owner.wait() == 0 and stranger.running and stranger.output == "accepting"
    wrong = system.irm(f"bind program {script} name other user no-such-user", check=False)
    assert wrong.returncode == 1 and 'there is no user "no-such-user"' in wrong.stdout + wrong.stderr
