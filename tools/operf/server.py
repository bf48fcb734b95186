"""operf's server: counts (and in a bidirectional test echoes) the packets that arrive, and reports to the client.

One thread per flow, at most sixteen; they share the interpreter, so tests that run at the same time slow each
other down.
"""

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ouroboros.wire import MalformedPacket

from ..program import print_lines_immediately, reason, warn_of_peer
from ..sequence import loss_percent
from ..server import FlowServer
from . import wire
from .options import Options
from .results import receiver_line, report_json
from .tally import Tally

if TYPE_CHECKING:
    from ouroboros.dev import Flow

MAX_FLOWS = 16
IDLE_S = 10.0
_BATCH = 256


def serve(options: Options) -> int:
    """Serve until a signal or the end of the IRMd."""
    print_lines_immediately()
    if not options.json:
        print("Server started.")

    def handle(flow: "Flow") -> None:
        Test(flow, as_json=options.json).run()

    try:
        FlowServer(handle, limit=MAX_FLOWS).run()
    except KeyboardInterrupt:
        pass
    return 0


class Test:
    """One test, from the announcement until the client has closed the flow or sends nothing any more."""

    __test__ = False  # not a test case

    def __init__(self, flow: "Flow", *, as_json: bool) -> None:
        self._flow = flow
        self._fd = flow.fd
        self._json = as_json
        self._kind = wire.Kind.UNIDIRECTIONAL
        self._tally = Tally(wire.Type.DATA)
        self._announced: int | None = None  # the number of packets in the client's END

    def run(self) -> None:
        """Serve the test; raises OSError when the flow fails before anything was measured."""
        from ouroboros.dev import FlowProperties
        from ouroboros.errors import FlowDownException

        self._flow.flags = FlowProperties.ReadWrite | FlowProperties.NoPartialRead
        self._flow.rcv_timeout = IDLE_S
        self._flow.snd_timeout = IDLE_S
        try:
            if not self._begin():
                return
            while True:
                self._take(self._flow.readv(_BATCH))
        except TimeoutError:
            warn_of_peer(f"Test on flow {self._fd} timed out")
        except FlowDownException:
            pass  # the client has its report
        self._print_summary()

    def _begin(self) -> bool:
        from ouroboros.errors import FlowDownException

        try:
            self._kind = wire.decode_kind(self._flow.recv())
        except MalformedPacket as error:
            warn_of_peer(f"Flow {self._fd} does not begin a test: {reason(error)}")
            return False
        if not self._json:
            print(f"Flow {self._fd}: {self._kind.name.lower()} test.")
        with suppress(
            FlowDownException
        ):  # packets of a client that has closed the flow already may still wait here
            self._flow.write(wire.encode(wire.Type.READY))
        return True

    def _take(self, packets: list[bytes]) -> None:
        others = self._tally.take(packets, time.monotonic_ns())
        if self._kind is wire.Kind.BIDIRECTIONAL and len(others) < len(packets):
            self._echo(packets)
        for packet in others:
            self._control(packet)

    def _echo(self, packets: list[bytes]) -> None:
        data = wire.Type.DATA.to_bytes(4, "big")
        echoes = [wire.echo_of(packet) for packet in packets if packet.startswith(data) and len(packet) > 4]
        while echoes:
            written = self._flow.writev(echoes)
            echoes = echoes[written:]

    def _control(self, packet: bytes) -> None:
        """Answer END and a repeated announcement; a malformed packet is ignored."""
        try:
            if len(packet) < wire.HEADER.size:
                wire.decode_kind(packet)
                self._flow.write(wire.encode(wire.Type.READY))
                return
            kind, number, _ = wire.decode(packet)
        except MalformedPacket:
            return
        if kind is wire.Type.END:
            self._announced = number
            self._flow.write(wire.encode_report(self._tally.report()))

    def _print_summary(self) -> None:
        report = self._tally.report()
        if self._json:
            print(json.dumps({"flow": self._fd, "sent": self._announced, **report_json(report)}))
            return
        loss = (
            ""
            if self._announced is None
            else f", {loss_percent(self._announced, report.packets)}% packet loss"
        )
        print(f"Flow {self._fd}: received {receiver_line(report)}{loss}.")
