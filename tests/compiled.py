"""The compiled modules of the checkout, and whether each was made from the C that is there now.

One that is older shows as dozens of failures that have nothing to do with each other, for example after a rebase. The build writes a
digest of its sources into each module (`ouroboros/dataplane/build.py`), so the dates of files do not matter.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ouroboros.dataplane.build import sources_mark

CHECKOUT = Path(__file__).resolve().parents[1]

MODULES = {
    "ouroboros/dataplane/_dataplane": ("ouroboros/dataplane",),
    "ipcpd/dataplane/_ipcp": ("ouroboros/dataplane", "ipcpd/dataplane"),
    "tools/olab/emulator/_emulator": ("tools/olab/emulator",),
}
"""The folders with the sources of each."""


def outdated(checkout: Path = CHECKOUT) -> list[str]:
    """The modules that were compiled from other sources, or that nothing has compiled."""
    return [
        name
        for name, folders in MODULES.items()
        if not _contains(checkout, name, sources_mark(*(checkout / folder for folder in folders)))
    ]


def _contains(checkout: Path, name: str, mark: str) -> bool:
    for suffix in EXTENSION_SUFFIXES:
        path = checkout / (name + suffix)
        if path.exists():  # this is the one that Python imports
            return mark.encode() in path.read_bytes()
    return False
