"""The data plane built with crash points (`src/crash.h`): the same C, which kills itself at the point that a test selects.

Compiled once into .build/ of the checkout, again when a source has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.unit.dataplane.shm import Handles

CHECKOUT = Path(__file__).resolve().parents[3]
FOLDERS = (CHECKOUT / "ouroboros" / "dataplane", CHECKOUT / "ipcpd" / "dataplane")

CDEF = """
    extern int crash_point;
    extern long crash_countdown;
"""


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def crash_build() -> Handles:
    """`ffi` and `lib` of the build with crash points: that of an IPCP, which contains that of the library."""
    sources = [path for folder in FOLDERS for path in (*folder.glob("src/*.[ch]"), folder / "build.py")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources)) + sys.version.encode())
    folder = CHECKOUT / ".build" / f"crash-{digest.hexdigest()[:16]}"
    library = next(iter(folder.glob("_crash*.so")), None)
    if library is None:
        build = _load("ouroboros_ipcp_build", FOLDERS[1] / "build.py")
        ffi = build.base.extension(
            "_crash",
            root=f"{CHECKOUT}/",
            cdef=build.CDEF + CDEF,
            includes=build.INCLUDES,
            sources=build.SOURCES,
            compile_args=("-DCRASH_POINTS", "-O2"),
        )
        library = Path(ffi.compile(tmpdir=str(folder)))
    module = _load("_crash", library)
    return Handles(module.ffi, module.lib)
