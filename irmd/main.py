"""`irmd`: the IPC Resource Manager daemon, in the foreground (docs/reference/irmd.md)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import sys

from ouroboros import log as daemon_log
from ouroboros.printable import printable
from ouroboros.rundir import default_rundir
from ouroboros.version import __version__

USAGE = """\
Usage: irmd [OPTION]...
The IPC Resource Manager daemon of Ouroboros.

  --stdout        log to standard output instead of the system's log
  --config PATH   set the system up from the TOML file PATH
  --version       print the version and exit
  --help          print this text and exit

Everything of the system is in its run directory: OUROBOROS_RUNDIR, or by default
/run/ouroboros for root and $XDG_RUNTIME_DIR/ouroboros for others."""

log = logging.getLogger("irmd")


def main(argv: list[str] | None = None) -> int:
    """Run an IRMd. Returns the exit code: 0 after an orderly stop, 1 after any failure, 2 for a wrong command line."""
    _open_standard_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    stdout = False
    path: str | None = None
    while arguments:
        option = arguments.pop(0)
        if option == "--stdout":
            stdout = True
        elif option == "--config" and arguments:
            path = arguments.pop(0)
        elif option == "--version":
            print(f"Ouroboros version {__version__}")
            return 0
        elif option in ("--help", "help", "-h"):
            print(USAGE)
            return 0
        elif option == "--config":
            print("irmd: --config needs the path of a file, as in `irmd --config PATH`", file=sys.stderr)
            return 2
        else:
            print(
                f'irmd: "{option}" is unknown; it takes --stdout, --config PATH, --version, --help',
                file=sys.stderr,
            )
            return 2
    return _run(path, stdout=stdout)


def _run(path: str | None, *, stdout: bool) -> int:
    # Imported here: `irmd --version` and a refused start need none of it.
    from .config import Config, ConfigError, read
    from .rundir import RunDir, RunDirError

    daemon_log.set_comm("irmd")
    visible = daemon_log.start("irmd", stdout=stdout)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        config = read(path) if path is not None else Config()
        daemon_log.start("irmd", stdout=stdout, debug=config.settings.debug)
        _raise_limit()
        with RunDir(default_rundir()) as rundir:
            status = asyncio.run(_live(rundir, config, stdout=stdout))
        log.info("Ouroboros IPC Resource Manager daemon exited. Bye.")
        return status
    except (ConfigError, RunDirError, OSError, MemoryError) as error:
        text = _explained(error)
        log.error("%s", text)
        if not visible:
            print(printable(f"irmd: {text}"), file=sys.stderr)
        return 1
    finally:
        logging.shutdown()


async def _live(rundir: object, config: object, *, stdout: bool) -> int:
    from .config import Config
    from .daemon import Irmd
    from .rundir import RunDir

    assert isinstance(rundir, RunDir) and isinstance(config, Config)
    return await Irmd(asyncio.get_running_loop(), rundir, config, stdout=stdout).run()


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
