"""operf's client: announces the test, sends, takes echoes in between, and fetches the server's report.

One thread. A unidirectional test may block in a write; a bidirectional one never does, because the server
may at the same time wait for the client to read its echoes.
"""

import errno
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ouroboros.wire import MalformedPacket

from ..program import ToolError, allocation_error, client_flow, packet_size, qos, reason, warn
from . import wire
from .options import DEFAULT_SIZE, Options
from .progress import wanted
from .results import Results
from .traffic import Traffic

if TYPE_CHECKING:
    from ouroboros.dev import Flow

_RETRY_S = 0.25
_RETRIES = 20
_DRAIN_S = 1.0


def measure(options: Options) -> int:
    """Run one test; 0 when both ends could be measured."""
    from ouroboros.dev import flow_alloc

    assert options.name is not None
    cube = qos(options.qos)
    try:
        flow = flow_alloc(options.name, cube, layer=options.layer)
    except OSError as error:
        raise allocation_error(error) from None
    with client_flow(flow):
        return Client(flow, options).run()


class Client:
    """One test over an allocated flow."""

    def __init__(self, flow: "Flow", options: Options) -> None:
        assert options.name is not None
        self._size = packet_size(options.size, DEFAULT_SIZE, wire.MIN_SIZE, flow)
        self._flow = flow
        self._options = options
        self._kind = wire.Kind.BIDIRECTIONAL if options.test == "bi" else wire.Kind.UNIDIRECTIONAL
        self._results = Results(options.name, self._kind, self._size)

    def run(self) -> int:
        """Announce, send, fetch the report, print; an interrupt ends the sending only."""
        self._announce()
        traffic = Traffic(self._flow, self._options, self._results, progress=wanted(self._options.json))
        try:
            with suppress(KeyboardInterrupt):
                self._print_opening()
                traffic.send()
            traffic.measured()
            self._drain(traffic)
            self._fetch_report(traffic)
        except KeyboardInterrupt:
            pass  # interrupted twice, or between the sending and the report
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                # Raises the ToolError that names the limit.
                packet_size(self._size, DEFAULT_SIZE, wire.MIN_SIZE, self._flow)
            traffic.measured()
            warn(f"operf: the flow to {self._options.name} ended: {reason(error)}")
        return self._print_results()

    # ---------------------------------------------------------------- before

    def _announce(self) -> None:
        """Send the kind of test and wait until the server is ready; raises ToolError when it is not."""
        flow = self._flow
        flow.rcv_timeout = _RETRY_S
        flow.snd_timeout = _RETRY_S
        for _ in range(_RETRIES):
            try:
                flow.write(wire.encode_kind(self._kind))
                kind, _, _ = wire.decode(flow.recv())
            except (TimeoutError, MalformedPacket):
                continue
            except OSError as error:
                raise ToolError(f"the flow to {self._options.name} ended: {reason(error)}") from None
            if kind is wire.Type.READY:
                return
        raise ToolError(
            f'"{self._options.name}" does not answer as an operf server; is `operf -l` bound to it?'
        )

    def _print_opening(self) -> None:
        options = self._options
        if options.json:
            return
        print(f"Doing a {self._kind.name.lower()} test.")
        how = "Flooding" if options.flood else "Sending"
        rate = "." if options.flood else f" at {options.rate / 1e6:.3f} Mb/s."
        print(
            f"{how} {self._size} byte packets for {options.duration:g} s to {options.name}{rate}",
            flush=True,
        )

    # ---------------------------------------------------------------- after

    def _drain(self, traffic: Traffic) -> None:
        """Read the echoes that are still under way."""
        if self._kind is not wire.Kind.BIDIRECTIONAL:
            return
        traffic.block_reads(_DRAIN_S)
        while traffic.echoes_missing and traffic.take_echoes():
            pass

    def _fetch_report(self, traffic: Traffic) -> None:
        """Send END until the report arrives; once more when packets were late."""
        traffic.block_reads(_RETRY_S)
        tries = 0
        while tries < _RETRIES:
            tries += 1
            report = self._ask_for_report(traffic)
            if report is None:
                continue
            first = self._results.report is None
            self._results.report = report
            if report.packets >= self._results.packets or not first:
                return
            time.sleep(_RETRY_S)

    def _ask_for_report(self, traffic: Traffic) -> wire.Report | None:
        try:
            self._flow.write(wire.encode(wire.Type.END, self._results.packets))
        except (TimeoutError, BlockingIOError):
            return None
        deadline = time.monotonic() + _RETRY_S
        while time.monotonic() < deadline:
            for packet in traffic.read():
                try:
                    return wire.decode_report(packet)
                except MalformedPacket:
                    continue  # a late READY, or garbage
        return None

    def _print_results(self) -> int:
        results = self._results
        if self._options.json:
            print(json.dumps(results.to_json()))
        else:
            print("Test finished.")
            print(results.render())
        if results.report is None:
            warn(f'operf: no report from "{results.name}": its counters are not known')
            return 1
        return 0
