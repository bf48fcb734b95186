"""Place: the folder of a lab, and the files about it there. Found by name, by every command of olab.

A lab lies in FOLDER/NAME, where FOLDER is $OLAB_DIR, or /run/olab for root, and $XDG_RUNTIME_DIR/olab or else
/tmp/olab-USER for others. In it: `lab.json` has the holder's pid and the description of the lab; `control` is the socket of
the holder, `holder.log` its log; and each system has a folder with its run directory, its hosts
file and the log of its IRMd.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "OLAB_DIR"
STATE, CONTROL, LOG = "lab.json", "control", "holder.log"
MAX_SOCKET_PATH = 107
_LONGEST = "/run/irm.sock."


class PlaceError(OSError):
    """A lab is not there, cannot be made there, or is there already; the text has the mending command."""


def folder() -> Path:
    """Where the labs of this user are by default."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(os.path.abspath(named))
    if os.geteuid() == 0:
        return Path("/run/olab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        return Path(runtime) / "olab"
    import getpass

    return Path("/tmp") / f"olab-{getpass.getuser()}"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lab: its pid and, because pids come back, when it was started (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Holder:
        """The process that has this pid now. Raises ProcessLookupError."""
        return cls(pid, started(pid))

    def alive(self) -> bool:
        """Whether that process still runs."""
        try:
            return started(self.pid) == self.started
        except ProcessLookupError:
            return False


@dataclass(frozen=True, slots=True)
class Owner:
    """The maker of a lab: a user, in a session of processes (setsid(2)) that is known by its leader and when that was started."""

    uid: int
    session: int
    started: int

    @classmethod
    def me(cls) -> Owner:
        """The user and the session of this process."""
        session = os.getsid(0)
        try:
            return cls(os.geteuid(), session, started(session))
        except ProcessLookupError:  # the leader has ended, or is outside of this process namespace
            return cls(os.geteuid(), session, 0)

    def __str__(self) -> str:
        import pwd

        try:
            user = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            user = f"uid {self.uid}"
        return f"{user} in session {self.session}"


def started(pid: int) -> int:
    """When a process was started. Raises ProcessLookupError for one that has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise ProcessLookupError(pid) from None
    if fields[0] in ("Z", "X"):
        raise ProcessLookupError(pid)
    return int(fields[19])


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one lab, which need not be there."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def control(self) -> Path:
        return self.path / CONTROL

    @property
    def log(self) -> Path:
        return self.path / LOG

    def system(self, name: str) -> Path:
        """The folder of a system."""
        return self.path / "systems" / name

    def check_length(self, systems: list[str]) -> None:
        """Check that the path of each system's socket is short enough for a socket. Raises PlaceError."""
        for name in systems:
            path = f"{self.system(name)}{_LONGEST}"
            if len(path.encode()) > MAX_SOCKET_PATH:
                raise PlaceError(
                    f"{path} is too long for a socket ({MAX_SOCKET_PATH} octets); choose a shorter folder with {VARIABLE}"
                )

    def make(self) -> None:
        """Make the folder, for this user only. Raises PlaceError when a lab is there."""
        parent = self.path.parent
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = parent.stat().st_uid
        if owner != os.geteuid() and stat.S_IMODE(parent.stat().st_mode) & stat.S_ISVTX == 0:
            raise PlaceError(f"{parent} belongs to uid {owner}; choose another folder with {VARIABLE}")
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            raise PlaceError(
                f'a lab "{self.name}" is there already: `olab down {self.name}` removes it'
            ) from None
        self.log.touch()

    def write(self, holder: Holder, description: dict[str, Any]) -> None:
        """Write the holder and the description; atomically, so that a reader never sees half of it."""
        owner = Owner.me()
        state = {
            "pid": holder.pid,
            "started": holder.started,
            "owner": [owner.uid, owner.session, owner.started],
            "description": description,
        }
        fresh = self.path / f"{STATE}.new"
        fresh.write_text(json.dumps(state))
        fresh.rename(self.path / STATE)

    def read(self) -> tuple[Holder, dict[str, Any]]:
        """The holder of the lab, and its description. Raises PlaceError."""
        try:
            state = json.loads((self.path / STATE).read_text())
            return Holder(state["pid"], state["started"]), state["description"]
        except FileNotFoundError:
            raise PlaceError(
                f'there is no lab "{self.name}" in {self.path.parent}; `olab up` makes one'
            ) from None
        except (ValueError, KeyError, TypeError):
            raise PlaceError(
                f"{self.path / STATE} is damaged; `olab down {self.name}` removes the lab"
            ) from None

    def owner(self) -> Owner | None:
        """The maker of the lab; None where that cannot be read any more."""
        try:
            return Owner(*map(int, json.loads((self.path / STATE).read_text())["owner"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        """Remove all of it, and the usual folder of labs when this was the last."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent == folder():
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()


def places() -> list[Place]:
    """All labs of this user, running or left behind. Other files there are neither listed nor removed."""
    try:
        return [Place(path) for path in sorted(folder().iterdir()) if (path / LOG).exists()]
    except OSError:
        return []


def only(there: list[Place], hint: str) -> Place | None:
    """The lab that a command without a name changes: the only one that this session has made; None where there is no lab.

    `hint` explains how to name one. Raises PlaceError.
    """
    mine = [place for place in there if place.owner() == Owner.me()]
    if len(mine) > 1:
        raise PlaceError(f"there are several labs; {hint}: {', '.join(place.name for place in mine)}")
    if there and not mine:
        made = ", ".join(f"{place.name} (by {place.owner() or 'an unknown user'})" for place in there)
        raise PlaceError(f"this session has made no lab; {hint} to change one of another: {made}")
    return mine[0] if mine else None
