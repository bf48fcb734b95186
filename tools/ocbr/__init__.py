"""ocbr: a constant bit rate, one way (paper 5.9, docs/reference/ocbr.md).

`client` sends at the rate, `server` reports per interval what arrives, `counter` holds their numbers and
prints them (pure). For loss, order and percentiles there is operf.
"""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, add_client_options, argument, run
from .counter import DEFAULT_SIZE

MAX_SIZE = 524288


def main(argv: Sequence[str] | None = None) -> int:
    """Run ocbr with `argv` (the process's arguments when None); returns the exit code."""
    return run("ocbr", _body, argv)


def _body(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    if options.listen:
        from .server import serve

        return serve(options)
    from .client import send

    return send(options)


def _seconds(text: str) -> float:
    return units.positive_duration(text, unit="s")


def _size(text: str) -> int:
    return units.packet_size(text, 1, MAX_SIZE)


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = Parser("ocbr", "Send packets at a constant bit rate over a flow.")
    add_client_options(parser, name_flags=("-n", "--server_apn", "--server-name"))
    client = parser.add_argument_group("client")
    client.add_argument("-d", "--duration", type=argument(_seconds), default=60.0, help="length (60 s)")
    client.add_argument("-f", "--flood", action="store_true", help="send as fast as the flow takes it")
    client.add_argument("-s", "--size", type=argument(_size), help=f"bytes per packet (up to {DEFAULT_SIZE})")
    client.add_argument(
        "-r", "--rate", type=argument(units.rate), default=1e6, help="bits per second, suffix k M G (1M)"
    )
    waiting = client.add_mutually_exclusive_group()
    waiting.add_argument("--sleep", action="store_true", help="sleep between packets (default)")
    waiting.add_argument("--spin", action="store_true", help="spin between packets: exact, takes a core")
    server = parser.add_argument_group("server")
    server.add_argument("-l", "--listen", action="store_true", help="be the server")
    server.add_argument(
        "-i", "--interval", type=argument(_seconds), default=1.0, help="between reports (1 s)"
    )
    server.add_argument(
        "-t", "--timeout", type=argument(_seconds), default=1.0, help="end a silent test after this (1 s)"
    )
    options = parser.parse_args(argv)
    if not options.listen and not options.name:
        parser.no_server()
    parser.check_side(
        options, client="name layer duration flood size rate sleep spin", server="interval timeout"
    )
    if options.flood:
        parser.refuse(
            options, "rate sleep spin", "is for a constant rate, and --flood sends as fast as it can"
        )
    return options
