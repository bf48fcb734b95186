"""The options of operf (docs/reference/operf.md)."""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, add_client_options, add_qos_option, argument
from .wire import MAX_SIZE, MIN_SIZE

_FLOOD_BURST = 64
_MAX_BURST = 1024
DEFAULT_SIZE = 1500
"""Octets of a packet by default; less on a flow that carries less."""


class Options(Namespace):
    """The options as client and server use them; `duration` is seconds, `rate` bit/s."""

    name: str | None
    layer: str | None
    json: bool
    listen: bool
    test: str
    duration: float
    rate: float
    size: int | None
    flood: bool
    burst: int
    sleep: bool
    spin: bool
    qos: str


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; ends the program on a wrong one."""
    parser = _parser()
    options = parser.parse_args(argv, Options())
    if not options.listen and not options.name:
        parser.no_server()
    parser.check_side(options, client="name layer test duration rate size flood burst sleep spin qos")
    if options.flood:
        parser.refuse(
            options, "rate sleep spin", "is for a constant rate, and --flood sends as fast as it can"
        )
    else:
        parser.refuse(options, "burst", "is for a flood; add --flood")
    return options


def _parser() -> Parser:
    parser = Parser("operf", "Measure the throughput of a flow to an operf server, at both ends.")
    parser.add_argument("-l", "--listen", action="store_true", help="be the server")
    add_client_options(parser, name_flags=("-n", "--server-name"))
    parser.add_argument(
        "-t",
        "--test",
        type=argument(_test),
        default="uni",
        help="uni (default): one way; bi: echoed, with rtt",
    )
    parser.add_argument(
        "-d",
        "--duration",
        type=argument(units.positive_duration),
        default=60.0,
        help="ms s m h d, bare ms (60s)",
    )
    parser.add_argument(
        "-r", "--rate", type=argument(units.rate), default=1e6, help="bits per second, suffix k M G (1M)"
    )
    parser.add_argument(
        "-s", "--size", type=argument(_size), help=f"bytes per packet, 64 to 1M (up to {DEFAULT_SIZE})"
    )
    parser.add_argument("-f", "--flood", action="store_true", help="send as fast as the flow takes it")
    parser.add_argument(
        "--burst", type=argument(_burst), default=_FLOOD_BURST, help="packets per call when flooding (64)"
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--sleep", action="store_true", help="sleep between packets")
    waiting.add_argument(
        "--spin", action="store_true", help="spin between packets (default): exact, takes a core"
    )
    add_qos_option(parser)
    return parser


def _test(text: str) -> str:
    if text not in ("uni", "bi"):
        raise units.UnitError(f'"{text}" is not a test; give uni or bi')
    return text


def _size(text: str) -> int:
    return units.packet_size(text, MIN_SIZE, MAX_SIZE)


def _burst(text: str) -> int:
    value = units.count(text)
    if value > _MAX_BURST:
        raise units.UnitError(f'"{text}" is too many packets for one call; give 1 to {_MAX_BURST}')
    return value
