"""Which IPCPs are meant: by name, or by shell-style wildcards (docs/reference/irm.md).

A library module of management tools; pure: the caller passes the IPCPs of the system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from errno import EINVAL

from .errors import EIPCP, IrmError, IrmNameError
from .ipcp_options import is_pattern
from .readout import IpcpInfo

MAX_PATTERNS = 128


def matches(text: str, pattern: str) -> bool:
    """Whether a stored name matches the typed one: equal, or by shell-style wildcards."""
    if text == pattern:
        return True
    if not is_pattern(pattern):
        return False
    from fnmatch import fnmatchcase

    return fnmatchcase(text, pattern)


def select(ipcps: Sequence[IpcpInfo], pattern: str, text: Callable[[IpcpInfo], str]) -> list[IpcpInfo]:
    """The IPCPs whose `text` fits. A text that equals the pattern is meant by it, and no other: another system may have named
    a layer with characters of a pattern."""
    return [ipcp for ipcp in ipcps if text(ipcp) == pattern] or [
        ipcp for ipcp in ipcps if text(ipcp) and matches(text(ipcp), pattern)
    ]


def matching(ipcps: Sequence[IpcpInfo], name: str, failure: type[IrmError]) -> list[IpcpInfo]:
    """The IPCPs whose names fit; `failure` when none does."""
    found = select(ipcps, name, lambda ipcp: ipcp.name)
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
            fitting = select(
                known, pattern, (lambda info: info.name) if what == "IPCP" else (lambda info: info.layer)
            )
            if not fitting:
                known_as = "IPCPs matching" if what == "IPCP" else "IPCPs in a layer matching"
                raise IrmNameError(EIPCP, f"No {known_as} {pattern} found.")
            found.update((info.pid, info) for info in fitting)
    return list(found.values())
