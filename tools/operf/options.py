"""The options of operf (docs/reference/operf.md)."""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, add_client_options, argument
from .wire import MAX_SIZE, MIN_SIZE

_FLOOD_BURST = 64
_MAX_BURST = 1024


class Options(Namespace):
    """The options as client and server use them; `duration` is seconds, `rate` bit/s."""

    name: str | None
    layer: str | None
    json: bool
    listen: bool
    test: str
    duration: float
    rate: float
    size: int
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
    return options


def _parser() -> Parser:
    parser = Parser("operf", "Measure what a flow to an operf server carries, at both ends.")
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
        "-d", "--duration", type=argument(_duration), default=60.0, help="ms s m h d, bare ms (60s)"
    )
    parser.add_argument(
        "-r", "--rate", type=argument(units.rate), default=1e6, help="bits per second, suffix k M G (1M)"
    )
    parser.add_argument(
        "-s", "--size", type=argument(_size), default=1500, help="bytes per packet, 64 to 1M (1500)"
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
    parser.add_argument("-q", "--qos", default="raw", help="raw (default), best, video, voice or data")
    return parser


def _test(text: str) -> str:
    if text not in ("uni", "bi"):
        raise units.UnitError(f'"{text}" is not a test; give uni or bi')
    return text


def _duration(text: str) -> float:
    value = units.duration(text)
    if value == 0:
        raise units.UnitError(f'"{text}" is too short; give a duration above 0, such as 10s')
    return value


def _size(text: str) -> int:
    value = units.size(text)
    if not MIN_SIZE <= value <= MAX_SIZE:
        raise units.UnitError(f'"{text}" is not a packet size; give {MIN_SIZE} to {MAX_SIZE} bytes')
    return value


def _burst(text: str) -> int:
    value = units.count(text)
    if value > _MAX_BURST:
        raise units.UnitError(f'"{text}" is too many packets for one call; give 1 to {_MAX_BURST}')
    return value
