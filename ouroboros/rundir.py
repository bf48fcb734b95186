"""Run directory: the one folder with all sockets and files of a running system (docs/design/overview.md).

And the folder of its configuration. Used by the IRMd for its socket and files, and by every other process to find it. `OUROBOROS_RUNDIR` names it; without
it root has /run/ouroboros, and any other user $XDG_RUNTIME_DIR/ouroboros or, where that is unset, a private folder
under /tmp. A user who names a system means that one: with the variable set nothing else is tried.
"""

from __future__ import annotations

import os

VARIABLE = "OUROBOROS_RUNDIR"
SYSTEM_RUNDIR = "/run/ouroboros"
SYSTEM_CONFIGURATION = "/etc/ouroboros"
LOCK_NAME = "irmd.lock"
"""Locked by the IRMd of a run directory as long as it lives; the pid inside is for people."""


def default_rundir() -> str:
    """Where an IRMd of this user lives."""
    named = os.environ.get(VARIABLE)
    if named:
        return os.path.abspath(named)
    if os.geteuid() == 0:
        return SYSTEM_RUNDIR
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        return os.path.join(runtime, "ouroboros")
    return os.path.join("/tmp", f"ouroboros-{_user_name()}")


def rundir_candidates() -> list[str]:
    """Where a client of this user looks for an IRMd, best first."""
    own = default_rundir()
    if os.environ.get(VARIABLE) or own == SYSTEM_RUNDIR:
        return [own]
    return [own, SYSTEM_RUNDIR]


def configuration_folder() -> str:
    """Where a system of this user has its configuration: /etc/ouroboros for root, and $XDG_CONFIG_HOME/ouroboros for others."""
    if os.geteuid() == 0:
        return SYSTEM_CONFIGURATION
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "ouroboros")


def security_directory() -> str:
    """The security directory when none is configured."""
    return os.path.join(configuration_folder(), "security")


def usable(rundir: str) -> bool:
    """Whether a client may trust what lies there: under /tmp a stranger could have made the folder first."""
    if not rundir.startswith("/tmp/") or os.environ.get(VARIABLE):
        return True
    try:
        status = os.lstat(rundir)
    except OSError:
        return True  # nothing there: connecting reports it
    return status.st_uid == os.geteuid()


def _user_name() -> str:
    import pwd

    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
