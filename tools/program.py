"""Common parts of the traffic tools: arguments, error lines, signals, a closed stdout.

Exit codes: 0 done, 1 failed, 2 wrong usage (docs/reference). An error is one line on stderr that begins
with the name of the tool. SIGTERM and SIGHUP end a tool as Ctrl-C does, so statistics are still printed.
Runs in the tool's main thread.
"""

import argparse
import atexit
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ouroboros.cubes import PRESETS
from ouroboros.limiter import Limiter
from ouroboros.printable import printable
from ouroboros.version import __version__

from .stdio import FAILURE, OutputError, failed, prepare

if TYPE_CHECKING:
    from ouroboros.dev import Flow
    from ouroboros.qos import QoSSpec

Value = TypeVar("Value")

WARNINGS = 20
"""Lines of one place in the code that `warn_of_peer` prints in 10 s."""

_warned = Limiter(time.monotonic)


_LINGER_S = 1.0


class ToolError(Exception):
    """The tool cannot go on; the text is the line to print."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and whose exit code for them is 2."""

    def __init__(self, tool: str, description: str) -> None:
        super().__init__(prog=tool, description=description)
        self.add_argument("--version", action="version", version=f"{tool} {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments and exit with 2."""
        self.exit(2, printable(f'{self.prog}: {message}; see "{self.prog} --help"') + "\n")

    def refuse(self, options: argparse.Namespace, dests: str, why: str) -> None:
        """Exit when one of these options has another value than its default, because of `why`."""
        for action in self._actions:
            if action.dest in dests.split() and getattr(options, action.dest) != action.default:
                self.error(f"argument {'/'.join(action.option_strings)}: {why}")

    def check_side(self, options: argparse.Namespace, *, client: str, server: str = "") -> None:
        """Exit when an option of the client is given to the server, or the other way round."""
        if options.listen:
            self.refuse(options, client, "is for the client, and --listen makes a server")
        else:
            self.refuse(options, server, "is for the server; add --listen")

    def no_server(self) -> NoReturn:
        """Exit because a client was given no name."""
        self.exit(2, f"No server specified.\n{self.format_usage()}")


def argument(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse` as a type for argparse: the text of its ValueError is what the user reads."""

    def convert(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def name(text: str) -> str:
    """A name of a server or of a layer, as an argument. Raises ValueError."""
    from ouroboros.ipcp_options import check_name

    return check_name("The", text)


def add_client_options(parser: Parser, *, name_flags: Sequence[str]) -> None:
    """Options that every client has: the name of the server, the layer, JSON."""
    parser.add_argument(
        *name_flags, dest="name", metavar="NAME", type=argument(name), help="name of the server"
    )
    add_layer_option(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def add_layer_option(parser: Parser) -> None:
    """The option for the layer of a client's flow."""
    parser.add_argument(
        "--layer", metavar="LAYER", type=argument(name), help="allocate the flow over this layer only"
    )


def add_qos_option(parser: Parser) -> None:
    """The option for the QoS cube of a client's flow."""
    parser.add_argument(
        "-q", "--qos", choices=tuple(PRESETS), default="raw", help="raw (default), best, video, voice or data"
    )


def qos(word: str) -> "QoSSpec":
    """The preset that a word of that option names."""
    from ouroboros.qos import cube

    return cube(word)


def packet_size(wanted: int | None, default: int, smallest: int, flow: "Flow") -> int:
    """Octets of a client's packets: the wanted size, or the default bounded by the flow's. Raises ToolError."""
    limit = flow.max_packet
    if wanted is None and limit >= smallest:
        return min(default, limit)
    size = wanted or smallest
    if size <= limit:
        return size
    mend = f"use --size {limit} or less" if limit >= smallest else "take another layer"
    raise ToolError(f"a packet of {size} bytes is larger than this flow carries ({limit}); {mend}")


@contextmanager
def client_flow(flow: "Flow") -> Iterator[None]:
    """The flow of a client, for the length of a block. At its end the client has its results: it does not wait for a server
    that answers no longer, and packets that the server has not acknowledged are no error."""
    try:
        yield
    finally:
        flow.linger_timeout = _LINGER_S
        with suppress(OSError):
            flow.dealloc()


def warn(text: str) -> None:
    """Print a line that is not a result: to stderr, so that stdout can be parsed."""
    print(printable(text), file=sys.stderr, flush=True)


def warn_of_peer(text: str) -> None:
    """The same for lines that a peer can cause without limit: at most WARNINGS in 10 s from one place in the code."""
    caller = sys._getframe(1)
    left_out = _warned.admit((caller.f_code, caller.f_lineno), WARNINGS)
    if left_out is not None:
        warn(f"{text} ({left_out} more lines like this were left out)" if left_out else text)


def reason(error: BaseException) -> str:
    """Why `error` happened, in one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


def allocation_error(error: OSError) -> ToolError:
    """The line for a flow that could not be allocated (the number as the prototype prints it)."""
    return ToolError(f"Failed to allocate flow: -{error.errno or 0}. {reason(error)}")


def run(tool: str, body: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None) -> int:
    """Run the tool and turn however it ends into an exit code."""
    over = False

    def end(number: int, frame: FrameType | None) -> None:
        # Another thread may notice the exit of the IRMd too, and interrupt the main thread, which is reporting it already.
        if over:
            return
        if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            # A callback of the import system swallows exceptions: the program would go on.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        raise KeyboardInterrupt

    def work() -> int:
        nonlocal over
        try:
            code = body(argv)
            sys.stdout.flush()
        finally:
            over = True  # no call: Python looks for signals at calls
        return code

    prepare()
    try:
        _at_signals(end)
        code = _end_of(tool, work)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:  # before the body began
        return FAILURE
    except OutputError as error:
        return failed(error, f"{tool}: ")
    finally:
        # Python runs the handler registered last first: before the library disconnects from the IRMd. That wakes threads which
        # wait for flows, and they interrupt the main thread; an exception there would leave the library half disconnected.
        atexit.register(_no_more_signals)


def _end_of(tool: str, body: Callable[[], int]) -> int:
    """The exit code of a body, however it ends; OutputError is the caller's."""
    try:
        return body()
    except SystemExit as leave:  # argparse: --help, --version, usage
        return leave.code if isinstance(leave.code, int) else 0
    except KeyboardInterrupt:
        return FAILURE
    except (ToolError, OSError) as error:
        warn(f"{tool}: {reason(error)}")
        return FAILURE


def interrupt_main() -> None:
    """End the program from another thread, as Ctrl-C would."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def print_lines_immediately() -> None:
    """Write each line as it is printed, also into a pipe."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)


def _at_signals(end: Callable[[int, FrameType | None], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    # A script's shell starts background jobs with SIGINT ignored; a tool ends at SIGINT all the same.
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps its meaning
        signal.signal(signal.SIGHUP, end)


def _no_more_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
