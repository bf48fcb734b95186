"""State directory: the folder for data that outlives a process and a restart of the system.

Used by IPCPs to keep their identity in a layer. `OUROBOROS_STATEDIR` names it; without it root has /var/lib/ouroboros, and any
other user $XDG_STATE_HOME/ouroboros, which is ~/.local/state/ouroboros where that variable is unset. Several systems
of one user share it: their files are distinguished by their run directories.
"""

from __future__ import annotations

import os

VARIABLE = "OUROBOROS_STATEDIR"
SYSTEM_STATEDIR = "/var/lib/ouroboros"


def default_statedir() -> str:
    """Where processes of this user keep their state; "": the user has no home."""
    named = os.environ.get(VARIABLE)
    if named:
        return os.path.abspath(named)
    if os.geteuid() == 0:
        return SYSTEM_STATEDIR
    state = os.environ.get("XDG_STATE_HOME")
    if not state or not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return os.path.join(state, "ouroboros") if os.path.isabs(state) else ""
