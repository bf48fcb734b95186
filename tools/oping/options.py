"""The options of oping, with the limits and warnings of docs/reference/oping.md."""

from argparse import Namespace
from collections.abc import Sequence

from .. import units
from ..program import Parser, add_client_options, add_qos_option, argument
from .packet import MAX_SIZE, MIN_SIZE

_MAX_INTERVAL = 10.0
_PACKETS_PER_MS_AT_INTERVAL_0 = 10


class Options(Namespace):
    """The options as the client and the server use them; `interval` and `duration` are seconds."""

    name: str | None
    layer: str | None
    json: bool
    listen: bool
    poll: bool
    busy: bool
    count: int | None
    duration: float | None
    flood: bool
    flood_busy: bool
    interval: float
    qos: str
    size: int
    quiet: bool
    timeofday: bool


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; ends the program on a wrong one."""
    parser = _parser()
    options = parser.parse_args(argv, Options())
    if not options.listen and not options.name:
        parser.no_server()
    parser.check_side(
        options,
        client="name layer json count duration flood flood_busy interval qos size timeofday",
        server="poll busy",
    )
    _count_duration(options)
    return options


def _parser() -> Parser:
    parser = Parser("oping", "Measure round-trip times over a flow to an oping server.")
    parser.add_argument("-l", "--listen", action="store_true", help="be the server")
    one_by_one = parser.add_mutually_exclusive_group()
    one_by_one.add_argument(
        "--poll", action="store_true", help="server: wait on one flow at a time, no event set"
    )
    one_by_one.add_argument("--busy", action="store_true", help="server: as --poll, but never sleep")
    add_client_options(parser, name_flags=("-n", "--server-name"))
    parser.add_argument("-c", "--count", type=argument(units.count), help="number of packets (no end)")
    parser.add_argument(
        "-d",
        "--duration",
        type=argument(units.positive_duration),
        help="length of the test; ms s m h d, bare ms",
    )
    flood = parser.add_mutually_exclusive_group()
    flood.add_argument(
        "-f", "--flood", action="store_true", help="send the next packet as soon as the reply is there"
    )
    flood.add_argument("-F", "--flood-busy", action="store_true", help="as --flood, but never sleep")
    parser.add_argument(
        "-i", "--interval", type=argument(_interval), default=1.0, help="time between packets (1000 ms)"
    )
    add_qos_option(parser)
    parser.add_argument(
        "-s",
        "--size",
        type=argument(_size),
        default=MIN_SIZE,
        help=f"bytes per packet, {MIN_SIZE} (default) to {MAX_SIZE}",
    )
    parser.add_argument("-Q", "--quiet", action="store_true", help="print the statistics only")
    parser.add_argument("-D", "--timeofday", action="store_true", help="print the time before each line")
    return parser


def _interval(text: str) -> float:
    value = units.duration(text)
    if value > _MAX_INTERVAL:
        raise units.UnitError(f'"{text}" is too long an interval; give at most {_MAX_INTERVAL:g}s')
    return value


def _size(text: str) -> int:
    return units.packet_size(text, MIN_SIZE, MAX_SIZE)


def _count_duration(options: Options) -> None:
    """A duration is a number of packets, but in a flood."""
    if options.duration is not None and not (options.flood or options.flood_busy):
        packets = max(1, _packets_in(options.duration, options.interval))
        options.count = min(packets, options.count or packets)


def _packets_in(duration: float, interval: float) -> int:
    if interval == 0:
        return int(duration * 1e3 * _PACKETS_PER_MS_AT_INTERVAL_0)
    return int(duration / interval)
