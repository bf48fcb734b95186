"""`irmd`: the IPC Resource Manager daemon, in the foreground or in the background (docs/reference/irmd.md)."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ouroboros import log as daemon_log
from ouroboros.printable import printable
from ouroboros.rundir import default_rundir
from ouroboros.version import __version__

from .background import Background, enter, log_file

log = logging.getLogger("irmd")


def main(argv: list[str] | None = None) -> int:
    """Run an IRMd, or end the running one. Returns the exit code: 0 after an orderly stop, 1 after any failure, 2 for a wrong command line."""
    _open_standard_streams()
    try:
        options = _parse(sys.argv[1:] if argv is None else argv)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    if options.command is not None:
        return _stop()
    if options.check is not None:
        return _check(options.check or options.config)
    background = None
    if options.daemon:
        try:
            path = log_file(options.log)
            entered = enter(path)
        except OSError as error:
            print(printable(f"irmd: {_explained(error)}"), file=sys.stderr)
            return 1
        if isinstance(entered, int):
            return entered
        background, options.stdout = entered, path is not None
    return _run(options.config, stdout=options.stdout, background=background)


class _Parser(argparse.ArgumentParser):
    """Its errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f'irmd: {message}; see "irmd --help"') + "\n")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="irmd",
        allow_abbrev=False,
        description="The IPC Resource Manager daemon of Ouroboros. `irmd stop` ends the running one.",
        epilog="Everything of the system is in its run directory: OUROBOROS_RUNDIR, or by default "
        "/run/ouroboros for root and $XDG_RUNTIME_DIR/ouroboros for others.",
    )
    parser.add_argument("command", nargs="?", choices=["stop"], help=argparse.SUPPRESS)
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--stdout", action="store_true", help="log to standard output instead of the system's log"
    )
    place.add_argument("--log", metavar="FILE", help="with --daemon: append the log to FILE")
    parser.add_argument(
        "--daemon", action="store_true", help="go into the background; return when the system is ready"
    )
    parser.add_argument("--config", metavar="FILE", help="set the system up from the TOML file FILE")
    parser.add_argument(
        "--check",
        metavar="FILE",
        nargs="?",
        const="",
        help="only check the file; the exit code tells whether it is right",
    )
    parser.add_argument("--version", action="version", version=f"Ouroboros version {__version__}")
    options = parser.parse_args(words)
    if options.log is not None and not options.daemon:
        parser.error(
            "--log FILE is for --daemon; in the foreground the shell redirects: `irmd --stdout >FILE`"
        )
    if options.daemon and options.stdout:
        parser.error("--stdout is for the foreground; with --daemon the log goes to --log FILE")
    return options


def _stop() -> int:
    from ouroboros.errors import OuroborosError
    from ouroboros.running import stop

    try:
        stop()
    except (OuroborosError, OSError) as error:
        print(printable(f"irmd: {error.strerror or error}"), file=sys.stderr)
        return 1
    return 0


def _check(path: str | None) -> int:
    from .config import ConfigError, default_path, read

    path = path or default_path()
    if path is None:
        print("irmd: there is no configuration file to check; name one: `irmd --check FILE`", file=sys.stderr)
        return 1
    try:
        read(path)
    except ConfigError as error:
        print(printable(f"irmd: {error}"), file=sys.stderr)
        return 1
    return 0


def _run(path: str | None, *, stdout: bool, background: Background | None) -> int:
    # Imported here: `irmd --version` and a refused start need none of it.
    from .config import Config, ConfigError, default_path, read
    from .rundir import RunDir, RunDirError

    daemon_log.set_comm("irmd")
    visible = daemon_log.start("irmd", stdout=stdout)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        path = path if path is not None else default_path()
        config = read(path) if path is not None else Config()
        daemon_log.start("irmd", stdout=stdout, debug=config.settings.debug)
        _raise_limit()
        with RunDir(default_rundir()) as rundir:
            status = asyncio.run(_live(rundir, config, stdout=stdout, background=background))
        log.info("Ouroboros IPC Resource Manager daemon exited. Bye.")
        return status
    except (ConfigError, RunDirError, OSError, MemoryError) as error:
        text = _explained(error)
        log.error("%s", text)
        if background is not None:
            background.failed(f"irmd: {text}")
        elif not visible:
            print(printable(f"irmd: {text}"), file=sys.stderr)
        return 1
    finally:
        logging.shutdown()


async def _live(rundir: object, config: object, *, stdout: bool, background: Background | None) -> int:
    from .config import Config
    from .daemon import Irmd
    from .rundir import RunDir

    assert isinstance(rundir, RunDir) and isinstance(config, Config)
    return await Irmd(asyncio.get_running_loop(), rundir, config, stdout=stdout, background=background).run()


def _open_standard_streams() -> None:
    """Open the first three descriptors that are closed: no socket of the IRMd may get their numbers, or printed text."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number is taken
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def _explained(error: Exception) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if error.errno == errno.EMFILE:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        text += f"; this process may have {soft} open files, raise the limit (`ulimit -n`)"
    return text


def _raise_limit() -> None:
    """As many descriptors as allowed: each process takes five, each pair of processes one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("cannot raise the limit on file descriptors (pid %d): %s", os.getpid(), error)


if __name__ == "__main__":
    raise SystemExit(main())
