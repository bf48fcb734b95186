"""Pair: two peer processes with one subject between them, as the benchmark sees them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.bench.cpu import spent_by
from tests.bench.measure import WARM
from tests.bench.process import PeerError, Process
from tests.bench.subjects.subject import Wiring

ATTEMPTS = 3


@dataclass(slots=True, frozen=True)
class OneWay:
    """Packets per second received, and CPU seconds of all processes involved per million packets received."""

    pps: float
    cpu_per_mpkt: float
    received: int
    sender_cpu: float = 0.0  # seconds, of the process
    receiver_cpu: float = 0.0


class Pair:
    """A server and a client; `stack` ends them."""

    def __init__(self, subject: str, wiring: Wiring, stack: ExitStack) -> None:
        self._helpers = wiring.helpers
        self._server = stack.enter_context(
            Process(
                subject,
                "server",
                wiring.server,
                fds=wiring.server_fds,
                env=wiring.server_env,
                enter=wiring.server_enter,
            )
        )
        hello = self._server.expect("hello")
        if wiring.on_hello:
            wiring.on_hello(hello)
        self._client = stack.enter_context(
            Process(
                subject,
                "client",
                wiring.client | {"hello": hello},
                fds=wiring.client_fds,
                env=wiring.client_env,
                enter=wiring.client_enter,
            )
        )
        self._client.expect("ready")
        self._server.expect("ready")

    def _both(self, first: dict[str, Any], then: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The server starts and reports it, then the client starts; returns the answers of both."""
        self._server.ask(**first)
        self._server.expect("armed")
        self._client.ask(**then)
        theirs = self._client.expect("done")
        return self._server.expect("done"), theirs

    def round_trips(self, size: int, count: int, warm: int | None = None) -> tuple[float, float]:
        """50th and 99th percentile of `count` round trips, in µs, after `warm` others: WARM, but no more than those."""
        warm = min(WARM, count) if warm is None else warm
        return self._trips({"do": "ping", "size": size, "count": count, "warm": warm}, count + warm)

    def paced(self, size: int, count: int, seconds: float) -> tuple[float, float]:
        """The same with a pause before each."""
        return self._trips({"do": "pace", "size": size, "count": count, "seconds": seconds}, count + 1)

    def _trips(self, command: dict[str, Any], answers: int) -> tuple[float, float]:
        """Round trips. When an answer is left over, each was taken for that to the packet after it: once more."""
        for _ in range(ATTEMPTS):
            echo = {"do": "echo", "size": command["size"], "count": answers}
            _, answer = self._both(echo, dict(command))
            if not answer["left"]:
                return answer["p50"], answer["p99"]
        raise PeerError(f"packets of another measure came between round trips, {ATTEMPTS} times in a row")

    def one_way(self, size: int, count: int, burst: bool) -> OneWay:
        """`count` packets from client to server."""
        helpers = self._helpers() if self._helpers else []
        before = spent_by(helpers)
        what = {"size": size, "count": count, "burst": burst}
        got, sent = self._both({"do": "sink"} | what, {"do": "flood"} | what)
        cpu = got["cpu"] + sent["cpu"] + spent_by(helpers) - before
        packets = got["got"]
        if packets == 0:
            return OneWay(0.0, 0.0, 0)
        return OneWay(
            packets / (got["ended"] - sent["began"]) * 1e9,
            cpu / packets * 1e6,
            packets,
            sent["cpu"],
            got["cpu"],
        )

    def delivery(self, size: int, count: int, seed: int) -> float:
        """Seconds that `count` packets took from client to server. Raises PeerError when one was lost, wrong, late or there twice."""
        what = {"size": size, "count": count, "seed": seed}
        got, sent = self._both({"do": "verify"} | what, {"do": "deliver"} | what)
        if got["hash"] != sent["hash"]:
            raise PeerError(f"what was read (sha256 {got['hash']}) is not what was written ({sent['hash']})")
        if got["left"]:
            raise PeerError(f"{got['left']} more came than were written")
        return float(got["ended"] - sent["began"]) / 1e9

    def flood_for_ever(self, size: int) -> None:
        """From now on the client sends as fast as it can, and the server reads, until the peers are ended."""
        self._server.ask(do="drain", size=size, count=0)
        self._server.expect("armed")
        self._client.ask(do="soak", size=size, count=0)
        self._client.expect("armed")

    def futex_wakes(self, count: int, pause_ns: int) -> list[int]:
        """`count` latencies from the wake call to the sleeper's running, in ns; only the floor has them."""
        got, _ = self._both(
            {"do": "sleep", "count": count}, {"do": "wake", "count": count, "pause_ns": pause_ns}
        )
        samples: list[int] = got["samples"]
        return samples
