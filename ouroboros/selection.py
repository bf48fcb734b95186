"""Which IPCPs are meant: by name, or by shell-style wildcards (docs/reference/irm.md).

A library module of those who manage; pure: the IPCPs of the system come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import EINVAL

from .errors import EIPCP, IrmError, IrmNameError
from .readout import IpcpInfo

MAX_PATTERNS = 128


def matches(text: str, pattern: str) -> bool:
    """Whether a stored name fits what was typed: the same, or by shell-style wildcards."""
    if text == pattern:
        return True
    if not is_pattern(pattern):
        return False
    from fnmatch import fnmatchcase

    return fnmatchcase(text, pattern)


def is_pattern(text: str) -> bool:
    """Whether it has wildcards."""
    return any(character in text for character in "*?[")


def matching(ipcps: Sequence[IpcpInfo], name: str, failure: type[IrmError]) -> list[IpcpInfo]:
    """The IPCPs whose names fit; `failure` when none does."""
    found = [ipcp for ipcp in ipcps if matches(ipcp.name, name)]
    if not found:
        raise failure(EIPCP, f"No IPCPs matching {name} found.")
    return found


def patterns(one: str | None, several: Iterable[str] | None, what: str) -> list[str]:
    """One and several, as a list of which there is a limit. Raises NameError (of ouroboros.irm)."""
    found = ([one] if one is not None else []) + list(several or ())
    if len(found) > MAX_PATTERNS:
        raise IrmNameError(
            EINVAL, f"Too many {what} specified: {len(found)}, and {MAX_PATTERNS} are possible."
        )
    return found


def registrars(known: Sequence[IpcpInfo], name: str, ipcps: list[str], layers: list[str]) -> list[IpcpInfo]:
    """The IPCPs that patterns of IPCP and of layer names select. Each pattern must select one."""
    if not ipcps and not layers:
        raise IrmNameError(EINVAL, f"Where {name} is to be registered is missing: give a layer or an IPCP.")
    found: dict[int, IpcpInfo] = {}
    for what, patterns in (("IPCP", ipcps), ("layer", layers)):
        for pattern in patterns:
            fitting = [
                info for info in known if matches(info.name if what == "IPCP" else info.layer, pattern)
            ]
            if what == "layer":
                fitting = [info for info in fitting if info.layer]
            if not fitting:
                known_as = "IPCPs matching" if what == "IPCP" else "IPCPs in a layer matching"
                raise IrmNameError(EIPCP, f"No {known_as} {pattern} found.")
            found.update((info.pid, info) for info in fitting)
    return list(found.values())
