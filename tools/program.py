"""What the traffic tools have in common as programs: arguments, error lines, signals, a closed stdout.

Exit codes: 0 done, 1 failed, 2 wrong usage (docs/reference). An error is one line on stderr that begins
with the name of the tool. SIGTERM and SIGHUP end a tool as Ctrl-C does, so statistics are still printed.
Runs in the tool's main thread.
"""

import argparse
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ouroboros.version import __version__

if TYPE_CHECKING:
    from ouroboros.qos import QoSSpec

Value = TypeVar("Value")


class ToolError(Exception):
    """The tool cannot go on; the text is the line to print."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and whose exit code for them is 2."""

    def __init__(self, tool: str, description: str) -> None:
        super().__init__(prog=tool, description=description)
        self.add_argument("--version", action="version", version=f"{tool} {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments and exit with 2."""
        self.exit(2, f'{self.prog}: {message}; see "{self.prog} --help"\n')

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


def add_client_options(parser: Parser, *, name_flags: Sequence[str]) -> None:
    """Options that every client has: the name of the server, the layer, JSON."""
    parser.add_argument(*name_flags, dest="name", metavar="NAME", help="name of the server")
    parser.add_argument("--layer", metavar="LAYER", help="allocate the flow over this layer only")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def qos(word: str) -> "QoSSpec":
    """The preset that the word names: raw best video voice data; another word means raw, with a warning."""
    from ouroboros import qos as presets

    known = {
        "raw": presets.QOS_RAW,
        "best": presets.QOS_BEST_EFFORT,
        "video": presets.QOS_VIDEO,
        "voice": presets.QOS_VOICE,
        "data": presets.QOS_DATA,
    }
    if word not in known:
        warn("Unknown QoS cube, defaulting to raw.")
    return known.get(word, presets.QOS_RAW)


def warn(text: str) -> None:
    """Say something that is not a result: to stderr, so that stdout can be parsed."""
    print(text, file=sys.stderr, flush=True)


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
        # Two threads may learn at once that the IRMd has gone: one interrupts the main thread, which tells of it already.
        if not over:
            raise KeyboardInterrupt

    _at_signals(end)
    try:
        try:
            code = body(argv)
            sys.stdout.flush()
        finally:
            over = True  # no call: Python looks for signals at calls
        return code
    except SystemExit as leave:  # argparse: --help, --version, usage
        return leave.code if isinstance(leave.code, int) else 0
    except KeyboardInterrupt:
        return _flushed(1)
    except BrokenPipeError:
        return _stdout_closed()
    except ToolError as error:
        warn(f"{tool}: {error}")
    except OSError as error:
        warn(f"{tool}: {reason(error)}")
    finally:
        # What is registered last is done first: before the library says good-bye. That wakes threads which wait for
        # flows, and they interrupt the main thread; an exception there leaves the good-bye half said, and threads behind.
        atexit.register(_no_more_signals)
    return _flushed(1)


def interrupt_main() -> None:
    """End the program from another thread, as Ctrl-C would."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def print_lines_at_once() -> None:
    """Write each line as it is printed, also into a pipe."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(line_buffering=True)


def _at_signals(end: Callable[[int, FrameType | None], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    # A script's shell starts background jobs with SIGINT ignored; a tool that is asked to end still does so.
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps its meaning
        signal.signal(signal.SIGHUP, end)


def _no_more_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _stdout_closed()
    return code


def _stdout_closed() -> int:
    # Nobody reads our output any more. Python flushes stdout once again at exit, so give it somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
