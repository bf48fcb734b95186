"""Entry points of the tools: until a tool can end in an orderly way, Ctrl-C ends it silently.

Each function is one tool's; it imports the tool only after it has taken care of the signal. Runs in the main thread. The
script that calls it is in a checkout (scripts/build) started with SIGINT blocked, so that Python's own start has no
traceback to print either.
"""

import signal
from collections.abc import Callable
from importlib import import_module


def _run(module: str) -> int:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(
        signal.SIG_UNBLOCK, {signal.SIGINT}
    )  # the scripts of a checkout start with it blocked
    main: Callable[[], int] = import_module(f".{module}", __package__).main
    try:
        return main()
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from Python's own end either


def irm() -> int:
    """irm."""
    return _run("irm.main")


def oping() -> int:
    """oping."""
    return _run("oping")


def oecho() -> int:
    """oecho."""
    return _run("oecho")


def obc() -> int:
    """obc."""
    return _run("obc")


def ocbr() -> int:
    """ocbr."""
    return _run("ocbr")


def operf() -> int:
    """operf."""
    return _run("operf")


def ocap() -> int:
    """ocap."""
    return _run("ocap")


def olab() -> int:
    """olab."""
    return _run("olab")
